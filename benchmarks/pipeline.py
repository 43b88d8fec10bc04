"""The whole default pipeline, with DVC and without it, beside one notebook-style script."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import (
    DOWNLOAD,
    Aim,
    Bench,
    Figure,
    Round,
    Run,
    Turn,
    clone,
    middle,
    seconds,
    spread,
    stage_modules,
    table,
    table_of_aims,
    table_of_stages,
    take_turns,
    total,
)

LIBRARIES = ("dvc", "numpy", "pandas", "scikit-learn", "xgboost-cpu", "xgboost", "onnxruntime")
ROUNDS = 3
# Seconds on two cores.
MOST_REPRO, MOST_NOTHING, MOST_START = 14.0, 1.0, 0.8
REPRO, NOTHING, NOTEBOOK, BARE = "repro", "nothing", "notebook", "python -c pass"


def run(bench: Bench) -> dict[str, str]:
    """Measure; return what stands in each place of the page, in their order there."""
    os.environ.update(environment(bench.folder, os.environ.get("PATH", "")))
    bench.set_params()
    bench.stages(DOWNLOAD)
    raw, notebook = bench.raw_table(), bench.project / "benchmarks/notebook.py"

    def with_dvc() -> Round:
        copy = fresh_clone(bench.folder / "dvc")
        ran = Bench(bench.folder, copy)
        runs = {REPRO: ran.python("-m", "dvc", "repro"), NOTHING: ran.python("-m", "dvc", "repro")}
        runs[REPRO] += Run(0, 0, found=ran.reached())
        shutil.rmtree(copy)
        return runs

    def without_dvc() -> Round:
        copy = fresh_clone(bench.folder / "plain")
        runs = Bench(bench.folder, copy).stages()
        shutil.rmtree(copy)
        return runs

    def script() -> Round:
        return {NOTEBOOK: bench.python(notebook, raw, bench.folder / "notebook", reads=True)}

    def starts() -> Round:
        runs = {start(name): run for name, run in bench.starts().items()}
        return {BARE: bench.python("-c", "pass"), **runs}

    turns = {REPRO: with_dvc, "without DVC": without_dvc, NOTEBOOK: script, "starts": starts}
    rounds = take_turns({name: Turn(run, bench.rounds(ROUNDS)) for name, run in turns.items()})
    names = list(stage_modules(bench.project))
    return {
        "pipeline": f"{table_of_aims(aims(rounds, names))}\n\n{table_of_runs(rounds, names)}",
        "figures of the pipeline": table_of_figures(rounds[0]),
        "stages": table_of_stages(rounds, names),
        "starts": table_of_starts(rounds, names),
    }


def environment(folder: Path, path: str) -> dict[str, str]:
    """Variables with which DVC finds this Python and nothing that the user or it has kept."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}",
        "DVC_SITE_CACHE_DIR": str(folder / "dvc-site-cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc-global-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "dvc-system-config"),
    }


def fresh_clone(folder: Path) -> Path:
    """Clone the last commit without its results, so that every stage has to run."""
    clone(folder)
    (folder / "dvc.lock").unlink()
    shutil.rmtree(folder / "reports")
    return folder


def start(name: str) -> str:
    """What the start of a stage is called in a round."""
    return f"start of {name}"


def plain(one: Round, names: Sequence[str]) -> float:
    """The seconds of all stages without DVC."""
    return total(one[name] for name in names).seconds


def after_download(one: Round) -> float:
    """The seconds of the pipeline from the raw table on."""
    return one[REPRO].seconds - one[DOWNLOAD].seconds


def aims(rounds: Sequence[Round], names: Sequence[str]) -> list[Aim]:
    """What was aimed at, in seconds."""
    medians = {name: middle(rounds, seconds(start(name))) for name in names}
    slowest = max(medians, key=lambda name: medians[name])
    lines = (
        ("`dvc repro` of everything", MOST_REPRO, middle(rounds, seconds(REPRO))),
        ("`dvc repro` with nothing to do", MOST_NOTHING, middle(rounds, seconds(NOTHING))),
        (f"start of a stage; the slowest is `{slowest}`", MOST_START, medians[slowest]),
    )
    return [Aim(f"{what}, seconds", "at most", most, found) for what, most, found in lines]


def table_of_runs(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """A Markdown table of the whole runs, of their differences, and of the ratio."""
    lines: tuple[tuple[str, Figure], ...] = (
        ("`dvc repro` of everything", seconds(REPRO)),
        ("the same stages without DVC", lambda one: plain(one, names)),
        ("what DVC adds", lambda one: one[REPRO].seconds - plain(one, names)),
        ("`dvc repro` with nothing to do", seconds(NOTHING)),
        ("`dvc repro` of everything, less `download`", after_download),
        ("the notebook script", seconds(NOTEBOOK)),
        (
            "the last but one divided by the notebook script, times",
            lambda one: after_download(one) / one[NOTEBOOK].seconds,
        ),
    )
    rows = [(name, *spread(rounds, figure)) for name, figure in lines]
    return table(("seconds", "median", "least", "most"), rows)


def table_of_starts(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """A Markdown table of the start of each stage, and of Python's own."""
    rows = [(f"`{name}`", *spread(rounds, seconds(start(name)))) for name in names]
    rows.append((f"`{BARE}`, for comparison", *spread(rounds, seconds(BARE))))
    return table(("start", "seconds", "least", "most"), rows)


def table_of_figures(one: Round) -> str:
    """A Markdown table of what the pipeline and the notebook script reach on test."""
    found = {"the pipeline": one[REPRO].found, "the notebook script": one[NOTEBOOK].found}
    rows = [
        (name, f"{figures['accuracy']:.4f}", f"{figures['log_loss']:.4f}")
        for name, figures in found.items()
    ]
    return table(("on test (synthetic data)", "accuracy", "log loss"), rows)
