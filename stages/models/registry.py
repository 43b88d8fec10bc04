"""The models: the name of each one's section in params.yaml, its module, and what it is."""

from dataclasses import dataclass
from types import ModuleType

from stages.model_file.interface import ENSEMBLE
from stages.models import kernel_ridge, lda, logistic_regression, mlp, xgboost


@dataclass(frozen=True)
class Model:
    """A module as stages/models/base.py says, and a line about it for people."""

    module: ModuleType
    what: str


MODELS = {
    "kernel_ridge": Model(
        kernel_ridge,
        "comparison with training rows (ridge regression with radial basis functions)",
    ),
    "lda": Model(
        lda,
        "straight borders between labels (linear discriminant analysis with a shrunk covariance)",
    ),
    "size_trees": Model(xgboost, "questions about all but the embedding (gradient-boosted trees)"),
    "logistic_regression": Model(logistic_regression, "multinomial logistic regression"),
    "mlp": Model(mlp, "neural networks with one hidden layer, averaged"),
    "xgboost": Model(xgboost, "gradient-boosted trees"),
}
# What each value of `train.model` is: a blend (stages/models/ensemble.py), or one of them.
DESCRIPTIONS = {
    ENSEMBLE: "a weighted blend of the models whose sections stand in `train.ensemble`",
    **{name: model.what for name, model in MODELS.items()},
}
NAMES = tuple(DESCRIPTIONS)
