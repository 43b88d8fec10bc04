"""The k nearest training rows vote (scikit-learn)."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from stages.model_file.graph import Graph
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples


class Params(ModelParams):
    """The section of `nearest_neighbours`."""

    neighbours: int = Field(gt=0)
    smoothing: float = Field(gt=0)


@dataclass(frozen=True)
class Neighbours:
    """Logits are the logarithms of the neighbours' votes, each class with some more."""

    rows: np.ndarray  # (m, d) float32
    votes: np.ndarray  # (m, k) float32, of each row for its own class
    neighbours: int
    smoothing: float
    tuned: None = None

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=self.neighbours).fit(self.rows)
        nearest = search.kneighbors(values, return_distance=False)
        return np.log(self.votes[nearest].sum(axis=1) + np.float32(self.smoothing))

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        # Squared distances, less the squared length of the row that asks: the order is the same.
        lengths = np.einsum("md,md->m", self.rows, self.rows)
        distances = graph.linear(features, np.ascontiguousarray(-2 * self.rows.T), lengths)
        count = graph.constant(np.array([self.neighbours]))
        _, nearest = graph.add_all("TopK", distances, count, outputs=2, axis=1, largest=0)
        votes = graph.add("Gather", graph.constant(self.votes), nearest, axis=0)
        total = graph.add("ReduceSum", votes, graph.constant(np.array([1])), keepdims=0)
        return graph.add("Log", graph.add("Add", total, graph.constant(np.float32(self.smoothing))))


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: None = None,
) -> Fitted:
    """Keep the rows, as `stages.models.base` says; the curve has one row."""
    weights = train.row_weights(settings.class_weight).astype(np.float32)
    votes = np.eye(len(train.labels), dtype=np.float32)[train.classes] * weights[:, None]
    count = min(params.neighbours, len(train.classes))
    model = Neighbours(train.values, votes, count, params.smoothing)
    return decided_nothing(model, train, val, settings)
