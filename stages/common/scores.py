"""How good probabilities are: the metrics of n rows, and how far chance may have moved them."""

from typing import Any

import numpy as np

# Bins of equal width in which `calibration_error` compares confidence and accuracy.
CALIBRATION_BINS = 15
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percent of the resamples below the ends of an interval
# Random numbers that are drawn at a time: it bounds the memory.
MOST_DRAWN = 4_000_000


def scores(actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of n rows from their mediums (n,) and the probabilities (n, k) of k labels.

    `balanced_accuracy` and `macro_f1` are means over the mediums that occur in
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
    """Share of rows whose medium is among the k most probable labels.

    scikit-learn's function refuses a k that is not below the number of labels.
    """
    best = labels[np.argsort(-probabilities, axis=1, kind="stable")[:, :k]]
    return float(np.mean((best == actual[:, None]).any(axis=1)))


def calibration_error(actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How far the probability of the first answer is from the share of right first answers.

    Rows are put in bins by that probability; the result is the mean of the bins' absolute
    differences, weighed by their rows: the expected calibration error of Guo et al. 2017.
    """
    confidence = probabilities.max(axis=1)
    right = labels[probabilities.argmax(axis=1)] == actual
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    differences = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(differences).sum() / len(actual))


def intervals(
    actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, seed: int = 0
) -> dict[str, dict[str, float]]:
    """95 % intervals of accuracy, macro F1 and log loss: `low` and `high` for each.

    From `RESAMPLES` draws of n of the n rows with replacement: the percentile bootstrap of
    Efron 1979. `labels` are sorted.
    """
    random = np.random.default_rng(seed)
    rows, classes = len(actual), len(labels)
    truth = np.searchsorted(labels, actual.astype(str))
    cells = truth * classes + probabilities.argmax(axis=1)
    own = probabilities[np.arange(rows), truth] / probabilities.sum(axis=1, dtype=np.float64)
    losses = -np.log(np.maximum(own, np.finfo(np.float64).eps))
    figures: dict[str, list[np.ndarray]] = {"accuracy": [], "macro_f1": [], "log_loss": []}
    at_a_time = max(1, MOST_DRAWN // rows)
    size = classes * classes
    for start in range(0, RESAMPLES, at_a_time):
        count = min(at_a_time, RESAMPLES - start)
        drawn = random.integers(0, rows, (count, rows))
        shifted = cells[drawn] + size * np.arange(count)[:, None]
        table = np.bincount(shifted.ravel(), minlength=size * count)
        confusion = table.reshape(count, classes, classes)
        hits = np.einsum("rii->ri", confusion)
        actual_rows = confusion.sum(axis=2)
        total = actual_rows + confusion.sum(axis=1)
        f1 = np.divide(2 * hits, total, out=np.zeros(total.shape), where=total > 0)
        present = actual_rows > 0
        figures["accuracy"].append(hits.sum(axis=1) / rows)
        figures["macro_f1"].append((f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1))
        figures["log_loss"].append(losses[drawn].mean(axis=1))
    result = {}
    for name, parts in figures.items():
        low, high = np.percentile(np.concatenate(parts), INTERVAL)
        result[name] = {"low": float(low), "high": float(high)}
    return result


def rounded(value: Any) -> Any:
    """The same with floats rounded to 6 decimals, below which processors may differ."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 6) if isinstance(value, float) else value
