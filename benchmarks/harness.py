"""What the benchmarks share: contestants that take turns, what each took, tables, and the page.

Each contestant is a process of its own, so that its start counts and its memory is its own. Their
turns are interleaved, because a machine is faster at one time than at another. Libraries for
timing, such as pyperf, run one command many times before the next, so that a slow minute of the
machine would fall on one contestant alone.

The system counts the memory of the process that starts another one as that one's, too. So this
process imports nothing large, and works on tables in processes of their own (`apart`). It does not
import the package `stages` either: that sets the threads of the processes that follow.
"""

import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from operator import itemgetter
from pathlib import Path
from statistics import linear_regression, median
from typing import IO, Any

from ruamel.yaml import YAML

from scripts.params import set_params

# The system counts in kilobytes on Linux and in bytes on macOS.
UNITS_PER_MB = 1e6 if sys.platform == "darwin" else 1e3
OURS = "this project"
PYTHON = (sys.executable, "-m")
DOWNLOAD = "download"
TRIAL_ROWS = 600  # of the table of a trial


@dataclass(frozen=True)
class Run:
    """What one run took, of one process or of several one after the other."""

    seconds: float
    megabytes: float  # the most memory that a process held
    cpu_seconds: float = 0.0  # of all its threads
    found: Mapping[str, Any] = field(default_factory=dict)  # what it printed as JSON, or reached
    fate: str = ""  # why it did not end well; empty where it did

    def __add__(self, other: "Run") -> "Run":
        return Run(
            self.seconds + other.seconds,
            max(self.megabytes, other.megabytes),
            self.cpu_seconds + other.cpu_seconds,
            {**self.found, **other.found},
            self.fate or other.fate,
        )


Round = Mapping[str, Run]  # by the names of those that ran
Figure = Callable[[Round], float]


@dataclass(frozen=True)
class Turn:
    """What runs when it is a contestant's turn, and in how many rounds: fewer, the longer."""

    run: Callable[[], Round]
    rounds: int


@dataclass(frozen=True)
class Bench:
    """What the benchmarks are given."""

    folder: Path  # for temporary files
    project: Path  # a clone of the last commit, in it
    trial: bool = False  # everything as small and as quick as can be
    table: Path | None = None  # a table of the user's, for the models
    tensorflow: str = ""  # a Python that has TensorFlow, for the photographs

    def synthetic(self) -> dict[str, object]:
        """Keys of `download` for a synthetic table of MAMe's size, or of few rows for a trial."""
        if not self.trial:
            return {"synthetic.preset": "full"}
        path = self.folder / "trial.csv"
        self.python("-m", "benchmarks.sizes", path, TRIAL_ROWS)
        return {"source": "file", "file.path": str(path)}

    def rounds(self, number: int) -> int:
        return 1 if self.trial else number

    def stages(self, *names: str) -> dict[str, Run]:
        """Run stages of the project, all where none is named, one after the other."""
        modules = stage_modules(self.project)
        return {name: self.python("-m", modules[name]) for name in names or modules}

    def starts(self) -> dict[str, Run]:
        """What each stage takes until its `main` would begin."""
        modules = stage_modules(self.project)
        return {name: self.python("-c", start_of(module)) for name, module in modules.items()}

    def python(self, *arguments: object, **more: Any) -> Run:
        """Run Python in the project, as `measure` does."""
        return measure([sys.executable, *map(str, arguments)], self.project, **more)

    def set_params(self, **sections: Mapping[str, object]) -> None:
        """Set keys of params.yaml; all others are as in the last commit."""
        command = ["git", "checkout", "--quiet", "params.yaml"]
        subprocess.run(command, cwd=self.project, check=True)
        set_params(
            self.project / "params.yaml",
            {
                f"{name}.{key}": value
                for name, section in sections.items()
                for key, value in section.items()
            },
        )

    def json(self, path: str) -> Any:
        """The content of a JSON file of the project."""
        return json.loads((self.project / path).read_text(encoding="utf-8"))

    def reached(self) -> dict[str, float]:
        """Accuracy and log loss on test, as `evaluate` has written them."""
        test = self.json("reports/metrics.json")["test"]
        return {name: test[name] for name in ("accuracy", "log_loss")}

    def raw_table(self) -> Path:
        """The raw table that `download` has left."""
        return self.project / "data/raw" / self.json("data/raw/provenance.json")["file"]


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"[benchmark] {line}", file=sys.stderr, flush=True)


def clone(folder: Path) -> Path:
    """Clone the last commit of the project, which is the current folder; modules are compiled."""
    subprocess.run(["git", "clone", "--quiet", ".", folder], check=True)
    subprocess.run([*PYTHON, "compileall", "-q", "stages"], cwd=folder, check=True)
    return folder


def stage_modules(folder: Path) -> dict[str, str]:
    """The module of each stage of the project in `folder`, by its name, in their order."""
    stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    return {name: stage["cmd"].removeprefix("python -m ") for name, stage in stages.items()}


def start_of(module: str) -> str:
    """Python code that does what a stage does before its `main` begins, and ends there."""
    return (
        f"import {module}; from stages.common.stage import run; "
        f"run({module.rpartition('.')[2]!r}, lambda: 'started')"
    )


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, so that this one stays small."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def measure(
    command: Sequence[str], folder: Path, reads: bool = False, most_seconds: float = math.inf
) -> Run:
    """What a command takes in a folder; ends this process if it fails.

    Where it `reads`, the last line that the command prints is JSON, which the run has. Else what
    the command prints goes to standard error. With `most_seconds`, a command that fails or is ended
    after them does not end this process: the run's `fate` says so.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        run, succeeded = _measure(command, folder, output if reads else sys.stderr, most_seconds)
        output.seek(0)
        lines = output.read().splitlines()
    if succeeded:
        return run + Run(0, 0, found=json.loads(lines[-1])) if reads else run
    if most_seconds == math.inf:
        sys.exit(f"{' '.join(command)} failed")
    ended = f"ended after {most_seconds / 60:g} minutes"
    return run + Run(0, 0, fate=ended if run.seconds >= most_seconds else "failed")


def _measure(
    command: Sequence[str], folder: Path, output: IO[str], most_seconds: float
) -> tuple[Run, bool]:
    """What a command that prints to `output` took, and whether it succeeded."""
    # With this setting, Python would compile each module again in each run.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=output, env=environment)
    timer = threading.Timer(min(most_seconds, 1e6), os.kill, (process.pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    timer.cancel()
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Run(seconds, usage.ru_maxrss / UNITS_PER_MB, cpu_seconds), status == 0


def total(runs: Iterable[Run]) -> Run:
    """Several runs as one."""
    return reduce(Run.__add__, runs)


def take_turns(turns: Mapping[str, Turn]) -> list[Round]:
    """What ran in each round: all contestants once, but for those that run in fewer rounds.

    Every other round goes backwards, so that no contestant always follows the same one.
    """
    rounds: list[Round] = []
    number_of_rounds = max(turn.rounds for turn in turns.values())
    for number in range(number_of_rounds):
        found: dict[str, Run] = {}
        for name, turn in list(turns.items())[:: -1 if number % 2 else 1]:
            if number >= turn.rounds:
                continue
            # What others left to write to the disk would slow this one.
            os.sync()
            ran = turn.run()
            found |= ran
            run = total(ran.values()) if name not in ran else ran[name]
            took = f"{run.seconds:.1f} s, {run.cpu_seconds:.1f} CPU s, {run.megabytes:,.0f} MB"
            say(f"round {number + 1} of {number_of_rounds}, {name}: {took}")
        rounds.append(found)
    return rounds


def each(rounds: Iterable[Round], figure: Figure) -> list[float]:
    """A figure of each round in which all ran that it is made of."""
    found = []
    for one in rounds:
        with suppress(KeyError):
            found.append(figure(one))
    return found


def middle(rounds: Iterable[Round], figure: Figure) -> float:
    """The median of a figure over the rounds."""
    return median(each(rounds, figure))


def seconds(name: str) -> Figure:
    """The seconds of a contestant."""
    return lambda one: one[name].seconds


def times(name: str, other: str, what: str = "seconds") -> Figure:
    """How many times the other's seconds, or what else of a run, a contestant took."""
    return lambda one: getattr(one[name], what) / getattr(one[other], what)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log costs over log sizes: 1 where costs grow as sizes do, 2 with their square.

    All are above 0.
    """
    return linear_regression([math.log(n) for n in sizes], [math.log(c) for c in costs]).slope


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Collection[int] = (0,)
) -> str:
    """A Markdown table; all columns but `text_columns`, counted from 0, hold numbers."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    rules = ("---" if place in text_columns else "---:" for place in range(len(head)))
    lines.insert(1, f"|{'|'.join(rules)}|")
    return "\n".join(lines)


def spread(rounds: Iterable[Round], figure: Figure, digits: int = 2) -> list[str]:
    """Median, least and most of a figure over the rounds, as tables show them."""
    values = each(rounds, figure)
    return [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]


def table_of_ways(
    rounds: Sequence[Round], ours: str, names: Iterable[str], **more: Callable[[Run], str]
) -> str:
    """A Markdown table of contestants, each beside `ours`; `more` are further columns of text."""
    head = ["way", "runs", "seconds", "least", "most", "times ours", "CPU seconds"]
    head += ["peak memory, MB", "times ours", *(column.replace("_", " ") for column in more)]
    rows = []
    for name in names:
        runs = [one[name] for one in rounds if name in one]
        rows.append(
            [
                name,
                f"{len(runs)}",
                *spread(rounds, seconds(name)),
                f"{middle(rounds, times(name, ours)):.2f}",
                f"{median(run.cpu_seconds for run in runs):.1f}",
                f"{median(run.megabytes for run in runs):,.0f}",
                f"{middle(rounds, times(name, ours, 'megabytes')):.2f}",
                *(text(runs[0]) for text in more.values()),
            ]
        )
    return table(head, rows, text_columns=(0, *range(9, len(head))))


def table_of_stages(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """A Markdown table of what stages took, and all of them together."""
    # Of one round, the median says all.
    shown = 3 if len(rounds) > 1 else 1
    head = ("stage", *("seconds", "least", "most")[:shown], "CPU seconds", "peak memory, MB")

    def row(label: str, run: Callable[[Round], Run]) -> list[str]:
        return [
            label,
            *spread(rounds, lambda one: run(one).seconds)[:shown],
            f"{middle(rounds, lambda one: run(one).cpu_seconds):.2f}",
            f"{middle(rounds, lambda one: run(one).megabytes):,.0f}",
        ]

    rows = [row(f"`{name}`", itemgetter(name)) for name in names]
    whole = "all: the sum of the seconds, the largest peak"
    return table(head, [*rows, row(whole, lambda one: total(one[name] for name in names))])


@dataclass(frozen=True)
class Aim:
    """What was aimed at, and what was measured."""

    what: str
    sign: str  # "at most" or "at least"
    aim: float
    found: float
    digits: int = 2

    def cells(self) -> list[str]:
        """Its line of a table. The verdict is that of the figure as it is shown."""
        shown = f"{self.found:.{self.digits}f}"
        met = float(shown) <= self.aim if self.sign == "at most" else float(shown) >= self.aim
        return [self.what, f"{self.sign} {self.aim:g}", shown, "yes" if met else "**no**"]


def table_of_aims(aims: Iterable[Aim]) -> str:
    """A Markdown table of aims, and whether they are reached."""
    head = ("what", "aim", "median", "reached")
    return table(head, [aim.cells() for aim in aims], text_columns=(0, 1, 3))


def filled(page: str, texts: Mapping[str, str]) -> str:
    """A page with texts in the places that its marks name; all else stays as it is.

    Raises ValueError for a place that the page does not have.
    """
    for name, text in texts.items():
        begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->\n"
        before, *others = re.split(f"{begin}.*?{end}", page, flags=re.DOTALL)
        if len(others) != 1:
            raise ValueError(f"the page has {len(others)} places that are called {name}")
        page = f"{before}{begin}\n{text}\n\n{end}{others[0]}"
    return page
