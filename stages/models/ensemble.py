"""A blend of models: the weighted sum of the logarithms of their probabilities.

The weights are fitted on val (`stages.models.calibration.fit_weights`).
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from stages.common.examples import Examples, log_softmax
from stages.common.graph import Graph
from stages.common.params import ParameterError, Section, check_section
from stages.common.stage import PipelineError, log
from stages.common.transformer import is_embedding
from stages.models import kernel_ridge, lda, logistic_regression, mlp, svm, xgboost
from stages.models.base import Classifier, Settings, curve_point, refuse_cuda
from stages.models.calibration import fit_weights

NAME = "ensemble"
MEMBERS: dict[str, ModuleType] = {
    module.NAME: module for module in (kernel_ridge, lda, logistic_regression, mlp, svm, xgboost)
}


class MemberParams(Section):
    """`train.ensemble.members.NAME`"""

    features: Literal["all", "embedding", "metadata"]
    params: dict[str, Any]


class Params(Section):
    """`train.ensemble`"""

    members: dict[str, MemberParams] = Field(min_length=1)


@dataclass(frozen=True)
class Member:
    """A model, the places of its features among all, and its weight."""

    name: str
    model: Classifier
    columns: np.ndarray  # (m,) int
    weight: float

    def log_probabilities(self, values: np.ndarray) -> np.ndarray:
        """Logarithms of the probabilities (n, k) of n rows of all features."""
        return log_softmax(self.model.logits(np.ascontiguousarray(values[:, self.columns])))


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
        return sum(member.weight * member.log_probabilities(values) for member in self.members)

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        parts = []
        for member in self.members:
            chosen = graph.add("Gather", features, graph.constant(member.columns), axis=1)
            opinion = graph.add("LogSoftmax", member.model.add_to(graph, chosen), axis=1)
            weight = graph.constant(np.float32(member.weight))
            parts.append(graph.add("Mul", opinion, weight))
        return graph.add("Sum", *parts)


def check(params: Params) -> dict[str, Section]:
    """The checked parameters of each member.

    Raises ParameterError for a member that is no model, or whose parameters are wrong.
    """
    checked = {}
    for name, member in params.members.items():
        place = f"train.{NAME}.members.{name}"
        if name not in MEMBERS:
            known = ", ".join(MEMBERS)
            raise ParameterError(f"params.yaml: `{place}` is no model: there are {known}")
        checked[name] = check_section(f"{place}.params", member.params, MEMBERS[name].Params)
    return checked


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: dict[str, tuple[Any, float]] | None = None,
) -> tuple[Blend, pd.DataFrame]:
    """Fit as `stages.models.base` says.

    The curve has a row for each member that is added, in their order. Only XGBoost uses
    `train.device` cuda. A member whose features are left out is left out too.

    Raises PipelineError when no member has features, or none can use the device.
    """
    if settings.device != "cpu" and "xgboost" in params.members:
        xgboost.check_cuda()
    elif settings.device != "cpu":
        refuse_cuda(settings, "an ensemble without xgboost")
    members: list[Member] = []
    for name, member_params in check(params).items():
        columns = columns_of(params.members[name].features, train.names)
        if not columns.size:
            log("train", f"{name} is left out of the ensemble: its features are left out")
            continue
        own = Settings(
            settings.seed, settings.device if name == "xgboost" else "cpu", settings.class_weight
        )
        model, _ = MEMBERS[name].fit(
            member_params,
            train.with_features(columns),
            val and val.with_features(columns),
            own,
            None if tuned is None else tuned[name][0],
        )
        weight = 1.0 if tuned is None else tuned[name][1]
        members.append(Member(name, model, columns, weight))
    if not members:
        raise PipelineError("no member of the ensemble has any features")
    if val is None:
        blend = Blend(members)
        return blend, curve_point(len(members), blend, train, None)
    weights = val.row_weights(settings.class_weight)
    opinions = [member.log_probabilities(val.values) for member in members]
    points = []
    for count in range(1, len(members) + 1):
        found = fit_weights(opinions[:count], val.classes, weights)
        blend = Blend(
            [
                Member(member.name, member.model, member.columns, float(weight))
                for member, weight in zip(members, found, strict=False)
            ]
        )
        points.append(curve_point(count, blend, train, val))
        last = points[-1].iloc[0]
        log(
            "train",
            f"with {members[count - 1].name}: log loss on val {last['val_log_loss']:.4f}, "
            f"accuracy {last['val_accuracy']:.4f}, weights "
            + ", ".join(f"{member.weight:.2f}" for member in blend.members),
        )
    return blend, pd.concat(points, ignore_index=True)


def columns_of(features: str, names: list[str]) -> np.ndarray:
    """The places of all features, of those of the embedding, or of the others: (m,) int."""
    wanted = {"all": (True, False), "embedding": (True,), "metadata": (False,)}[features]
    return np.array([i for i, name in enumerate(names) if is_embedding(name) in wanted], dtype=int)
