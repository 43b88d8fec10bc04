"""How good probabilities are: the metrics of n rows."""

from typing import Any

import numpy as np

from stages.tables.results import CALIBRATION_BINS


def metrics_of(
    actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """The metrics of n rows from their labels (n,) and the probabilities (n, k) of k labels.

    `balanced_accuracy` and `macro_f1` are means over the labels that occur in
    `actual`. `log_loss` is in nats.
    """
    from sklearn.metrics import f1_score, log_loss, recall_score

    predicted = labels[probabilities.argmax(axis=1)]
    present = np.unique(actual)
    mean_over_classes = {"labels": present, "average": "macro", "zero_division": 0}
    # Sums of float32 are too far from 1 for log_loss.
    normalized = probabilities.astype(np.float64)
    normalized /= normalized.sum(axis=1, keepdims=True)
    return {
        "accuracy": float(np.mean(predicted == actual)),
        "balanced_accuracy": float(recall_score(actual, predicted, **mean_over_classes)),
        "macro_f1": float(f1_score(actual, predicted, **mean_over_classes)),
        "top3_accuracy": top_k_accuracy(actual, probabilities, labels, 3),
        "top5_accuracy": top_k_accuracy(actual, probabilities, labels, 5),
        "log_loss": float(log_loss(actual, normalized, labels=labels)),
        "calibration_error": calibration_error(actual, normalized, labels),
    }


def top_k_accuracy(
    actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, k: int
) -> float:
    """Share of rows whose label is among the k most probable labels.

    scikit-learn's function refuses a k that is not below the number of labels.
    """
    best = labels[np.argsort(-probabilities, axis=1, kind="stable")[:, :k]]
    return float(np.mean((best == actual[:, None]).any(axis=1)))


def calibration_error(actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How far the probability of the first answer is from the share of right first answers.

    Rows are put in bins by that probability; the result is the mean of the bins' absolute
    differences, weighed by their rows: the expected calibration error of Guo et al. 2017.
    """
    confidence, bins = calibration_bins(probabilities)
    right = labels[probabilities.argmax(axis=1)] == actual
    differences = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(differences).sum() / len(actual))


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
