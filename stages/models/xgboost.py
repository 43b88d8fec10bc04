"""Gradient-boosted trees (XGBoost, histogram method)."""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.large_arrays import new_rows, take_columns
from stages.common.stage import hidden, log
from stages.features.kinds.embedding import principal_components
from stages.model_file.graph import ML, Graph
from stages.model_file.interface import CURVE_COLUMNS
from stages.models.base import Fitted, ModelParams, Settings, places_of
from stages.models.calibration import best_steps
from stages.models.examples import Examples

if TYPE_CHECKING:
    import xgboost

# Gradients have so many steps between 0 and 1: as many as 32 bits tell apart just below 1. Sums in
# 64 bits are exact up to 2**29, the weights of so many rows.
STEPS = 2**24
LEAST_SHARED = 10_000  # rows, from which on all cores are used
SPAN = 4096  # rows that are in 64 bits at a time


class Params(ModelParams):
    """The section of `xgboost` or `size_trees`."""

    components: int | None = Field(default=None, gt=0)
    rounds: int = Field(gt=0)
    early_stopping_rounds: int = Field(gt=0)
    learning_rate: float = Field(gt=0, le=1)
    max_depth: int = Field(gt=0, le=30)
    min_child_weight: float = Field(ge=0)
    subsample: float = Field(gt=0, le=1)
    colsample_bynode: float = Field(gt=0, le=1)
    max_bin: int = Field(ge=2, le=65_536)


@dataclass(frozen=True)
class Trees:
    """A booster with one tree for each class in every round."""

    booster: "xgboost.Booster"
    tuned: int  # rounds
    axes: np.ndarray | None  # what `principal_axes` gives

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        return self.booster.inplace_predict(along(self.axes, values), predict_type="margin")

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names.

        The trees are read from XGBoost's own JSON, whose fields its documentation explains
        under "Model IO".
        """
        learner = json.loads(self.booster.save_raw("json"))["learner"]
        nodes_of = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids")
        names = [f"nodes_{name}" for name in (*nodes_of, "falsenodeids")]
        names += [f"target_{name}" for name in ("treeids", "nodeids", "ids", "weights")]
        attributes: dict[str, list[Any]] = {name: [] for name in names}
        trees = learner["gradient_booster"]["model"]
        for number, (tree, class_) in enumerate(
            zip(trees["trees"], trees["tree_info"], strict=True)
        ):
            nodes = range(len(tree["left_children"]))
            is_leaf = [child == -1 for child in tree["left_children"]]
            attributes["nodes_treeids"] += [number] * len(nodes)
            attributes["nodes_nodeids"] += nodes
            attributes["nodes_featureids"] += tree["split_indices"]
            attributes["nodes_values"] += tree["split_conditions"]
            attributes["nodes_modes"] += ["LEAF" if leaf else "BRANCH_LT" for leaf in is_leaf]
            attributes["nodes_truenodeids"] += [max(0, c) for c in tree["left_children"]]
            attributes["nodes_falsenodeids"] += [max(0, c) for c in tree["right_children"]]
            leaves = [node for node in nodes if is_leaf[node]]
            attributes["target_treeids"] += [number] * len(leaves)
            attributes["target_nodeids"] += leaves
            attributes["target_ids"] += [class_] * len(leaves)
            # A leaf keeps its value where others keep their threshold.
            attributes["target_weights"] += [tree["split_conditions"][node] for node in leaves]
        base = intercepts(learner)
        if self.axes is not None:
            axes = graph.cast(graph.constant(self.axes), np.float64)
            features = graph.add("MatMul", graph.cast(features, np.float64), axes)
            features = graph.cast(features, np.float32)
        return graph.add(
            "TreeEnsembleRegressor",
            features,
            domain=ML,
            n_targets=len(base),
            base_values=base.tolist(),
            **attributes,
        )


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: int | None = None,
) -> Fitted:
    """Boost as `stages.models.base` says, until the log loss on val stops improving.

    The model has the trees up to its best round; the curve has a row for every round that
    was tried. Without a fold of val, another of these rounds may have been the best.
    """
    with hidden("sklearn"):
        import xgboost

    axes = principal_axes(train, params.components)

    def quantized(
        rows: Examples, weights: np.ndarray | None, ref: xgboost.DMatrix | None
    ) -> xgboost.DMatrix:
        return xgboost.QuantileDMatrix(
            along(axes, rows.values),
            rows.classes,
            weight=weights,
            ref=ref,
            max_bin=params.max_bin,
        )

    def row_weights(rows: Examples) -> np.ndarray | None:
        balanced = settings.class_weight != "none"
        return rows.row_weights(settings.class_weight) if balanced else None

    weights = row_weights(train)
    train_data = quantized(train, weights, None)
    evals = []
    if val is not None:
        evals = [(train_data, "train"), (quantized(val, row_weights(val), train_data), "val")]
    rounds = tuned or params.rounds
    found: dict[str, dict[str, list[float]]] = {}
    with tqdm(desc=f"train {settings.name}", total=rounds, unit=" rounds", disable=None) as bar:
        booster = xgboost.train(
            {
                "objective": "multi:softprob",
                "num_class": len(train.labels),
                # The last one, on val, decides when to stop.
                "eval_metric": ["merror", "mlogloss"],
                "tree_method": "hist",
                "device": settings.device,
                "seed": settings.seed,
                # No tree depends on it. Of few rows, threads take longer to wake than to add up.
                "nthread": 1 if len(train.classes) < LEAST_SHARED else 0,
                "learning_rate": params.learning_rate,
                "max_depth": params.max_depth,
                "min_child_weight": params.min_child_weight,
                "subsample": params.subsample,
                "colsample_bynode": params.colsample_bynode,
                "max_bin": params.max_bin,
            },
            train_data,
            num_boost_round=rounds,
            obj=exact_gradients(train.classes, weights),
            evals=evals,
            evals_result=found,
            early_stopping_rounds=None if val is None else params.early_stopping_rounds,
            verbose_eval=False,
            callbacks=[_progress(bar)],
        )
    used = {settings.name: len(train.classes)}
    if val is None:
        return Fitted(Trees(booster, rounds, axes), None, used, None)
    curve = pd.DataFrame({"iteration": np.arange(1, booster.num_boosted_rounds() + 1)})
    for name, metrics in found.items():
        curve[f"{name}_log_loss"] = metrics["mlogloss"]
        curve[f"{name}_accuracy"] = 1 - np.array(metrics["merror"])
    curve = curve[list(CURVE_COLUMNS)]
    best = booster.best_iteration + 1
    log("train", f"{settings.name}: best round {best} of {booster.num_boosted_rounds()} tried")
    seen = along(axes, val.values)
    steps = best_steps(
        logits_by_round(booster, seen), val.classes, val.row_weights(settings.class_weight)
    )
    # Once more, as those of all rounds may fill the memory.
    by_round = islice(logits_by_round(booster, seen), max(steps) + 1)
    kept = {step: logits for step, logits in enumerate(by_round) if step in steps}
    without_fold = np.array([kept[step] for step in steps])
    return Fitted(Trees(booster[:best], best, axes), curve, used, without_fold)


def exact_gradients(
    classes: np.ndarray, weights: np.ndarray | None
) -> Callable[[np.ndarray, "xgboost.DMatrix"], tuple[np.ndarray, np.ndarray]]:
    """The derivatives of XGBoost's own objective for n rows, as multiples of `1 / STEPS`.

    XGBoost sums them in 64 bits, in an order that depends on its threads. Sums of such numbers
    are exact, so that the trees do not. `weights` (n,) are how much each row counts.
    """
    rows = np.arange(len(classes))
    scale = np.float32(STEPS) * (1 if weights is None else weights[:, None].astype(np.float32))

    def gradients(logits: np.ndarray, _: "xgboost.DMatrix") -> tuple[np.ndarray, np.ndarray]:
        p = logits - logits.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        second = 2 * p
        second *= 1 - p
        p[rows, classes] -= 1
        for derivative in (p, second):
            derivative *= scale
            np.rint(derivative, out=derivative)
            derivative *= np.float32(1 / STEPS)  # a power of 2: exact
        return p, second

    return gradients


def principal_axes(rows: Examples, components: int | None) -> np.ndarray | None:
    """What `along` multiplies d features by, (d, m) float32, so that few stand for the embedding.

    These are the most principal `components` of those of the embedding in `rows`; the other
    features follow them as they are. None where the embedding has no more features than that, and
    where it is the same in all rows.
    """
    every = np.arange(len(rows.names))
    embedding, others = (places_of(part, rows.names, every) for part in ("embedding", "metadata"))
    if components is None or embedding.size <= components:
        return None
    values = take_columns(rows.values, embedding)
    if not np.ptp(values, axis=0).any():
        return None  # no tree can cut what is the same everywhere
    found, _ = principal_components(values, components)
    axes = np.zeros((len(rows.names), len(found) + others.size), dtype=np.float32)
    axes[embedding, : len(found)] = found.T
    axes[others, len(found) + np.arange(others.size)] = 1
    return axes


def along(axes: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Features (n, d) float32 along such axes, (n, m) float32; as they are where `axes` is None.

    In 64 bits and rounded once: trees cut features at values that rows have, where the last bit
    decides. A few rows are in 64 bits at a time.
    """
    if axes is None:
        return values
    exact = axes.astype(np.float64)
    result = new_rows(len(values), axes.shape[1])
    for start in range(0, len(values), SPAN):
        some = slice(start, start + SPAN)
        result[some] = values[some].astype(np.float64) @ exact
    return result


def logits_by_round(booster: "xgboost.Booster", values: np.ndarray) -> Iterator[np.ndarray]:
    """Logits (n, k) float32 of the (n, m) features that trees see, after each round."""
    start = intercepts(json.loads(booster.save_config())["learner"])
    logits: np.ndarray | None = None
    for number in range(booster.num_boosted_rounds()):
        own = booster.inplace_predict(
            values, iteration_range=(number, number + 1), predict_type="margin"
        )
        # A copy: XGBoost may write the next round's in the same place.
        logits = own.copy() if logits is None else logits + (own - start)
        yield logits


def intercepts(learner: dict[str, Any]) -> np.ndarray:
    """What all trees are added to, (k,) float32, from the JSON of a model or of its settings."""
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float32)
    return np.broadcast_to(base, int(learner["learner_model_param"]["num_class"]))


def _progress(bar: tqdm) -> "xgboost.callback.TrainingCallback":
    """What moves a progress bar on by one after each round."""
    import xgboost

    class Progress(xgboost.callback.TrainingCallback):
        def after_iteration(
            self, model: xgboost.Booster, epoch: int, evals_log: dict[str, Any]
        ) -> bool:
            bar.update()
            if "val" in evals_log:
                bar.set_postfix(val_log_loss=f"{evals_log['val']['mlogloss'][-1]:.4f}")
            return False

    return Progress()


def check_cuda() -> None:
    """Raise PipelineError when XGBoost cannot use a graphics card here."""
    import xgboost

    if not xgboost.build_info()["USE_CUDA"]:
        raise PipelineError(
            "`train.device` is cuda, but the installed XGBoost has no CUDA: "
            "the README says how to install the one that has"
        )
    # Where there is no graphics card XGBoost warns and goes on without one; a run
    # that asked for it should stop instead. One round on two rows finds out.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        booster = xgboost.train({"device": "cuda"}, xgboost.DMatrix([[0.0], [1.0]], [0, 1]), 1)
    config = json.loads(booster.save_config())
    if not config["learner"]["generic_param"]["device"].startswith("cuda"):
        raise PipelineError("`train.device` is cuda, but there is no NVIDIA graphics card here")
