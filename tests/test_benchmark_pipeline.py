"""The benchmark of the whole pipeline compares equal work, and writes down what was measured."""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, TESTS_PARAMS, read_yaml, tiny_rows
from ruamel.yaml import YAML

from benchmarks import pipeline as benchmark
from benchmarks.harness import stage_modules
from benchmarks.pipeline import Results, Round
from stages.models.kernel_ridge import MOST_CHOOSING_ROWS, TRIED
from stages.tables.parquet import matrix

NOTEBOOK = PROJECT / "benchmarks/notebook.py"
STAGES = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]


def test_the_notebook_does_the_work_of_the_default_pipeline(parse, monkeypatch, capsys):
    expected = matrix(parse(tiny_rows())["embedding"])
    monkeypatch.setattr(sys, "argv", ["notebook.py", "data/raw/table.csv", "output"])
    found = runpy.run_path(str(NOTEBOOK), run_name="__main__")
    assert found["embedding"].dtype == expected.dtype
    assert np.array_equal(found["embedding"], expected)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["accuracy"] > 0.5
    assert printed["log_loss"] < np.log(6)
    code = (PROJECT / "stages/reporting/figures.py").read_text(encoding="utf-8")
    assert len(list(Path("output").glob("*.png"))) == code.count(" ReportFigure(\n")
    check_parameters(found)


def check_parameters(notebook: dict) -> None:
    """The parameters of the script's models are those of params.yaml, as the tests have it."""
    params = read_yaml(TESTS_PARAMS)
    assert params["train"]["model"] == "ensemble"
    assert params["featurize"]["embedding"] == "pca"
    pca, code = params["featurize"]["pca"], NOTEBOOK.read_text(encoding="utf-8")
    assert f"PCA(min({pca['components']}, " in code
    assert f"explained_variance_**{pca['whitening'] / 2}\n" in code
    assert np.square(notebook["X_embedding"]).mean(axis=1) == pytest.approx(1, rel=1e-5)
    assert pca["unit_length"]
    assert params["featurize"]["sizes"]
    assert not params["featurize"]["museum"]
    ridge, lda, trees = params["train"]["ensemble"].values()
    assert ridge["gamma"] == ridge["penalty"] == "auto"
    assert f"min({TRIED['gamma']}, " in code
    assert f"min({TRIED['penalty']}, " in code
    assert f"[:{MOST_CHOOSING_ROWS}]" in code
    assert notebook["ridge"].X.shape[1] == notebook["X_embedding"].shape[1]
    assert notebook["lda"].shrinkage == lda["shrinkage"]
    assert notebook["lda"].coef_.shape[1] == notebook["X_embedding"].shape[1]
    assert params["train"]["refit_on_val"]
    assert len(notebook["ridge"].X) == len(notebook["train"]) + len(notebook["val"])
    # What the script does not set has XGBoost's default.
    defaults = {"colsample_bynode": 1, "reg_lambda": 1, "max_bin": 256}
    chosen = {**defaults, **{k: v for k, v in notebook["trees"].get_params().items() if v}}
    # Those of all rows have as many rounds as others needed.
    assert f"boosted({trees.pop('rounds')}, " in code
    assert f"early_stopping_rounds={trees.pop('early_stopping_rounds')})" in code
    for name, value in trees.items():
        if name not in ("features", "threads"):
            assert chosen[name] == value


def test_the_notebook_uses_nothing_of_the_project():
    assert "stages" not in {
        line.split()[1].split(".")[0]
        for line in NOTEBOOK.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    }


def some_round(seconds: float = 1.0, start: float = 0.5) -> Round:
    """Every stage takes so long, `dvc repro` twice as long as all stages."""
    stages = dict.fromkeys(STAGES, seconds)
    starts = dict.fromkeys(STAGES, 0.1) | {"train": start}
    return Round(2 * len(stages) * seconds, 1.0, stages, 2.0, 0.02, starts)


def some_results(rounds: list[Round], source: str = "synthetic") -> Results:
    figures = {"accuracy": 0.75, "log_loss": 0.8}
    return Results(rounds, source, figures, {"accuracy": 0.7, "log_loss": 0.9})


def rows_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def test_dvc_and_the_notebook_are_compared_within_a_round():
    one = some_round(seconds=2.0)
    assert one.plain() == 14
    assert one.dvc() == 14
    assert one.after_download() == 26
    assert one.times_notebook() == 13


def test_tables_have_medians_and_medians_of_ratios():
    rounds = [some_round(1.0), some_round(2.0), some_round(6.0)]
    rows = rows_of(benchmark.table_of_runs(rounds))
    assert rows[0] == "| `dvc repro` of everything | 28.00 | 14.00 | 84.00 |"
    assert rows[2] == "| what DVC adds | 14.00 | 7.00 | 42.00 |"
    assert rows[-1].endswith(" times | 13.00 | 6.50 | 39.00 |")
    text = " ".join(benchmark.reading(rounds).split())
    assert "takes 13.00 times the seconds of the notebook script" in text
    assert "adds 14.0 seconds to the stages, 50 % of a whole run" in text


@pytest.mark.parametrize(
    ("seconds", "start", "expected"),
    [
        (1.0, 1.19, ["reached", "reached", "reached"]),
        (1.0, 1.2, ["reached", "reached", "not reached"]),
        (2.0, 1.0, ["not reached", "reached", "reached"]),
    ],
)
def test_aims_are_held_against_the_medians(seconds, start, expected):
    rounds = [some_round(seconds, start), some_round(seconds, start), some_round(9.0, 9.0)]
    rows = rows_of(benchmark.table_of_aims(rounds))
    assert [row.split(" | ")[-1].removesuffix(" |") for row in rows] == expected
    assert "`train`" in rows[2]


def test_stages_have_a_line_each_and_bare_python_has_one():
    *stages, bare = rows_of(benchmark.table_of_stages([some_round(start=1.3)]))
    assert len(stages) == len(STAGES)
    expected = "| `train` | 1.00 | 1.00 | 1.00 | 1.30 | 1.30 | 1.30 | not reached |"
    assert expected in stages
    assert bare == "| `python -c pass`, for comparison |  |  |  | 0.02 | 0.02 | 0.02 |  |"


def test_the_document_says_what_was_measured():
    results = some_results([some_round(), some_round(), some_round()])
    text = benchmark.document(results, {"dvc": "1.2.3"}, "A machine", "a command")
    for part in (
        "```sh\na command\n```",
        "dvc 1.2.3",
        "A machine.",
        "Rounds: 3.",
        "| the pipeline | 0.7500 | 0.8000 |",
        "| the notebook script | 0.7000 | 0.9000 |",
        benchmark.table_of_aims(results.rounds),
        benchmark.table_of_stages(results.rounds),
    ):
        assert part in text
    assert "trial" not in text
    assert "synthetic" in text
    real = benchmark.document(some_results([some_round()], "file"), {}, "", "")
    assert "synthetic" not in real
    assert "**A trial, with `--runs 1`.**" in real


def test_every_other_round_goes_backwards():
    turns = [lambda name=name: {name: len(name)} for name in ("a", "bb")]
    done = []
    assert list(benchmark.run_turns(turns, 0, lambda: done.append(1))) == ["a", "bb"]
    assert list(benchmark.run_turns(turns, 1, lambda: done.append(1))) == ["bb", "a"]
    assert len(done) == 4


def test_a_start_ends_where_main_would_begin(stage_folder, capsys):
    """Nothing that `main` reads is in the folder."""
    for name, module in stage_modules(PROJECT).items():
        exec(benchmark.start_of(module), {})
        assert capsys.readouterr().out.startswith(f"[{name.replace('-', '_')}] started, ")


def test_where_it_cannot_run_it_says_why(tmp_path):
    assert benchmark.why_not(PROJECT, has_dvc=True) is None
    assert "project's root" in benchmark.why_not(tmp_path, has_dvc=True)
    assert "dvc is missing" in benchmark.why_not(PROJECT, has_dvc=False)


def test_runs_are_a_whole_number_above_0():
    assert benchmark.positive("2") == 2
    for text in ("0", "-1", "1.5", "x"):
        with pytest.raises(ValueError):  # noqa: PT011 (argparse has its own sentence)
            benchmark.positive(text)
    assert benchmark.command_of(benchmark.RUNS) == "python -m benchmarks.pipeline"
    assert benchmark.command_of(1) == "python -m benchmarks.pipeline --runs 1"


def test_dvc_finds_this_python_and_nothing_kept_elsewhere(tmp_path):
    found = benchmark.environment(tmp_path, "elsewhere")
    assert found["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "elsewhere"]
    assert all(str(tmp_path) in value for name, value in found.items() if name != "PATH")
    assert "cores" in benchmark.machine()
