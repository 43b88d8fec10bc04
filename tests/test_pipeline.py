"""DVC for real, on a tiny table: what a run leaves, what it says, and what its plots show."""

import json
import re

from conftest import PROJECT, texts
from ruamel.yaml import YAML


def written(project, name):
    return json.loads((project.folder / "reports" / name).read_text())


def test_a_second_repro_runs_nothing(project):
    assert project.repro() == []


def test_after_a_repro_git_has_nothing_to_add(project):
    assert project.git("status", "--porcelain").stdout == ""


def test_metrics_are_what_one_chooses_by_and_name_their_source(project):
    found = written(project, "metrics.json")
    assert set(found) == {"data", "val", "test", "baseline"}
    assert found["data"] == {"source": "file", "rows": 144}
    assert set(found["val"]) == set(found["test"]) > {"accuracy", "log_loss"}
    assert set(found["baseline"]) == {"majority", "nearest_centroid", "sizes"}
    assert set(found["baseline"]["majority"]) == {"accuracy"}
    shown = json.loads(project.dvc("metrics", "show", "--json").stdout)
    assert shown[""]["data"] == {"reports/metrics.json": {"data": found}}


def test_details_have_the_agreed_keys(project):
    found = written(project, "details.json")
    assert set(found) == {
        "quarantined",
        "val_if_calibrated",
        "test_interval",
        "test_if_calibrated",
        "test_without_near_duplicates",
        "test_without_near_duplicates_interval",
        "test_museum",
        "test_sure",
        "test_without_sizes",
        "test_without_sizes_sure",
    }
    assert found["quarantined"] == {"rows": 0}


def test_a_mistyped_parameter_ends_with_its_sentence(project):
    result = project.dvc("exp", "run", "-S", "train.logistic_regression.C=strong", check=False)
    assert result.returncode != 0
    assert (
        "[train] error: params.yaml: `train.logistic_regression.C` should be a valid number, "
        "not 'strong'" in result.stderr
    )
    assert "Traceback" not in result.stderr


def test_every_plot_is_drawn_with_a_title_and_labelled_axes(project):
    project.set_params(**{"evaluate.label": "maker"})
    plots = json.loads(project.dvc("plots", "show", "--json").stdout)
    assert plots.get("errors", []) == []
    drawn = {name: parts for name, parts in plots["data"].items() if parts[0]["type"] == "vega"}
    declared = re.sub(r"\$\{evaluate\.label\}", "maker", (PROJECT / "dvc.yaml").read_text())
    labels = {
        name: plot
        for entry in YAML(typ="safe").load(declared)["plots"]
        for name, plot in entry.items()
    }
    assert list(drawn) == [
        "Recall of each maker",
        "Precision of each maker",
        "F1 of each maker",
        "Confusion, share of each actual maker",
        "Log loss while training",
        "Accuracy while training",
        "Reliability",
        "Loss of accuracy without a group of features",
    ]
    for name, parts in drawn.items():
        content = json.dumps(parts[0]["content"])
        assert "<DVC_METRIC" not in content, f"{name}: a part of the template is not filled in"
        shown = texts(parts[0])
        assert {name, labels[name]["x_label"], labels[name]["y_label"]} <= set(shown)
        assert "medium" not in shown
        if labels[name]["y_label"].endswith("maker"):
            assert {f"Medium {i}" for i in range(6)} <= set(shown)


def test_a_plot_shows_the_column_that_its_title_names():
    plots = YAML(typ="safe").load(PROJECT / "dvc.yaml")["plots"]
    shown = {name: plot["x"] for plot in plots[:3] for name, plot in plot.items()}
    assert shown == {
        "Recall of each ${evaluate.label}": "recall",
        "Precision of each ${evaluate.label}": "precision",
        "F1 of each ${evaluate.label}": "f1",
    }


def test_shares_of_confusions_are_computed_for_each_branch_alone():
    template = json.loads((PROJECT / ".dvc/plots/confusion_recall.json").read_text())
    sums = [step for step in template["spec"]["transform"] if "joinaggregate" in step]
    assert [step["groupby"] for step in sums] == [["rev", "<DVC_METRIC_Y>"]]


def test_a_failing_stage_leaves_no_data_for_git_to_see(project, tmp_path):
    table = tmp_path / "bad.csv"
    table.write_text("Image file,Medium\n1.jpg,Etching\n")
    project.set_params(**{"download.file.path": str(table)})
    result = project.dvc("repro", check=False)
    assert result.returncode != 0
    assert "[parse_embeddings_to_parquet] error: the raw table has no column" in result.stderr
    changed = {line[3:] for line in project.git("status", "--porcelain").stdout.splitlines()}
    assert changed == {"params.yaml", "dvc.lock"}
