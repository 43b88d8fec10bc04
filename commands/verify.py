"""Prove on this machine that the last commit's results can be computed again.

    python commands/verify.py

It clones the commit to a temporary folder, installs the pinned packages in an environment of
their own, removes all results, runs the pipeline, and compares what comes out with what is
committed: byte by byte where the same bytes are promised, elsewhere the metrics within a
tolerance. The table at the end says what was promised, what was compared and what was found. Exit
code 0: all promises are kept; 1: one is not, or it could not be found out.

Needs Git and Python only: it has to run before anything is installed.
"""

import argparse
import difflib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

# How far a number may be off where the same bytes are not promised.
TOLERANCE = 0.01
# The files whose numbers are compared where the same bytes are not promised.
NUMBERS = ("reports/metrics.json", "reports/details.json")
SAME = "the same bytes"
X86_64 = ("x86_64", "AMD64")
# Systems on which the pipeline has run.
TRIED = ("Linux",)


class VerifyError(Exception):
    """What keeps the check from being made, as one sentence."""


class Machine(NamedTuple):
    """What is promised depends on it."""

    system: str  # Linux, Windows or macOS
    processor: str  # such as x86_64
    avx2: bool | None  # whether an x86-64 processor has it; None where nobody could look
    glibc: str  # its version; empty where the C library is another one

    @property
    def exact(self) -> bool:
        """Whether the same bytes are promised on it."""
        return self.system in TRIED and self.avx2 is True and bool(self.glibc)

    def __str__(self) -> str:
        parts = [self.system, self.processor]
        if self.avx2 is not None:
            parts.append("with AVX2" if self.avx2 else "without AVX2")
        return ", ".join([*parts, f"glibc {self.glibc}" if self.glibc else "no glibc"])


class Row(NamedTuple):
    """One line of the table."""

    what: str
    promised: str
    compared: str  # bytes, numbers or counts
    found: str
    kept: bool


def main() -> int:
    options = read_options()

    def check() -> list[Row]:
        folder = Path(tempfile.mkdtemp(prefix="verify-"))
        try:
            return verify(folder, options.environment)
        finally:
            if options.keep:
                print(f"[verify] all files are kept in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)

    return tell(check)


def tell(check: Callable[[], list[Row]]) -> int:
    """Make a check and print what it finds; return the exit code."""
    try:
        rows = check()
    except VerifyError as error:
        print(f"[verify] error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("[verify] error: stopped by Ctrl-C", file=sys.stderr)
        return 1
    print(f"\n{table(rows)}\n")
    broken = sum(not row.kept for row in rows)
    print(
        f"[verify] {broken} of {len(rows)} promises are broken" if broken else "[verify] all kept"
    )
    return 1 if broken else 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compute the last commit's results from nothing and compare them.",
    )
    parser.add_argument(
        "--environment",
        type=Path,
        metavar="FOLDER",
        help="use this virtual environment instead of a new one",
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    return parser.parse_args()


def verify(folder: Path, environment: Path | None) -> list[Row]:
    """Recompute the last commit in `folder`; return what was promised and what was found.

    `environment` is a virtual environment that exists; with None, one is made from
    requirements.txt. Raises VerifyError where a step fails.
    """
    if shutil.which("git") is None:
        raise VerifyError("Git is needed and is not installed")
    project = Path(output(["git", "rev-parse", "--show-toplevel"], "this is no Git repository"))
    commit = output(["git", "-C", str(project), "rev-parse", "--short", "HEAD"], "no commit yet")
    here = this_machine()
    print(f"[verify] commit {commit}, Python {platform.python_version()}, {here}")
    for note in notes(here):
        print(f"[verify] note: {note}")
    if output(["git", "-C", str(project), "status", "--porcelain"], "git status failed"):
        print("[verify] note: changes that are not committed are not part of it")
    clone = clone_commit(project, folder)

    if environment is None:
        environment = folder / "environment"
        install(environment, clone / "requirements.txt")
    settings = clean_settings(environment, folder)
    dvc = [str(program(environment, "python")), "-m", "dvc"]
    print("[verify] running the pipeline from nothing")
    before, after = recompute(clone, dvc, settings)

    again = output([*dvc, "repro"], "the second run failed", clone, settings)
    runs = len(re.findall(r"^Running stage", again, flags=re.MULTILINE))
    check = [*dvc[:-1], "commands.check"]
    checked = subprocess.run(check, cwd=clone, env=settings, capture_output=True, text=True)
    damaged = len(checked.stdout.splitlines()) if checked.returncode else 0
    seen = output(["git", "-C", str(clone), "status", "--porcelain"], "git status failed")
    new = [line[3:] for line in seen.splitlines() if line.startswith("??")]
    return [
        *compare(before, after, here.exact),
        Row("stages that a second run runs", "0", "counts", str(runs), runs == 0),
        Row("damaged or missing files", "0", "counts", str(damaged), not checked.returncode),
        Row("data files that Git sees", "0", "counts", str(len(new)), not new),
    ]


def clone_commit(project: Path, folder: Path) -> Path:
    """Clone the last commit to a new folder in `folder`; return that.

    Raises VerifyError where it has no results to compare with.
    """
    clone = folder / "clone"
    step(["git", "clone", "--quiet", str(project), str(clone)], "the commit could not be cloned")
    for name in ("dvc.lock", *NUMBERS, "requirements.txt"):
        if not (clone / name).is_file():
            raise VerifyError(f"{name} is not committed, so that there is nothing to compare with")
    return clone


def recompute(
    clone: Path, dvc: list[str], settings: Mapping[str, str]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Run the pipeline without its results; return the committed ones and those that came out."""
    results = committed_results(clone)
    before = {name: (clone / name).read_bytes() for name in results}
    for name in results:
        (clone / name).unlink()
    # With --force, nothing comes from a cache that the project shares with others.
    step([*dvc, "repro", "--force"], "the pipeline did not run through", clone, settings)
    after = {name: path.read_bytes() for name in results if (path := clone / name).is_file()}
    return before, after


def notes(machine: Machine) -> list[str]:
    """What to know before the table, on a machine for which less is promised."""
    found = []
    if not machine.exact:
        found.append(
            "the same bytes are promised on Linux with glibc, on x86-64 with AVX2; here, numbers "
            f"are compared, each within {TOLERANCE}"
        )
    if machine.system not in TRIED:
        found.append(f"{machine.system} is untried: nobody has told yet what comes out there")
    return found


def this_machine() -> Machine:
    """The one that this runs on."""
    avx2 = None
    if platform.machine() in X86_64 and (cpuinfo := Path("/proc/cpuinfo")).is_file():
        avx2 = "avx2" in cpuinfo.read_text(encoding="utf-8").split()
    library, version = platform.libc_ver()
    return Machine(
        platform.system().replace("Darwin", "macOS"),
        platform.machine(),
        avx2,
        version if library == "glibc" else "",
    )


def install(environment: Path, requirements: Path) -> None:
    """Make a virtual environment with the pinned packages, each checked against its hashes."""
    print("[verify] installing requirements.txt in an environment of its own, about a minute")
    step([sys.executable, "-m", "venv", str(environment)], "no virtual environment could be made")
    pip = [str(program(environment, "python")), "-m", "pip", "--disable-pip-version-check"]
    step(
        [*pip, "install", "--quiet", "--require-hashes", "-r", str(requirements)],
        "the pinned packages could not be installed",
    )


def program(environment: Path, name: str) -> Path:
    """Where a virtual environment has a program, on this system."""
    if os.name == "nt":
        return environment / "Scripts" / f"{name}.exe"
    # absolute, not resolved: the link to the system's Python is what makes the environment
    return environment.absolute() / "bin" / name


def clean_settings(environment: Path, folder: Path) -> dict[str, str]:
    """The shell's settings without those that would bring in other code or another cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DVC_", "GIT_")) and name != "VIRTUAL_ENV"
    }
    binaries = program(environment, "python").parent
    return kept | {
        "PATH": f"{binaries}{os.pathsep}{kept.get('PATH', '')}",
        "DVC_SITE_CACHE_DIR": str(folder / "dvc-site-cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc-global-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "dvc-system-config"),
    }


def committed_results(clone: Path) -> list[str]:
    """dvc.lock and the files of reports/ that are in Git."""
    listed = output(
        ["git", "-C", str(clone), "ls-files", "dvc.lock", "reports"], "git ls-files failed"
    )
    return [name for name in listed.splitlines() if not name.endswith(".gitignore")]


def compare(before: Mapping[str, bytes], after: Mapping[str, bytes], exact: bool) -> list[Row]:
    """One row for each result: the files of Git by their bytes, the others by dvc.lock.

    `before` and `after` are dvc.lock and the reports, by name. Without `exact`, only the numbers
    of the metrics and their details are promised, within TOLERANCE.
    """
    if not exact:
        return [compare_numbers(name, before, after) for name in NUMBERS]
    rows = [
        Row(name, SAME, "bytes", difference(content, after.get(name)), after.get(name) == content)
        for name, content in before.items()
    ]
    old, new = (checksums(files.get("dvc.lock", b"").decode()) for files in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in before:
            kept = old.get(name) == new.get(name)
            found = SAME if kept else f"{old.get(name)} became {new.get(name)}"
            rows.append(Row(name, SAME, "bytes", found, kept))
    return rows


def compare_numbers(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Row:
    """How far the numbers of a JSON file are from the committed ones, at most."""
    promised = f"each number within {TOLERANCE}"
    if name not in after:
        return Row(name, promised, "numbers", "missing", False)
    try:
        old, new = (flatten(json.loads(files[name])) for files in (before, after))
    except ValueError:
        return Row(name, promised, "numbers", "no JSON", False)
    if old.keys() != new.keys():
        only = f"not both have {min(old.keys() ^ new.keys())}"
        return Row(name, promised, "numbers", only, False)
    key = max(old, key=lambda key: distance(old[key], new[key]))
    largest = distance(old[key], new[key])
    found = f"at most {largest:.6f} ({key})"
    return Row(name, promised, "numbers", found, largest <= TOLERANCE)


def distance(old: object, new: object) -> float:
    """How far apart two values are; infinite where they are unequal and no numbers."""
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(float(old) - float(new))
    return 0.0 if old == new else math.inf


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    """{"test": {"accuracy": 1}} as {"test.accuracy": 1}."""
    if not isinstance(value, dict):
        return {prefix: value}
    parts = (flatten(part, f"{prefix}.{key}".lstrip(".")) for key, part in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}


def difference(old: bytes, new: bytes | None) -> str:
    """In a few words, where two texts differ first."""
    if new is None:
        return "missing"
    lines = difflib.unified_diff(
        old.decode().splitlines(), new.decode().splitlines(), lineterm="", n=0
    )
    changes = [
        " ".join(line.split()) for line in lines if not line.startswith(("---", "+++", "@@"))
    ]
    if not changes:
        return SAME if old == new else "other line ends"
    return f"{len(changes)} lines differ, first: {changes[0][:60]}"


def checksums(lock: str) -> dict[str, str]:
    """The MD5 of each file and folder below data/, models/ and reports/ that dvc.lock names."""
    found = re.findall(
        r"^ +- path: ((?:data|models|reports)/\S+)\n +hash: md5\n +md5: (\S+)$", lock, re.MULTILINE
    )
    return dict(found)


def table(rows: list[Row]) -> str:
    """The rows as text in columns, with what is broken marked."""
    lines: list[tuple[str, ...]] = [("result", "promised", "compared", "found", "")]
    lines += [(*row[:4], "kept" if row.kept else "BROKEN") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def step(
    command: list[str],
    failure: str,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Run a command that the user may watch; `failure` is what to say when it fails."""
    if code := subprocess.run(command, cwd=folder, env=settings).returncode:
        raise VerifyError(f"{failure}: `{' '.join(command)}` ended with exit code {code}")


def output(
    command: list[str],
    failure: str,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """What a command prints on standard output."""
    result = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise VerifyError(f"{failure}: {lines[-1] if lines else 'no message'}")
    return result.stdout.rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
