"""How good probabilities are: the metrics of n rows."""

from typing import Any

import numpy as np

from stages.evaluation.intervals import OVERALL, metrics_of_sums, row_terms
from stages.tables.results import CALIBRATION_BINS


def metrics_of(
    actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """The metrics of n rows from their labels (n,) and the probabilities (n, k) of k sorted labels.

    `balanced_accuracy` and `macro_f1` are means over the labels that occur in
    `actual`. `log_loss` is in nats.
    """
    truth = np.searchsorted(labels, actual)
    terms = row_terms(truth, probabilities).sum(axis=0, keepdims=True)
    found = metrics_of_sums(terms, len(labels))
    return {
        **{name: float(values[0]) for name, values in found.items() if name in OVERALL},
        "calibration_error": calibration_error(truth, probabilities),
    }


def calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """How far the probability of the first answer is from the share of right first answers.

    `truth` (n,) are the places of the right labels. Rows are put in bins by that probability; the
    result is the mean of the bins' absolute differences, weighed by their rows: the expected
    calibration error of Guo et al. 2017.
    """
    confidence, bins = calibration_bins(probabilities)
    right = probabilities.argmax(axis=1) == truth
    differences = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(differences).sum() / len(truth))


def calibration_bins(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each row's first answer, (n,) float64, and its bin, (n,) int.

    Rows of `probabilities` (n, k) are divided by their sums first.
    """
    confidence = probabilities.max(axis=1) / probabilities.sum(axis=1, dtype=np.float64)
    bins = (confidence * CALIBRATION_BINS).astype(int)
    return confidence, np.minimum(bins, CALIBRATION_BINS - 1)


def rounded(value: Any) -> Any:
    """The same with floats rounded to 6 decimals, below which processors may differ."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 6) if isinstance(value, float) else value
