"""Fit the chosen model, calibrate it, and write it with all that comes before it as one file.

Reads data/features/train.parquet and val.parquet, and data/features/transformer.npz.
Writes models/model.onnx and models/training_curve.csv.
"""

from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from stages.common.examples import Examples, log_softmax
from stages.common.files import atomic_write, write_csv
from stages.common.graph import Graph
from stages.common.model_file import MEDIUM, MODEL, PROBABILITIES, TRAINING_CURVE
from stages.common.params import ParameterError, Section, check_section, load_section
from stages.common.scores import rounded, scores
from stages.common.stage import PipelineError, log, run
from stages.common.tables import TRANSFORMER, read_features
from stages.common.transformer import Transformer
from stages.models import ensemble
from stages.models.base import Classifier, Settings, fit_on_features
from stages.models.calibration import fit_temperature

STAGE = "train"
ENSEMBLE = "ensemble"
MODELS = ensemble.MODELS


class Params(Section):
    """What `train` has beside the sections of the models."""

    model: Literal[(ENSEMBLE, *MODELS)]
    seed: int = Field(ge=0, lt=2**31)
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]
    refit_on_val: bool


def main() -> str:
    params, section, content = read_params()
    if params.model == ENSEMBLE:
        model_params, fit = ensemble.check(section, content), ensemble.fit
    else:
        module = MODELS[params.model]
        model_params = check_section(section, content, module.Params)
        fit = partial(fit_on_features, module)
    settings = Settings(section, params.seed, params.device, params.class_weight)
    train_rows, val_rows = read_features("train"), read_features("val")
    labels = sorted(set(train_rows.mediums))
    if len(labels) < 2:
        raise PipelineError(
            "the training rows have one medium only, so there is nothing to tell apart"
        )
    train, val = (Examples.of(rows, labels) for rows in (train_rows, val_rows))
    log(STAGE, f"fitting {params.model} on {len(train.classes):,} rows")
    model, curve = fit(model_params, train, val, settings)
    logits = model.logits(val.values)
    temperature = fit_temperature(logits, val.classes, val.row_weights(params.class_weight))
    probabilities = np.exp(log_softmax(logits / temperature))
    val_scores = scores(val_rows.mediums, probabilities, np.array(labels))
    if params.refit_on_val:
        train = train.join(val)
        log(STAGE, f"fitting {params.model} again, on the {len(train.classes):,} rows of both")
        model, _ = fit(model_params, train, None, settings, model.tuned)
    file = model_bytes(
        Transformer.load(TRANSFORMER),
        model,
        temperature,
        {
            "labels": labels,
            "feature_names": train.names,
            "source": train_rows.source,
            "model": params.model,
            "parameters": {**params.model_dump(), params.model: content},
            "temperature": temperature,
            "training_rows": len(train.classes),
            "val": rounded(val_scores),
        },
    )
    with atomic_write(MODEL) as temporary:
        temporary.write_bytes(file)
    write_csv(TRAINING_CURVE, curve)
    return (
        f"{params.model}: {len(train.classes):,} rows, {len(train.names):,} features, "
        f"{len(labels)} mediums, log loss on val {val_scores['log_loss']:.4f}, "
        f"{len(file) / 1e6:.1f} MB"
    )


def read_params() -> tuple[Params, str, Any]:
    """What all models share, and the place and the content of the chosen model's section.

    Raises ParameterError where something is missing or wrong.
    """
    found = load_section(STAGE)
    shared = {key: value for key, value in found.items() if key not in (ENSEMBLE, *MODELS)}
    params = check_section(STAGE, shared, Params)
    if params.model in found:
        return params, f"{STAGE}.{params.model}", found[params.model]
    members = found.get(ENSEMBLE)
    if isinstance(members, dict) and params.model in members:
        return params, f"{STAGE}.{ENSEMBLE}.{params.model}", members[params.model]
    raise ParameterError(
        f"params.yaml: `{STAGE}.model` is {params.model}, and neither `{STAGE}` nor "
        f"`{STAGE}.{ENSEMBLE}` has a section of that name"
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
