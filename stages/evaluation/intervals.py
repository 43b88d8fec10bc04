"""How far chance in the choice of rows may have moved a metric: 95 % intervals.

A share has the interval of Wilson 1927, which also holds for few rows and for shares near 0
and 1. Other metrics have the bootstrap of Efron 1979. Every one is computed from sums over
rows. So each row becomes a line of terms, a resample of the rows becomes a number of times for
each, and all resamples together become one product of two matrices.
"""

import numpy as np

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percent of the resamples below the ends of an interval
STANDARD_ERRORS = 1.959964  # from the middle of a normal distribution to the ends of its 95 %
# Random numbers that are drawn at a time: it bounds the memory.
MOST_DRAWN = 4_000_000
# Metrics that are one number for all rows; the others are one for each label.
SHARES = ("accuracy", "top3_accuracy", "top5_accuracy")
OVERALL = (*SHARES, "balanced_accuracy", "macro_f1", "log_loss")
_SINGLE_TERMS = 4


def wilson(hits: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the interval of each share of `hits` among `rows`; NaN where there are none.

    Both are counts of any shape (Wilson 1927, without a correction for continuity).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share, weight = hits / rows, STANDARD_ERRORS**2 / rows
        middle = (share + weight / 2) / (1 + weight)
        half = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # In exact arithmetic they are never beyond 0 and 1.
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def f1_interval(hits: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the interval of F1, from the hits among all rows that are or are named a label.

    The share of hits among these rows is the Jaccard index J, and F1 is 2 J / (1 + J).
    """
    low, high = (2 * end / (1 + end) for end in wilson(hits, rows))
    return low, high


def row_terms(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """What each row adds to the sums that `metrics_of_sums` takes.

    `truth` (n,) int are the places of the right classes among the k of `probabilities` (n, k).
    Returns (n, t) float64.
    """
    rows, classes = probabilities.shape
    best = probabilities.argmax(axis=1)
    right = best == truth
    own = probabilities[np.arange(rows), truth]
    # How many classes come before the right one: of equal ones, the first in their order.
    before = (probabilities > own[:, None]) | (
        (probabilities == own[:, None]) & (np.arange(classes) < truth[:, None])
    )
    places = before.sum(axis=1)
    own = own / probabilities.sum(axis=1, dtype=np.float64)
    of_class = np.eye(classes)
    return np.column_stack(
        [
            right,
            places < 3,
            places < 5,
            -np.log(np.maximum(own, np.finfo(np.float64).eps)),
            of_class[truth],
            of_class[best],
            of_class[truth] * right[:, None],
        ]
    )


def metrics_of_sums(sums: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """The metrics of r sets of rows, from the sums (r, t) of their terms.

    Returns (r,) for each name in `OVERALL`, and (r, k) for `precision`, `recall` and `f1` of
    each class; those of a class without rows are NaN. `balanced_accuracy` and `macro_f1` are
    means over the classes that have rows.
    """
    ends = np.cumsum([_SINGLE_TERMS, classes, classes])
    single, actual, predicted, hits = np.split(sums, ends, axis=1)
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


def interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the interval of r values, (r,): the middle 95 % of what the resamples gave."""
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def intervals(
    truth: np.ndarray, probabilities: np.ndarray, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The interval of each metric in `OVERALL`: `low` and `high`. See `row_terms`."""
    terms = row_terms(truth, probabilities)
    classes = probabilities.shape[1]
    shares = metrics_of_sums(terms.sum(axis=0, keepdims=True), classes)
    drawn = metrics_of_sums(resample(terms, seed), classes)
    found = {}
    for name in OVERALL:
        if name in SHARES:
            rows = len(terms)
            low, high = map(float, wilson(shares[name][0] * rows, np.array(rows)))
        else:
            low, high = interval(drawn[name])
        found[name] = {"low": low, "high": high}
    return found
