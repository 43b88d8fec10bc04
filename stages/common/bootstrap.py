"""How far chance in the choice of rows may have moved a figure: the bootstrap of Efron 1979.

Every figure of `scores` is computed from sums over rows. So each row becomes a line of terms,
a resample of the rows becomes a number of times for each, and all resamples together become
one product of two matrices.
"""

import numpy as np

from stages.common.scores import CALIBRATION_BINS, calibration_bins

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percent of the resamples below the ends of an interval
# Random numbers that are drawn at a time: it bounds the memory.
MOST_DRAWN = 4_000_000
# Figures that are one number for all rows; the others are one for each medium.
OVERALL = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "top3_accuracy",
    "top5_accuracy",
    "log_loss",
    "calibration_error",
)
_SINGLE_TERMS = 4


def row_terms(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """What each row adds to the sums that `figures` takes.

    `truth` (n,) int are the places of the right classes among the k of `probabilities` (n, k).
    Returns (n, t) float64.
    """
    rows, classes = probabilities.shape
    normalized = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    best = probabilities.argmax(axis=1)
    right = best == truth
    order = np.argsort(-probabilities, axis=1, kind="stable")
    own = normalized[np.arange(rows), truth]
    confidence, bins = calibration_bins(probabilities)
    of_class = np.eye(classes)
    return np.column_stack(
        [
            right,
            (order[:, :3] == truth[:, None]).any(axis=1),
            (order[:, :5] == truth[:, None]).any(axis=1),
            -np.log(np.maximum(own, np.finfo(np.float64).eps)),
            np.eye(CALIBRATION_BINS)[bins] * (right - confidence)[:, None],
            of_class[truth],
            of_class[best],
            of_class[truth] * right[:, None],
        ]
    )


def figures(sums: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """The figures of r sets of rows, from the sums (r, t) of their terms.

    Returns (r,) for each name in `OVERALL`, and (r, k) for `precision`, `recall` and `f1` of
    each class; those of a class without rows are NaN. `balanced_accuracy` and `macro_f1` are
    means over the classes that have rows.
    """
    ends = np.cumsum([_SINGLE_TERMS, CALIBRATION_BINS, classes, classes])
    single, bins, actual, predicted, hits = np.split(sums, ends, axis=1)
    rows = actual.sum(axis=1)
    present = actual > 0

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        found = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
        return np.where(present, found, np.nan)

    per_class = {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, actual),
        "f1": ratio(2 * hits, actual + predicted),
    }

    def mean_over_classes(name: str) -> np.ndarray:
        return np.nansum(per_class[name], axis=1) / present.sum(axis=1)

    right, top3, top5, loss = single.T / rows
    return {
        "accuracy": right,
        "balanced_accuracy": mean_over_classes("recall"),
        "macro_f1": mean_over_classes("f1"),
        "top3_accuracy": top3,
        "top5_accuracy": top5,
        "log_loss": loss,
        "calibration_error": np.abs(bins).sum(axis=1) / rows,
        **per_class,
    }


def resample(terms: np.ndarray, seed: int = 0) -> np.ndarray:
    """The sums (r, t) of the terms (n, t) of n rows that are drawn with replacement, r times.

    The columns of one call share their draws, so that two models that stand side by side in
    `terms` are compared on the same rows.
    """
    random = np.random.default_rng(seed)
    rows = len(terms)
    at_a_time = max(1, MOST_DRAWN // rows)
    parts = []
    for start in range(0, RESAMPLES, at_a_time):
        count = min(at_a_time, RESAMPLES - start)
        drawn = random.integers(0, rows, (count, rows)) + rows * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        parts.append(times.astype(np.float64) @ terms)
    return np.concatenate(parts)


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % interval of r values, (r,) or (r, k); NaN where no value is a number.

    The percentile method: the middle 95 % of what the resamples gave.
    """
    known = ~np.isnan(values).all(axis=0)
    filled = np.where(known, values, 0.0)
    # A class with few rows is missing from some resamples.
    low, high = np.nanpercentile(filled, INTERVAL, axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def intervals(
    truth: np.ndarray, probabilities: np.ndarray, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The 95 % interval of each figure in `OVERALL`: `low` and `high`. See `row_terms`."""
    found = figures(resample(row_terms(truth, probabilities), seed), probabilities.shape[1])
    return {
        name: dict(zip(("low", "high"), map(float, interval(found[name])), strict=True))
        for name in OVERALL
    }
