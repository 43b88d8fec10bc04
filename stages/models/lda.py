"""Linear discriminant analysis with a shrunk covariance (scikit-learn).

Each class is a normal distribution; all have one covariance. Shrinkage draws it towards
a diagonal one, without which a thousand features of a few thousand rows would be
overfitted (Friedman 1989, Regularized Discriminant Analysis).
"""

import warnings

import numpy as np
from pydantic import Field
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.linear import Linear

# With more features than this, scikit-learn takes minutes: its time grows with their cube.
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

    With balanced class weights, all classes are equally probable before a row is seen. More than
    `MOST_EXACT` features are solved by `iterated`.

    Raises PipelineError as that does, and when there are no more rows than labels.
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
    if len(train.names) > MOST_EXACT:
        model = iterated(params.shrinkage, priors, train, settings)
        return decided_nothing(model, train, val, settings)
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    estimator = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=params.shrinkage, priors=priors)
    with warnings.catch_warnings():
        # A label with one row has no covariance of its own, and needs none here.
        warnings.filterwarnings("ignore", "Only one sample available")
        estimator.fit(train.values.astype(np.float64), train.classes)
    model = Linear.of(estimator)
    return decided_nothing(model, train, val, settings)


def iterated(
    shrinkage: float, priors: np.ndarray | None, train: Examples, settings: Settings
) -> Linear:
    """The discriminants of scikit-learn's `lsqr`, by conjugate gradients (Hestenes, Stiefel 1952).

    Their weights are the inverse of the shrunk covariance times the classes' means. Of the
    covariance (d, d) only products with k vectors are taken, as two products with the rows (n, d):
    it is never formed, and time grows with n x d x k in each of some hundred iterations. `priors`
    (k,) are how probable the classes are, by default their shares of the rows.

    Raises PipelineError when it takes too many, as with very little shrinkage.
    """
    from scipy.sparse.linalg import LinearOperator, cg

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

    def times_covariance(stacked: np.ndarray) -> np.ndarray:
        vectors = stacked.reshape(means.T.shape)
        product = (1 - shrinkage) * (rows.T @ (rows @ vectors))
        return (product + shrinkage * variance * vectors).ravel()

    size = means.size
    if not variance:  # as scikit-learn has it: what varies nowhere tells nothing
        return Linear(np.zeros(means.T.shape, np.float32), np.log(priors).astype(np.float32))
    operator = LinearOperator((size, size), times_covariance, dtype=np.float64)
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
            f"{len(train.names):,} features of {len(rows):,} rows: raise it"
        )
    weights = solution.reshape(means.T.shape)
    offsets = np.log(priors) - np.einsum("kd,dk->k", means, weights) / 2
    return Linear(weights.astype(np.float32), offsets.astype(np.float32))
