"""The figures of the page in their order, each with what it means in this run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.model_file.making import members_of
from stages.reporting import drawing
from stages.reporting.captions import MOST_LABELS, Captions
from stages.reporting.drawing import Layout
from stages.reporting.inputs import Inputs


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page."""

    name: str  # of its file, without the ending
    title: str
    alternative: str  # what it shows, for those who cannot see it
    caption: str  # what it means in this run
    draw: Callable[[Layout], Figure]


def figures_of(inputs: Inputs) -> list[ReportFigure]:
    """The figures in the order of the page; those that the data cannot give are left out."""
    words, captions = inputs.words, Captions(inputs.words)
    label, group, others = words.label, words.group, f"other {words.groups}"
    table, metrics, subset = inputs.artefacts, inputs.metrics, inputs.subset
    counts = pd.crosstab(table["medium"], table["museum"])
    width, height, groups = (table[name].to_numpy() for name in ("width", "height", "museum"))
    headline, by_group = headline_table(metrics, label), groups_table(metrics)
    importance = inputs.importance.assign(group=inputs.importance["group"].map(captions.kind))
    found = [
        ReportFigure(
            "rows",
            f"Rows of each {label}",
            f"Bars: the number of rows of each {label}, divided by {group}.",
            captions.rows(counts),
            partial(drawing.draw_rows, largest(counts), others),
        ),
        ReportFigure(
            "sizes",
            "Sizes of the photographs",
            f"Lines: how the longer sides and the aspect ratios are distributed, for each {group}.",
            captions.sizes(width, height, groups),
            partial(drawing.draw_sizes, width, height, groups, group, others),
        ),
    ]
    facts = inputs.embedding
    if facts is not None:
        most = largest(pd.Series(facts.labels).value_counts().to_frame()).index
        shown = np.where(np.isin(facts.labels, most), facts.labels, "")
        found += [
            ReportFigure(
                "embedding",
                "The numbers of the embedding",
                "Two histograms: the means and the standard deviations of its dimensions.",
                captions.embedding(facts.mean, facts.std, facts.zeros),
                partial(drawing.draw_embedding, facts.mean, facts.std),
            ),
            ReportFigure(
                "map",
                "A map of the embeddings",
                f"Small maps, one for each {label}, that show where its rows lie among all others.",
                captions.embedding_map(facts.places, facts.labels, facts.explained),
                partial(drawing.draw_map, facts.places, shown),
            ),
        ]
    if not inputs.curve.empty:
        counted = "members blended" if members_of(inputs.model) else "iteration"
        found.append(
            ReportFigure(
                "training",
                "Training curve",
                "Lines: log loss and accuracy on train and val in the course of training.",
                captions.training(inputs.curve, inputs.model),
                partial(drawing.draw_training, inputs.curve, iteration=counted),
            )
        )
    found += [
        ReportFigure(
            "headline",
            "Accuracy beside the baselines",
            "Bars: the accuracy of the model, with its interval, and of three baselines, on test.",
            captions.headline(metrics),
            partial(drawing.draw_headline, headline),
        ),
        ReportFigure(
            "per_class",
            f"Recall and F1 of each {label}, on {subset}",
            f"Points with intervals: recall and F1 of each {label}, sorted by recall.",
            captions.per_class(inputs.per_class),
            partial(drawing.draw_per_class, with_most_rows(inputs.per_class)),
        ),
        ReportFigure(
            "confusion",
            f"Confusions, on {subset}",
            f"A grid: which share of each actual {label} was taken for which {label}.",
            captions.confusion(inputs.confusion),
            partial(drawing.draw_confusion, confusion_shares(inputs.confusion), label),
        ),
        ReportFigure(
            "reliability",
            f"Reliability, on {subset}",
            "A line near the diagonal: the share of right answers by how sure the model was.",
            captions.reliability(
                inputs.reliability, metrics[subset], metrics[f"{subset}_if_calibrated"]
            ),
            partial(drawing.draw_reliability, inputs.reliability),
        ),
        ReportFigure(
            "museums",
            f"Accuracy in each {group}, on test",
            f"Points with intervals: the accuracy on the test rows of each {group}.",
            captions.museums(by_group),
            partial(drawing.draw_groups, by_group),
        ),
        ReportFigure(
            "importance",
            f"What the model leans on, on {subset}",
            "Bars: how much accuracy is lost when a kind of features is shuffled between rows.",
            captions.importance(inputs.importance),
            partial(drawing.draw_importance, importance),
        ),
    ]
    return found


def largest(counts: pd.DataFrame) -> pd.DataFrame:
    """The labels (index) with most rows, `MOST_LABELS` at most, in their order."""
    return counts[_greatest(counts.sum(axis="columns"))]


def with_most_rows(per_class: pd.DataFrame) -> pd.DataFrame:
    """The lines of the labels with most rows, `MOST_LABELS` at most, in their order."""
    return per_class[_greatest(per_class["rows"])]


def _greatest(values: pd.Series) -> pd.Series:
    """Which are the greatest, `MOST_LABELS` at most, the first of equal ones: (n,) bool."""
    return values.rank(method="first", ascending=False) <= MOST_LABELS


def confusion_shares(confusion: pd.DataFrame) -> pd.DataFrame:
    """Which share of each label (index) was taken for which (columns): those with most errors.

    `confusion` has the columns actual, predicted and count.
    """
    counts = confusion.pivot(index="actual", columns="predicted", values="count").fillna(0)
    counts = counts.reindex(columns=counts.index, fill_value=0)
    rows = counts.sum(axis="columns")
    shown = _greatest(rows - np.diag(counts)).to_numpy()
    return counts.div(rows.clip(lower=1), axis="index").loc[shown, shown]


def headline_table(metrics: dict[str, Any], label: str) -> pd.DataFrame:
    """The accuracy of the model and of the baselines: name, accuracy, low, high."""
    ends = metrics["test_interval"]["accuracy"]
    names = {
        "majority": f"most frequent {label}",
        "nearest_centroid": "nearest mean features",
        "sizes": "sizes alone",
    }
    lines = [{"name": "this model", "accuracy": metrics["test"]["accuracy"], **ends}]
    lines += [
        {"name": names[name], "accuracy": found["accuracy"]}
        for name, found in metrics["baseline"].items()
    ]
    return pd.DataFrame(lines)


def groups_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """The accuracy on the test rows of each group: museum, rows, accuracy, low, high."""
    return pd.DataFrame(
        [
            {
                "museum": name,
                "rows": found["rows"],
                "accuracy": found["accuracy"],
                "low": found["accuracy_low"],
                "high": found["accuracy_high"],
            }
            for name, found in metrics["test_museum"].items()
        ]
    )
