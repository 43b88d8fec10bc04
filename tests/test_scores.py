"""Metrics are right where they can be counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, recall_score

from stages.evaluation.metrics import calibration_error, metrics_of, rounded

LABELS = np.array(["bronze", "clay", "gold"])
ACTUAL = np.array(["bronze", "bronze", "clay", "clay"], dtype=object)
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.1, 0.6], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])


def test_metrics_of_four_rows():
    found = metrics_of(ACTUAL, PROBABILITIES, LABELS)
    assert found["accuracy"] == 0.75
    # Gold does not occur, so it is in no mean: recall 1/2 and 1; F1 2/3 and 1.
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["top3_accuracy"] == 1.0
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.3, 0.5, 1.0]).mean())
    # Each row is alone in its bin.
    assert found["calibration_error"] == pytest.approx((0.2 + 0.6 + 0.5 + 0) / 4)


def test_metrics_are_the_seven_that_were_agreed():
    assert list(metrics_of(ACTUAL, PROBABILITIES, LABELS)) == [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "top3_accuracy",
        "top5_accuracy",
        "log_loss",
        "calibration_error",
    ]


def test_metrics_are_those_of_scikit_learn():
    random = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    probabilities = random / random.sum(axis=1, keepdims=True)
    # Gold does not occur, and is named.
    actual = np.repeat(LABELS[:2], [300, 200]).astype(object)
    found = metrics_of(actual, probabilities, LABELS)
    predicted = LABELS[probabilities.argmax(axis=1)]
    whole = probabilities.astype(np.float64) / probabilities.sum(axis=1, keepdims=True, dtype=float)
    over = {"labels": LABELS[:2], "average": "macro"}
    assert found["balanced_accuracy"] == pytest.approx(recall_score(actual, predicted, **over))
    assert found["macro_f1"] == pytest.approx(f1_score(actual, predicted, **over))
    assert found["log_loss"] == pytest.approx(log_loss(actual, whole, labels=LABELS))


def test_single_precision_probabilities_raise_no_warning(recwarn):
    random = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    probabilities = random / random.sum(axis=1, keepdims=True)
    metrics_of(np.repeat(LABELS, [200, 200, 100]), probabilities, LABELS)
    assert not list(recwarn)


def test_top_3_and_top_5_look_as_deep_as_they_say():
    labels = np.array(list("abcdefg"))
    probabilities = np.tile([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05], (5, 1))
    found = metrics_of(np.array(["a", "c", "d", "e", "f"]), probabilities, labels)
    assert found["top3_accuracy"] == 0.4
    assert found["top5_accuracy"] == 0.8


@pytest.mark.parametrize(
    ("confidences", "right", "error"),
    [
        ([1.0, 1.0], [True, True], 0),
        ([1.0, 1.0], [False, False], 1),
        ([0.8, 0.8, 0.8, 0.8, 0.8], [True, True, True, True, False], 0),
        ([0.8, 0.8], [True, False], 0.3),
        # A bin ends at 10/15. Rows of one bin make up for each other, those of two do not.
        ([0.61, 0.665], [True, False], (0.665 - 0.39) / 2),
        ([0.66, 0.67], [True, False], (0.67 + 0.34) / 2),
        # Full certainty belongs to the last bin.
        ([1.0, 0.95], [False, True], (1 - 0.05) / 2),
    ],
)
def test_calibration_error_of_rows_that_can_be_counted(confidences, right, error):
    first = np.array(confidences)
    probabilities = np.column_stack([first, 1 - first])
    found = calibration_error(np.where(right, 0, 1), probabilities)
    assert found == pytest.approx(error, abs=1e-12)


def test_floats_are_rounded_to_six_decimals_and_nothing_else_is_touched():
    values = {"a": {"b": 1 / 3}, "rows": 10**7 + 1, "source": "synthetic"}
    assert rounded(values) == {"a": {"b": 0.333333}, "rows": 10**7 + 1, "source": "synthetic"}
