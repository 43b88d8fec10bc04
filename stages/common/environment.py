"""Compare the packages that are installed with those that are pinned."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REQUIREMENTS = Path("requirements.txt")
MOST_SHOWN = 5


def check_environment() -> str | None:
    """What a user should know before a stage runs: a sentence, or None when all is as pinned.

    Outside the project there is nothing to compare with; what is missing there has a sentence
    of its own.
    """
    if not REQUIREMENTS.is_file():
        return None
    found = differences(REQUIREMENTS.read_text(encoding="utf-8"))
    if not found:
        return None
    more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
    return (
        f"{', '.join(found[:MOST_SHOWN])}{more}: not what {REQUIREMENTS} pins, so that results may "
        f"differ; `python -m pip install --require-hashes -r {REQUIREMENTS}` mends it"
    )


def differences(pins: str) -> list[str]:
    """Each package that is missing or has another version than `pins`, in a few words.

    `pins` is the content of a compiled requirements file. Packages for other systems and other
    versions of Python are passed over.
    """
    found = []
    for line in re.findall(r"^[A-Za-z0-9][^\\\n#]*", pins, flags=re.MULTILINE):
        pinned = Requirement(line)
        if pinned.marker is not None and not pinned.marker.evaluate():
            continue
        try:
            installed = installed_version(pinned.name)
        except PackageNotFoundError:
            found.append(f"{pinned.name} is missing")
            continue
        if not pinned.specifier.contains(installed, prereleases=True):
            found.append(f"{pinned.name} is {installed} instead of {pinned.specifier}"[:80])
    return found


def installed_version(package: str) -> str:
    """The version of a package that is installed.

    `importlib.metadata.version` gives the same in three times as long, as it parses all that the
    package says of itself.

    Raises PackageNotFoundError when there is none.
    """
    found = distribution(package)
    line = re.search("^Version: (.+)$", found.read_text("METADATA") or "", flags=re.MULTILINE)
    return line[1].strip() if line else found.version
