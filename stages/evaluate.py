"""Measure the model on val and test.

Reads models/model.onnx, models/val_probabilities.parquet, models/training_curve.csv,
data/artefacts.parquet, data/split.parquet, data/features/train.parquet and test.parquet, and
data/quarantine.csv.
Writes reports/metrics.json and details.json, the data of the plots under reports/plots/, what the
model says of each row, data/predictions.parquet, and the model's card, models/model_card.md.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from stages.common.errors import PipelineError
from stages.common.files import REMAKE, read_csv, write_csv, write_json, write_text
from stages.common.large_arrays import numbers_in_memory
from stages.common.memory import check_memory, of_evaluate
from stages.common.params import Section, load_params
from stages.common.stage import log, run
from stages.evaluation.baselines import accuracies, baselines, nearest_sizes
from stages.evaluation.details import count_quarantined, details_of, near_duplicates, of_answers
from stages.evaluation.importance import importance
from stages.evaluation.metrics import rounded
from stages.evaluation.model_card import model_card
from stages.evaluation.plots import confusion_counts, per_class, reliability
from stages.evaluation.predictions import write_predictions
from stages.evaluation.rows import read_columns, read_inputs, read_rows, read_val, score
from stages.model_file.interface import (
    CURVE_COLUMNS,
    MODEL,
    MODEL_CARD,
    PROBABILITIES,
    TRAINING_CURVE,
)
from stages.model_file.scoring import ModelFile, check_same_embedding
from stages.model_file.words import Words
from stages.tables.artefacts import ARTEFACTS, embedding_identity
from stages.tables.features import Features, features_path, read_features, size_of_features
from stages.tables.quarantine import read_quarantine
from stages.tables.results import DETAILS, METRICS, PLOTS
from stages.tables.split import subsets_of_artefacts

STAGE = "evaluate"
Word = Annotated[str, Field(min_length=1, description="a word")]


class Params(Section):
    """`evaluate`"""

    plots_subset: Literal["val", "test"]
    label: Word
    labels: Word
    group: Word
    groups: Word


def main() -> str:
    params = load_params(STAGE, Params)
    model = ModelFile(MODEL)
    if params.plots_subset == "val" and model.metadata["parameters"]["refit_on_val"]:
        raise PipelineError(
            "`evaluate.plots_subset` is val, whose rows the model has learned from: set it to "
            "test, or do without them by `-S evaluate.plots_subset=val -S train.refit_on_val=false`"
        )
    check_embedding(model)
    subset_of = subsets_of_artefacts()
    test_rows = sum(subset == "test" for subset in subset_of.values())
    sizes = map(size_of_features, ("train", "test"))
    check_memory(
        of_evaluate(
            test_rows,
            sum(numbers_in_memory(*size) for size in sizes),
            model.embedding_length or 0,
            len(model.labels),
            kernel_functions(model.metadata),
        ),
        f"measuring {test_rows:,} test rows",
        "take fewer rows for test, such as by `split.stratified.test_fraction`",
    )
    vals = read_val(model, subset_of)
    rows = read_rows("test", model, subset_of)
    tests, prepared = score(model, rows, read_inputs("test", model, subset_of))
    val, test = vals[PROBABILITIES], tests[PROBABILITIES]
    train, test_features = read_features("train"), read_features("test")
    check_features(model, train, test_features, test.image_files)
    train_sizes = read_columns("train", subset_of, ["medium", "width", "height"])
    predicted = {
        **baselines(train, test_features),
        "sizes": nearest_sizes(train_sizes, train_sizes["medium"], test.artefacts),
    }
    metrics = rounded(
        {
            "data": {"source": train.source, "rows": len(subset_of)},
            "val": val.metrics(model.labels),
            "test": test.metrics(model.labels),
            "baseline": accuracies(predicted, test.mediums),
        }
    )
    details = rounded(
        {
            "quarantined": count_quarantined(read_quarantine()),
            **details_of(model.labels, val, test, near_duplicates(test.image_files)),
            **of_answers(model, tests),
        }
    )
    write_json(METRICS, metrics)
    write_json(DETAILS, details)
    chosen = {"val": val, "test": test}[params.plots_subset]
    write_csv(PLOTS / "confusion.csv", confusion_counts(chosen, model.labels))
    write_csv(PLOTS / "per_class.csv", per_class(chosen, model.labels))
    write_csv(PLOTS / "reliability.csv", reliability(chosen, model.labels))
    # Those of val are cross-fitted: the model itself says something else.
    if params.plots_subset == "val":
        scored, prepared = score(model, val, read_inputs("val", model, subset_of))
        chosen = scored[PROBABILITIES]
    write_csv(PLOTS / "importance.csv", importance(model, prepared, chosen))
    curve = read_csv(TRAINING_CURVE, CURVE_COLUMNS)
    write_text(PLOTS / "training_curve.csv", TRAINING_CURVE.read_text(encoding="utf-8"))
    words = Words(params.label, params.labels, params.group, params.groups)
    card = model_card(metrics, details, model.metadata, curve, words)
    write_text(MODEL_CARD, card)
    subsets = {"val": vals, "test": tests}
    write_predictions(train.source, model.labels, model.digest, subsets)
    return (
        f"{train.source} data, test accuracy {metrics['test']['accuracy']:.4f}, "
        f"log loss {metrics['test']['log_loss']:.4f} on {len(test.mediums):,} rows"
    )


def kernel_functions(metadata: dict[str, Any]) -> int:
    """How many radial basis functions a model has, from the metadata of its file."""
    used = metadata["rows_used"].get("kernel_ridge", 0)
    section = metadata["parameters"][metadata["model"]]
    section = section.get("kernel_ridge", section)
    return used if used <= section.get("most_rows", used) else section["centres"]


def check_embedding(model: ModelFile) -> None:
    """Raises PipelineError when the table's embeddings were made by something else than train's."""
    made_by = embedding_identity(ARTEFACTS)
    check_same_embedding(model.metadata["embedding"], made_by)
    if model.metadata["embedding"] is not None and made_by is None:
        log(STAGE, f"{ARTEFACTS} does not say what made its embeddings: only their length counts")


def check_features(
    model: ModelFile, train: Features, test: Features, image_files: np.ndarray
) -> None:
    """Raises PipelineError when the model was trained on other features, or those of test are not
    of these rows, (n,) texts."""
    if not model.metadata["feature_names"] == train.names == test.names:
        raise PipelineError(f"{MODEL} was trained on other features: {REMAKE}")
    if test.image_files.tolist() != image_files.tolist():
        raise PipelineError(f"{features_path('test')} is of other rows than test: {REMAKE}")


if __name__ == "__main__":
    run(STAGE, main)
