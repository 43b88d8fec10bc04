"""Linear discriminant analysis with a shrunk covariance.

Each class is a normal distribution; all have one covariance. Shrinkage draws it towards
a diagonal one, without which a thousand features of a few thousand rows would be
overfitted (Friedman 1989, Regularized Discriminant Analysis).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import Field
from tqdm import tqdm

from stages.common.engine import in_order
from stages.common.errors import PipelineError
from stages.common.threads import thread_pool
from stages.features.moments import class_means
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.linear import Linear

# With more features than this, solving takes minutes: its time grows with their cube.
MOST_EXACT = 4096
# The residual at which the iterations stop, as a share of the means; it is far below what would
# change an answer.
TOLERANCE = 1e-5
MOST_ITERATIONS = 1000
# Numbers that are taken in 64 bits at a time, in each thread.
SPAN = 2**22
# Their features (n, d) float32, and their classes (n,) int.
Span = tuple[np.ndarray, np.ndarray]


class Params(ModelParams):
    """The section of `lda`."""

    shrinkage: float = Field(ge=0, le=1)


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: None = None,
) -> Fitted:
    """Fit as `stages.models.base` says; the curve has one row.

    With balanced class weights, all classes are equally probable before a row is seen.

    Raises PipelineError as `discriminants` does, and when there are no more rows than labels.
    """
    count = len(train.labels)
    if len(train.classes) <= count:
        raise PipelineError(
            f"`{settings.section}` needs more rows than labels, and can learn from "
            f"{len(train.classes):,} rows of {count:,} labels (a blend keeps a fifth of the rows "
            "apart): give more rows of each label, or take another model, such as "
            "`-S train.model=logistic_regression`"
        )
    priors = np.full(count, 1 / count) if settings.class_weight == "balanced" else None
    model = discriminants(params.shrinkage, priors, train, settings)
    return decided_nothing(model, train, val, settings)


def discriminants(
    shrinkage: float, priors: np.ndarray | None, train: Examples, settings: Settings
) -> Linear:
    """The discriminants of scikit-learn's `lsqr`, which takes long to load.

    Their weights are the inverse of the shrunk covariance times the classes' means. `priors` (k,)
    are how probable the classes are, by default their shares of the rows.

    Raises PipelineError as `iterated` does, by which more than `MOST_EXACT` features are solved.
    """
    from scipy.linalg import lstsq

    counts = np.bincount(train.classes)
    if priors is None:
        priors = counts / counts.sum()
    means = class_means(train.values, train.classes)
    within = Within(means, np.sqrt(priors / counts))
    if train.values.shape[1] > MOST_EXACT:
        weights = iterated(shrinkage, within, train, settings)
    else:
        covariance = np.zeros((train.values.shape[1],) * 2)
        for products in in_order(within.products, spans_of(train)):
            covariance += products
        # The mean variance. As scikit-learn has it, what varies nowhere tells nothing.
        if variance := np.trace(covariance) / len(covariance):
            covariance *= 1 - shrinkage
            np.einsum("ii->i", covariance)[:] += shrinkage * variance
            weights = lstsq(covariance, means.T, overwrite_a=True)[0]
        else:
            weights = np.zeros(means.T.shape)
    offsets = np.log(priors) - np.einsum("kd,dk->k", means, weights) / 2
    # What all logits share says nothing, and may be so large that 32 bits lose the rest.
    if len(counts) == 2:
        weights, offsets = weights - weights[:, :1], offsets - offsets[0]
    return Linear(weights.astype(np.float32), offsets.astype(np.float32))


@dataclass(frozen=True)
class Within:
    """How rows lie around the means of their classes, as parts of the covariance within classes.

    That is the sum of `products` over all rows. They are given as features (n, d) float32 and
    classes (n,) int, and need not be in 64 bits all at once.
    """

    means: np.ndarray  # (k, d) float64, of the classes
    factors: np.ndarray  # (k,) float64, the roots of how much a row of a class counts

    def deviations(self, rows: Span) -> np.ndarray:
        """(n, d) float64."""
        values, classes = rows
        away = values - self.means[classes]
        away *= self.factors[classes][:, None]
        return away

    def products(self, rows: Span) -> np.ndarray:
        """(d, d) float64, those of any two columns."""
        away = self.deviations(rows)
        return away.T @ away  # NumPy computes half of such a product, which is symmetric

    def squares(self, rows: Span) -> float:
        """The sum of the squares of all numbers."""
        away = self.deviations(rows)
        return float(np.einsum("nd,nd->", away, away))

    def times(self, vectors: np.ndarray, rows: Span) -> np.ndarray:
        """`products` times vectors (d, k), which takes less: (d, k) float64."""
        away = self.deviations(rows)
        return away.T @ (away @ vectors)


def spans_of(rows: Examples) -> Iterator[Span]:
    """The rows, some at a time."""
    number = max(1, SPAN // rows.values.shape[1])
    for start in range(0, len(rows.classes), number):
        some = slice(start, start + number)
        yield rows.values[some], rows.classes[some]


def iterated(shrinkage: float, within: Within, train: Examples, settings: Settings) -> np.ndarray:
    """The weights (d, k) by conjugate gradients (Hestenes and Stiefel 1952).

    Of the covariance (d, d) only products with k vectors are taken, as two products with the rows
    (n, d): it is never formed, and time grows with n x d x k in each of some hundred iterations.

    Raises PipelineError when it takes too many, as with very little shrinkage.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    means = within.means
    # In threads, also where there is a cluster: to send the rows would take longer.
    with (
        thread_pool() as pool,
        tqdm(desc=f"train {settings.name}", unit=" iterations", disable=None) as bar,
    ):
        variance = sum(pool.map(within.squares, spans_of(train))) / means.shape[1]
        if not variance:
            return np.zeros(means.T.shape)

        def times_covariance(stacked: np.ndarray) -> np.ndarray:
            vectors = stacked.reshape(means.T.shape)
            product = sum(pool.map(partial(within.times, vectors), spans_of(train)))
            return ((1 - shrinkage) * product + shrinkage * variance * vectors).ravel()

        operator = LinearOperator((means.size, means.size), times_covariance, dtype=np.float64)
        solution, failed = cg(
            operator,
            means.T.ravel(),
            rtol=TOLERANCE,
            maxiter=MOST_ITERATIONS,
            callback=lambda _: bar.update(),
        )
    if failed:
        raise PipelineError(
            f"`{settings.section}.shrinkage` is {shrinkage:g}, too little for "
            f"{means.shape[1]:,} features of {len(train.classes):,} rows: raise it"
        )
    return solution.reshape(means.T.shape)
