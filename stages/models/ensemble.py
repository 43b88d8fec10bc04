"""A blend of models, whose opinions are weighed by what they say of rows they have not seen.

Kernel ridge regression tells for each row what it would say without it; other models are fitted
without a fifth of the rows at a time (stages/models/held_out.py). So no rows have to be kept apart:
with `refit_on_val`, all members learn from train and val together.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from stages.common.errors import ParameterError, PipelineError
from stages.common.params import check_section
from stages.common.stage import log
from stages.model_file.graph import Graph
from stages.models.base import (
    Calibrated,
    Classifier,
    ModelParams,
    OnFeatures,
    Settings,
    choose,
    places_of,
    point,
    some_rows,
    uses_cuda,
)
from stages.models.examples import Examples, log_softmax, row_losses
from stages.models.held_out import HeldOut, fit_held_out, scored_rows
from stages.models.registry import MODELS
from stages.models.stack import Opinion, blended, cross_fitted_stack, fit_stack


@dataclass(frozen=True)
class Member:
    """A model, and what becomes of its logits."""

    name: str
    model: Classifier
    opinion: Opinion


@dataclass(frozen=True)
class Blend:
    """Models whose opinions are added up."""

    members: list[Member]

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float64 of (n, d) features."""
        return blended(
            [member.opinion for member in self.members],
            [member.model.logits(values) for member in self.members],
        )

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        parts = [
            graph.name(
                member.opinion.add_to(graph, member.model.add_to(graph, features)), member.name
            )
            for member in self.members
        ]
        return graph.add("Sum", *parts)


@dataclass(frozen=True, eq=False)
class Found:
    """A member that was fitted."""

    model: Classifier  # of all features
    held_out: HeldOut  # whose own model sees the member's features alone
    chosen: dict[str, float]  # what `auto` has become
    of_train: np.ndarray  # logits (m, k) of `some_rows` of train
    of_val: np.ndarray | None  # those (n, k) of val, where it was not fitted on them


@dataclass(frozen=True)
class Blended:
    """How some members are blended."""

    opinions: list[Opinion]  # of each
    temperature: float
    val_logits: np.ndarray  # (n, k) of val, by decisions that the row had no part in
    curve: pd.DataFrame  # of one row, as `point` has it


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
    # In an order of our own: that of the keys in params.yaml is of no meaning, and re-runs nothing.
    return {name: checked[name] for name in MODELS if name in checked}


class Ensemble:
    """Fits blends of the same rows; what several of them have in common is fitted once."""

    def __init__(
        self,
        params: dict[str, ModelParams],
        train: Examples,
        val: Examples,
        settings: Settings,
    ) -> None:
        """`params` are those of each member. `train.device` is for the members that can use it.

        Raises PipelineError when none can.
        """
        self._params, self._train, self._val, self._settings = params, train, val, settings
        self._rows = train.join(val) if settings.refit_on_val else train
        self._scored = scored_rows(self._rows, len(train.classes), settings.seed)
        self._scored_weights = as_many_as(
            self._scored >= len(train.classes),
            len(train.classes),
            self._rows.row_weights(settings.class_weight)[self._scored],
        )
        self._on_device = [name for name in params if uses_cuda(MODELS[name].module)]
        if settings.device != "cpu":
            if not self._on_device:
                raise PipelineError(
                    f"`train.device` is {settings.device}, but no member of the ensemble can use it"
                )
            # Before others are fitted, which may take long.
            for name in self._on_device:
                MODELS[name].module.check_cuda()
        self._found: dict[tuple[str, bytes], Found] = {}
        self._blends: dict[tuple[Found, ...], Blended] = {}

    def fit(self, allowed: np.ndarray) -> Calibrated:
        """Blend the members that have features among those `allowed`, (m,) int places.

        Members are left out that have none, and where the metadata are no better than the shares
        of the classes, those that see them. The curve has a row for each member that is added, in
        the registry's order.

        Raises PipelineError when no member is left.
        """
        found = self._members(allowed)
        fitted = tuple(found.values())
        blends = [self._blend(fitted[:count]) for count in range(1, len(found) + 1)]
        for last, blend in zip(found, blends, strict=True):
            log(
                "train",
                f"with {last}: log loss on val {blend.curve['val_log_loss'].item():.4f}, "
                f"accuracy {blend.curve['val_accuracy'].item():.4f}, weights "
                + ", ".join(f"{opinion.weight:.2f}" for opinion in blend.opinions),
            )
        blend = blends[-1]
        members = [
            Member(name, member.model, opinion)
            for (name, member), opinion in zip(found.items(), blend.opinions, strict=True)
        ]
        return Calibrated(
            Blend(members),
            blend.temperature,
            pd.concat([each.curve for each in blends], ignore_index=True),
            {name: member.held_out.rows for name, member in found.items()},
            {name: member.chosen for name, member in found.items() if member.chosen},
            np.exp(log_softmax(blend.val_logits)),
            len(self._scored),
        )

    def _blend(self, members: tuple[Found, ...]) -> Blended:
        """How these members are blended, fitted once."""
        if members not in self._blends:
            self._blends[members] = self._fit_blend(members)
        return self._blends[members]

    def _fit_blend(self, members: tuple[Found, ...]) -> Blended:
        classes, weights = self._rows.classes[self._scored], self._scored_weights
        seen = [member.held_out.logits for member in members]
        opinions = fit_stack(seen, classes, weights)
        crossed, temperature = cross_fitted_stack(seen, classes, weights)
        of_val = [member.of_val for member in members if member.of_val is not None]
        val_logits = (
            blended(opinions, of_val) / temperature if of_val else crossed[self._places_of_val()]
        )
        train_logits = blended(opinions, [member.of_train for member in members]) / temperature
        curve = point(
            len(members), train_logits, self._train, self._settings, self._val, val_logits
        )
        return Blended(opinions, temperature, val_logits, curve)

    def _places_of_val(self) -> np.ndarray:
        """Where the rows of val, in their order, are among the scored ones."""
        # They are the last of all rows, and none is left out: its class has a row in train.
        return np.argsort(self._scored, kind="stable")[-len(self._val.classes) :]

    def _members(self, allowed: np.ndarray) -> dict[str, Found]:
        """The members that are worth a place, fitted, by their names."""
        columns = {
            name: places_of(params.features, self._train.names, allowed)
            for name, params in self._params.items()
        }
        for name, own in list(columns.items()):
            if not own.size:
                log("train", f"{name} is left out of the ensemble: its features are left out")
                del columns[name]
        if not columns:
            raise PipelineError("no member of the ensemble has any features")
        metadata = places_of("metadata", self._train.names, allowed)
        blind = [name for name, own in columns.items() if not np.isin(own, metadata).any()]
        alone = [name for name, own in columns.items() if np.isin(own, metadata).all()]
        if blind and alone and not any(self._says_anything(name, columns[name]) for name in alone):
            others = [name for name in columns if name not in blind]
            log(
                "train",
                f"{', '.join(others)} left out of the ensemble: what is not in the embedding tells "
                "no more than how frequent each label is",
            )
            columns = {name: columns[name] for name in blind}
        return {name: self._fitted(name, own) for name, own in columns.items()}

    def _says_anything(self, name: str, columns: np.ndarray) -> bool:
        """Whether a member says more of rows that it has not seen than the classes' shares do."""
        classes, weights = self._rows.classes[self._scored], self._scored_weights
        if not len(classes):
            return True  # no row speaks against it
        logits, _ = cross_fitted_stack(
            [self._fitted(name, columns).held_out.logits], classes, weights
        )
        shares = np.bincount(classes, weights, len(self._rows.labels)) / weights.sum()
        prior = -np.log(shares[classes])
        return bool(weights @ row_losses(logits, classes) < weights @ prior)

    def _fitted(self, name: str, columns: np.ndarray) -> Found:
        """A member, fitted once."""
        key = (name, columns.tobytes())
        if key not in self._found:
            module = MODELS[name].module
            settings = replace(
                self._settings,
                section=f"{self._settings.section}.{name}",
                device=self._settings.device if name in self._on_device else "cpu",
            )
            rows = self._rows.with_features(columns)
            train = rows.first(len(self._train.classes))
            params, chosen = choose(module, self._params[name], train, settings)
            held_out = fit_held_out(module, params, rows, self._scored, settings)
            model = OnFeatures(held_out.model, columns)
            self._found[key] = Found(
                model,
                held_out,
                chosen,
                model.logits(self._train.values[some_rows(self._train)]),
                None if self._settings.refit_on_val else model.logits(self._val.values),
            )
        return self._found[key]


def as_many_as(of_val: np.ndarray, train_rows: int, weights: np.ndarray) -> np.ndarray:
    """How much each scored row counts, (s,), where those of train stand for all `train_rows`.

    `of_val` (s,) are those that stand for themselves: val may have other shares of the classes.
    `weights` (s,) are how much each would count; the sum stays as it is.
    """
    result = np.where(of_val, 1.0, train_rows / max(1, (~of_val).sum())) * weights
    return result * (weights.sum() / result.sum()) if len(result) else result
