"""The figures are right on cases that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from stages.common.stage import PipelineError
from stages.common.tables import Features
from stages.evaluate import (
    baselines,
    confusion_counts,
    confusion_shares,
    count_quarantined,
    draw_confusion,
    evaluate,
    per_class,
    rounded,
    scores,
    top_k_accuracy,
)

LABELS = np.array(["bronze", "clay", "gold"])
ACTUAL = np.array(["bronze", "bronze", "clay", "clay"], dtype=object)
PREDICTED = np.array(["bronze", "gold", "clay", "clay"], dtype=object)
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.1, 0.6], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])


def test_scores_of_four_rows():
    figures = scores(ACTUAL, PROBABILITIES, LABELS)
    assert figures["accuracy"] == 0.75
    # Gold does not occur, so it is in no mean: recall 1/2 and 1; F1 2/3 and 1.
    assert figures["balanced_accuracy"] == 0.75
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["top3_accuracy"] == 1.0
    assert figures["log_loss"] == pytest.approx(-np.log([0.8, 0.3, 0.5, 1.0]).mean())


def test_metrics_are_the_six_that_were_agreed():
    assert list(scores(ACTUAL, PROBABILITIES, LABELS)) == [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "top3_accuracy",
        "top5_accuracy",
        "log_loss",
    ]


def test_single_precision_probabilities_raise_no_warning(recwarn):
    random = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    probabilities = random / random.sum(axis=1, keepdims=True)
    scores(np.repeat(LABELS, [200, 200, 100]), probabilities, LABELS)
    assert not list(recwarn)


def test_top_k_accuracy_grows_with_k():
    found = [top_k_accuracy(ACTUAL, PROBABILITIES, LABELS, k) for k in (1, 2, 3, 5)]
    assert found == [0.75, 1.0, 1.0, 1.0]


def test_top_3_and_top_5_look_as_deep_as_they_say():
    labels = np.array(list("abcdefg"))
    probabilities = np.tile([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05], (5, 1))
    figures = scores(np.array(["a", "c", "d", "e", "f"]), probabilities, labels)
    assert figures["top3_accuracy"] == 0.4
    assert figures["top5_accuracy"] == 0.8


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


class Threshold:
    """A model that says gold for values above 0, and is sure of it."""

    labels = ("clay", "gold")
    feature_names = ("x",)

    def predict_proba(self, features):
        gold = np.where(features[:, 0] > 0, 0.9, 0.1)
        return np.column_stack([1 - gold, gold])


@pytest.fixture
def model():
    model = Threshold()
    model.labels, model.feature_names = ["clay", "gold"], ["x"]
    return model


TRAIN = rows([-1, 1], ["clay", "gold"])
VAL = rows([-1, 1, 1], ["clay", "gold", "clay"])
TEST = rows([-1, -1, 1, 1], ["clay", "gold", "gold", "gold"])


def test_an_evaluation_measures_val_and_test_each_on_its_own_rows(model):
    metrics = evaluate(model, TRAIN, VAL, TEST, {"rows": 2, "width": 2}, "test").metrics
    quarantined = {"rows": 2, "width": 2}
    assert metrics["data"] == {"source": "synthetic", "rows": 9, "quarantined": quarantined}
    assert metrics["val"]["accuracy"] == 0.666667
    assert metrics["test"]["accuracy"] == 0.75
    assert metrics["test"]["log_loss"] == round(-np.log([0.9, 0.1, 0.9, 0.9]).mean(), 6)
    assert metrics["baseline"]["majority"]["accuracy"] == 0.25
    assert metrics["baseline"]["nearest_centroid"]["accuracy"] == 0.75


@pytest.mark.parametrize(("subset", "count"), [("val", 3), ("test", 4)])
def test_the_plots_count_the_chosen_rows_and_agree_with_the_accuracy(model, subset, count):
    found = evaluate(model, TRAIN, VAL, TEST, {"rows": 0}, subset)
    right = found.confusion.query("actual == predicted")["count"].sum()
    assert found.confusion["count"].sum() == found.per_class["rows"].sum() == count
    assert right / count == pytest.approx(found.metrics[subset]["accuracy"], abs=1e-6)


def test_a_model_of_other_features_is_refused(model):
    model.feature_names = ["y"]
    with pytest.raises(PipelineError, match="was trained on other features"):
        evaluate(model, TRAIN, VAL, TEST, {"rows": 0}, "test")


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


def test_floats_are_rounded_to_six_decimals_and_nothing_else_is_touched():
    values = {"a": {"b": 1 / 3}, "rows": 10**7 + 1, "source": "synthetic"}
    assert rounded(values) == {"a": {"b": 0.333333}, "rows": 10**7 + 1, "source": "synthetic"}


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
