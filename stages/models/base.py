"""What every module of `stages/models` has: `Params`, a schema of its section, and `fit`.

    fit(params, train, val, settings, tuned=None) -> (Classifier, curve)

fits on the rows of `train`. What it cannot compute from them, such as when to stop, it
decides on `val`. With `tuned`, which an earlier classifier has as its own, it takes those
decisions as they are and `val` is None. The curve is a table with the columns
`CURVE_COLUMNS` and a row for each iteration; where there are none, or none that can be
looked into, one row for the last.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from stages.common.examples import Examples, accuracy, log_loss
from stages.common.graph import Graph
from stages.common.stage import PipelineError

MOST_TRAIN_ROWS = 1000
CURVE_COLUMNS = ("iteration", "train_log_loss", "val_log_loss", "train_accuracy", "val_accuracy")


@dataclass(frozen=True)
class Settings:
    """What all models share: `train.seed`, `train.device` and `train.class_weight`."""

    seed: int
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]


class Classifier(Protocol):
    """A fitted model; its probabilities are the softmax of its logits."""

    tuned: Any  # what was decided on val

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) of n rows of features, (n, d) float32, by the training library."""

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""


def curve_point(
    iteration: int, model: Classifier, train: Examples, val: Examples | None
) -> pd.DataFrame:
    """A curve of one row: what a model reaches after an iteration.

    On train it is measured on `MOST_TRAIN_ROWS`, evenly spaced: enough for a curve, while
    all would cost some models as much as the fit.
    """
    figures = {"iteration": iteration}
    chosen = np.linspace(0, len(train.classes) - 1, MOST_TRAIN_ROWS).astype(int)
    for name, rows in (("train", train.take(np.unique(chosen))), ("val", val)):
        if rows is not None:
            logits = model.logits(rows.values)
            figures[f"{name}_log_loss"] = log_loss(logits, rows.classes)
            figures[f"{name}_accuracy"] = accuracy(logits, rows.classes)
    return pd.DataFrame([figures]).reindex(columns=list(CURVE_COLUMNS))


def refuse_cuda(settings: Settings, model: str) -> None:
    """Raise PipelineError when `train.device` is cuda, for a model that cannot use it."""
    if settings.device != "cpu":
        raise PipelineError(
            f"`train.device` is {settings.device}, but {model} runs on the cpu only"
        )
