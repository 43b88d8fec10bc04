"""A linear classifier: logits are `features @ weights + offsets`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.model_file.graph import Graph

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class Linear:
    """The classifier of `logistic_regression` and of `lda`."""

    weights: np.ndarray  # (d, k) float32
    offsets: np.ndarray  # (k,) float32
    tuned: None = None

    @classmethod
    def of(cls, estimator: "LogisticRegression") -> "Linear":
        """What an estimator of scikit-learn has learned; its classes are 0 to k - 1."""
        weights, offsets = estimator.coef_.T, estimator.intercept_
        if len(estimator.classes_) == 2:
            # scikit-learn keeps one column for two classes; the other class scores 0.
            weights = np.hstack([np.zeros_like(weights), weights])
            offsets = np.append(0.0, offsets)
        return cls(weights.astype(np.float32), offsets.astype(np.float32))

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        return values @ self.weights + self.offsets

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        return graph.linear(features, self.weights, self.offsets)
