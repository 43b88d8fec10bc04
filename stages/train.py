"""Fit the chosen model, calibrate it, and write it with all that comes before it as one file.

Reads data/features/train.parquet and val.parquet, and data/features/transformer.npz.
Writes models/model.onnx and models/training_curve.csv.
"""

from types import ModuleType
from typing import Any, Literal

import numpy as np
from pydantic import Field

from stages.common.examples import Examples, log_softmax
from stages.common.files import atomic_write, write_csv
from stages.common.graph import Graph
from stages.common.model_file import MEDIUM, MODEL, PROBABILITIES, TRAINING_CURVE
from stages.common.params import Section, check_section, load_params
from stages.common.scores import rounded, scores
from stages.common.stage import PipelineError, log, run
from stages.common.tables import TRANSFORMER, read_features
from stages.common.transformer import Transformer
from stages.models import ensemble
from stages.models.base import Classifier, Settings
from stages.models.calibration import fit_temperature

STAGE = "train"

MODELS: dict[str, ModuleType] = {**ensemble.MEMBERS, ensemble.NAME: ensemble}


class Params(Section):
    """`train`; each model's module has the schema of its own section."""

    model: Literal[
        "ensemble", "kernel_ridge", "svm", "lda", "logistic_regression", "mlp", "xgboost"
    ]
    seed: int = Field(ge=0, lt=2**31)
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]
    refit_on_val: bool
    ensemble: Any = None
    kernel_ridge: Any = None
    svm: Any = None
    lda: Any = None
    logistic_regression: Any = None
    mlp: Any = None
    xgboost: Any = None


def main() -> str:
    params = load_params(STAGE, Params, choice="model")
    module = MODELS[params.model]
    section = getattr(params, params.model)
    model_params = check_section(f"{STAGE}.{params.model}", section, module.Params)
    if module is ensemble:
        ensemble.check(model_params)
    settings = Settings(params.seed, params.device, params.class_weight)
    train_rows, val_rows = read_features("train"), read_features("val")
    labels = sorted(set(train_rows.mediums))
    if len(labels) < 2:
        raise PipelineError(
            "the training rows have one medium only, so there is nothing to tell apart"
        )
    train, val = (Examples.of(rows, labels) for rows in (train_rows, val_rows))
    log(STAGE, f"fitting {params.model} on {len(train.classes):,} rows")
    model, curve = module.fit(model_params, train, val, settings)
    logits = model.logits(val.values)
    temperature = fit_temperature(logits, val.classes, val.row_weights(params.class_weight))
    probabilities = np.exp(log_softmax(logits / temperature))
    val_scores = scores(val_rows.mediums, probabilities, np.array(labels))
    if params.refit_on_val:
        train = train.join(val)
        log(STAGE, f"fitting {params.model} again, on the {len(train.classes):,} rows of both")
        model, _ = module.fit(model_params, train, None, settings, model.tuned)
    content = model_bytes(
        Transformer.load(TRANSFORMER),
        model,
        temperature,
        {
            "labels": labels,
            "feature_names": train.names,
            "source": train_rows.source,
            "model": params.model,
            "parameters": params.model_dump(exclude_none=True),
            "temperature": temperature,
            "training_rows": len(train.classes),
            "val": rounded(val_scores),
        },
    )
    with atomic_write(MODEL) as temporary:
        temporary.write_bytes(content)
    write_csv(TRAINING_CURVE, curve)
    return (
        f"{params.model}: {len(train.classes):,} rows, {len(train.names):,} features, "
        f"{len(labels)} mediums, log loss on val {val_scores['log_loss']:.4f}, "
        f"{len(content) / 1e6:.1f} MB"
    )


def model_bytes(
    transformer: Transformer, model: Classifier, temperature: float, metadata: dict[str, Any]
) -> bytes:
    """The ONNX file: from the columns of artefacts to calibrated probabilities and a medium."""
    graph = Graph()
    logits = model.add_to(graph, transformer.add_to(graph))
    calibrated = graph.add(
        "Mul", graph.cast(logits, np.float32), graph.constant(np.float32(1 / temperature))
    )
    probabilities = graph.add("Softmax", calibrated, axis=1)
    best = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    labels = metadata["labels"]
    graph.output(PROBABILITIES, probabilities, np.float32, len(labels))
    medium = graph.add("Gather", graph.constant(np.array(labels, dtype=object)), best)
    graph.output(MEDIUM, medium, np.str_, None)
    return graph.to_bytes(
        metadata,
        "Tells the medium of an artefact from the embedding of its photograph and its "
        "dimensions: probabilities of the labels, in the order of the metadata.",
    )


if __name__ == "__main__":
    run(STAGE, main)
