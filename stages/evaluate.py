"""Measure the model on val and test.

Reads models/model.onnx, models/val_probabilities.parquet, models/training_curve.csv,
data/artefacts.parquet, data/split.parquet, data/features/train.parquet and test.parquet, and
data/quarantine.csv.
Writes reports/metrics.json, the data of the plots under reports/plots/, what the model
says of each row, data/predictions.parquet, and the model's card, models/model_card.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.files import write_csv, write_json, write_text
from stages.common.params import Section, load_params
from stages.common.stage import PipelineError, run
from stages.evaluation.consistency import consistent
from stages.evaluation.intervals import (
    f1_interval,
    figures,
    interval,
    intervals,
    resample,
    row_terms,
    wilson,
)
from stages.evaluation.metrics import calibration_bins, rounded, scores
from stages.evaluation.model_card import model_card
from stages.features.kinds.sizes import logarithms
from stages.model_file.interface import MODEL, MODEL_CARD, TRAINING_CURVE
from stages.model_file.scoring import ModelFile
from stages.tables.artefacts import ARTEFACTS, Artefacts, embedding_length, read_artefacts
from stages.tables.features import Features, read_features
from stages.tables.parquet import matrix, probabilities_column, write_batches
from stages.tables.predictions import PREDICTIONS, predictions_schema
from stages.tables.quarantine import QUARANTINE
from stages.tables.split import SPLIT, subsets_of_artefacts
from stages.tables.val_probabilities import VAL_PROBABILITIES

STAGE = "evaluate"
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
NEAR_DUPLICATE = 0.8  # cosine
NEIGHBOURS = 15  # training rows that the baseline of sizes alone asks
SHUFFLE_SEED = 0


class Params(Section):
    """`evaluate`"""

    plots_subset: Literal["val", "test"]


@dataclass(frozen=True)
class Scored:
    """The n rows of val or test, and what the model says of them."""

    image_files: np.ndarray  # (n,) object, texts
    mediums: np.ndarray  # (n,) object, texts
    artefacts: Artefacts
    probabilities: np.ndarray  # (n, k) float32

    def take(self, rows: np.ndarray) -> "Scored":
        """Some of the rows; `rows` (n,) bool says which."""
        return Scored(
            self.image_files[rows],
            self.mediums[rows],
            self.artefacts.take(rows),
            self.probabilities[rows],
        )


def main() -> str:
    params = load_params(STAGE, Params)
    model = ModelFile(MODEL)
    if params.plots_subset == "val" and model.metadata["parameters"]["refit_on_val"]:
        raise PipelineError(
            "`evaluate.plots_subset` is val, whose rows the model was fitted on: set it to test, "
            "or `train.refit_on_val` to false"
        )
    subset_of = subsets_of_artefacts()
    val = read_val(model, subset_of)
    test = score(model, read_rows("test", model, subset_of))
    train, test_features = read_features("train"), read_features("test")
    check_features(model, train)
    metrics = {
        "data": {
            "source": train.source,
            "rows": len(subset_of),
            "quarantined": count_quarantined(pd.read_csv(QUARANTINE)),
        },
        **measure(model.labels, val, test, near_duplicates(test.image_files)),
        "baseline": accuracies(
            {
                **baselines(train, test_features),
                "sizes": nearest_sizes(*read_sizes(subset_of), test.artefacts),
            },
            test.mediums,
        ),
    }
    chosen = {"val": val, "test": test}[params.plots_subset]
    write_json(METRICS, rounded(metrics))
    write_csv(PLOTS / "confusion.csv", confusion_counts(chosen, model.labels))
    write_csv(PLOTS / "per_class.csv", per_class(chosen, model.labels))
    write_csv(PLOTS / "reliability.csv", reliability(chosen, model.labels))
    # Those of val are cross-fitted: the model itself says something else.
    scored = test if params.plots_subset == "test" else score(model, val)
    write_csv(PLOTS / "importance.csv", importance(model, scored))
    write_text(PLOTS / "training_curve.csv", TRAINING_CURVE.read_text(encoding="utf-8"))
    card = model_card(rounded(metrics), model.metadata, model.inputs, model.embedding_length)
    write_text(MODEL_CARD, card)
    write_predictions(train.source, model.labels, {"val": val, "test": test})
    return (
        f"{train.source} data, test accuracy {metrics['test']['accuracy']:.4f}, "
        f"log loss {metrics['test']['log_loss']:.4f} on {len(test.mediums):,} rows"
    )


def read_rows(subset: str, model: ModelFile, subset_of: dict[str, str]) -> Scored:
    """Read the rows of a subset, with no probabilities yet: (n, 0).

    Raises PipelineError when the subset has no rows, when the model takes embeddings and the
    table has none, or when a row has a medium that the model does not know.
    """
    with_embedding = model.embedding_length is not None
    if with_embedding and embedding_length(ARTEFACTS) is None:
        raise PipelineError(
            f"{MODEL} was trained on embeddings, and the table has none: run `dvc repro`"
        )
    columns = ["medium", "museum", "width", "height", *model.inputs]
    artefacts = Artefacts.join(list(read_artefacts(subset, subset_of, columns, STAGE)))
    image_files, mediums = artefacts["image_file"], artefacts["medium"]
    if not len(mediums):
        raise PipelineError(f"no rows are in {subset}: set another `split.strategy`")
    unknown = sorted(set(mediums) - set(model.labels))
    if unknown:
        raise PipelineError(
            f"{MODEL} does not know the medium {unknown[0]} of {subset} "
            f"(mediums that it does not know: {len(unknown)}): run `dvc repro`"
        )
    return Scored(image_files, mediums, artefacts, np.empty((len(mediums), 0), np.float32))


def score(model: ModelFile, rows: Scored) -> Scored:
    """The rows with what the model says of them.

    Raises PipelineError when the model takes other embeddings than the table has.
    """
    return replace(rows, probabilities=model.predict_proba(rows.artefacts))


def read_val(model: ModelFile, subset_of: dict[str, str]) -> Scored:
    """The rows of val with the probabilities that `train` wrote.

    They are cross-fitted: each row's come from decisions that the row had no part in, where the
    model itself has seen all of val when it decided how sure to be.

    Raises PipelineError as `read_rows` does, and when the probabilities are of other rows.
    """
    rows = read_rows("val", model, subset_of)
    table = pq.read_table(VAL_PROBABILITIES)
    if table["image_file"].to_pylist() != rows.image_files.tolist():
        raise PipelineError(f"{VAL_PROBABILITIES} is of other rows than val: run `dvc repro`")
    return replace(rows, probabilities=matrix(table["probabilities"]))


def check_features(model: ModelFile, train: Features) -> None:
    """Raises PipelineError when the model was trained on other features."""
    if model.metadata["feature_names"] != train.names:
        raise PipelineError(f"{MODEL} was trained on other features: run `dvc repro`")


def measure(
    labels: list[str], val: Scored, test: Scored, duplicate: np.ndarray
) -> dict[str, dict[str, Any]]:
    """The model's figures on val and test, with intervals on test: a part of metrics.json.

    Beside the figures of a subset stand those that it would show if the model's probabilities
    were exactly right. `duplicate` (number of test rows,) bool, of `near_duplicates`, marks rows
    that are left out of the figures without near-duplicates, which are not given when all or none
    are.
    """
    found = {
        "val": scores_of(val, labels),
        "val_if_calibrated": consistent(val.probabilities).figures(),
        "test": scores_of(test, labels),
        "test_interval": intervals_of(test, labels),
        "test_if_calibrated": consistent(test.probabilities).figures(),
    }
    if duplicate.any() and not duplicate.all():
        distinct = test.take(~duplicate)
        found["test_without_near_duplicates"] = {
            "rows": len(distinct.mediums),
            **scores_of(distinct, labels),
        }
        found["test_without_near_duplicates_interval"] = intervals_of(distinct, labels)
    found["test_museum"] = {}
    for museum in np.unique(test.artefacts["museum"]):
        rows = test.take(test.artefacts["museum"] == museum)
        figures_there, count = scores_of(rows, labels), len(rows.mediums)
        low, high = wilson(figures_there["accuracy"] * count, np.array(count))
        found["test_museum"][str(museum) or "unknown"] = {
            "rows": count,
            "accuracy": figures_there["accuracy"],
            "accuracy_low": float(low),
            "accuracy_high": float(high),
            "log_loss": figures_there["log_loss"],
        }
    return found


def scores_of(rows: Scored, labels: list[str]) -> dict[str, float]:
    """The metrics of rows."""
    return scores(rows.mediums, rows.probabilities, np.array(labels))


def intervals_of(rows: Scored, labels: list[str]) -> dict[str, dict[str, float]]:
    """The 95 % interval of each metric of rows: `low` and `high`."""
    return intervals(_truth(rows, labels), rows.probabilities)


def near_duplicates(image_files: np.ndarray) -> np.ndarray:
    """Which rows have a training row whose embedding is nearly the same: (n,) bool.

    Nearly the same is a cosine above `NEAR_DUPLICATE`, as the stage `split` computes it. Such
    pairs are often two photographs of one thing, and flatter a model.
    """
    table = pq.read_table(SPLIT, columns=["image_file", "nearest_train_cosine"]).to_pandas()
    cosine = table.set_index("image_file")["nearest_train_cosine"].loc[image_files]
    return (cosine > NEAR_DUPLICATE).to_numpy()  # False where there is none


def count_quarantined(quarantine: pd.DataFrame) -> dict[str, int]:
    """How many rows were set aside, as `rows`, and how many broke each rule, by its name.

    A row may break more than one, so that the counts of the rules may add up to more.
    """
    rules = quarantine["rule"].value_counts().sort_index()
    return {"rows": quarantine["row"].nunique(), **{rule: int(n) for rule, n in rules.items()}}


def baselines(train: Features, test: Features) -> dict[str, np.ndarray]:
    """What two models that need no tuning predict for the test rows: arrays (n,) of labels.

    `majority` always names the medium with most training rows (of equals, the first
    in the alphabet), `nearest_centroid` the one whose mean features are nearest
    (Euclidean distance; scikit-learn's refuses features that are all constant).
    """
    mediums, medium_of_row, counts = np.unique(
        train.mediums, return_inverse=True, return_counts=True
    )
    centroids = np.array(
        [train.values[medium_of_row == i].mean(axis=0) for i in range(len(mediums))]
    )
    # The squared distance, less the part that is the same for all centroids.
    distances = (centroids**2).sum(axis=1) - 2 * test.values @ centroids.T
    return {
        "majority": np.full(len(test.mediums), mediums[counts.argmax()]),
        "nearest_centroid": mediums[distances.argmin(axis=1)],
    }


def read_sizes(subset_of: dict[str, str]) -> tuple[Artefacts, np.ndarray]:
    """The training rows without their embeddings, and their mediums (n,)."""
    columns = ["medium", "width", "height"]
    train = Artefacts.join(list(read_artefacts("train", subset_of, columns, STAGE)))
    return train, train["medium"]


def nearest_sizes(train: Artefacts, mediums: np.ndarray, test: Artefacts) -> np.ndarray:
    """What the dimensions alone tell: an array (n,) of labels for the n test rows.

    The medium that most of the `NEIGHBOURS` training rows have whose dimensions (standardised
    logarithms) are nearest. `mediums` are those of the training rows.
    """
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(logarithms(train))
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(mediums)))
    neighbours.fit(scaler.transform(logarithms(train)), mediums)
    return neighbours.predict(scaler.transform(logarithms(test)))


def accuracies(
    predicted: dict[str, np.ndarray], mediums: np.ndarray
) -> dict[str, dict[str, float]]:
    """The accuracy of each baseline's labels (n,) on rows of these mediums (n,)."""
    return {
        name: {"accuracy": float(np.mean(labels == mediums))} for name, labels in predicted.items()
    }


def confusion_counts(rows: Scored, labels: list[str]) -> pd.DataFrame:
    """How many rows of each actual medium were taken for which: actual, predicted, count.

    All pairs of labels are there, also those that never occur.
    """
    predicted = np.array(labels)[rows.probabilities.argmax(axis=1)]
    counts = pd.crosstab(
        pd.Categorical(rows.mediums, labels), pd.Categorical(predicted, labels), dropna=False
    )
    counts = counts.rename_axis(index="actual", columns="predicted")
    return counts.stack().rename("count").reset_index()


def per_class(rows: Scored, labels: list[str]) -> pd.DataFrame:
    """One line for each label: its rows, precision, recall and F1, the last two with intervals.

    Columns medium, rows, precision, recall, recall_low, recall_high, f1, f1_low, f1_high.
    The figures of a label without rows are empty.
    """
    truth, answers = _truth(rows, labels), rows.probabilities.argmax(axis=1)
    terms = row_terms(truth, rows.probabilities)
    exact = figures(terms.sum(axis=0, keepdims=True), len(labels))
    actual, named, hits = (
        np.bincount(places, minlength=len(labels))
        for places in (truth, answers, truth[truth == answers])
    )
    table = {"medium": labels, "rows": actual, "precision": exact["precision"][0]}
    # Of a medium without rows nothing is said, also where it was named.
    either = np.where(actual > 0, actual + named - hits, 0)
    ends = {"recall": wilson(hits, actual), "f1": f1_interval(hits, either)}
    for name, (low, high) in ends.items():
        table |= {name: exact[name][0], f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(table)


def reliability(rows: Scored, labels: list[str]) -> pd.DataFrame:
    """How sure the model is, and how often it is right then.

    Columns confidence, accuracy, low, high, rows: one line for each bin of confidence that has
    rows. The first two are means over them; `low` and `high` are the ends of the range in which
    the accuracy of a calibrated model lies in 95 of 100 cases.
    """
    right = rows.probabilities.argmax(axis=1) == _truth(rows, labels)
    confidence, bins = calibration_bins(rows.probabilities)
    expected = consistent(rows.probabilities)
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "rows": 1, "bin": bins})
    parts = table.groupby("bin").agg({"confidence": "mean", "accuracy": "mean", "rows": "sum"})
    for place, name, ends in ((2, "low", expected.bin_low), (3, "high", expected.bin_high)):
        parts.insert(place, name, ends[parts.index])
    return parts.reset_index(drop=True)


def importance(model: ModelFile, rows: Scored) -> pd.DataFrame:
    """How much accuracy is lost when one group of columns is shuffled between rows.

    Columns group, accuracy_drop, low, high: one line for each group that the model takes,
    with a 95 % interval over rows. Permutation importance (Breiman 2001) of groups, because
    one number of an embedding says little, and width and height belong together.
    """
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows.mediums))
    truth = _truth(rows, model.labels)
    right = rows.probabilities.argmax(axis=1) == truth
    lines = []
    for kind in model.metadata["kinds"]:
        if not kind["inputs"]:
            continue
        columns = [value["name"] for value in kind["inputs"]]
        shuffled = {name: rows.artefacts[name][order] for name in columns}
        there = model.predict_proba(rows.artefacts.with_columns(shuffled))
        lost = right.astype(float) - (there.argmax(axis=1) == truth)
        low, high = interval(resample(lost[:, None])[:, 0] / len(lost))
        lines.append(
            {
                "group": kind["name"],
                "accuracy_drop": lost.mean(),
                "low": float(low),
                "high": float(high),
            }
        )
    return pd.DataFrame(lines)


def write_predictions(source: str, labels: list[str], subsets: dict[str, Scored]) -> None:
    """Write what the model says of each row of val, cross-fitted, and of test."""
    schema = predictions_schema(source, labels)
    batches = [
        pa.RecordBatch.from_arrays(
            [
                pa.array(rows.image_files, pa.string()),
                pa.array([subset] * len(rows.mediums), pa.string()),
                pa.array(rows.mediums, pa.string()),
                pa.array(rows.artefacts["museum"], pa.string()),
                probabilities_column(rows.probabilities),
            ],
            schema=schema,
        )
        for subset, rows in subsets.items()
    ]
    write_batches(PREDICTIONS, schema, batches)


def _truth(rows: Scored, labels: list[str]) -> np.ndarray:
    """The places of the rows' mediums in the labels, which are sorted: (n,) int."""
    return np.searchsorted(np.array(labels, dtype=object), rows.mediums)


if __name__ == "__main__":
    run(STAGE, main)
