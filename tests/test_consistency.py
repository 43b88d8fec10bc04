"""What chance does to metrics of calibration is told from what a fault does."""

import tracemalloc

import numpy as np
import pytest

from stages.evaluation import consistency as module
from stages.evaluation.consistency import consistent
from stages.evaluation.metrics import calibration_bins, metrics_of
from stages.tables.results import CALIBRATION_BINS

LABELS = np.array(["bronze", "clay", "gold"])


def made_up(rows, seed=0):
    logits = np.random.default_rng(seed).normal(0, 2, (rows, 3))
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def drawn(probabilities, random):
    """Mediums that are as probable as they are said to be."""
    places = (probabilities.cumsum(axis=1) < random.random((len(probabilities), 1))).sum(axis=1)
    return LABELS[np.minimum(places, 2)].astype(object)


def test_a_calibrated_model_lies_in_the_ranges_in_95_of_100_cases():
    probabilities = made_up(400)
    expected = consistent(probabilities)
    random = np.random.default_rng(1)
    found = [metrics_of(drawn(probabilities, random), probabilities, LABELS) for _ in range(300)]
    errors = np.array([metrics["calibration_error"] for metrics in found])
    assert errors.mean() == pytest.approx(expected.error_mean, rel=0.05)
    assert np.mean(errors <= expected.error_high) == pytest.approx(0.95, abs=0.04)
    low, high = expected.accuracy
    accuracies = np.array([metrics["accuracy"] for metrics in found])
    assert np.mean((low <= accuracies) & (accuracies <= high)) == pytest.approx(0.95, abs=0.04)


def test_a_model_that_is_too_sure_lies_beyond_them():
    probabilities = made_up(400)
    mediums = drawn(probabilities, np.random.default_rng(1))
    sure = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    metrics, expected = metrics_of(mediums, sure, LABELS), consistent(sure)
    assert metrics["calibration_error"] > 1.5 * expected.error_high
    assert metrics["accuracy"] < expected.accuracy[0]


def test_the_ranges_of_bins_are_those_of_the_binomial_distribution():
    # Of 40 rows that are all 80 % sure, 27 to 37 are right in 95 % of samples.
    probabilities = np.tile([0.8, 0.15, 0.05], (40, 1))
    found = consistent(probabilities)
    _, (bin_, *_) = calibration_bins(probabilities)
    assert found.bin_low[bin_] == pytest.approx(27 / 40, abs=1 / 40)
    assert found.bin_high[bin_] == pytest.approx(37 / 40, abs=1 / 40)
    others = np.arange(CALIBRATION_BINS) != bin_
    assert np.isnan(found.bin_low[others]).all()
    assert np.isnan(found.bin_high[others]).all()
    assert found.accuracy == pytest.approx((found.bin_low[bin_], found.bin_high[bin_]))


def test_the_ranges_are_those_of_a_slow_loop_over_the_same_draws(recwarn):
    probabilities = made_up(30)
    confidence, bins = calibration_bins(probabilities)
    used = np.unique(bins)
    assert len(used) < CALIBRATION_BINS  # nothing warns of those without rows
    random = np.random.default_rng(5)
    accuracies, errors, shares = [], [], []
    for _ in range(1000):
        right = random.random(30) < confidence
        accuracies.append(right.mean())
        apart = [(right - confidence)[bins == bin_].sum() for bin_ in used]
        errors.append(np.abs(apart).sum() / 30)
        shares.append([right[bins == bin_].mean() for bin_ in used])
    found = consistent(probabilities, seed=5)
    assert found.accuracy == pytest.approx(np.percentile(accuracies, (2.5, 97.5)))
    assert found.error_mean == pytest.approx(np.mean(errors))
    assert found.error_high == pytest.approx(np.percentile(errors, 95))
    low, high = np.percentile(shares, (2.5, 97.5), axis=0)
    np.testing.assert_allclose(found.bin_low[used], low)
    np.testing.assert_allclose(found.bin_high[used], high)
    assert not list(recwarn)


def test_chance_does_less_with_more_rows():
    errors = [consistent(made_up(rows)).error_mean for rows in (200, 3200)]
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.2)


def test_the_draws_depend_on_the_seed_and_not_on_the_memory(monkeypatch):
    probabilities = made_up(50)
    first = consistent(probabilities)
    for most in (1300, 10):  # numbers of 26 draws, and of a part of one
        monkeypatch.setattr(module, "MOST_DRAWN", most)
        assert consistent(probabilities).ranges() == first.ranges()
    assert consistent(probabilities, seed=1).ranges() != first.ranges()


def test_no_more_numbers_are_drawn_at_a_time_than_memory_allows(monkeypatch):
    probabilities = made_up(3001)
    monkeypatch.setattr(module, "MOST_DRAWN", 100_000)
    tracemalloc.start()
    consistent(probabilities)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All draws at once would take 24 MB.
    assert peak < 4e6


def test_the_ranges_have_the_names_of_the_metrics():
    low, high = consistent(made_up(50)).accuracy
    assert consistent(made_up(50)).ranges()["accuracy"] == {"low": low, "high": high}
    assert set(consistent(made_up(50)).ranges()["calibration_error"]) == {"mean", "high"}
