"""A blend of models: the weighted sum of the logarithms of their probabilities.

The weights are fitted on val (`stages.models.calibration.fit_weights`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from stages.common.params import check_section
from stages.common.stage import ParameterError, PipelineError, log
from stages.model_file.graph import Graph
from stages.models.base import (
    Classifier,
    Fitted,
    ModelParams,
    Settings,
    curve_point,
    fit_on_features,
    places_of,
    uses_cuda,
)
from stages.models.calibration import fit_weights, folds_of, own_parts
from stages.models.examples import Examples, log_softmax
from stages.models.registry import MODELS


@dataclass(frozen=True)
class Member:
    """A model and its weight."""

    name: str
    model: Classifier
    weight: float

    def log_probabilities(self, values: np.ndarray) -> np.ndarray:
        """Logarithms of the probabilities (n, k) of n rows of all features."""
        return log_softmax(self.model.logits(values))


@dataclass(frozen=True)
class Blend:
    """Models whose opinions are weighed."""

    members: list[Member]

    @property
    def tuned(self) -> dict[str, tuple[Any, float]]:
        """What each member decided on val, and its weight."""
        return {member.name: (member.model.tuned, member.weight) for member in self.members}

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float64 of (n, d) features."""
        return weighted_sum(
            [member.weight for member in self.members],
            [member.log_probabilities(values) for member in self.members],
        )

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        parts = []
        for member in self.members:
            opinion = graph.add("LogSoftmax", member.model.add_to(graph, features), axis=1)
            weight = graph.constant(np.float32(member.weight))
            parts.append(graph.name(graph.add("Mul", opinion, weight), member.name))
        return graph.add("Sum", *parts)


def check(section: str, content: dict[str, Any]) -> dict[str, ModelParams]:
    """The checked parameters of each member of the ensemble, whose section has this content.

    Raises ParameterError where there is no member, for one that is no model, and for parameters
    that are wrong.
    """
    if not isinstance(content, dict) or not content:
        raise ParameterError(f"params.yaml: `{section}` should hold the sections of its members")
    checked = {}
    for name, params in content.items():
        if name not in MODELS:
            known = ", ".join(MODELS)
            raise ParameterError(f"params.yaml: `{section}.{name}` is no model: there are {known}")
        checked[name] = check_section(f"{section}.{name}", params, MODELS[name].module.Params)
    return checked


def fit(
    params: dict[str, ModelParams],
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: dict[str, tuple[Any, float]] | None = None,
) -> Fitted:
    """Fit as `stages.models.base` says; `params` are those of each member.

    The curve has a row for each member that is added, in their order; its figures on val are
    cross-fitted, as val decides the weights. `train.device` is for the members that can use it. A
    member whose features are left out is left out too.

    Raises PipelineError when no member has features, or none can use the device.
    """
    kept = {
        name: member
        for name, member in params.items()
        if places_of(member.features, train.names).size
    }
    for name in params:
        if name not in kept:
            log("train", f"{name} is left out of the ensemble: its features are left out")
    if not kept:
        raise PipelineError("no member of the ensemble has any features")
    on_device = [name for name in kept if uses_cuda(MODELS[name].module)]
    if settings.device != "cpu":
        if not on_device:
            raise PipelineError(
                f"`train.device` is {settings.device}, but no member of the ensemble can use it"
            )
        # Before others are fitted, which may take long.
        for name in on_device:
            MODELS[name].module.check_cuda()
    fitted: dict[str, Fitted] = {}
    for name, member_params in kept.items():
        own = replace(
            settings,
            section=f"{settings.section}.{name}",
            device=settings.device if name in on_device else "cpu",
        )
        member_tuned = None if tuned is None else tuned[name][0]
        fitted[name] = fit_on_features(
            MODELS[name].module, member_params, train, val, own, member_tuned
        )
    rows = {name: count for member in fitted.values() for name, count in member.rows.items()}
    if val is None:
        if tuned is None:
            raise ValueError("without val, the weights have to be known")
        blend = Blend([Member(name, fitted[name].model, tuned[name][1]) for name in fitted])
        return Fitted(blend, None, rows, None)
    weights = val.row_weights(settings.class_weight)
    opinions = [log_softmax(member.model.logits(val.values)) for member in fitted.values()]
    without_fold = [list(map(log_softmax, member.parts_of_val())) for member in fitted.values()]
    points = []
    for count, last in enumerate(fitted, start=1):
        found = fit_weights(opinions[:count], val.classes, weights)
        blend = Blend(
            [
                Member(name, member.model, float(weight))
                for (name, member), weight in zip(fitted.items(), found, strict=False)
            ]
        )
        parts = blend_without_folds(without_fold[:count], val.classes, weights)
        logits = own_parts(parts, val.classes)
        points.append(curve_point(count, blend, train, settings, val, logits))
        point = points[-1].iloc[0]
        log(
            "train",
            f"with {last}: log loss on val {point['val_log_loss']:.4f}, "
            f"accuracy {point['val_accuracy']:.4f}, weights "
            + ", ".join(f"{member.weight:.2f}" for member in blend.members),
        )
    return Fitted(blend, pd.concat(points, ignore_index=True), rows, parts)


def blend_without_folds(
    opinions: list[list[np.ndarray]], classes: np.ndarray, row_weights: np.ndarray
) -> np.ndarray:
    """Logits (f, n, k) of val, blended with the weights that val gives without each fold.

    `opinions` has, for each of j members, f matrices (n, k): the logarithms of the probabilities
    that it gives without a fold.
    """
    parts = []
    for fold, members in zip(folds_of(classes), zip(*opinions, strict=True), strict=True):
        others = [opinion[~fold] for opinion in members]
        weights = fit_weights(others, classes[~fold], row_weights[~fold])
        parts.append(weighted_sum(weights, members))
    return np.array(parts)


def weighted_sum(weights: Iterable[float], parts: Iterable[np.ndarray]) -> np.ndarray:
    """The sum of matrices of one shape, each times its weight."""
    first, *others = (weight * part for weight, part in zip(weights, parts, strict=True))
    return sum(others, start=first)
