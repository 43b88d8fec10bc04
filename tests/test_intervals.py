"""Intervals hold the true value as often as they say, and are those of a slow loop."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from stages.evaluation import intervals as module
from stages.evaluation.intervals import (
    OVERALL,
    f1_interval,
    interval,
    intervals,
    metrics_of_sums,
    resample,
    row_terms,
    wilson,
)
from stages.evaluation.metrics import metrics_of

LABELS = np.array(["bronze", "clay", "gold"])


def answers(rows, seed=0):
    """Classes, and probabilities that often favour them."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    logits = random.normal(0, 1, (rows, 3))
    logits[np.arange(rows), truth] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, probabilities.astype(np.float32)


def metrics_from_sums(truth, probabilities):
    sums = row_terms(truth, probabilities).sum(axis=0, keepdims=True)
    return {
        name: values[0] for name, values in metrics_of_sums(sums, probabilities.shape[1]).items()
    }


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2]], ids=["all", "one without rows"])
def test_what_comes_from_sums_are_the_metrics(classes):
    truth, probabilities = answers(200)
    rows = np.isin(truth, classes)
    truth, probabilities = truth[rows], probabilities[rows]
    found = metrics_from_sums(truth, probabilities)
    expected = metrics_of(LABELS[truth].astype(object), probabilities, LABELS)
    # The calibration error has no interval: stages/evaluation/consistency.py says what it would be.
    del expected["calibration_error"]
    assert set(OVERALL) == set(expected)
    assert {name: found[name] for name in OVERALL} == pytest.approx(expected, rel=1e-9)
    by_class = precision_recall_fscore_support(
        truth, probabilities.argmax(axis=1), labels=[0, 1, 2], zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1"), by_class, strict=False):
        np.testing.assert_allclose(found[name][classes], values[classes])


def test_the_right_label_is_looked_for_among_the_three_and_the_five_most_probable():
    # The right one of eight labels is the most probable of the first row, the second most probable
    # of the second, and so on for seven rows.
    rows = np.arange(7)
    probabilities = np.array([np.roll(np.arange(8, 0, -1), 2 * row) for row in rows]) / 36
    found = metrics_from_sums(3 * rows % 8, probabilities)
    shares = [found[name] for name in ("accuracy", "top3_accuracy", "top5_accuracy")]
    assert shares == [1 / 7, 3 / 7, 5 / 7]


def test_a_class_without_rows_has_no_metrics_and_no_warning(recwarn):
    truth, probabilities = answers(30)
    truth[:] = 1
    found = metrics_from_sums(truth, probabilities)
    for name in ("precision", "recall", "f1"):
        assert np.isnan(found[name]).tolist() == [True, False, True]
    assert not np.isnan(intervals(truth, probabilities)["macro_f1"]["low"])
    low, high = wilson(np.array([0, 3]), np.array([0, 4]))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]
    assert not list(recwarn)


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 3), (19, 20), (20, 20), (700, 999)])
def test_the_interval_of_a_share_is_that_of_scipy(hits, rows):
    expected = binomtest(hits, rows).proportion_ci(method="wilson")
    found = wilson(np.array(hits), np.array(rows))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= found[0] <= hits / rows <= found[1] <= 1
    assert found[0] < found[1]


@pytest.mark.parametrize("rows", [10, 20, 50, 400])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_the_interval_of_a_share_holds_it_in_95_of_100_samples_also_of_few_rows(rows, share):
    hits = np.arange(rows + 1)
    low, high = wilson(hits, np.full(rows + 1, rows))
    holds = (low <= share) & (share <= high)
    assert binom.pmf(hits, rows, share) @ holds > 0.9


@pytest.mark.parametrize(("hits", "rows"), [(0, 3), (7, 20), (20, 20)])
def test_the_ends_of_f1_are_those_of_the_share_of_hits_as_a_harmonic_mean(hits, rows):
    share = binomtest(hits, rows).proportion_ci(method="wilson")
    # With `either` rows and a share of hits among them, F1 is 2 hits / (hits + either).
    expected = [2 * end * rows / (end * rows + rows) for end in (share.low, share.high)]
    assert f1_interval(np.array(hits), np.array(rows)) == pytest.approx(expected, abs=1e-6)


def test_the_interval_of_f1_holds_it_in_95_of_100_samples():
    random = np.random.default_rng(0)
    # Of a medium's rows 80 % are found, and 3 % of the others are taken for it.
    truth = random.random((2000, 300)) < 0.1
    named = np.where(truth, random.random(truth.shape) < 0.8, random.random(truth.shape) < 0.03)
    low, high = f1_interval((truth & named).sum(axis=1), (truth | named).sum(axis=1))
    true_f1 = 2 * 0.08 / (0.1 + 0.08 + 0.027)
    assert np.mean((low <= true_f1) & (true_f1 <= high)) == pytest.approx(0.95, abs=0.015)


def test_intervals_are_those_of_a_slow_loop_over_the_same_draws(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 60)
    truth, probabilities = answers(25)
    # A label so rare that some draws have none of it.
    truth[truth == 2] = 1
    truth[3] = 2
    probabilities[0] = np.where(truth[0] == np.arange(3), 0, 0.5)
    normalized = probabilities.astype(np.float64)
    normalized /= normalized.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    expected = {"balanced_accuracy": [], "macro_f1": [], "log_loss": []}
    for drawn in np.random.default_rng(5).integers(0, 25, (60, 25)):
        actual, answer = truth[drawn], predicted[drawn]
        expected["balanced_accuracy"].append(balanced_accuracy_score(actual, answer))
        expected["macro_f1"].append(
            f1_score(actual, answer, labels=np.unique(actual), average="macro", zero_division=0)
        )
        expected["log_loss"].append(log_loss(actual, normalized[drawn], labels=[0, 1, 2]))
    # Doubled, as the sums of probabilities need not be 1.
    found = intervals(truth, 2 * probabilities, seed=5)
    for name, drawn in expected.items():
        low, high = np.percentile(drawn, (2.5, 97.5))
        assert found[name] == pytest.approx({"low": low, "high": high}, rel=1e-6), name


def test_an_interval_contains_its_metric_and_shrinks_with_more_rows():
    widths = []
    for rows in (100, 1600):
        truth, probabilities = answers(rows)
        point = metrics_from_sums(truth, probabilities)
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
    monkeypatch.setattr(module, "MOST_DRAWN", 10)  # one draw at a time, which is more
    for name, ends in intervals(truth, probabilities).items():
        assert ends == pytest.approx(found[name], rel=1e-12)


def test_a_thousand_draws_have_as_many_rows_as_there_are():
    column = np.random.default_rng(0).normal(size=(50, 1))
    draws = np.random.default_rng(7).integers(0, 50, (1000, 50))
    expected = [column[drawn].sum(axis=0) for drawn in draws]
    np.testing.assert_allclose(resample(column, seed=7), expected, rtol=0, atol=1e-12)


def test_columns_of_one_call_share_their_draws():
    column = np.random.default_rng(0).normal(size=50)
    drawn = resample(np.column_stack([column, column + 1]))
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 50)
    assert drawn[:, 0].std() > 1


def test_a_few_rows_that_are_all_right_do_not_make_an_accuracy_certain():
    found = intervals(np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 1]])
    # By hand: 4 / (4 + z²), with z the 1.96 standard errors of a normal distribution.
    assert found["accuracy"] == pytest.approx({"low": 4 / (4 + 1.959964**2), "high": 1})


def test_the_interval_is_the_middle_95_percent_of_the_draws():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
