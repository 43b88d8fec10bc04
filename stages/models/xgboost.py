"""Gradient-boosted trees (XGBoost, histogram method)."""

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from stages.common.stage import PipelineError, log
from stages.model_file.graph import ML, Graph
from stages.models.base import CURVE_COLUMNS, Fitted, ModelParams, Settings
from stages.models.calibration import best_steps
from stages.models.examples import Examples

if TYPE_CHECKING:
    import xgboost


class Params(ModelParams):
    """The section of `xgboost` or `size_trees`."""

    rounds: int = Field(gt=0)
    early_stopping_rounds: int = Field(gt=0)
    learning_rate: float = Field(gt=0, le=1)
    max_depth: int = Field(gt=0, le=30)
    min_child_weight: float = Field(ge=0)
    subsample: float = Field(gt=0, le=1)
    colsample_bynode: float = Field(gt=0, le=1)
    reg_lambda: float = Field(ge=0)
    max_bin: int = Field(ge=2, le=65_536)
    threads: int = Field(gt=0, le=1024)


@dataclass(frozen=True)
class Trees:
    """A booster with one tree for each class in every round."""

    booster: "xgboost.Booster"
    tuned: int  # rounds

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        return self.booster.inplace_predict(values, predict_type="margin")

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
    import xgboost

    def quantized(
        rows: Examples, weights: np.ndarray | None, ref: xgboost.DMatrix | None
    ) -> xgboost.DMatrix:
        return xgboost.QuantileDMatrix(
            rows.values,
            rows.classes,
            weight=weights,
            ref=ref,
            max_bin=params.max_bin,
            nthread=params.threads,
        )

    def row_weights(rows: Examples) -> np.ndarray | None:
        balanced = settings.class_weight != "none"
        return rows.row_weights(settings.class_weight) if balanced else None

    train_data = quantized(train, row_weights(train), None)
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
                "nthread": params.threads,
                "learning_rate": params.learning_rate,
                "max_depth": params.max_depth,
                "min_child_weight": params.min_child_weight,
                "subsample": params.subsample,
                "colsample_bynode": params.colsample_bynode,
                "reg_lambda": params.reg_lambda,
                "max_bin": params.max_bin,
            },
            train_data,
            num_boost_round=rounds,
            evals=evals,
            evals_result=found,
            early_stopping_rounds=None if val is None else params.early_stopping_rounds,
            verbose_eval=False,
            callbacks=[_progress(bar)],
        )
    used = {settings.name: len(train.classes)}
    if val is None:
        return Fitted(Trees(booster, rounds), None, used, None)
    curve = pd.DataFrame({"iteration": np.arange(1, booster.num_boosted_rounds() + 1)})
    for name, metrics in found.items():
        curve[f"{name}_log_loss"] = metrics["mlogloss"]
        curve[f"{name}_accuracy"] = 1 - np.array(metrics["merror"])
    curve = curve[list(CURVE_COLUMNS)]
    best = booster.best_iteration + 1
    log("train", f"{settings.name}: best round {best} of {booster.num_boosted_rounds()} tried")
    logits = logits_by_round(booster, val.values)
    steps = best_steps(logits, val.classes, val.row_weights(settings.class_weight))
    return Fitted(Trees(booster[:best], best), curve, used, logits[steps])


def logits_by_round(booster: "xgboost.Booster", values: np.ndarray) -> np.ndarray:
    """Logits (r, n, k) float32 of (n, d) features after each of r rounds."""
    first = booster.inplace_predict(values, iteration_range=(0, 1), predict_type="margin")
    logits = np.empty((booster.num_boosted_rounds(), *first.shape), dtype=np.float32)
    logits[0] = first
    start = intercepts(json.loads(booster.save_raw("json"))["learner"])
    for number in range(1, len(logits)):
        own = booster.inplace_predict(
            values, iteration_range=(number, number + 1), predict_type="margin"
        )
        logits[number] = logits[number - 1] + (own - start)
    return logits


def intercepts(learner: dict[str, Any]) -> np.ndarray:
    """What all trees are added to, (k,) float32, from XGBoost's own JSON."""
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
