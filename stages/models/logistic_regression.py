"""Multinomial logistic regression (scikit-learn), kept as arrays in JSON."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from stages.common.files import write_json
from stages.common.params import Section
from stages.common.stage import PipelineError, log
from stages.common.tables import Features

KIND = "logistic_regression"


class Params(Section):
    """`train.logistic_regression`"""

    C: float = Field(gt=0)
    max_iterations: int = Field(gt=0)
    tolerance: float = Field(gt=0)


@dataclass(frozen=True)
class Model:
    """Class probabilities are the softmax of `features @ coefficients.T + intercepts`."""

    labels: list[str]  # k class names, in the order of the probabilities
    feature_names: list[str]  # d names
    coefficients: np.ndarray  # (k, d) float64
    intercepts: np.ndarray  # (k,) float64

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) float64 of the labels, for (n, d) features."""
        scores = features @ self.coefficients.T + self.intercepts
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write the model to a JSON file; the numbers are written exactly."""
        content = {
            "kind": KIND,
            "labels": self.labels,
            "feature_names": self.feature_names,
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
        }
        write_json(path, content, indent=None)


def load(path: Path) -> Model:
    """Read what `Model.save` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Model(
        labels=content["labels"],
        feature_names=content["feature_names"],
        coefficients=np.array(content["coefficients"]),
        intercepts=np.array(content["intercepts"]),
    )


def train(
    params: Params, train: Features, val: Features, seed: int, device: str
) -> tuple[Model, pd.DataFrame]:
    """Fit on `train`; return the model and its log loss at the iteration where it stopped.

    That one row is all the curve that this model has. `seed` changes nothing: the
    solver draws nothing at random.

    Raises PipelineError when `device` is cuda, on which the solver cannot run.
    """
    if device != "cpu":
        raise PipelineError(f"`train.device` is {device}, but {KIND} runs on the cpu only")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    estimator = LogisticRegression(C=params.C, max_iter=params.max_iterations, tol=params.tolerance)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(train.values, train.mediums)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log(
            "train",
            f"not converged after {params.max_iterations} iterations: "
            f"raise `train.{KIND}.max_iterations`",
        )
    coefficients = estimator.coef_.astype(np.float64)
    intercepts = estimator.intercept_.astype(np.float64)
    if len(estimator.classes_) == 2:
        # scikit-learn keeps one row for two classes; the other class scores 0.
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.append(0.0, intercepts)
    model = Model(estimator.classes_.tolist(), train.names, coefficients, intercepts)
    losses = [
        log_loss(rows.mediums, model.predict_proba(rows.values), labels=model.labels)
        for rows in (train, val)
    ]
    curve = pd.DataFrame(
        [[int(estimator.n_iter_[0]), *losses]],
        columns=["iteration", "train_log_loss", "val_log_loss"],
    )
    return model, curve
