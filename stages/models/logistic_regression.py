"""Multinomial logistic regression (scikit-learn)."""

import warnings

from pydantic import Field

from stages.common.stage import log
from stages.models.base import Fitted, ModelParams, Settings, decided_nothing
from stages.models.examples import Examples
from stages.models.linear import Linear


class Params(ModelParams):
    """The section of `logistic_regression`."""

    C: float = Field(gt=0)
    max_iterations: int = Field(gt=0)
    tolerance: float = Field(gt=0)


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: None = None,
) -> Fitted:
    """Fit as `stages.models.base` says; the curve has the iteration where the solver stopped.

    The seed changes nothing: the solver draws nothing at random.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression(C=params.C, max_iter=params.max_iterations, tol=params.tolerance)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        # Few rows of many labels are still labels.
        warnings.filterwarnings("ignore", "The number of unique classes")
        estimator.fit(train.values, train.classes, train.row_weights(settings.class_weight))
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log(
            "train",
            f"not converged after {params.max_iterations} iterations: "
            f"raise `{settings.section}.max_iterations`",
        )
    iterations = int(estimator.n_iter_[0])
    return decided_nothing(Linear.of(estimator), train, val, settings, iterations)
