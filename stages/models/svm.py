"""Support vector machine with a radial basis function (scikit-learn, libsvm).

libsvm fits one machine for each pair of classes. Here each of them gives a probability
for its two classes, the logistic function of `STEEPNESS` times its decision value, and the
logit of a class is the sum of the logarithms of its probabilities against all the others.
libsvm's own probabilities need five more fits and an iteration for each row that is scored.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from pydantic import Field

from stages.model_file.graph import Graph
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.kernel import Kernel, feature_scales

# At a margin, where a decision value is 1, the probability is 0.98.
STEEPNESS = 4


class Params(ModelParams):
    """The section of `svm`."""

    C: float = Field(gt=0)
    gamma: float = Field(gt=0, le=1e6)
    metadata_weight: float = Field(gt=0, le=1e3)


@dataclass(frozen=True)
class Machines:
    """The machines of all p = k(k - 1)/2 pairs of k classes, on the support vectors they share."""

    kernel: Kernel  # around m support vectors, sorted by class
    counts: np.ndarray  # (k,) int, support vectors of each class
    coefficients: np.ndarray  # (m, k - 1) float32, of a vector against each other class
    intercepts: np.ndarray  # (p,) float32
    tuned: None = None

    def decisions(self, values: np.ndarray) -> np.ndarray:
        """Decision values (n, p) float32 of (n, d) features, above 0 for a pair's first class."""
        return self.kernel.times(values, self._dense()) + self.intercepts

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float64 of (n, d) features."""
        # In 64 bits: for 32, C libraries differ in the last bit of the logarithm.
        steep = STEEPNESS * self.decisions(values).astype(np.float64)
        first, second = self._members()
        # -log(1 + exp(-x)) is the logarithm of the logistic function.
        return -(np.logaddexp(0, -steep) @ first + np.logaddexp(0, steep) @ second)

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        kernel = self.kernel.add_to(graph, features)
        # Kept as libsvm does, in k - 1 columns instead of p: each class has its own product.
        products = []
        start = 0
        last_axis = graph.constant(np.array([1]))
        for count in self.counts.tolist():
            limits = [graph.constant(np.array([place])) for place in (start, start + count)]
            block = graph.add("Slice", kernel, *limits, last_axis)
            own = self.coefficients[start : start + count]
            products.append(graph.add("MatMul", block, graph.constant(own)))
            start += count
        joined = graph.add("Concat", *products, axis=1)
        decisions = graph.linear(joined, self._pairs_of_products(), self.intercepts)
        steep = graph.add("Mul", decisions, graph.constant(np.float32(STEEPNESS)))
        first, second = (graph.constant(part) for part in self._members())
        against = graph.add("Softplus", graph.add("Neg", steep))
        total = graph.add(
            "Add",
            graph.add("MatMul", against, first),
            graph.add("MatMul", graph.add("Softplus", steep), second),
        )
        return graph.add("Neg", total)

    def _members(self) -> tuple[np.ndarray, np.ndarray]:
        """Which class is the first (p, k) and the second (p, k) of each pair, 1 or 0."""
        identity = np.eye(len(self.counts), dtype=np.float32)
        pairs = np.array(list(combinations(range(len(self.counts)), 2)))
        return identity[pairs[:, 0]], identity[pairs[:, 1]]

    def _pairs_of_products(self) -> np.ndarray:
        """Which products of a class with its columns belong to which pair: (k(k - 1), p)."""
        classes = len(self.counts)
        result = np.zeros((classes, classes - 1, len(self.intercepts)), dtype=np.float32)
        for pair, (i, j) in enumerate(combinations(range(classes), 2)):
            # A class has no column for itself, so that later ones move up by one.
            result[i, j - 1, pair] = result[j, i, pair] = 1
        return result.reshape(-1, len(self.intercepts))

    def _dense(self) -> np.ndarray:
        """The coefficient of each support vector in each pair's machine: (m, p) float32."""
        classes = np.repeat(np.arange(len(self.counts)), self.counts)
        pairs = self._pairs_of_products().reshape(len(self.counts), len(self.counts) - 1, -1)
        return np.einsum("mc,mcp->mp", self.coefficients, pairs[classes], optimize=True)


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: None = None,
) -> Fitted:
    """Fit as `stages.models.base` says; the curve has the sum of all solvers' iterations.

    The seed changes nothing: libsvm draws nothing at random without its own probabilities.
    """
    from sklearn.svm import SVC

    kernel = Kernel.around(
        train.values, feature_scales(train.names, params.metadata_weight), params.gamma
    )
    weights = train.row_weights(settings.class_weight)
    estimator = SVC(
        C=params.C, gamma=kernel.gamma, cache_size=500, decision_function_shape="ovo"
    ).fit(kernel.centres().astype(np.float64), train.classes, weights)
    # With two classes scikit-learn turns the signs, so that it is above 0 for the second.
    sign = -1 if len(train.labels) == 2 else 1
    vectors = Kernel(kernel.steps[estimator.support_], kernel.step, kernel.scales, kernel.gamma)
    model = Machines(
        vectors,
        estimator.n_support_,
        np.ascontiguousarray(sign * estimator.dual_coef_.T, dtype=np.float32),
        (sign * estimator.intercept_).astype(np.float32),
    )
    return decided_nothing(model, train, val, settings, int(estimator.n_iter_.sum()))
