"""Seconds of the whole pipeline, with DVC, without it, and beside one notebook-style script.

    python -m benchmarks.pipeline

It runs clones of the last commit in temporary folders, as `params.yaml` stands there, and writes
docs/pipeline_speed.md, texts included. `--runs 1 --output trial.md` is a trial of some minutes.
Linux and macOS.

This process does not import the package `stages`: that sets the threads of the processes
that follow.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.harness import (
    XGBOOST,
    clone,
    library_versions,
    measure,
    measure_json,
    say,
    stage_modules,
    system,
    table,
)

RUNS = 3
DOWNLOAD = "download"
# Seconds on two cores; the median has to be below.
MOST_REPRO, MOST_NOTHING, MOST_START = 25.0, 1.5, 1.2
LIBRARIES = ("dvc", "numpy", "pandas", "scikit-learn", *XGBOOST, "onnxruntime", "matplotlib")

Figures = Mapping[str, float]  # `accuracy` and `log_loss` on test


@dataclass(frozen=True)
class Round:
    """The seconds of one round, each of a whole process."""

    repro: float  # `dvc repro` from nothing
    nothing: float  # `dvc repro` after it
    stages: Mapping[str, float]  # each without DVC, by its name
    notebook: float
    python: float  # that does nothing
    starts: Mapping[str, float]  # of each stage, until its `main` would begin

    def plain(self) -> float:
        """All stages without DVC."""
        return sum(self.stages.values())

    def dvc(self) -> float:
        """What DVC adds to them."""
        return self.repro - self.plain()

    def after_download(self) -> float:
        """The pipeline from the raw table on."""
        return self.repro - self.stages[DOWNLOAD]

    def times_notebook(self) -> float:
        """How many times the notebook's seconds the pipeline takes from the raw table on."""
        return self.after_download() / self.notebook


@dataclass(frozen=True)
class Results:
    """All that one run of this benchmark measured."""

    rounds: Sequence[Round]
    source: str  # of the table
    pipeline: Figures
    notebook: Figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline")
    parser.add_argument("--runs", type=positive, default=RUNS, help="rounds of all measurements")
    parser.add_argument("--output", type=Path, default=Path("docs/pipeline_speed.md"))
    arguments = parser.parse_args()
    problem = why_not(Path(), find_spec("dvc") is not None)
    if problem:
        sys.exit(problem)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.update(environment(folder, os.environ.get("PATH", "")))
        results = benchmark(folder, arguments.runs)
    text = document(
        results, library_versions(LIBRARIES, "repro"), machine(), command_of(arguments.runs)
    )
    arguments.output.write_text(text, encoding="utf-8", newline="\n")
    say(f"wrote {arguments.output}")


def positive(text: str) -> int:
    """A whole number above 0; raises ValueError for any other text."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def why_not(folder: Path, has_dvc: bool) -> str | None:
    """Why the benchmark cannot run there, in one sentence; None where it can."""
    needed = ("dvc.yaml", "params.yaml", "stages", ".git")
    if not all((folder / name).exists() for name in needed):
        return "run `python -m benchmarks.pipeline` in the project's root, a clone with Git"
    if not has_dvc:
        return "dvc is missing: `make repro` installs it"
    return None


def environment(folder: Path, path: str) -> dict[str, str]:
    """Variables with which DVC finds this Python and nothing that the user or it has kept."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}",
        "DVC_SITE_CACHE_DIR": str(folder / "dvc-site-cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc-global-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "dvc-system-config"),
    }


def command_of(runs: int) -> str:
    """The command for the same run; the output is left out."""
    return "python -m benchmarks.pipeline" + (f" --runs {runs}" if runs != RUNS else "")


def machine() -> str:
    """Processor, cores, system and Python, in a few words."""
    facts = Path("/proc/cpuinfo")  # Linux
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or "an unknown processor"
    return f"{system()}, {processor}, {os.cpu_count()} cores"


def benchmark(folder: Path, runs: int) -> Results:
    """Measure all that the document shows, in clones of the project below `folder`."""
    say("making the raw table")
    project = fresh_clone(folder / "project")
    modules = stage_modules(project)
    measure([sys.executable, "-m", modules[DOWNLOAD]], project)
    provenance = json.loads((project / "data/raw/provenance.json").read_text(encoding="utf-8"))
    raw = project / "data/raw" / provenance["file"]
    reached: dict[str, Figures] = {}

    def with_dvc() -> dict[str, Any]:
        copy = fresh_clone(folder / "dvc")
        repro, nothing = (dvc_repro(copy) for _ in range(2))
        metrics = json.loads((copy / "reports/metrics.json").read_text(encoding="utf-8"))
        reached["pipeline"] = metrics["test"]
        shutil.rmtree(copy)
        return {"repro": repro, "nothing": nothing}

    def without_dvc() -> dict[str, Any]:
        copy = fresh_clone(folder / "plain")
        seconds = {name: python("-m", module, folder=copy) for name, module in modules.items()}
        shutil.rmtree(copy)
        return {"stages": seconds}

    def notebook() -> dict[str, Any]:
        script, output = project / "benchmarks/notebook.py", folder / "notebook"
        run, figures, fate = measure_json(
            [sys.executable, str(script), str(raw), str(output)], project
        )
        if figures is None:
            sys.exit(f"the notebook script {fate}")
        reached["notebook"] = figures
        shutil.rmtree(output)
        return {"notebook": run.seconds}

    def starts() -> dict[str, Any]:
        seconds = {
            name: python("-c", start_of(module), folder=project) for name, module in modules.items()
        }
        return {"python": python("-c", "pass", folder=project), "starts": seconds}

    turns = (with_dvc, without_dvc, notebook, starts)
    rounds = []
    with tqdm(desc="benchmark", total=runs * len(turns), disable=None) as bar:
        for number in range(runs):
            found = run_turns(turns, number, bar.update)
            rounds.append(Round(**found))
            say(f"round {number + 1} of {runs}: {in_words(rounds[-1])}")
    return Results(rounds, provenance["source"], reached["pipeline"], reached["notebook"])


def run_turns(
    turns: Sequence[Callable[[], dict[str, Any]]], number: int, done: Callable[[], object]
) -> dict[str, Any]:
    """What all turns of a round give; every other round goes backwards.

    So no turn always follows the same one. `done` is called after each.
    """
    found: dict[str, Any] = {}
    for turn in turns if number % 2 == 0 else reversed(turns):
        # What others left to write to the disk would slow this one.
        os.sync()
        found |= turn()
        done()
    return found


def fresh_clone(folder: Path) -> Path:
    """Clone the last commit without its results, so that every stage has to run."""
    clone(folder)
    (folder / "dvc.lock").unlink()
    shutil.rmtree(folder / "reports")
    # The modules are compiled as after a first run.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "stages"], cwd=folder, check=True)
    return folder


def start_of(module: str) -> str:
    """Python code that does what a stage does before its `main` begins, and ends there."""
    return (
        f"import {module}; from stages.common.stage import run; "
        f"run({module.rpartition('.')[2]!r}, lambda: 'started')"
    )


def dvc_repro(folder: Path) -> float:
    """The seconds of `dvc repro` in a folder."""
    return python("-m", "dvc", "repro", folder=folder)


def python(*arguments: str, folder: Path) -> float:
    """The seconds of a Python process in a folder."""
    return measure([sys.executable, *arguments], folder).seconds


def in_words(one: Round) -> str:
    """A round in one line."""
    return (
        f"dvc repro {one.repro:.1f} s, nothing to do {one.nothing:.2f} s, without DVC "
        f"{one.plain():.1f} s, notebook {one.notebook:.1f} s, "
        f"slowest start {max(one.starts.values()):.2f} s"
    )


def verdict(seconds: float, most: float) -> str:
    """Whether so many seconds are below the most that were aimed at."""
    return "reached" if seconds < most else "not reached"


def spread(values: Sequence[float], digits: int) -> tuple[str, str, str]:
    """Median, least and most of some values, as a table shows them."""
    return (
        f"{median(values):.{digits}f}",
        f"{min(values):.{digits}f}",
        f"{max(values):.{digits}f}",
    )


def slowest_start(rounds: Sequence[Round]) -> tuple[str, float]:
    """The stage whose start has the highest median, and that median."""
    medians = {name: median(one.starts[name] for one in rounds) for name in rounds[0].starts}
    return max(medians.items(), key=lambda item: item[1])


def table_of_aims(rounds: Sequence[Round]) -> str:
    """A Markdown table of the aims and whether the medians reach them."""
    slowest, start = slowest_start(rounds)
    lines = (
        ("`dvc repro` of everything", MOST_REPRO, median(one.repro for one in rounds)),
        ("`dvc repro` with nothing to do", MOST_NOTHING, median(one.nothing for one in rounds)),
        (f"start of a stage; the slowest is `{slowest}`", MOST_START, start),
    )
    # The verdict is taken on the figure that is shown, so that the two never disagree.
    rows = [
        (name, f"under {most:g}", f"{seconds:.2f}", verdict(round(seconds, 2), most))
        for name, most, seconds in lines
    ]
    return table(("what", "aim, seconds", "median, seconds", "aim"), rows)


def table_of_runs(rounds: Sequence[Round]) -> str:
    """A Markdown table of the whole runs, of their differences, and of the ratio."""
    lines: tuple[tuple[str, Callable[[Round], float]], ...] = (
        ("`dvc repro` of everything", lambda one: one.repro),
        ("the same stages without DVC", Round.plain),
        ("what DVC adds", Round.dvc),
        ("`dvc repro` with nothing to do", lambda one: one.nothing),
        ("the stage `download` alone, without DVC", lambda one: one.stages[DOWNLOAD]),
        ("`dvc repro` of everything, less `download`", Round.after_download),
        ("the notebook script", lambda one: one.notebook),
        ("the last but one divided by the notebook script, times", Round.times_notebook),
    )
    rows = [(name, *spread([figure(one) for one in rounds], 2)) for name, figure in lines]
    return table(("seconds", "median", "least", "most"), rows)


def table_of_stages(rounds: Sequence[Round]) -> str:
    """A Markdown table of each stage: its whole process, and its start."""
    head = (
        "stage",
        "seconds",
        "least",
        "most",
        "start, seconds",
        "least",
        "most",
        "aim for starts",
    )
    rows = []
    for name in rounds[0].stages:
        starts = [one.starts[name] for one in rounds]
        rows.append(
            (
                f"`{name}`",
                *spread([one.stages[name] for one in rounds], 2),
                *spread(starts, 2),
                verdict(round(median(starts), 2), MOST_START),
            )
        )
    bare = spread([one.python for one in rounds], 2)
    rows.append(("`python -c pass`, for comparison", "", "", "", *bare, ""))
    return table(head, rows)


def table_of_figures(results: Results) -> str:
    """A Markdown table of what the pipeline and the notebook script reach on test."""
    head = "on test" + (" (synthetic data)" if results.source == "synthetic" else "")
    rows = [
        (name, f"{figures['accuracy']:.4f}", f"{figures['log_loss']:.4f}")
        for name, figures in (
            ("the pipeline", results.pipeline),
            ("the notebook script", results.notebook),
        )
    ]
    return table((head, "accuracy", "log loss"), rows)


def reading(rounds: Sequence[Round]) -> str:
    """The ratio and DVC's share in words."""
    ratio = median(one.times_notebook() for one in rounds)
    share = 100 * median(one.dvc() / one.repro for one in rounds)
    added = median(one.dvc() for one in rounds)
    dvc = (
        f"DVC adds {added:.1f} seconds to the stages, {share:.0f} % of a whole run."
        if added > 0
        else "What DVC adds cannot be told from chance here."
    )
    return (
        f"From the raw table on, the pipeline takes {ratio:.2f} times the seconds of the notebook\n"
        f"script. {dvc}"
    )


def document(
    results: Results, versions: Mapping[str, str], machine_facts: str, command: str
) -> str:
    """The whole of docs/pipeline_speed.md; `command` is the one that measured."""
    rounds = results.rounds
    trial = "" if len(rounds) >= RUNS else f"\n**A trial, with `--runs {len(rounds)}`.**\n"
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    synthetic = (
        "The rows are **synthetic**: simulated, with the shape and the statistics of the real\n"
        "ones. The figures say nothing about museum photographs.\n\n"
        if results.source == "synthetic"
        else ""
    )
    return f"""# How fast the whole pipeline is

This page is written by one command. All its figures come from one run of it:

```sh
{command}
```
{trial}
It asks two questions. How long does the default pipeline take, and how much of that is DVC? And
how long does the same work take in one script, as one would write it in the cells of a notebook?

{synthetic}## The aims

They are for two cores. `reached` means that the median is below the aim. This machine:
{machine_facts}.

{table_of_aims(rounds)}

## Whole runs

{table_of_runs(rounds)}

{reading(rounds)}

- **`dvc repro` of everything**: in a fresh clone without `dvc.lock`, without reports, and with an
  empty cache. The modules of the project are compiled, as after a first run.
- **without DVC**: `python -m stages.NAME` for each stage, one after the other, in another fresh
  clone. It is the sum of the seconds of the next table.
- **the notebook script**: [benchmarks/notebook.py](../benchmarks/notebook.py), on the raw table
  that `download` has made. It has no `download`, so that stage is taken off the pipeline before
  the two are divided. DVC's checksum and copy of the raw table stay in.

What the two reach says whether the work is the same:

{table_of_figures(results)}

The script has the same features, model, parameters and baselines, and as many figures, as PNG. It
reads embeddings with `ast.literal_eval` and writes the model with joblib. It does less than the
pipeline: it checks four things of the table, computes one interval, for the accuracy, and writes
neither tables between the steps nor an ONNX file nor a page. It uses as many threads as its
libraries choose. The pipeline computes linear algebra in one thread, or in two for principal
components and kernel ridge regression, so that the next machine gives the same bytes.

## The stages

{table_of_stages(rounds)}

- **seconds**: those of the whole process, without DVC.
- **start**: a process that imports the stage's module, compares the installed packages with the
  pinned ones, as each stage does first, and ends where `main` would begin. What `main` imports
  when it needs it, such as scikit-learn, is in the seconds of the stage and not in its start.

## How to read the tables

Every measurement is a process of its own, and the start and the end of Python are in its seconds.
One runs at a time. All of them run once, then the next round begins; every other round goes
backwards. So what else the machine does meets all of them. Rounds: {len(rounds)}. A figure is the
median of its rounds, with the least and the most beside it. Differences and ratios are taken
within a round. A median of them need not be the difference or ratio of two medians.

## Where this was measured

{machine_facts}.
{libraries}.
"""


if __name__ == "__main__":
    main()
