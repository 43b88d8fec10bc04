"""Fit the chosen model, calibrate it, and write it with all that comes before it as one file.

Reads data/features/train.parquet and val.parquet, and data/features/transformer.npz.
Writes models/model.onnx, models/training_curve.csv, and models/val_probabilities.parquet: what
the model says of each row of val, by decisions that the row had no part in.
"""

from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.common.files import atomic_write, write_csv
from stages.common.params import Section, check_keys, check_section, load_section
from stages.common.stage import ParameterError, PipelineError, log, run
from stages.features.transformer import TRANSFORMER, Transformer
from stages.model_file.interface import ENSEMBLE, MODEL, TRAINING_CURVE
from stages.models import ensemble
from stages.models.base import Settings, fit_on_features
from stages.models.calibration import FEW_VAL_ROWS, cross_fitted, fit_temperature
from stages.models.examples import Examples, log_loss
from stages.models.file import model_bytes
from stages.models.registry import MODELS, NAMES
from stages.tables.features import Features, read_features
from stages.tables.parquet import fixed_size_list, write_batches
from stages.tables.val_probabilities import VAL_PROBABILITIES, val_probabilities_schema

STAGE = "train"


class Params(Section):
    """What `train` has beside the sections of the models."""

    model: str = Field(pattern=f"^({'|'.join(NAMES)})$", description=f"one of {', '.join(NAMES)}")
    seed: int = Field(ge=0, lt=2**31)
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]
    refit_on_val: bool


def main() -> str:
    params, section, content = read_params()
    if params.model == ENSEMBLE:
        model_params, fit = ensemble.check(section, content), ensemble.fit
    else:
        module = MODELS[params.model].module
        model_params = check_section(section, content, module.Params)
        fit = partial(fit_on_features, module)
    settings = Settings(section, params.seed, params.device, params.class_weight)
    train_rows, val_rows = read_features("train"), read_features("val")
    labels = sorted(set(train_rows.mediums))
    if len(labels) < 2:
        raise PipelineError(
            "the training rows have one label only, so there is nothing to tell apart"
        )
    train, val = (Examples.of(rows, labels) for rows in (train_rows, val_rows))
    log(STAGE, f"fitting {params.model} on {len(train.classes):,} rows")
    fitted = fit(model_params, train, val, settings)
    row_weights = val.row_weights(params.class_weight)
    temperature = fit_temperature(fitted.model.logits(val.values), val.classes, row_weights)
    few = len(val.classes) < FEW_VAL_ROWS
    if few:
        log(
            STAGE,
            f"val has {len(val.classes)} rows, too few to calibrate well: how sure the model is "
            "may be off",
        )
    probabilities = cross_fitted(fitted.parts_of_val(), val.classes, row_weights)
    curve = fitted.curve
    if params.refit_on_val:
        train = train.join(val)
        log(STAGE, f"fitting {params.model} again, on the {len(train.classes):,} rows of both")
        fitted = fit(model_params, train, None, settings, fitted.model.tuned)
    transformer = Transformer.load(TRANSFORMER)
    file = model_bytes(
        transformer,
        fitted.model,
        temperature,
        {
            "labels": labels,
            "feature_names": train.names,
            "kinds": transformer.describe(),
            "embedding": transformer.embedding_identity,
            "source": train_rows.source,
            "model": params.model,
            "models": NAMES,
            "parameters": {**params.model_dump(), params.model: content},
            "temperature": temperature,
            "training_rows": len(train.classes),
            "rows_used": fitted.rows,
            "val_rows": len(val.classes),
            "few_val_rows": few,
        },
    )
    with atomic_write(MODEL) as temporary:
        temporary.write_bytes(file)
    write_csv(TRAINING_CURVE, curve)
    write_val_probabilities(val_rows, labels, probabilities)
    loss = log_loss(np.log(np.maximum(probabilities, np.finfo(float).tiny)), val.classes)
    return (
        f"{params.model}: {len(train.classes):,} rows, {len(train.names):,} features, "
        f"{len(labels)} labels, log loss on val {loss:.4f}, {len(file) / 1e6:.1f} MB"
    )


def write_val_probabilities(rows: Features, labels: list[str], probabilities: np.ndarray) -> None:
    """Write the probabilities (n, k) of the rows of val for `evaluate`, which measures them."""
    schema = val_probabilities_schema(rows.source, labels)
    values = fixed_size_list(probabilities.astype(np.float32))
    columns = [pa.array(rows.image_files, pa.string()), values]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    write_batches(VAL_PROBABILITIES, schema, [batch])


def read_params() -> tuple[Params, str, Any]:
    """What all models share, and the place and the content of the chosen model's section.

    Raises ParameterError where something is missing or wrong.
    """
    found = load_section(STAGE)
    check_keys(STAGE, found, [*Params.model_fields, *NAMES])
    shared = {key: value for key, value in found.items() if key not in NAMES}
    params = check_section(STAGE, shared, Params)
    members = found.get(ENSEMBLE)
    members = members if isinstance(members, dict) else {}
    for name in sorted(found.keys() & members.keys()):
        raise ParameterError(
            f"params.yaml: a model has one section, and {name} has two: `{STAGE}.{name}` and "
            f"`{STAGE}.{ENSEMBLE}.{name}`"
        )
    if params.model in found:
        return params, f"{STAGE}.{params.model}", found[params.model]
    if params.model in members:
        return params, f"{STAGE}.{ENSEMBLE}.{params.model}", members[params.model]
    raise ParameterError(
        f"params.yaml: `{STAGE}.model` is {params.model}, and neither `{STAGE}` nor "
        f"`{STAGE}.{ENSEMBLE}` has a section of that name"
    )


if __name__ == "__main__":
    run(STAGE, main)
