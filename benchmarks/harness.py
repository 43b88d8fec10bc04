"""What the benchmarks share: what a command takes, on which machine, and Markdown.

Each contestant is a process of its own, so that its start counts and its memory is its own. Their
turns are interleaved by the benchmarks, because a machine is faster at one time than at another.
Libraries for timing, such as pyperf, run one command many times before the next, so that a slow
minute of the machine would fall on one contestant alone.
"""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from ruamel.yaml import YAML

# The system counts in kilobytes on Linux and in bytes on macOS.
UNITS_PER_MB = 1e6 if sys.platform == "darwin" else 1e3
# One library under two names, of which one is there: requirements.in says why.
XGBOOST = ("xgboost-cpu", "xgboost")


@dataclass(frozen=True)
class Run:
    """What one run took."""

    seconds: float  # of the whole process
    megabytes: float  # the most memory it held
    cpu_seconds: float = 0.0  # of all its threads


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"[benchmark] {line}", file=sys.stderr, flush=True)


def clone(folder: Path) -> None:
    """Clone the last commit of the project, which is the current folder."""
    subprocess.run(["git", "clone", "--quiet", ".", folder], check=True)


def stage_modules(folder: Path) -> dict[str, str]:
    """The module of each stage of the project in `folder`, by its name, in their order."""
    stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    return {name: stage["cmd"].removeprefix("python -m ") for name, stage in stages.items()}


def measure(command: Sequence[str], folder: Path) -> Run:
    """What a command takes in a folder; ends the process if it fails.

    What the command prints goes to standard error, as standard output may be a table's.
    """
    run, succeeded = _measure(command, folder, sys.stderr)
    if not succeeded:
        sys.exit(f"{' '.join(command)} failed")
    return run


def measure_json(
    command: Sequence[str], folder: Path, most_seconds: float | None = None
) -> tuple[Run, dict[str, float] | None, str]:
    """What a command takes in a folder, and what it prints.

    Returns what it took, the JSON of its last line, and an empty text. Where it fails, or is
    ended after `most_seconds`, the JSON is None, and the text says which of them.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        run, succeeded = _measure(command, folder, output, most_seconds)
        output.seek(0)
        printed = output.read()
    if succeeded:
        return run, json.loads(printed.splitlines()[-1]), ""
    if most_seconds and run.seconds >= most_seconds:
        return run, None, f"ended after {most_seconds / 60:g} minutes"
    return run, None, "failed"


def _measure(
    command: Sequence[str], folder: Path, output: IO[str], most_seconds: float | None = None
) -> tuple[Run, bool]:
    """What a command that prints to `output` took, and whether it succeeded."""
    # With this setting, Python would compile each module again in each run.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=output, env=environment)
    timer = threading.Timer(most_seconds or 0, os.kill, (process.pid, signal.SIGKILL))
    if most_seconds:
        timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    timer.cancel()
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Run(seconds, usage.ru_maxrss / UNITS_PER_MB, cpu_seconds), status == 0


def library_versions(names: Iterable[str], target: str) -> dict[str, str]:
    """The versions of libraries; ends the process if one is missing: `make target` installs it."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if name not in XGBOOST:
                sys.exit(f"{name} is missing: `make {target}` installs it")
    return versions


def write_part(path: Path, name: str, text: str) -> None:
    """Write one part of a document, between its marks, and leave the others as they are."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    begin, end = f"<!-- part: {name} -->\n", f"<!-- end: {name} -->\n"
    part = f"{begin}{text}{end}"
    after, found = re.subn(f"{begin}.*?{end}", lambda _: part, before, flags=re.DOTALL)
    if not found:
        after = "\n".join(filter(None, [before, part]))
    path.write_text(after, encoding="utf-8", newline="\n")


def system() -> str:
    """Python, the system and the processor's kind, in a few words."""
    return f"Python {platform.python_version()} on {platform.system()} ({platform.machine()})"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Collection[int] = (0,)
) -> str:
    """A Markdown table; all columns but `text_columns`, counted from 0, hold numbers."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    rules = ("---" if place in text_columns else "---:" for place in range(len(head)))
    lines.insert(1, f"|{'|'.join(rules)}|")
    return "\n".join(lines)
