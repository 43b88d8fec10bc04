"""Linear discriminant analysis with a shrunk covariance.

Each class is a normal distribution; all have one covariance. Shrinkage draws it towards
a diagonal one, without which a thousand features of a few thousand rows would be
overfitted (Friedman 1989, Regularized Discriminant Analysis).
"""

import numpy as np
from pydantic import Field
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.linear import Linear

# With more features than this, solving takes minutes: its time grows with their cube.
MOST_EXACT = 4096
# The residual at which the iterations stop, as a share of the means; it is far below what would
# change an answer.
TOLERANCE = 1e-5
MOST_ITERATIONS = 1000


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

    rows = train.values.astype(np.float64)
    counts = np.bincount(train.classes)
    if priors is None:
        priors = counts / counts.sum()
    means = np.empty((len(counts), rows.shape[1]))
    for class_, (prior, count) in enumerate(zip(priors, counts, strict=True)):
        own = train.classes == class_
        means[class_] = rows[own].mean(axis=0)
        rows[own] = (rows[own] - means[class_]) * np.sqrt(prior / count)
    # rows.T @ rows is now the covariance within classes, and this is its mean variance.
    variance = np.einsum("nd,nd->", rows, rows) / rows.shape[1]
    if not variance:  # as scikit-learn has it: what varies nowhere tells nothing
        weights = np.zeros(means.T.shape)
    elif rows.shape[1] > MOST_EXACT:
        weights = iterated(shrinkage, variance, rows, means, settings)
    else:
        covariance = (1 - shrinkage) * (rows.T @ rows)
        np.einsum("ii->i", covariance)[:] += shrinkage * variance
        weights = lstsq(covariance, means.T, overwrite_a=True)[0]
    offsets = np.log(priors) - np.einsum("kd,dk->k", means, weights) / 2
    # What all logits share says nothing, and may be so large that 32 bits lose the rest.
    if len(counts) == 2:
        weights, offsets = weights - weights[:, :1], offsets - offsets[0]
    return Linear(weights.astype(np.float32), offsets.astype(np.float32))


def iterated(
    shrinkage: float, variance: float, rows: np.ndarray, means: np.ndarray, settings: Settings
) -> np.ndarray:
    """The weights (d, k) by conjugate gradients (Hestenes and Stiefel 1952).

    Of the covariance (d, d), which is `rows.T @ rows`, only products with k vectors are taken, as
    two products with the rows (n, d): it is never formed, and time grows with n x d x k in each of
    some hundred iterations. `variance` is its mean variance, `means` (k, d) are the classes'.

    Raises PipelineError when it takes too many, as with very little shrinkage.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    def times_covariance(stacked: np.ndarray) -> np.ndarray:
        vectors = stacked.reshape(means.T.shape)
        product = (1 - shrinkage) * (rows.T @ (rows @ vectors))
        return (product + shrinkage * variance * vectors).ravel()

    operator = LinearOperator((means.size, means.size), times_covariance, dtype=np.float64)
    with tqdm(desc=f"train {settings.name}", unit=" iterations", disable=None) as bar:
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
            f"{rows.shape[1]:,} features of {len(rows):,} rows: raise it"
        )
    return solution.reshape(means.T.shape)
