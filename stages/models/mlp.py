"""Neural networks with one hidden layer (scikit-learn), whose logits are averaged."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from stages.common.stage import log
from stages.model_file.graph import Graph
from stages.models.base import (
    Fitted,
    ModelParams,
    Settings,
    curve_point,
    decided_nothing,
)
from stages.models.calibration import best_steps
from stages.models.examples import Examples

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier


class Params(ModelParams):
    """The section of `mlp`."""

    networks: int = Field(gt=0, le=100)
    hidden: int = Field(gt=0)
    alpha: float = Field(ge=0)
    learning_rate: float = Field(gt=0, le=1)
    batch_rows: int = Field(gt=0)
    epochs: int = Field(gt=0)
    patience: int = Field(gt=0)


@dataclass(frozen=True)
class Network:
    """Logits are `max(features @ hidden + hidden_offsets, 0) @ output + output_offsets`."""

    hidden: np.ndarray  # (d, h) float32
    hidden_offsets: np.ndarray  # (h,) float32
    output: np.ndarray  # (h, k) float32
    output_offsets: np.ndarray  # (k,) float32


@dataclass(frozen=True)
class Networks:
    """Networks that were initialised differently; logits are the means of theirs."""

    networks: list[Network]
    tuned: int  # epochs

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        total = np.zeros((len(values), len(self.networks[0].output_offsets)), dtype=np.float32)
        for network in self.networks:
            hidden = np.maximum(values @ network.hidden + network.hidden_offsets, 0)
            total = total + hidden @ network.output + network.output_offsets
        return total / np.float32(len(self.networks))

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        outputs = []
        for network in self.networks:
            hidden = graph.linear(features, network.hidden, network.hidden_offsets)
            outputs.append(
                graph.linear(graph.add("Relu", hidden), network.output, network.output_offsets)
            )
        return graph.add("Mean", *outputs)


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: int | None = None,
) -> Fitted:
    """Fit as `stages.models.base` says, until the log loss on val stops improving.

    The curve has a row for each epoch that was tried; the epoch with the best log loss on
    val is kept. Without a fold of val, another of these epochs may have been the best.
    """
    from sklearn.neural_network import MLPClassifier

    estimators = [
        MLPClassifier(
            (params.hidden,),
            alpha=params.alpha,
            learning_rate_init=params.learning_rate,
            batch_size=min(params.batch_rows, len(train.classes)),
            random_state=settings.seed + number,
        )
        for number in range(params.networks)
    ]
    weights = train.row_weights(settings.class_weight)
    classes = np.arange(len(train.labels))
    # Before the first epoch: each has at least one.
    best, best_loss = Networks([], 0), np.inf
    points, val_logits = [], []
    epochs = tuned or params.epochs
    with tqdm(desc=f"train {settings.name}", total=epochs, unit=" epochs", disable=None) as bar:
        for epoch in range(1, epochs + 1):
            for estimator in estimators:
                estimator.partial_fit(
                    train.values, train.classes, classes=classes, sample_weight=weights
                )
            model = Networks([network_of(estimator) for estimator in estimators], epoch)
            bar.update()
            if val is None:
                best = model
                continue
            val_logits.append(model.logits(val.values))
            points.append(curve_point(epoch, model, train, settings, val, val_logits[-1]))
            loss = points[-1]["val_log_loss"].item()
            bar.set_postfix(val_log_loss=f"{loss:.4f}")
            if loss < best_loss:
                best, best_loss = model, loss
            elif epoch - best.tuned >= params.patience:
                break
    if val is None:
        return decided_nothing(best, train, None, settings, epochs)
    log("train", f"{settings.name}: best epoch {best.tuned} of {epoch} tried")
    steps = best_steps(val_logits, val.classes, val.row_weights(settings.class_weight))
    without_fold = np.array([val_logits[step] for step in steps])
    curve = pd.concat(points, ignore_index=True)
    return Fitted(best, curve, {settings.name: len(train.classes)}, without_fold)


def network_of(estimator: "MLPClassifier") -> Network:
    """What an estimator of scikit-learn has learned so far, as a copy."""
    (hidden, output), (hidden_offsets, output_offsets) = estimator.coefs_, estimator.intercepts_
    if output.shape[1] == 1:
        # scikit-learn keeps one column for two classes; the other class scores 0.
        output = np.hstack([np.zeros_like(output), output])
        output_offsets = np.append(0.0, output_offsets)
    arrays = (hidden, hidden_offsets, output, output_offsets)
    return Network(*(np.array(array, dtype=np.float32) for array in arrays))
