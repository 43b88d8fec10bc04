"""What every model's module has: `Params`, a schema of its section, and `fit`.

    fit(params, train, val, settings, tuned=None) -> Fitted

fits on the rows of `train`. What it cannot compute from them, such as when to stop, it
decides on `val`. With `tuned`, which an earlier classifier has as its own, it takes those
decisions as they are and `val` is None.

A module that can use a graphics card (`train.device` cuda) also has `check_cuda()`, which raises
PipelineError where there is none.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from stages.common.params import Section
from stages.common.stage import PipelineError
from stages.features.transformer import is_embedding
from stages.model_file.graph import Graph
from stages.models.calibration import FOLDS
from stages.models.examples import Examples, accuracy, log_loss

MOST_TRAIN_ROWS = 1000
CURVE_COLUMNS = ("iteration", "train_log_loss", "val_log_loss", "train_accuracy", "val_accuracy")


class ModelParams(Section):
    """What each model's section has."""

    features: Literal["all", "embedding", "metadata"]


@dataclass(frozen=True)
class Settings:
    """Where a model's section stands, and `train.seed`, `train.device` and `train.class_weight`."""

    section: str  # such as train.ensemble.lda, for messages
    seed: int
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.section.rpartition(".")[2]


class Classifier(Protocol):
    """A fitted model; its probabilities are the softmax of its logits."""

    @property
    def tuned(self) -> Any:
        """What was decided on val."""

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) of n rows of features, (n, d) float32, by the training library."""

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` gives."""

    model: Classifier
    # A table with the columns `CURVE_COLUMNS` and a row for each iteration; one row where a model
    # is fitted in one step, or its solver shows the last iteration alone. None without val.
    curve: pd.DataFrame | None
    # How many training rows were used, by the name of the model that did.
    rows: dict[str, int]
    # Logits (f, n, k) of the n rows of val, in f parts: each as it would be if its fold of val had
    # had no part in the decisions. So metrics on val are not those of rows that decided them. One
    # decision is left out: how many rounds or epochs are tried, which all of val ends.
    # None without val.
    without_fold: np.ndarray | None

    def parts_of_val(self) -> np.ndarray:
        """`without_fold` of a model that was fitted with val."""
        if self.without_fold is None:
            raise ValueError("the model was fitted without val")
        return self.without_fold


@dataclass(frozen=True)
class OnFeatures:
    """A classifier that sees some of the features."""

    model: Classifier
    columns: np.ndarray  # (m,) int, their places among all

    @property
    def tuned(self) -> Any:
        """What was decided on val."""
        return self.model.tuned

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) of n rows of all features."""
        return self.model.logits(np.ascontiguousarray(values[:, self.columns]))

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        return self.model.add_to(
            graph, graph.add("Gather", features, graph.constant(self.columns), axis=1)
        )


def fit_on_features(
    module: ModuleType,
    params: ModelParams,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: Any = None,
) -> Fitted:
    """Fit a model of `module` on the features that `params` choose.

    Raises PipelineError when the table has none of them, and when the model cannot use
    `train.device`.
    """
    if settings.device != "cpu":
        if not uses_cuda(module):
            raise PipelineError(
                f"`train.device` is {settings.device}, but {settings.name} runs on the cpu only"
            )
        module.check_cuda()
    columns = places_of(params.features, train.names)
    if not columns.size:
        raise PipelineError(
            f"`{settings.section}.features` is {params.features}, and `featurize` leaves those out"
        )
    fitted = module.fit(
        params,
        train.with_features(columns),
        val and val.with_features(columns),
        settings,
        tuned,
    )
    return replace(fitted, model=OnFeatures(fitted.model, columns))


def places_of(features: str, names: list[str]) -> np.ndarray:
    """The places of all features, of those of the embedding, or of the others: (m,) int."""
    wanted = {"all": (True, False), "embedding": (True,), "metadata": (False,)}[features]
    return np.array([i for i, name in enumerate(names) if is_embedding(name) in wanted], dtype=int)


def decided_nothing(
    model: Classifier, train: Examples, val: Examples | None, settings: Settings, iteration: int = 1
) -> Fitted:
    """What `fit` gives for a model for which val decided nothing, after its last iteration."""
    rows = {settings.name: len(train.classes)}
    if val is None:
        return Fitted(model, None, rows, None)
    logits = model.logits(val.values)
    curve = curve_point(iteration, model, train, settings, val, logits)
    return Fitted(model, curve, rows, np.broadcast_to(logits, (FOLDS, *logits.shape)))


def curve_point(
    iteration: int,
    model: Classifier,
    train: Examples,
    settings: Settings,
    val: Examples,
    val_logits: np.ndarray,
) -> pd.DataFrame:
    """A curve of one row: what a model reaches after an iteration.

    `val_logits` (n, k) are those of the rows of val. On train it is measured on
    `MOST_TRAIN_ROWS`, evenly spaced: enough for a curve, while all would cost some models as
    much as the fit. With balanced class weights, rows count as they do in the fit.
    """
    chosen = np.unique(np.linspace(0, len(train.classes) - 1, MOST_TRAIN_ROWS).astype(int))
    weights = train.row_weights(settings.class_weight)[chosen]
    some = train.take(chosen)
    of_train = (model.logits(some.values), some.classes, weights)
    of_val = (val_logits, val.classes, val.row_weights(settings.class_weight))
    point = (
        iteration,
        log_loss(*of_train),
        log_loss(*of_val),
        accuracy(*of_train),
        accuracy(*of_val),
    )
    return pd.DataFrame([point], columns=list(CURVE_COLUMNS))


def uses_cuda(module: ModuleType) -> bool:
    """Whether a model's module can use a graphics card."""
    return hasattr(module, "check_cuda")
