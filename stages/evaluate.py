"""Measure the model on val and test.

Reads models/model.json, models/training_curve.csv, data/features/ and
data/quarantine.csv. Writes reports/metrics.json, the data of the plots under
reports/plots/ and a picture of the confusions, reports/figures/confusion_matrix.png.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from stages.common.files import atomic_write, write_csv, write_json, write_text
from stages.common.model_file import MODEL, TRAINING_CURVE, model_kind
from stages.common.params import Section, load_params
from stages.common.stage import PipelineError, run
from stages.common.tables import QUARANTINE, Features, read_features

STAGE = "evaluate"
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
CONFUSION_FIGURE = Path("reports/figures/confusion_matrix.png")


class Params(Section):
    """`evaluate`"""

    plots_subset: Literal["val", "test"]


class Model(Protocol):
    """What every module of `stages/models` has."""

    labels: list[str]
    feature_names: list[str]

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (n, number of labels) for (n, d) features."""


@dataclass(frozen=True)
class Evaluation:
    """All that is measured."""

    metrics: dict[str, dict[str, Any]]  # the content of metrics.json
    confusion: pd.DataFrame  # actual, predicted, count
    per_class: pd.DataFrame  # medium, precision, recall, f1, rows


def main() -> str:
    params = load_params(STAGE, Params)
    model = import_module(f"stages.models.{model_kind(MODEL)}").load(MODEL)
    train, val, test = (read_features(subset) for subset in ("train", "val", "test"))
    quarantined = count_quarantined(pd.read_csv(QUARANTINE))
    evaluation = evaluate(model, train, val, test, quarantined, params.plots_subset)
    write_json(METRICS, evaluation.metrics)
    write_csv(PLOTS / "confusion.csv", evaluation.confusion)
    write_csv(PLOTS / "per_class.csv", evaluation.per_class)
    write_text(PLOTS / "training_curve.csv", TRAINING_CURVE.read_text(encoding="utf-8"))
    shares = confusion_shares(evaluation.confusion)
    draw_confusion(shares, f"{params.plots_subset} rows, {train.source} data", CONFUSION_FIGURE)
    figures = evaluation.metrics["test"]
    return (
        f"{train.source} data, test accuracy {figures['accuracy']:.4f}, "
        f"log loss {figures['log_loss']:.4f} on {len(test.mediums):,} rows"
    )


def evaluate(
    model: Model,
    train: Features,
    val: Features,
    test: Features,
    quarantined: dict[str, int],
    plots_subset: str,
) -> Evaluation:
    """Measure a model on val and test, beside baselines that learn from train.

    `quarantined`, of `count_quarantined`, is handed on. `plots_subset`, `val` or
    `test`, has the rows that confusions and figures by medium are counted on.

    Raises PipelineError when the model was trained on other features.
    """
    if model.feature_names != train.names:
        raise PipelineError(f"{MODEL} was trained on other features: run `dvc repro`")
    labels = np.array(model.labels)
    subsets = {"val": val, "test": test}
    probabilities = {name: model.predict_proba(rows.values) for name, rows in subsets.items()}
    metrics = {
        "data": {
            "source": train.source,
            "rows": sum(len(subset.mediums) for subset in (train, val, test)),
            "quarantined": quarantined,
        },
        **{
            name: scores(rows.mediums, probabilities[name], labels)
            for name, rows in subsets.items()
        },
        "baseline": {
            name: {"accuracy": float(np.mean(predicted == test.mediums))}
            for name, predicted in baselines(train, test).items()
        },
    }
    actual = subsets[plots_subset].mediums
    predicted = labels[probabilities[plots_subset].argmax(axis=1)]
    return Evaluation(
        rounded(metrics),
        confusion_counts(actual, predicted, labels),
        per_class(actual, predicted, labels),
    )


def count_quarantined(quarantine: pd.DataFrame) -> dict[str, int]:
    """How many rows were set aside, as `rows`, and how many broke each rule, by its name.

    A row may break more than one, so that the counts of the rules may add up to more.
    """
    rules = quarantine["rule"].value_counts().sort_index()
    return {"rows": quarantine["row"].nunique(), **{rule: int(n) for rule, n in rules.items()}}


def scores(actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of n rows from their mediums (n,) and the probabilities (n, k) of k labels.

    `balanced_accuracy` and `macro_f1` are means over the mediums that occur in
    `actual`. `log_loss` is in nats.
    """
    from sklearn.metrics import f1_score, log_loss, recall_score

    predicted = labels[probabilities.argmax(axis=1)]
    present = np.unique(actual)
    mean_over_classes = {"labels": present, "average": "macro", "zero_division": 0}
    # XGBoost's are float32, and their sums too far from 1 for log_loss.
    normalized = probabilities.astype(np.float64)
    normalized /= normalized.sum(axis=1, keepdims=True)
    return {
        "accuracy": float(np.mean(predicted == actual)),
        "balanced_accuracy": float(recall_score(actual, predicted, **mean_over_classes)),
        "macro_f1": float(f1_score(actual, predicted, **mean_over_classes)),
        "top3_accuracy": top_k_accuracy(actual, probabilities, labels, 3),
        "top5_accuracy": top_k_accuracy(actual, probabilities, labels, 5),
        "log_loss": float(log_loss(actual, normalized, labels=labels)),
    }


def top_k_accuracy(
    actual: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, k: int
) -> float:
    """Share of rows whose medium is among the k most probable labels.

    scikit-learn's function refuses a k that is not below the number of labels.
    """
    best = labels[np.argsort(-probabilities, axis=1, kind="stable")[:, :k]]
    return float(np.mean((best == actual[:, None]).any(axis=1)))


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


def rounded(value: Any) -> Any:
    """The same with floats rounded to 6 decimals, below which processors may differ."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 6) if isinstance(value, float) else value


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
