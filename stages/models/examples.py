"""What models learn from, and the arithmetic of their outputs."""

from dataclasses import dataclass, replace

import numpy as np

from stages.common.large_arrays import new_rows, take_columns, take_rows
from stages.tables.features import Features


@dataclass(frozen=True)
class Examples:
    """Rows with known classes, as a model takes them."""

    values: np.ndarray  # (n, d) float32, the features
    classes: np.ndarray  # (n,) int, places in `labels`
    names: list[str]  # d names of features
    labels: list[str]  # k names of classes

    @classmethod
    def of(cls, rows: Features, labels: list[str]) -> "Examples":
        """The rows of a subset, whose labels are among `labels`, which are sorted."""
        classes = np.searchsorted(np.array(labels, dtype=object), rows.mediums)
        return cls(rows.values, classes, rows.names, labels)

    def join(self, other: "Examples") -> "Examples":
        """These rows, then those of `other`, which has the same features and labels."""
        values = new_rows(len(self.classes) + len(other.classes), len(self.names))
        np.concatenate([self.values, other.values], out=values)
        classes = np.concatenate([self.classes, other.classes])
        return replace(self, values=values, classes=classes)

    def take(self, rows: np.ndarray) -> "Examples":
        """Some of the rows; `rows` (m,) int are their places."""
        return replace(self, values=take_rows(self.values, rows), classes=self.classes[rows])

    def first(self, number: int) -> "Examples":
        """So many of the rows, without a copy."""
        return replace(self, values=self.values[:number], classes=self.classes[:number])

    def with_features(self, columns: np.ndarray) -> "Examples":
        """The same rows with some of their features; `columns` (m,) int are their places."""
        if np.array_equal(columns, np.arange(len(self.names))):
            return self  # all of them: the rows need not be in the memory twice
        names = [self.names[column] for column in columns]
        return replace(self, values=take_columns(self.values, columns), names=names)

    def row_weights(self, class_weight: str) -> np.ndarray:
        """How much each row counts: 1, or with `balanced` n / (k x rows of its class).

        Returns (n,) float64; their mean is 1 when every class has rows.
        """
        if class_weight == "none":
            return np.ones(len(self.classes))
        counts = np.bincount(self.classes, minlength=len(self.labels))
        return (len(self.classes) / (len(self.labels) * np.maximum(counts, 1)))[self.classes]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities (n, k) float64 that the softmax of (n, k) logits gives."""
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def row_losses(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """-log(probability of the right class) of n rows, (n,) float64, in nats.

    `logits` is (n, k), `classes` (n,) int.
    """
    return -log_softmax(logits)[np.arange(len(classes)), classes]


def log_loss(logits: np.ndarray, classes: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of `row_losses`; `weights` (n,) are how much each row counts."""
    return float(np.average(row_losses(logits, classes), weights=weights))


def accuracy(logits: np.ndarray, classes: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of rows whose largest logit is that of their class; `weights` as in `log_loss`."""
    return float(np.average(logits.argmax(axis=1) == classes, weights=weights))
