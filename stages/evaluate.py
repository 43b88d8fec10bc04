"""Measure the model on val and test.

Reads models/model.onnx, models/training_curve.csv, data/artefacts.parquet,
data/split.parquet, data/features/ and data/quarantine.csv. Writes reports/metrics.json,
the data of the plots under reports/plots/, a picture of the confusions,
reports/figures/confusion_matrix.png, and the model's card, models/model_card.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.common.artefacts import read_artefacts, subsets_of_artefacts
from stages.common.files import atomic_write, write_csv, write_json, write_text
from stages.common.model_file import MODEL, MODEL_CARD, TRAINING_CURVE, ModelFile
from stages.common.params import Section, load_params
from stages.common.scores import intervals, rounded, scores
from stages.common.stage import PipelineError, run
from stages.common.tables import (
    ARTEFACTS,
    QUARANTINE,
    SPLIT,
    Features,
    embedding_length,
    read_features,
)
from stages.model_card import model_card

STAGE = "evaluate"
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
CONFUSION_FIGURE = Path("reports/figures/confusion_matrix.png")
NEAR_DUPLICATE = 0.8  # cosine


class Params(Section):
    """`evaluate`"""

    plots_subset: Literal["val", "test"]


@dataclass(frozen=True)
class Evaluation:
    """All that is measured."""

    metrics: dict[str, dict[str, Any]]  # the content of metrics.json
    confusion: pd.DataFrame  # actual, predicted, count
    per_class: pd.DataFrame  # medium, precision, recall, f1, rows


def main() -> str:
    params = load_params(STAGE, Params)
    model = ModelFile(MODEL)
    train, val, test = (read_features(subset) for subset in ("train", "val", "test"))
    subset_of = subsets_of_artefacts()
    probabilities = {subset: predict(model, subset, subset_of) for subset in ("val", "test")}
    quarantined = count_quarantined(pd.read_csv(QUARANTINE))
    evaluation = evaluate(
        model,
        probabilities,
        train,
        val,
        test,
        near_duplicates(test.image_files),
        quarantined,
        params.plots_subset,
    )
    write_json(METRICS, evaluation.metrics)
    write_csv(PLOTS / "confusion.csv", evaluation.confusion)
    write_csv(PLOTS / "per_class.csv", evaluation.per_class)
    write_text(PLOTS / "training_curve.csv", TRAINING_CURVE.read_text(encoding="utf-8"))
    shares = confusion_shares(evaluation.confusion)
    draw_confusion(shares, f"{params.plots_subset} rows, {train.source} data", CONFUSION_FIGURE)
    write_text(MODEL_CARD, model_card(evaluation.metrics, model.metadata, model.inputs))
    figures = evaluation.metrics["test"]
    return (
        f"{train.source} data, test accuracy {figures['accuracy']:.4f}, "
        f"log loss {figures['log_loss']:.4f} on {len(test.mediums):,} rows"
    )


def predict(model: ModelFile, subset: str, subset_of: dict[str, str]) -> np.ndarray:
    """Probabilities (n, k) float32 of the rows of a subset, in the order of its features table.

    Raises PipelineError when the model takes other embeddings than the table has.
    """
    with_embedding = model.embedding_length is not None
    if with_embedding and embedding_length(ARTEFACTS) is None:
        raise PipelineError(
            f"{MODEL} was trained on embeddings, and the table has none: run `dvc repro`"
        )
    batches = read_artefacts(subset, subset_of, with_embedding, STAGE)
    return np.concatenate([model.predict_proba(artefacts) for artefacts, _ in batches])


def evaluate(
    model: ModelFile,
    probabilities: dict[str, np.ndarray],
    train: Features,
    val: Features,
    test: Features,
    duplicate: np.ndarray,
    quarantined: dict[str, int],
    plots_subset: str,
) -> Evaluation:
    """Measure a model's probabilities of val and test, beside baselines that learn from train.

    `duplicate` (m,) bool, of `near_duplicates`, marks test rows that get no part in one of the
    measurements. `quarantined`, of `count_quarantined`, is handed on. `plots_subset`, `val` or
    `test`, has the rows that confusions and figures by medium are counted on. When the
    model was fitted again on val too, its figures on val are those from before.

    Raises PipelineError when the model was trained on other features.
    """
    if model.metadata["feature_names"] != train.names:
        raise PipelineError(f"{MODEL} was trained on other features: run `dvc repro`")
    labels = np.array(model.labels)
    refitted = model.metadata["parameters"]["refit_on_val"]
    metrics = {
        "data": {
            "source": train.source,
            "rows": sum(len(subset.mediums) for subset in (train, val, test)),
            "quarantined": quarantined,
        },
        "val": (
            model.metadata["val"] if refitted else scores(val.mediums, probabilities["val"], labels)
        ),
        "test": scores(test.mediums, probabilities["test"], labels),
        "test_interval": intervals(test.mediums, probabilities["test"], labels),
        "baseline": {
            name: {"accuracy": float(np.mean(predicted == test.mediums))}
            for name, predicted in baselines(train, test).items()
        },
    }
    if duplicate.any() and not duplicate.all():
        distinct = ~duplicate
        metrics["test_without_near_duplicates"] = {
            "rows": int(distinct.sum()),
            **scores(test.mediums[distinct], probabilities["test"][distinct], labels),
        }
    chosen = {"val": val, "test": test}[plots_subset].mediums
    predicted = labels[probabilities[plots_subset].argmax(axis=1)]
    return Evaluation(
        rounded(metrics),
        confusion_counts(chosen, predicted, labels),
        per_class(chosen, predicted, labels),
    )


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


def confusion_counts(actual: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """How many rows of each actual medium were taken for which: actual, predicted, count.

    All pairs of labels are there, also those that never occur.
    """
    counts = pd.crosstab(
        pd.Categorical(actual, labels), pd.Categorical(predicted, labels), dropna=False
    )
    counts = counts.rename_axis(index="actual", columns="predicted")
    return counts.stack().rename("count").reset_index()


def per_class(actual: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Precision, recall and F1 of each label, and its number of rows, one row a label.

    A figure without rows to compute it from is 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, rows = precision_recall_fscore_support(
        actual, predicted, labels=labels, zero_division=0
    )
    return pd.DataFrame(
        {"medium": labels, "precision": precision, "recall": recall, "f1": f1, "rows": rows}
    )


def confusion_shares(counts: pd.DataFrame) -> pd.DataFrame:
    """For each actual medium (row), the share of its rows that was taken for each medium (column).

    The diagonal is the recall. A medium without rows has zeros.
    """
    table = counts.pivot(index="actual", columns="predicted", values="count")
    return table.div(table.sum(axis="columns").clip(lower=1), axis="index")


def draw_confusion(shares: pd.DataFrame, what: str, path: Path) -> None:
    """Draw the shares of `confusion_shares`; `what` says in the title on which rows they are."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # a medium's name may hold a $
    from matplotlib import pyplot

    size = 3 + 0.28 * len(shares)
    figure, axes = pyplot.subplots(figsize=(size, size), layout="constrained")
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(shares)), shares.columns, rotation=90)
    axes.set_yticks(range(len(shares)), shares.index)
    axes.set_xlabel("predicted medium")
    axes.set_ylabel("actual medium")
    axes.set_title(f"Share of each actual medium\n({what})")
    figure.colorbar(image, shrink=0.7, label="share of the row")
    with atomic_write(path) as temporary:
        # Without the version of Matplotlib, so that equal pictures are equal files.
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    run(STAGE, main)
