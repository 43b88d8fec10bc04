"""Linear discriminant analysis with a shrunk covariance (scikit-learn).

Each class is a normal distribution; all have one covariance. Shrinkage draws it towards
a diagonal one, without which a thousand features of a few thousand rows would be
overfitted (Friedman 1989, Regularized Discriminant Analysis).
"""

import numpy as np
from pydantic import Field

from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.linear import Linear


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
    """Fit as `stages.models.base` says; the solution is direct, so the curve has one row.

    With balanced class weights, all classes are equally probable before a row is seen.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    count = len(train.labels)
    estimator = LinearDiscriminantAnalysis(
        solver="lsqr",
        shrinkage=params.shrinkage,
        priors=np.full(count, 1 / count) if settings.class_weight == "balanced" else None,
    )
    model = Linear.of(estimator.fit(train.values.astype(np.float64), train.classes))
    return decided_nothing(model, train, val, settings)
