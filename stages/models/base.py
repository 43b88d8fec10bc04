"""What every model's module has: `Params`, a schema of its section, and `fit`.

    fit(params, train, val, settings, tuned=None) -> Fitted

fits on the rows of `train`. What it cannot compute from them, such as when to stop, it
decides on `val`. With `tuned`, which an earlier classifier has as its own, it takes those
decisions as they are and `val` is None.

A module whose parameters can be `auto` also has

    chosen(params, train, settings) -> params

which puts numbers in their place; the other functions take numbers. A module that can use a
graphics card (`train.device` cuda) also has `check_cuda()`, which raises PipelineError where there
is none. stages/models/held_out.py says what else one may have.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from stages.common.errors import PipelineError
from stages.common.large_arrays import take_columns
from stages.common.params import Section
from stages.common.stage import log
from stages.features.transformer import is_embedding
from stages.model_file.graph import Graph
from stages.model_file.interface import CURVE_COLUMNS
from stages.models.calibration import FOLDS, cross_fitted, fit_temperature
from stages.models.examples import Examples, accuracy, log_loss

MOST_TRAIN_ROWS = 1000


class ModelParams(Section):
    """What each model's section has."""

    features: Literal["all", "embedding", "metadata"]


@dataclass(frozen=True)
class Settings:
    """Where a model's section stands, and what all models share in `train`."""

    section: str  # such as train.ensemble.lda, for messages
    seed: int
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]
    refit_on_val: bool

    @property
    def name(self) -> str:
        """The model's name."""
        return self.section.rpartition(".")[2]


class Classifier(Protocol):
    """A fitted model; its probabilities are the softmax of its logits."""

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) of n rows of features, (n, d) float32, by the training library."""

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""


class Tuned(Classifier, Protocol):
    """A classifier that knows what was decided on val."""

    @property
    def tuned(self) -> Any:
        """It; None where nothing was."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` gives."""

    model: Tuned
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

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) of n rows of all features."""
        return self.model.logits(take_columns(values, self.columns))

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        return self.model.add_to(
            graph, graph.add("Gather", features, graph.constant(self.columns), axis=1)
        )


@dataclass(frozen=True)
class Calibrated:
    """A model whose probabilities can be taken at their word."""

    model: Classifier
    temperature: float  # by which its logits are divided
    curve: pd.DataFrame  # as `Fitted` has it
    rows: dict[str, int]  # as `Fitted` has it
    chosen: dict[str, dict[str, float]]  # what `auto` has become, by the name of the model
    # Of the n rows of val, (n, k): by decisions that the row had no part in, and from a model that
    # had not seen it.
    val_probabilities: np.ndarray
    calibrating_rows: int  # how many rows the temperature rests on


def fit_one(
    module: ModuleType,
    params: ModelParams,
    train: Examples,
    val: Examples,
    settings: Settings,
    allowed: np.ndarray,
) -> Calibrated:
    """Fit a model of `module` on train, and calibrate it on val.

    It sees those of the features that `params` choose whose places are `allowed`, (m,) int. With
    `refit_on_val` it is fitted once more, on both, by what val has decided.

    Raises PipelineError when the table has none of these features, and when the model cannot use
    `train.device`.
    """
    if settings.device != "cpu":
        if not uses_cuda(module):
            raise PipelineError(
                f"`train.device` is {settings.device}, but {settings.name} runs on the cpu only"
            )
        module.check_cuda()
    columns = places_of(params.features, train.names, allowed)
    if not columns.size:
        raise PipelineError(
            f"`{settings.section}.features` is {params.features}, and `featurize` leaves those out"
        )
    own, own_val = train.with_features(columns), val.with_features(columns)
    params, chosen = choose(module, params, own, settings)
    fitted = module.fit(params, own, own_val, settings)
    curve, row_weights = fitted.curve, val.row_weights(settings.class_weight)
    temperature = fit_temperature(fitted.model.logits(own_val.values), val.classes, row_weights)
    probabilities = cross_fitted(fitted.parts_of_val(), val.classes, row_weights)
    if settings.refit_on_val:
        both = own.join(own_val)
        log("train", f"fitting {settings.name} again, on the {len(both.classes):,} rows of both")
        fitted = module.fit(params, both, None, settings, fitted.model.tuned)
    return Calibrated(
        OnFeatures(fitted.model, columns),
        temperature,
        curve,
        fitted.rows,
        {settings.name: chosen} if chosen else {},
        probabilities,
        len(val.classes),
    )


def choose(
    module: ModuleType, params: ModelParams, train: Examples, settings: Settings
) -> tuple[ModelParams, dict[str, float]]:
    """The parameters with what `auto` becomes on the rows of train, and that alone."""
    if not hasattr(module, "chosen"):
        return params, {}
    found = module.chosen(params, train, settings)
    return found, {
        name: value for name, value in found.model_dump().items() if value != getattr(params, name)
    }


def places_of(features: str, names: list[str], allowed: np.ndarray) -> np.ndarray:
    """The places of all features, of those of the embedding, or of the others: (m,) int.

    Of those alone that are `allowed`, (a,) int.
    """
    wanted = {"all": (True, False), "embedding": (True,), "metadata": (False,)}[features]
    return np.array([place for place in allowed if is_embedding(names[place]) in wanted], dtype=int)


def decided_nothing(
    model: Tuned, train: Examples, val: Examples | None, settings: Settings, iteration: int = 1
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

    `val_logits` (n, k) are those of the rows of val. On train it is measured on some rows.
    """
    chosen = some_rows(train)
    return point(iteration, model.logits(train.values[chosen]), train, settings, val, val_logits)


def some_rows(train: Examples) -> np.ndarray:
    """The places (m,) int of `MOST_TRAIN_ROWS` rows, evenly spaced.

    They are enough for a curve, while all would cost some models as much as the fit.
    """
    return np.unique(np.linspace(0, len(train.classes) - 1, MOST_TRAIN_ROWS).astype(int))


def point(
    iteration: int,
    train_logits: np.ndarray,
    train: Examples,
    settings: Settings,
    val: Examples,
    val_logits: np.ndarray,
) -> pd.DataFrame:
    """A curve of one row, from the logits (m, k) of `some_rows`, and (n, k) of the rows of val.

    With balanced class weights, rows count as they do in the fit.
    """
    chosen = some_rows(train)
    weights = train.row_weights(settings.class_weight)[chosen]
    of_train = (train_logits, train.classes[chosen], weights)
    of_val = (val_logits, val.classes, val.row_weights(settings.class_weight))
    values = (
        iteration,
        log_loss(*of_train),
        log_loss(*of_val),
        accuracy(*of_train),
        accuracy(*of_val),
    )
    return pd.DataFrame([values], columns=list(CURVE_COLUMNS))


def uses_cuda(module: ModuleType) -> bool:
    """Whether a model's module can use a graphics card."""
    return hasattr(module, "check_cuda")
