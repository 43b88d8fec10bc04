"""Write docs/packages.md: each pinned package, its licence, and what asks for it.

    python -m scripts.packages

It reads requirements.in and requirements.txt, and the metadata of what is installed, so that
packages for other systems have no licence and no size there.
"""

import re
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ASKED, PINNED = ROOT / "requirements.in", ROOT / "requirements.txt"
PAGE = ROOT / "docs/packages.md"
# What uv calls requirements.in where it says what asks for a package.
OURS = "-r requirements.in"
# The licence of a package that brings its text, and does not name it.
NAMELESS = {"pysimdjson": "MIT"}
# A licence that is longer is its whole text.
LONGEST_NAME = 60

INTRODUCTION = """\
# The packages

Written by `python -m scripts.packages`. [requirements.in](../requirements.in) says why each
package that the project asks for is there; [requirements.txt](../requirements.txt) pins them with
all that they need, for each system and each Python from 3.11 on. Most of its length is hashes: one
for each file that a package publishes. `make audit` looks for known vulnerabilities;
[reliability.md](reliability.md#packages) says what a review found.
"""


class Package(NamedTuple):
    """One pinned package."""

    version: str
    askers: list[str]  # the packages that need it; OURS among them where we ask for it ourselves


def main() -> None:
    PAGE.write_text(
        page(read_pins(PINNED.read_text(encoding="utf-8"))), encoding="utf-8", newline="\n"
    )


def read_pins(text: str) -> dict[str, Package]:
    """The packages of a compiled requirements file by name.

    One that has several versions, for several systems, has them joined.
    """
    found: dict[str, Package] = {}
    for block in re.split(r"\n(?=[a-z0-9])", text):
        pin = re.match(r"([a-z0-9-]+)==([^ ;\\\n]+)", block)
        if pin is None:
            continue
        name, version = pin.groups()
        askers = re.findall(r"^    #(?: via|  ) +(\S.*)$", block, re.MULTILINE)
        if name in found:
            version = f"{found[name].version} or {version}"
        found[name] = Package(version, askers)
    return found


def page(packages: Mapping[str, Package]) -> str:
    """The page, in Markdown."""
    ours = [name for name, package in packages.items() if OURS in package.askers]
    lines = [
        INTRODUCTION,
        f"The project asks for {len(ours)} packages and gets {len(packages)}. The right columns "
        "count those that would go with one of them, because nothing else needs them:\n",
        "| asked for | MB | comes with it alone | MB |",
        "|---|---:|---:|---:|",
    ]
    for name in ours:
        alone = brought_alone(packages, name)
        lines.append(
            f"| {name} | {megabytes([name])} | {len(alone)} "
            f"| {megabytes(sorted(alone)) if alone else ''} |"
        )
    lines += [
        "\nNone of the others can be left out: `pip install --require-hashes` refuses a file that "
        "lacks what a package needs.\n",
        "| package | version | licence | asked for by |",
        "|---|---|---|---|",
    ]
    for name, package in packages.items():
        askers = ["the project" if asker == OURS else asker for asker in package.askers]
        lines.append(f"| {name} | {package.version} | {licence(name)} | {', '.join(askers)} |")
    return "\n".join(lines) + "\n"


def brought_alone(packages: Mapping[str, Package], left_out: str) -> set[str]:
    """The packages that nobody would need any more without one that the project asks for."""
    needed = {
        name for name, package in packages.items() if OURS in package.askers and name != left_out
    }
    while True:
        more = {
            name for name, package in packages.items() if not needed.isdisjoint(package.askers)
        } - {left_out}
        if more <= needed:
            return set(packages) - needed - {left_out}
        needed |= more


def licence(name: str) -> str:
    """The licence that a package names, in a few words; empty where it is not installed here."""
    found = installed(name)
    if found is None:
        return ""
    meta = found.metadata
    classes = [
        line.rpartition(" :: ")[2]
        for line in meta.get_all("Classifier") or []
        if line.startswith("License :: ")
    ]
    # The field is old, and holds a name or the whole text.
    (old,) = meta.get_all("License") or [""]
    named = old if "\n" not in old.strip() and len(old) <= LONGEST_NAME else ""
    # Not by brackets: with importlib-metadata, which Dask brings to older Pythons, what is missing
    # would be an error.
    (expression,) = meta.get_all("License-Expression") or [""]
    named = expression or named.strip() or ", ".join(classes)
    return (named or NAMELESS.get(name, "see its page")).replace("|", "or")


def megabytes(names: list[str]) -> str:
    """What packages take on the disk, in MB; empty where none of them is installed here."""
    files = [file for name in names if (found := installed(name)) for file in found.files or []]
    return f"{sum(file.size or 0 for file in files) / 1e6:.1f}" if files else ""


def installed(name: str) -> Distribution | None:
    """What is installed of a package."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
