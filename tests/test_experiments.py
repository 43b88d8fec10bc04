"""Experiments and branches of DVC: each has its own figures, and the workspace keeps its own."""

import csv
import json
import shlex
import shutil
import sys

import pytest
from conftest import Project, texts
from test_documents import README, commands

C = "train.logistic_regression.C"
SEED = "train.seed"
LOSS = "test.log_loss"


def log_loss(project: Project, rev: str | None = None) -> float:
    """The log loss on test, in the workspace or in a commit or branch."""
    name = "reports/metrics.json"
    if rev is None:
        text = (project.folder / name).read_text(encoding="utf-8")
    else:
        text = project.git("show", f"{rev}:{name}").stdout
    return json.loads(text)["test"]["log_loss"]


def shown(project: Project) -> dict[str, dict[str, str]]:
    """The table of `dvc exp show`, by the name of the experiment."""
    rows = csv.DictReader(project.dvc("exp", "show", "--csv").stdout.splitlines())
    return {row["Experiment"]: row for row in rows if row["Experiment"]}


@pytest.mark.slow
def test_experiments_with_other_models_change_the_metrics_and_their_table_fits_a_terminal(project):
    before = log_loss(project)
    project.dvc("exp", "run", "--name", "trees", "--set-param", "train.model=xgboost")
    assert log_loss(project) != before
    curve = (project.folder / "reports/plots/training_curve.csv").read_text().splitlines()
    assert len(curve) == 1 + 5  # a header and one line a round
    listed = project.dvc("exp", "list", "--name-only").stdout.split()
    assert listed == ["trees"]

    project.git("checkout", "--quiet", "params.yaml", "dvc.lock", "reports")
    project.dvc("exp", "run", "--name", "lda", "-S", "train.model=lda", "evaluate")
    (command,) = [line for line in commands(README) if line.startswith("dvc exp show --hide")]
    arguments = shlex.split(command)[1:]
    shown = project.run("env", "COLUMNS=100", sys.executable, "-m", "dvc", *arguments).stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in shown
    names = ["train.model", "val.accuracy", "val.log_loss", "val.macro_f1"]
    assert sorted(lines[1].split()) == ["Experiment", *names]
    # Each by its name, the one with the lowest loss on val first, below the commit they start from.
    found = {name: float(row["val.log_loss"]) for name, row in named(project).items()}
    order = [name for line in lines for name in found if f"[{name}]" in line]
    assert order == sorted(found, key=found.__getitem__)
    assert len(order) == 2


def named(project: Project) -> dict[str, dict[str, str]]:
    """The experiments in the table that have a name."""
    return {name: row for name, row in shown(project).items() if name in ("lda", "trees")}


@pytest.mark.slow
def test_lists_and_ranges_are_queued_and_each_run_has_its_own_figures(project):
    before = log_loss(project)
    project.dvc("exp", "run", "--queue", "-S", f"{C}=0.1,10.0", "evaluate")
    project.dvc("exp", "run", "--queue", "-S", f"{SEED}=range(7,9)", "evaluate")
    project.dvc("exp", "run", "--run-all")
    assert project.git("status", "--porcelain").stdout == ""
    assert log_loss(project) == before
    runs = {(row[C], row[SEED]): float(row[LOSS]) for row in shown(project).values()}
    assert set(runs) == {("0.1", "1"), ("10.0", "1"), ("0.01", "7"), ("0.01", "8")}
    # Logistic regression draws nothing, so that the seed changes no figure; the penalty does.
    assert runs["0.01", "7"] == runs["0.01", "8"] == before
    assert len({before, runs["0.1", "1"], runs["10.0", "1"]}) == 3


@pytest.mark.slow
def test_a_run_in_a_folder_of_its_own_is_applied_and_becomes_a_branch(project):
    before = log_loss(project)
    project.dvc("exp", "run", "--temp", "--name", "loose", "-S", f"{C}=10.0")
    # Nothing here has changed.
    assert project.git("status", "--porcelain").stdout == ""
    after = float(shown(project)["loose"][LOSS])
    assert after != before

    project.dvc("exp", "branch", "loose", "looser")
    assert log_loss(project, "looser") == pytest.approx(after)
    difference = json.loads(project.dvc("metrics", "diff", "main", "looser", "--json").stdout)
    assert difference["reports/metrics.json"][LOSS]["new"] == log_loss(project, "looser")

    project.dvc("exp", "apply", "loose")
    assert log_loss(project) == log_loss(project, "looser")
    # The files fit: nothing is left to compute.
    assert project.repro() == []
    project.commit()
    assert project.git("diff", "--stat", "looser").stdout == ""


@pytest.mark.slow
def test_branches_compare_with_an_empty_cache(project):
    project.git("checkout", "--quiet", "-b", "stronger")
    project.set_params(**{C: 100.0})
    project.repro("evaluate")
    project.commit()
    here, there = log_loss(project), log_loss(project, "main")
    shutil.rmtree(project.folder / ".dvc/cache")
    difference = json.loads(project.dvc("metrics", "diff", "main", "--json").stdout)
    assert difference["reports/metrics.json"][LOSS] == {
        "old": there,
        "new": here,
        "diff": pytest.approx(here - there),
    }
    plots = json.loads(project.dvc("plots", "diff", "main", "--json").stdout)
    assert plots.get("errors", []) == []
    for name, parts in plots["data"].items():
        assert {rev for part in parts for rev in part["revisions"]} == {"main", "workspace"}, name
        assert {"main", "workspace"} <= set(texts(parts[0])), name
    content = plots["data"]["Recall of each medium"][0]["content"]
    points = (json.loads(content) if isinstance(content, str) else content)["data"]["values"]
    recall = {(point["rev"], point["medium"]): float(point["recall"]) for point in points}
    table = project.git("show", "main:reports/plots/per_class.csv").stdout
    for rev, text in {
        "main": table,
        "workspace": (project.folder / "reports/plots/per_class.csv").read_text(),
    }.items():
        for line in csv.DictReader(text.splitlines()):
            assert recall[rev, line["medium"]] == float(line["recall"])
    changed = json.loads(project.dvc("params", "diff", "main", "--json").stdout)
    assert changed == {
        "params.yaml": {C: {"old": 0.01, "new": 100.0, "diff": pytest.approx(99.99)}}
    }
