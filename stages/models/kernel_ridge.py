"""Kernel ridge regression on the labels, with a softmax fitted on its leave-one-out scores.

Ridge regression in the space of a radial basis function, with 1 for a row's own class and
0 for the others as targets; also known as a least-squares support vector machine (Suykens
and Vandewalle 1999). It has a direct solution, one Cholesky factorisation for all classes,
which also gives what the model would say of a training row if it had not seen it
(leave-one-out, in closed form: Cawley and Talbot 2004). A logistic regression learns from
those scores how the classes are mixed up, and turns scores into probabilities.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field
from tqdm import tqdm

from stages.common.stage import PipelineError, log
from stages.model_file.graph import Graph
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.kernel import BLOCK_ROWS, Kernel, feature_scales
from stages.models.linear import Linear

# Leave-one-out scores of so many rows are enough to fit a softmax.
MOST_SCORED_ROWS = 6000


class Params(ModelParams):
    """The section of `kernel_ridge`."""

    gamma: float = Field(gt=0, le=1e6)
    metadata_weight: float = Field(gt=0, le=1e3)
    penalty: float = Field(gt=0, le=1e6)
    softmax_C: float = Field(gt=0)
    most_rows: int = Field(gt=1, le=40_000)
    threads: int = Field(gt=0, le=64)


@dataclass(frozen=True)
class KernelRidge:
    """Logits are `kernel @ weights + offsets`."""

    kernel: Kernel
    weights: np.ndarray  # (m, k) float32
    offsets: np.ndarray  # (k,) float32
    tuned: None = None

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        return self.kernel.times(values, self.weights) + self.offsets

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        return graph.linear(self.kernel.add_to(graph, features), self.weights, self.offsets)


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: None = None,
) -> Fitted:
    """Fit as `stages.models.base` says; the solution is direct, so the curve has one row.

    Raises PipelineError when the penalty is too small for single precision, or when
    `most_rows` are fewer than two a class.
    """
    from threadpoolctl import threadpool_limits

    if params.most_rows < 2 * len(train.labels):
        raise PipelineError(
            f"`{settings.section}.most_rows` is {params.most_rows}, fewer than two for each of the "
            f"{len(train.labels)} labels"
        )
    # By class and at random within it: the last rows hold some of each class.
    order = stratified_order(train.classes, settings.seed)
    if len(order) > params.most_rows:
        log("train", f"{settings.name} learns from {params.most_rows:,} of the {len(order):,} rows")
        order = order[-params.most_rows :]
    classes = train.classes[order]
    weights = train.row_weights(settings.class_weight)[order]
    kernel = Kernel.around(
        train.values[order], feature_scales(train.names, params.metadata_weight), params.gamma
    )
    log("train", f"{settings.name}: solving for {len(order):,} rows")
    # Bytes depend on the number of threads in a product, but not on that of the cores.
    with threadpool_limits(params.threads, user_api="blas"):
        coefficients, scores, means = solve(kernel, classes, weights, params.penalty)
        softmax = fit_softmax(
            scores, classes[-len(scores) :], weights[-len(scores) :], params.softmax_C
        )
        model = KernelRidge(
            kernel,
            (coefficients @ softmax.weights).astype(np.float32),
            (means @ softmax.weights + softmax.offsets).astype(np.float32),
        )
        return replace(
            decided_nothing(model, train, val, settings), rows={settings.name: len(order)}
        )


def stratified_order(classes: np.ndarray, seed: int) -> np.ndarray:
    """An order of n rows in which every stretch has the classes in their proportions, roughly.

    The last k rows of k classes are of one class each. Returns (n,) int.
    """
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    place = np.empty(len(classes))
    for class_ in np.unique(classes):
        rows = shuffled[classes[shuffled] == class_]
        place[rows] = np.arange(1, len(rows) + 1) / len(rows)
    return np.lexsort((classes, place))


def solve(
    kernel: Kernel, classes: np.ndarray, row_weights: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit ridge regression of the m centres' classes (m,) on the kernel.

    `row_weights` (m,) are how much each row counts. Returns the coefficients (m, k) and the
    leave-one-out scores (s, k) of the last rows, `MOST_SCORED_ROWS` at most, both float32,
    and the means (k,) which were taken from the targets.

    Raises PipelineError when the matrix is not positive definite in single precision.
    """
    from scipy.linalg import lapack

    centres = kernel.centres()
    count = len(centres)
    matrix = np.empty((count, count), dtype=np.float32)
    with tqdm(desc="train kernel", total=count, unit=" rows", disable=None) as bar:
        for start in range(0, count, BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, count)
            # The matrix is symmetric: what lies above the diagonal is never read.
            matrix[start:end, :end] = kernel.between(centres[start:end], centres[:end])
            bar.update(end - start)
    diagonal = np.einsum("ii->i", matrix)
    diagonal += (penalty / row_weights).astype(np.float32)
    targets = np.eye(classes.max() + 1)[classes]
    means = np.average(targets, axis=0, weights=row_weights)
    targets = (targets - means).astype(np.float32)
    # LAPACK stores by columns: for it this is the transposed matrix, and its upper part.
    factor, failed = lapack.spotrf(matrix.T, lower=0, overwrite_a=1, clean=0)
    if failed:
        raise PipelineError(
            "the `penalty` of kernel ridge regression is too small for single precision: raise it, "
            "or raise `gamma`"
        )
    coefficients, _ = lapack.spotrs(factor, targets, lower=0)
    # The last block of the inverse matrix comes from the last block of the factor alone.
    scored = min(count, MOST_SCORED_ROWS)
    inverse, _ = lapack.strtri(np.triu(factor[-scored:, -scored:]), lower=0)
    inverse_diagonal = np.einsum("ij,ij->i", inverse, inverse)
    scores = targets[-scored:] - coefficients[-scored:] / inverse_diagonal[:, None] + means
    return coefficients, scores.astype(np.float32), means


def fit_softmax(
    scores: np.ndarray, classes: np.ndarray, row_weights: np.ndarray, C: float
) -> Linear:
    """Logistic regression from the scores (n, k) of n rows to their classes (n,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Short of the exact optimum it is as good: the temperature follows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Few rows of many labels are still labels.
        warnings.filterwarnings("ignore", "The number of unique classes")
        return Linear.of(LogisticRegression(C=C, max_iter=300).fit(scores, classes, row_weights))
