"""The figures are right on cases that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from stages.common.tables import Features
from stages.evaluate import (
    baselines,
    confusion_counts,
    draw_confusion,
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


def test_baselines_name_the_majority_and_the_nearest_mean():
    def rows(values, mediums):
        values = np.array(values, dtype=np.float32)
        files = np.array([f"{i}.jpg" for i in range(len(values))])
        return Features(files, np.array(mediums, dtype=object), values, ["a"], "synthetic")

    train = rows([[0], [0.2], [10]], ["clay", "clay", "gold"])
    test = rows([[9], [1]], ["gold", "clay"])
    found = baselines(train, test)
    assert found["majority"].tolist() == ["clay", "clay"]
    assert found["nearest_centroid"].tolist() == ["gold", "clay"]


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


def test_the_picture_of_the_confusions_has_the_same_bytes_each_time(tmp_path):
    counts = confusion_counts(ACTUAL, PREDICTED, LABELS)
    for name in ("a.png", "b.png"):
        draw_confusion(counts, LABELS, "test rows, synthetic data", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    other = counts.assign(count=pd.Series(range(9)))
    draw_confusion(other, LABELS, "test rows, synthetic data", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "a.png").read_bytes()
