"""Fit the chosen model, calibrate it, and write it with all that comes before it as one file.

Reads data/features/train.parquet and val.parquet, and data/features/transformer.npz.
Writes models/model.onnx, models/training_curve.csv, and models/val_probabilities.parquet: what
the model says of each row of val, by decisions that the row had no part in.

Where the sizes are features beside others, a second model goes without them, by the same
parameters: photographs that were exported otherwise have sizes that mislead. What both models of
an ensemble have in common is fitted once.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from stages.common.errors import ParameterError, PipelineError, shorten
from stages.common.files import REMAKE, atomic_write, write_csv
from stages.common.large_arrays import numbers_in_memory
from stages.common.memory import check_memory, of_train
from stages.common.params import Section, check_keys, check_section, load_section
from stages.common.stage import log, run
from stages.features.kinds import sizes
from stages.features.transformer import TRANSFORMER, Transformer
from stages.model_file.interface import (
    ENSEMBLE,
    MODEL,
    PROBABILITIES,
    PROBABILITIES_WITHOUT_SIZES,
    TRAINING_CURVE,
)
from stages.models import ensemble, kernel_ridge, xgboost
from stages.models.base import Calibrated, ModelParams, Settings, fit_one, places_of
from stages.models.calibration import FEW_ROWS, sure
from stages.models.examples import Examples, log_loss
from stages.models.file import model_bytes
from stages.models.registry import MODELS, NAMES
from stages.tables.features import Features, features_path, read_features, size_of_features
from stages.tables.parquet import fixed_size_list, read_columns, write_batches
from stages.tables.val_probabilities import VAL_PROBABILITIES, val_probabilities_schema

STAGE = "train"


class Params(Section):
    """What `train` has beside the sections of the models."""

    model: str = Field(pattern=f"^({'|'.join(NAMES)})$", description=f"one of {', '.join(NAMES)}")
    seed: int = Field(ge=0, lt=2**31)
    device: Literal["cpu", "cuda"]
    class_weight: Literal["none", "balanced"]
    refit_on_val: bool
    without_sizes: bool
    sure_accuracy: float = Field(gt=0, lt=1)


def main() -> str:
    params, section, content = read_params()
    checked = check_models(params.model, section, content)
    check_memory_of(checked)
    train_rows, val_rows = read_features("train"), read_features("val")
    labels = sorted(set(train_rows.mediums))
    if len(labels) < 2:
        raise PipelineError(
            "the training rows have one label only, so there is nothing to tell apart: give rows "
            "of others, or name their column in `parse_embeddings_to_parquet.columns.medium`"
        )
    transformer = Transformer.load(TRANSFORMER)
    check_same_run(train_rows, val_rows, transformer)
    train, val = (Examples.of(rows, labels) for rows in (train_rows, val_rows))
    settings = Settings(
        section, params.seed, params.device, params.class_weight, params.refit_on_val
    )
    fit = fit_by(params.model, checked, train, val, settings)
    seen = {model_params.features for model_params in checked.values()}
    rows = len(train.classes) + (len(val.classes) if params.refit_on_val else 0)
    log(STAGE, f"fitting {params.model} on {rows:,} rows")
    every = np.arange(len(train.names))
    answers = {PROBABILITIES: fit(every)}
    others = places_without_sizes(train.names, seen) if params.without_sizes else np.empty(0, int)
    if others.size and seen == {"embedding"}:
        answers[PROBABILITIES_WITHOUT_SIZES] = answers[PROBABILITIES]
    elif others.size:
        log(STAGE, f"fitting {params.model} without the sizes")
        answers[PROBABILITIES_WITHOUT_SIZES] = fit(others)
    first = answers[PROBABILITIES]
    few = first.calibrating_rows < FEW_ROWS
    if few:
        log(
            STAGE,
            f"{first.calibrating_rows} rows are too few to calibrate well: how sure the model is "
            "may be off",
        )
    sure_answers = {
        output: sure(found.val_probabilities, val.classes, params.sure_accuracy)
        for output, found in answers.items()
    }
    file = model_bytes(
        transformer,
        {output: (found.model, found.temperature) for output, found in answers.items()},
        {
            "labels": labels,
            "feature_names": train.names,
            "kinds": transformer.describe(),
            "embedding": transformer.embedding_identity,
            "source": train_rows.source,
            "model": params.model,
            "models": NAMES,
            "parameters": {**params.model_dump(), params.model: content},
            "answers": {
                output: {
                    # Of a blend, in the order of the training curve.
                    "members": list(found.rows) if params.model == ENSEMBLE else [],
                    "temperature": found.temperature,
                    "sure": asdict(sure_answers[output]),
                }
                for output, found in answers.items()
            },
            "training_rows": rows,
            "rows_used": first.rows,
            "chosen": first.chosen,
            "val_rows": len(val.classes),
            "calibrating_rows": first.calibrating_rows,
            "few_calibrating_rows": few,
        },
    )
    with atomic_write(MODEL) as temporary:
        temporary.write_bytes(file)
    write_csv(TRAINING_CURVE, first.curve)
    write_val_probabilities(
        val_rows, labels, {output: found.val_probabilities for output, found in answers.items()}
    )
    return (
        f"{params.model}: {rows:,} rows, {len(train.names):,} features, {len(labels)} labels, "
        f"log loss on val {val_loss(first, val):.4f}, {len(file) / 1e6:.1f} MB"
    )


def check_same_run(train: Features, val: Features, transformer: Transformer) -> None:
    """Raises PipelineError when features and transformer are not of one run of `featurize`."""
    problem = ""
    if not train.names == val.names == transformer.feature_names:
        problem = "they are of different features"
    elif unknown := set(val.mediums) - set(train.mediums):
        problem = f"val has the label {shorten(min(unknown))}, which train lacks"
    elif shared := set(train.image_files) & set(val.image_files):
        problem = f"{shorten(min(shared))} is in train and in val"
    if problem:
        raise PipelineError(
            f"{features_path('train')}, {features_path('val')} and {TRANSFORMER} do not belong "
            f"together ({problem}): {REMAKE}"
        )


def check_memory_of(checked: dict[str, ModelParams]) -> None:
    """Raises PipelineError where the memory does not suffice for these models."""
    train_rows, features = size_of_features("train")
    rows = train_rows + size_of_features("val")[0]
    mediums = read_columns(features_path("train"), {"medium": pa.string()})["medium"]
    labels = len(pc.unique(mediums))
    kernel = checked.get("kernel_ridge")
    numbers = numbers_in_memory(train_rows, features)
    if not numbers:
        log(STAGE, f"features of {train_rows:,} rows lie in files, as the memory is short")
        trees = checked.get("xgboost")
        if isinstance(trees, xgboost.Params):
            # What XGBoost makes of them does not: 10 bytes a number, where others take 16.
            numbers += 5 * rows * min(features, trees.components or features) // 8
    numbers += numbers_in_memory(rows - train_rows, features)
    kernel_rows = centres = 0
    remedy = "take fewer rows, or another model, such as `-S train.model=lda`"
    if isinstance(kernel, kernel_ridge.Params):
        if rows <= kernel.most_rows:
            kernel_rows = rows
        else:
            centres = kernel.centres
        key = "centres" if centres else "most_rows"
        remedy += f"; kernel_ridge takes the less, the smaller its `{key}` ({centres or rows:,})"
    check_memory(
        of_train(rows, numbers, labels, kernel_rows, centres),
        f"training on {rows:,} rows of {features:,} features and {labels:,} labels",
        remedy,
    )


def check_models(model: str, section: str, content: Any) -> dict[str, ModelParams]:
    """The checked parameters of the chosen model, or of each member of the ensemble, by its name.

    Raises ParameterError for what is wrong in the content of their section.
    """
    if model == ENSEMBLE:
        return ensemble.check(section, content)
    return {model: check_section(section, content, MODELS[model].module.Params)}


def fit_by(
    model: str,
    checked: dict[str, ModelParams],
    train: Examples,
    val: Examples,
    settings: Settings,
) -> Callable[[np.ndarray], Calibrated]:
    """A function that fits the chosen model on the features at some places, (m,) int."""
    if model == ENSEMBLE:
        return ensemble.Ensemble(checked, train, val, settings).fit
    return partial(fit_one, MODELS[model].module, checked[model], train, val, settings)


def places_without_sizes(names: list[str], seen: Collection[str]) -> np.ndarray:
    """The places of the features that are not made of the sizes: (m,) int.

    Empty when all are, when none are, and when a model that sees these parts of the features
    (`all`, `embedding`, `metadata`) would be left without any.
    """
    others = np.array([i for i, name in enumerate(names) if name not in sizes.NAMES], dtype=int)
    if len(others) < len(names) and any(places_of(part, names, others).size for part in seen):
        return others
    return np.empty(0, dtype=int)


def val_loss(found: Calibrated, val: Examples) -> float:
    """The log loss on val, in nats."""
    least = np.finfo(float).tiny
    return log_loss(np.log(np.maximum(found.val_probabilities, least)), val.classes)


def write_val_probabilities(
    rows: Features, labels: list[str], probabilities: Mapping[str, np.ndarray]
) -> None:
    """Write the probabilities (n, k) of the rows of val for `evaluate`, which measures them."""
    schema = val_probabilities_schema(rows.source, labels, probabilities)
    values = [fixed_size_list(found.astype(np.float32)) for found in probabilities.values()]
    columns = [pa.array(rows.image_files, pa.string()), *values]
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
