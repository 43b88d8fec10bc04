"""Fit the chosen model.

Reads data/features/train.parquet and val.parquet. Writes models/model.json and
models/training_curve.csv.
"""

from importlib import import_module
from typing import Any, Literal

from pydantic import Field

from stages.common.files import write_csv
from stages.common.model_file import MODEL, TRAINING_CURVE
from stages.common.params import Section, check_section, load_params
from stages.common.stage import PipelineError, log, run
from stages.common.tables import read_features

STAGE = "train"


class Params(Section):
    """`train`; each model's module has the schema of its own section."""

    model: Literal["logistic_regression", "xgboost"]
    seed: int = Field(ge=0, lt=2**31)
    device: Literal["cpu", "cuda"]
    logistic_regression: Any = None
    xgboost: Any = None


def main() -> str:
    params = load_params(STAGE, Params, choice="model")
    module = import_module(f"stages.models.{params.model}")
    model_params = check_section(
        f"{STAGE}.{params.model}", getattr(params, params.model), module.Params
    )
    train, val = read_features("train"), read_features("val")
    if len(set(train.mediums)) < 2:
        raise PipelineError(
            "the training rows have one medium only, so there is nothing to tell apart"
        )
    log(STAGE, f"fitting {params.model} on {len(train.mediums):,} rows")
    model, curve = module.train(model_params, train, val, params.seed, params.device)
    model.save(MODEL)
    write_csv(TRAINING_CURVE, curve)
    last = curve.loc[curve["val_log_loss"].idxmin()]
    return (
        f"{params.model}: {len(train.mediums):,} rows, {len(train.names):,} features, "
        f"{len(model.labels)} mediums, log loss on val {last['val_log_loss']:.4f}"
    )


if __name__ == "__main__":
    run(STAGE, main)
