"""Intervals agree with a slow loop over the same draws, and figures from sums with the metrics."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support

from stages.common import bootstrap as module
from stages.common.bootstrap import OVERALL, figures, interval, intervals, resample, row_terms
from stages.common.scores import scores

LABELS = np.array(["bronze", "clay", "gold"])


def answers(rows, seed=0):
    """Classes, and probabilities that often favour them."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    logits = random.normal(0, 1, (rows, 3))
    logits[np.arange(rows), truth] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, probabilities.astype(np.float32)


def figures_of(truth, probabilities):
    sums = row_terms(truth, probabilities).sum(axis=0, keepdims=True)
    return {name: values[0] for name, values in figures(sums, probabilities.shape[1]).items()}


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2]], ids=["all", "one without rows"])
def test_figures_from_sums_are_the_metrics(classes):
    truth, probabilities = answers(200)
    rows = np.isin(truth, classes)
    truth, probabilities = truth[rows], probabilities[rows]
    found = figures_of(truth, probabilities)
    expected = scores(LABELS[truth].astype(object), probabilities, LABELS)
    assert set(OVERALL) == set(expected)
    assert {name: found[name] for name in OVERALL} == pytest.approx(expected, rel=1e-9)
    by_class = precision_recall_fscore_support(
        truth, probabilities.argmax(axis=1), labels=[0, 1, 2], zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1"), by_class, strict=False):
        np.testing.assert_allclose(found[name][classes], values[classes])


def test_a_class_without_rows_has_no_figures_and_no_warning(recwarn):
    truth, probabilities = answers(30)
    truth[:] = 1
    terms = row_terms(truth, probabilities)
    drawn = figures(resample(terms), 3)
    for name in ("precision", "recall", "f1"):
        low, high = interval(drawn[name])
        assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, True]
    assert not np.isnan(intervals(truth, probabilities)["macro_f1"]["low"])
    assert not list(recwarn)


def test_intervals_are_those_of_a_slow_loop_over_the_same_draws(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 60)
    truth, probabilities = answers(25)
    # A medium so rare that some draws have none of it.
    truth[truth == 2] = 1
    truth[3] = 2
    probabilities[0] = np.where(truth[0] == np.arange(3), 0, 0.5)
    normalized = probabilities.astype(np.float64)
    normalized /= normalized.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    expected = {"accuracy": [], "macro_f1": [], "log_loss": []}
    for drawn in np.random.default_rng(5).integers(0, 25, (60, 25)):
        actual, answer = truth[drawn], predicted[drawn]
        expected["accuracy"].append(accuracy_score(actual, answer))
        expected["macro_f1"].append(
            f1_score(actual, answer, labels=np.unique(actual), average="macro", zero_division=0)
        )
        expected["log_loss"].append(log_loss(actual, normalized[drawn], labels=[0, 1, 2]))
    # Doubled, as the sums of probabilities need not be 1.
    found = intervals(truth, 2 * probabilities, seed=5)
    for name, drawn in expected.items():
        low, high = np.percentile(drawn, (2.5, 97.5))
        assert found[name] == pytest.approx({"low": low, "high": high}, rel=1e-6), name


def test_an_interval_contains_its_figure_and_shrinks_with_more_rows():
    widths = []
    for rows in (100, 1600):
        truth, probabilities = answers(rows)
        point = figures_of(truth, probabilities)
        found = intervals(truth, probabilities)
        names = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
        for name in names:
            assert found[name]["low"] < point[name] < found[name]["high"], name
        widths.append({name: found[name]["high"] - found[name]["low"] for name in names})
    for name, width in widths[0].items():
        # Sixteen times the rows give a quarter of the width.
        assert widths[1][name] == pytest.approx(width / 4, rel=0.25), name


def test_intervals_depend_on_the_seed_and_not_on_the_memory(monkeypatch):
    truth, probabilities = answers(40)
    found = intervals(truth, probabilities)
    assert intervals(truth, probabilities) == found
    assert intervals(truth, probabilities, seed=1) != found
    monkeypatch.setattr(module, "MOST_DRAWN", 1300)
    assert intervals(truth, probabilities) == found


def test_columns_of_one_call_share_their_draws():
    column = np.random.default_rng(0).normal(size=50)
    drawn = resample(np.column_stack([column, column + 1]))
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 50)
    assert drawn[:, 0].std() > 1


def test_rows_that_are_all_right_have_an_interval_of_one_number():
    found = intervals(np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 1]])
    assert found["accuracy"] == found["macro_f1"] == {"low": 1, "high": 1}
    assert found["log_loss"] == {"low": 0, "high": 0}
