"""The figures are right on cases that can be counted by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.common.stage import PipelineError
from stages.common.tables import (
    ARTEFACTS,
    METADATA,
    SPLIT,
    Features,
    artefacts_schema,
    fixed_size_list,
    split_schema,
    write_batches,
)
from stages.evaluate import (
    baselines,
    confusion_counts,
    confusion_shares,
    count_quarantined,
    draw_confusion,
    evaluate,
    near_duplicates,
    per_class,
    predict,
)

LABELS = np.array(["bronze", "clay", "gold"])
ACTUAL = np.array(["bronze", "bronze", "clay", "clay"], dtype=object)
PREDICTED = np.array(["bronze", "gold", "clay", "clay"], dtype=object)


def rows(values, mediums, names=("x",)):
    values = np.array(values, dtype=np.float32).reshape(len(mediums), -1)
    files = np.array([f"{i}.jpg" for i in range(len(mediums))])
    return Features(files, np.array(mediums, dtype=object), values, list(names), "synthetic")


def test_baselines_learn_from_train_alone():
    train = rows([0, 0.2, 0.1, 10], ["clay", "clay", "clay", "gold"])
    test = rows([9, 8, 7, 1, 9.5], ["gold", "gold", "gold", "gold", "clay"])
    found = baselines(train, test)
    assert found["majority"].tolist() == ["clay"] * 5
    assert found["nearest_centroid"].tolist() == ["gold", "gold", "gold", "clay", "gold"]


def test_baselines_stand_constant_features(recwarn):
    train = rows([1, 1], ["clay", "gold"])
    assert baselines(train, train)["nearest_centroid"].tolist() == ["clay", "clay"]
    assert not list(recwarn)


TRAIN = rows([-1, 1], ["clay", "gold"])
VAL = rows([-1, 1, 1], ["clay", "gold", "clay"])
TEST = rows([-1, -1, 1, 1], ["clay", "gold", "gold", "gold"])


def model(refit_on_val=False, names=("x",)):
    """What `evaluate` asks of a model's file."""
    return SimpleNamespace(
        labels=["clay", "gold"],
        metadata={
            "feature_names": list(names),
            "parameters": {"refit_on_val": refit_on_val},
            "val": {"accuracy": 0.123457, "log_loss": 0.5},
        },
    )


def threshold(subset):
    """Probabilities of a model that says gold for values above 0, and is sure of it."""
    gold = np.where(subset.values[:, 0] > 0, 0.9, 0.1)
    return np.column_stack([1 - gold, gold])


def evaluated(model, duplicate=(False,) * 4, quarantined=None, subset="test"):
    probabilities = {"val": threshold(VAL), "test": threshold(TEST)}
    return evaluate(
        model,
        probabilities,
        TRAIN,
        VAL,
        TEST,
        np.array(duplicate),
        quarantined or {"rows": 0},
        subset,
    )


def test_an_evaluation_measures_val_and_test_each_on_its_own_rows():
    quarantined = {"rows": 2, "width": 2}
    metrics = evaluated(model(), quarantined=quarantined).metrics
    assert metrics["data"] == {"source": "synthetic", "rows": 9, "quarantined": quarantined}
    assert metrics["val"]["accuracy"] == 0.666667
    assert metrics["test"]["accuracy"] == 0.75
    assert metrics["test"]["log_loss"] == round(-np.log([0.9, 0.1, 0.9, 0.9]).mean(), 6)
    assert metrics["baseline"]["majority"]["accuracy"] == 0.25
    assert metrics["baseline"]["nearest_centroid"]["accuracy"] == 0.75
    assert set(metrics["test_interval"]) == {"accuracy", "macro_f1", "log_loss"}
    assert metrics["test_interval"]["accuracy"] == {"low": 0.25, "high": 1.0}


@pytest.mark.parametrize(("subset", "count"), [("val", 3), ("test", 4)])
def test_the_plots_count_the_chosen_rows_and_agree_with_the_accuracy(subset, count):
    found = evaluated(model(), subset=subset)
    right = found.confusion.query("actual == predicted")["count"].sum()
    assert found.confusion["count"].sum() == found.per_class["rows"].sum() == count
    assert right / count == pytest.approx(found.metrics[subset]["accuracy"], abs=1e-6)


def test_a_model_of_other_features_is_refused():
    with pytest.raises(PipelineError, match="was trained on other features"):
        evaluated(model(names=["y"]))


def test_a_model_that_was_fitted_on_val_keeps_its_figures_from_before():
    metrics = evaluated(model(refit_on_val=True)).metrics
    assert metrics["val"] == {"accuracy": 0.123457, "log_loss": 0.5}
    assert metrics["test"]["accuracy"] == 0.75


@pytest.mark.usefixtures("stage_folder")
def test_near_duplicates_are_the_rows_whose_nearest_training_row_is_very_much_alike():
    rows = [("a", 0.81), ("b", None), ("c", 0.79), ("d", 1.0), ("e", -1.0)]
    schema = split_schema("file")
    table = pa.Table.from_pylist(
        [
            {"image_file": name, "subset": "test", "nearest_train_cosine": cosine}
            for name, cosine in rows
        ],
        schema=schema,
    )
    write_batches(SPLIT, schema, table.to_batches())
    asked = np.array(["d", "a", "b", "c", "e"], dtype=object)
    assert near_duplicates(asked).tolist() == [True, True, False, False, False]


def test_rows_without_a_near_duplicate_have_figures_of_their_own():
    metrics = evaluated(model(), duplicate=[False, True, False, False]).metrics
    found = metrics["test_without_near_duplicates"]
    assert found["rows"] == 3
    assert found["accuracy"] == 1.0
    assert found["log_loss"] == round(-np.log(0.9), 6)
    assert metrics["test"]["accuracy"] == 0.75


@pytest.mark.parametrize("duplicate", [[False] * 4, [True] * 4])
def test_figures_without_near_duplicates_are_left_out_where_they_would_say_nothing(duplicate):
    assert "test_without_near_duplicates" not in evaluated(model(), duplicate=duplicate).metrics


WIDTHS = np.arange(1.0, 8.0)
SUBSET_OF = dict(
    zip("abcdefg", ["val", "test", "train", "val", "train", "test", "val"], strict=True)
)


class WidthsAndFirstNumbers:
    """A model that gives back what it is given."""

    def __init__(self, embedding_length):
        self.embedding_length = embedding_length

    def predict_proba(self, artefacts):
        first = np.zeros(len(artefacts.width))
        if artefacts.embedding is not None:
            first = artefacts.embedding[:, 0]
        return np.column_stack([artefacts.width, first])


def write_artefacts(length):
    """A table of seven artefacts in row groups of two."""
    schema = artefacts_schema("file", length)
    columns = {name: pa.nulls(7, type_) for name, type_ in METADATA.items()}
    columns |= {"image_file": pa.array(list("abcdefg")), "width": pa.array(WIDTHS)}
    columns |= {"height": pa.array(WIDTHS), "museum": pa.array(["LACMA"] * 7)}
    if length:
        embedding = np.repeat(-WIDTHS[:, None], length, axis=1).astype(np.float32)
        columns["embedding"] = fixed_size_list(embedding)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
    write_batches(ARTEFACTS, schema, [batch], row_group_rows=2)


@pytest.mark.parametrize(("subset", "widths"), [("val", [1, 4, 7]), ("test", [2, 6])])
def test_the_rows_of_a_subset_are_scored_in_their_order(stage_folder, subset, widths):
    write_artefacts(length=3)
    found = predict(WidthsAndFirstNumbers(3), subset, SUBSET_OF)
    assert found.tolist() == [[width, -width] for width in widths]


def test_a_model_of_sizes_alone_is_given_no_embeddings(stage_folder):
    write_artefacts(length=3)
    found = predict(WidthsAndFirstNumbers(None), "test", SUBSET_OF)
    assert found.tolist() == [[2, 0], [6, 0]]


def test_a_model_of_embeddings_is_refused_for_a_table_without(stage_folder):
    write_artefacts(length=None)
    with pytest.raises(PipelineError, match="trained on embeddings, and the table has none: run"):
        predict(WidthsAndFirstNumbers(3), "test", SUBSET_OF)


def test_rows_that_were_set_aside_are_counted_once_and_their_rules_each():
    quarantine = pd.DataFrame({"row": [3, 3, 8], "rule": ["width", "height", "width"]})
    assert count_quarantined(quarantine) == {"rows": 2, "height": 1, "width": 2}
    assert count_quarantined(quarantine.head(0)) == {"rows": 0}


def test_confusion_counts_hold_every_pair():
    counts = confusion_counts(ACTUAL, PREDICTED, LABELS)
    assert list(counts.columns) == ["actual", "predicted", "count"]
    assert len(counts) == 9
    found = counts.set_index(["actual", "predicted"])["count"]
    assert found[("bronze", "bronze")] == 1
    assert found[("bronze", "gold")] == 1
    assert found[("clay", "clay")] == 2
    assert found.sum() == 4


def test_per_class_figures_divide_by_the_right_sums():
    table = per_class(ACTUAL, PREDICTED, LABELS).set_index("medium")
    assert table["recall"].to_dict() == {"bronze": 0.5, "clay": 1.0, "gold": 0.0}
    assert table["precision"].to_dict() == {"bronze": 1.0, "clay": 1.0, "gold": 0.0}
    assert table["rows"].to_dict() == {"bronze": 2, "clay": 2, "gold": 0}


def test_shares_of_a_row_are_those_of_its_actual_medium():
    shares = confusion_shares(confusion_counts(ACTUAL, PREDICTED, LABELS))
    assert shares.loc["bronze"].tolist() == [0.5, 0, 0.5]
    assert shares.loc["clay"].tolist() == [0, 1, 0]
    assert shares.loc["gold"].tolist() == [0, 0, 0]


def test_the_picture_of_the_confusions_has_the_same_bytes_each_time(tmp_path):
    # A name that Matplotlib would take for a formula.
    labels = np.array(["bronze", "clay", r"$\frac{gold$"])
    shares = confusion_shares(confusion_counts(ACTUAL, ACTUAL, labels))
    for name in ("a.png", "b.png"):
        draw_confusion(shares, "test rows, synthetic data", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    draw_confusion(1 - shares, "test rows, synthetic data", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "a.png").read_bytes()
