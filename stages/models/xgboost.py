"""Gradient-boosted trees (XGBoost, histogram method), kept in XGBoost's own JSON format."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from pydantic import Field
from tqdm import tqdm

from stages.common.files import atomic_write
from stages.common.params import Section
from stages.common.stage import PipelineError, log
from stages.common.tables import Features

KIND = "xgboost"


class Params(Section):
    """`train.xgboost`"""

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
class Model:
    """A booster and the names of its classes and features."""

    labels: list[str]  # k class names, in the order of the probabilities
    feature_names: list[str]  # d names
    booster: xgboost.Booster

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) float32 of the labels, for (n, d) features."""
        return self.booster.inplace_predict(features)

    def save(self, path: Path) -> None:
        """Write the model to a JSON file that `xgboost.Booster(model_file=path)` reads too."""
        self.booster.set_attr(
            kind=KIND,
            labels=json.dumps(self.labels),
            feature_names=json.dumps(self.feature_names),
        )
        with atomic_write(path) as temporary:
            temporary.write_bytes(self.booster.save_raw("json"))


def load(path: Path) -> Model:
    """Read what `Model.save` wrote."""
    booster = xgboost.Booster(model_file=path)
    return Model(
        labels=json.loads(booster.attr("labels")),
        feature_names=json.loads(booster.attr("feature_names")),
        booster=booster,
    )


def train(
    params: Params, train: Features, val: Features, seed: int, device: str
) -> tuple[Model, pd.DataFrame]:
    """Boost on `train` until the log loss on `val` stops improving.

    Returns the model up to its best round, and the log loss on train and val after
    every round that was tried.

    Raises PipelineError when `device` is cuda and there is none.
    """
    if device == "cuda":
        _check_cuda()
    labels = sorted(set(train.mediums))

    def quantized(rows: Features, ref: xgboost.DMatrix | None = None) -> xgboost.DMatrix:
        return xgboost.QuantileDMatrix(
            rows.values,
            np.searchsorted(labels, rows.mediums),
            ref=ref,
            max_bin=params.max_bin,
            nthread=params.threads,
        )

    train_data = quantized(train)
    val_data = quantized(val, ref=train_data)
    losses: dict[str, dict[str, list[float]]] = {}
    with tqdm(desc="train", total=params.rounds, unit=" rounds", disable=None) as bar:
        booster = xgboost.train(
            {
                "objective": "multi:softprob",
                "num_class": len(labels),
                "eval_metric": "mlogloss",
                "tree_method": "hist",
                "device": device,
                "seed": seed,
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
            num_boost_round=params.rounds,
            evals=[(train_data, "train"), (val_data, "val")],
            evals_result=losses,
            early_stopping_rounds=params.early_stopping_rounds,
            verbose_eval=False,
            callbacks=[_Progress(bar)],
        )
    log("train", f"best round {booster.best_iteration + 1} of {booster.num_boosted_rounds()} tried")
    curve = pd.DataFrame(
        {
            "iteration": np.arange(1, booster.num_boosted_rounds() + 1),
            "train_log_loss": losses["train"]["mlogloss"],
            "val_log_loss": losses["val"]["mlogloss"],
        }
    )
    return Model(labels, train.names, booster[: booster.best_iteration + 1]), curve


class _Progress(xgboost.callback.TrainingCallback):
    """Moves a progress bar on by one after each round."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: dict) -> bool:
        self.bar.update()
        self.bar.set_postfix(val_log_loss=f"{evals_log['val']['mlogloss'][-1]:.4f}")
        return False


def _check_cuda() -> None:
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
