"""Radial basis functions around training rows, which are kept in 8 bits a number."""

from dataclasses import dataclass

import numpy as np

from stages.features.transformer import is_embedding
from stages.model_file.graph import Graph

# Rows of the kernel matrix that are computed at a time: it bounds the memory beside it.
BLOCK_ROWS = 1024
# exp(-30) is as good as 0 beside the diagonal. Of far smaller numbers, products would leave the
# range in which 32 bits are fast, and solving would take twenty times as long.
LEAST_EXPONENT = -30.0


def feature_scales(names: list[str], metadata_weight: float) -> np.ndarray:
    """How much each feature counts in a distance: (d,) float32.

    Sizes and museum are few beside the numbers of an embedding: each counts
    `metadata_weight` times as much as one of those. Without an embedding, all count 1.
    """
    embedding = np.array([is_embedding(name) for name in names])
    others = metadata_weight if embedding.any() else 1
    return np.where(embedding, 1, others).astype(np.float32)


@dataclass(frozen=True)
class Kernel:
    """exp(-gamma x squared distance) to each of m rows.

    The rows are rounded to 8 bits a number. A model is fitted on the rounded rows, so
    that it is exact for what is kept: a quarter of the bytes for the same accuracy.
    """

    steps: np.ndarray  # (m, d) int8, the rows in multiples of `step`
    step: np.ndarray  # (d,) float32
    scales: np.ndarray  # (d,) float32, by which features are multiplied first
    gamma: float

    @classmethod
    def around(cls, rows: np.ndarray, scales: np.ndarray, gamma: float) -> "Kernel":
        """Around (m, d) float32 rows; `gamma` is given for one feature, and divided by d."""
        scaled = rows * scales
        step = np.abs(scaled).max(axis=0) / 127
        step[step == 0] = 1
        steps = np.rint(scaled / step).astype(np.int8)
        return cls(steps, step.astype(np.float32), scales, gamma / rows.shape[1])

    def centres(self) -> np.ndarray:
        """The rounded rows, scaled: (m, d) float32."""
        return self.steps * self.step

    def between(self, scaled: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """The kernel (n, m) float32 of scaled rows (n, d) and of some of the centres (m, d)."""
        # Twice the product, less both squared lengths: the squared distance with a minus.
        exponent = (2 * self.gamma * scaled) @ centres.T
        exponent -= self.gamma * np.einsum("md,md->m", centres, centres)
        exponent -= self.gamma * np.einsum("nd,nd->n", scaled, scaled)[:, None]
        np.clip(exponent, LEAST_EXPONENT, 0, out=exponent)
        return np.exp(exponent, out=exponent)

    def times(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The kernel of (n, d) features and the centres, times (m, j) weights: (n, j) float32."""
        centres = self.centres()
        result = np.empty((len(values), weights.shape[1]), dtype=np.float32)
        for start in range(0, len(values), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            result[rows] = self.between(values[rows] * self.scales, centres) @ weights
        return result

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the kernel to an ONNX model: (n, m) for what `features` names."""
        centres = self.centres()
        scaled = graph.add("Mul", features, graph.constant(self.scales))
        # Those of the embedding apart from the others: another kernel, which does not see the
        # others, may have the same, and a file holds what is the same once.
        ends = np.flatnonzero(np.diff(self.scales)) + 1
        parts = [graph.constant(part) for part in np.split(self.steps.T, ends)]
        steps = graph.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
        kept = graph.cast(steps, np.float32)
        columns = graph.add("Mul", kept, graph.constant(self.step[:, None]))
        gamma = np.float32(self.gamma)
        product = graph.add(
            "Gemm",
            graph.add("Mul", scaled, graph.constant(2 * gamma)),
            columns,
            graph.constant(-gamma * np.einsum("md,md->m", centres, centres)),
        )
        lengths = graph.add("ReduceSumSquare", scaled, axes=[1], keepdims=1)
        exponent = graph.add("Sub", product, graph.add("Mul", lengths, graph.constant(gamma)))
        least, most = (graph.constant(np.float32(end)) for end in (LEAST_EXPONENT, 0))
        return graph.add("Exp", graph.add("Clip", exponent, least, most))
