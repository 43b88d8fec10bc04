"""The figures of the report: one function for each, from plain data to a figure.

k is the number of labels, n of rows. Each is drawn for a `Layout`: a page on a desk, or a phone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from stages.reporting.style import BLUE, COLOURS, GREY, INK, LINES, ORANGE, VERMILLION, styled
from stages.reporting.texts import fit, text_width, wrapped
from stages.tables.results import CALIBRATION_BINS


@dataclass(frozen=True)
class Layout:
    """How much room there is. A phone's page is as wide as half of a figure of a desk's."""

    width: float  # inches
    confusion_width: float  # inches
    label: float  # points: the longest label of a line
    confusion_label: float  # points
    panels: int  # side by side
    maps: int  # side by side
    columns: int  # of a legend
    # Whether the columns of the confusions have names and not numbers, and axes names of one line.
    roomy: bool

    def joined(self, first: str, second: str) -> str:
        """The name of an axis, in two lines where one is too long."""
        return f"{first}{' ' if self.roomy else chr(10)}{second}"


WIDE = Layout(7.5, 8.5, 216, 160, 2, 6, 2, roomy=True)
NARROW = Layout(3.6, 3.6, 120, 90, 1, 3, 1, roomy=False)

MOST_GROUPS = 6
BINS = 40
BINS_PER_DOUBLING = (4, 8)  # of the longer side, of the ratio
MARKED_ROWS = 30  # a curve of so few rows has markers
WRITTEN_SHARE = 0.05
MOST_WRITTEN = 30  # with more labels, the cells are too small for numbers
NUMBERED = 5  # every fifth column
LINE = 0.19  # inches from one line of text to the next
PAD = 3 / 72  # inches around a panel of the map
LEGEND = 216  # points: the longest name in a legend


@styled
def draw_rows(counts: pd.DataFrame, others: str, layout: Layout = WIDE) -> Figure:
    """How many rows each label has, and from which groups; `counts` is labels by groups.

    `others` is what groups are called that share a colour.
    """
    groups = _shown_groups(counts.sum(), others)
    counts = counts.T.groupby(groups, sort=False).sum().T.reindex(columns=groups.unique())
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    figure, axes = _lines(layout, fit(counts.index, layout.label))
    lines, left = np.arange(len(counts)), np.zeros(len(counts))
    bars = []
    for group, colour in zip(counts, _colours(counts, others), strict=True):
        bars.append(axes.barh(lines, counts[group], 0.75, left, color=colour))
        left += counts[group].to_numpy()
    axes.set_xlim(0, 1.03 * left.max())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("rows")
    _legend(layout, figure, bars, counts.columns)
    return figure


@styled
def draw_sizes(
    width: np.ndarray,
    height: np.ndarray,
    group: np.ndarray,
    word: str,
    others: str,
    layout: Layout = WIDE,
) -> Figure:
    """How large and how oblong the photographs of each group are.

    `width` and `height` (n,) are in pixels, `group` (n,) are names, `word` is what a group is
    called, and `others` those that share a colour.
    """
    shown = _shown_groups(pd.Series(group).value_counts(), others)
    group, names = pd.Series(group).map(shown).to_numpy(), list(shown.unique())
    figure, panels = _panels(layout, 3.3)
    sides, ratios = panels
    values = (np.maximum(width, height), width / height)
    for axes, value, bins in zip(panels, values, BINS_PER_DOUBLING, strict=True):
        places = np.rint(np.log2(value) * bins).astype(int)
        places, first = places - places.min(), places.min()
        edges = 2 ** ((first + np.arange(places.max() + 2) - 0.5) / bins)
        drawn = []
        for name, colour, line in zip(names, _colours(names, others), LINES, strict=False):
            counts = np.bincount(places[group == name], minlength=len(edges) - 1)
            drawn.append(axes.stairs(counts / counts.sum(), edges, color=colour, ls=line, lw=1.5))
        axes.set_xscale("log")
        axes.minorticks_off()
        # Wide enough for two powers of two.
        middle = np.sqrt(edges[0] * edges[-1])
        axes.set_xlim(min(edges[0] / 1.1, middle / 2.2), max(edges[-1] * 1.1, middle * 2.2))
        axes.yaxis.set_major_formatter(_percent())
        axes.grid()
    sides.xaxis.set_major_locator(LogLocator(2, numticks=6))
    sides.xaxis.set_major_formatter("{x:,.0f}")
    sides.set(xlabel="longer side in pixels", ylabel=f"% of the {word}'s rows")
    ratios.xaxis.set_major_locator(LogLocator(2))
    ratios.xaxis.set_major_formatter(FuncFormatter(_ratio))
    ratios.set_xlabel("width divided by height")
    _legend(layout, figure, drawn, names)
    return figure


@styled
def draw_embedding(mean: np.ndarray, std: np.ndarray, layout: Layout = WIDE) -> Figure:
    """The mean and the standard deviation (d,) of each number of the embedding."""
    figure, panels = _panels(layout, 2.6)
    for axes, values, name in zip(panels, (mean, std), ("mean", "standard deviation"), strict=True):
        axes.stairs(*np.histogram(values, BINS), fill=True, color=BLUE)
        axes.grid()
        axes.set_xlabel(f"{name} over training rows")
    for axes in panels if layout.panels == 1 else panels[:1]:
        axes.set_ylabel("dimensions of the embedding")
    return figure


@styled
def draw_map(points: np.ndarray, labels: np.ndarray, layout: Layout = WIDE) -> Figure:
    """Where the rows of each label lie: one panel each, with all other rows in grey.

    `points` (n, 2) are the places of the rows, `labels` (n,) theirs; an empty one has no panel.
    """
    named = labels != ""
    names = np.unique(labels[named])
    columns = min(layout.maps, len(names))
    width = layout.width / columns  # of a panel, inches, as all lengths here
    titles = [wrapped(name, 72 * width - 8) for name in names]
    title = 0.16 * max(title.count("\n") + 1 for title in titles)
    height = min(width, 2) + title
    figure = Figure((layout.width, height * -(-len(names) // columns)))
    # One pair of axes for all panels: a pair for each takes far longer.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, layout.width), ylim=(figure.get_figheight(), 0))
    axes.axis("off")
    rows, sides = np.divmod(np.arange(len(names)), columns)
    corners = np.column_stack([width * sides + PAD, height * rows + title + 2 * PAD])
    box = np.array([width - 2 * PAD, height - title - 3 * PAD])
    for corner, text in zip(corners, titles, strict=True):
        axes.add_patch(Rectangle(corner, *box, fill=False, edgecolor=GREY, linewidth=0.5))
        axes.text(corner[0], corner[1] - 1.5 * PAD, text)
    middle, reach = (points.max(axis=0) + points.min(axis=0)) / 2, np.ptp(points, axis=0)
    shares = 0.5 + (points - middle) / np.where(reach > 0, reach, 1) * (0.9, -0.9)
    everywhere = np.concatenate([corner + box * shares for corner in corners])
    own = corners[np.searchsorted(names, labels[named])] + box * shares[named]
    # Squares of whole pixels: smooth edges would make the images twice as large.
    dots: dict[str, Any] = {"marker": "s", "linewidths": 0, "rasterized": True}
    axes.scatter(everywhere[:, 0], everywhere[:, 1], 1, color=GREY, alpha=0.5, **dots)
    axes.scatter(own[:, 0], own[:, 1], 5, color=VERMILLION, **dots)
    return figure


@styled
def draw_training(
    curve: pd.DataFrame, layout: Layout = WIDE, iteration: str = "iteration"
) -> Figure:
    """How the model got better; `curve` has `CURVE_COLUMNS` of stages/models/base.py.

    `iteration` is what is counted there.
    """
    figure, panels = _panels(layout, 2.9)
    drawn = {}
    for axes, column, name in zip(
        panels, ("log_loss", "accuracy"), ("log loss", "accuracy in %"), strict=True
    ):
        for subset, colour, line, marker in (("train", BLUE, "--", "o"), ("val", ORANGE, "-", "s")):
            known = curve[["iteration", f"{subset}_{column}"]].dropna().to_numpy(float)
            if len(known):
                shape = marker if len(known) <= MARKED_ROWS else ""
                (drawn[subset],) = axes.plot(*known.T, color=colour, ls=line, marker=shape)
        if not axes.lines:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid()
        axes.set(xlabel=iteration, ylabel=name)
    axes.yaxis.set_major_formatter(_percent())
    _legend(layout, figure, drawn.values(), drawn)
    return figure


@styled
def draw_headline(table: pd.DataFrame, layout: Layout = WIDE) -> Figure:
    """The accuracy of the model beside that of baselines: columns name, accuracy, low, high.

    What has no interval, `low` and `high`, is a baseline, and is grey.
    """
    colours = np.where(table["low"].notna(), BLUE, GREY)
    figure, axes = _bars(layout, table["name"], table["accuracy"], table, colours)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy in %")
    return figure


@styled
def draw_importance(importance: pd.DataFrame, layout: Layout = WIDE) -> Figure:
    """How much accuracy is lost when a kind of features is shuffled between rows.

    Columns group, accuracy_drop, low, high.
    """
    figure, axes = _bars(layout, importance["group"], importance["accuracy_drop"], importance, BLUE)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("accuracy lost, in percentage points")
    return figure


@styled
def draw_per_class(per_class: pd.DataFrame, layout: Layout = WIDE) -> Figure:
    """Recall, with its interval, and F1 of each label; the columns are those of per_class.csv."""
    table = per_class.sort_values("recall", ascending=False, kind="stable")
    figure, axes = _lines(layout, fit(table["medium"], layout.label))
    recall = _dots(axes, table["recall"], table["recall_low"], table["recall_high"])
    (f1,) = axes.plot(
        table["f1"], np.arange(len(table)), "D", color=ORANGE, mfc="none", mew=1.3, clip_on=False
    )
    for line in np.flatnonzero(table["recall"].isna()):
        axes.text(0.01, float(line), "no test rows", va="center_baseline")
    axes.set_xlim(0, 1)
    axes.set_xlabel("recall and F1 in %")
    _legend(layout, figure, [recall, f1], ["recall, with its 95 % interval", "F1"])
    return figure


@styled
def draw_groups(groups: pd.DataFrame, layout: Layout = WIDE) -> Figure:
    """The accuracy on the rows of each group: columns museum, rows, accuracy, low, high."""
    names = fit(groups["museum"], layout.label)
    labels = [
        layout.joined(f"{name},", f"{rows:,} rows")
        for name, rows in zip(names, groups["rows"], strict=True)
    ]
    figure, axes = _lines(layout, labels, pitch=0.28 if layout.roomy else 2 * LINE)
    _dots(axes, groups["accuracy"], groups["low"], groups["high"])
    axes.set_xlim(0, 1)
    axes.set_xlabel(layout.joined("accuracy in %,", "with its 95 % interval"))
    return figure


@styled
def draw_confusion(shares: pd.DataFrame, word: str, layout: Layout = WIDE) -> Figure:
    """For which label the rows of each label were taken: `shares` (k, k), actual by predicted.

    `word` is what a label is called.
    """
    count = len(shares)
    values = shares.to_numpy(float)
    names = fit(shares.index, layout.confusion_label)
    label = max(text_width(name) for name in names) / 72  # inches
    if layout.roomy:
        height = label + 1.1 + min(0.35 * count, layout.confusion_width - label - 0.4)
    else:
        height = 1.6 + LINE * count
    figure = Figure((layout.confusion_width, height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, "cividis", vmin=0, vmax=1, aspect="auto", interpolation="none")
    if layout.roomy:
        axes.set_yticks(range(count), names)
        axes.set_xticks(
            range(count), names, rotation=90, rotation_mode="anchor", ha="right", va="center"
        )
    else:
        axes.set_yticks(range(count), [f"{name} {row}" for row, name in enumerate(names, 1)])
        numbers = [1, *range(NUMBERED, count + 1, NUMBERED)]
        axes.set_xticks([number - 1 for number in numbers], numbers)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=f"predicted {word}", ylabel=f"actual {word}")
    bar = figure.colorbar(image, location="top", shrink=0.5, aspect=40, pad=0.02, format=_percent())
    bar.set_label(layout.joined("% of the rows of", f"the actual {word}"))
    if count <= MOST_WRITTEN and layout.roomy:
        for row, column in np.argwhere((values >= WRITTEN_SHARE) & ~np.eye(count, dtype=bool)):
            share = values[row, column]
            colour = "#101010" if share > 0.5 else "#ffffff"
            axes.text(
                column, row, f"{100 * share:.0f}", color=colour, size=7, ha="center", va="center"
            )
    return figure


@styled
def draw_reliability(bins: pd.DataFrame, layout: Layout = WIDE) -> Figure:
    """How often the model is right when it is so sure.

    Columns confidence, accuracy, low, high, rows; between `low` and `high` chance alone would
    put a model whose probabilities are exactly right.
    """
    figure = Figure((layout.width, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    (diagonal,) = upper.plot([0, 1], [0, 1], "--", color=GREY)
    ends = bins["low"], bins["high"]
    # Wide enough to be seen where chance explains next to nothing.
    band = upper.vlines(bins["confidence"], *ends, color=GREY, alpha=0.4, lw=9, clip_on=False)
    (line,) = upper.plot(bins["confidence"], bins["accuracy"], "o-", color=BLUE, clip_on=False)
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    rows, _ = np.histogram(bins["confidence"], edges, weights=bins["rows"])
    lower.bar((edges[:-1] + edges[1:]) / 2, rows, 0.9 / CALIBRATION_BINS, color=BLUE)
    for axes in (upper, lower):
        axes.grid()
        axes.xaxis.set_major_formatter(_percent())
    upper.yaxis.set_major_formatter(_percent())
    lower.yaxis.set_major_formatter("{x:,.0f}")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy in %")
    lower.set(xlabel="probability of the first answer in %", ylabel="rows")
    names = ["the model", "as sure as it is right", "range that chance explains (95 %)"]
    _legend(layout, figure, [line, diagonal, band], names)
    return figure


def _panels(layout: Layout, height: float) -> tuple[Figure, Sequence[Axes]]:
    """A figure with two panels, beside or above each other; one is so many inches high."""
    rows = 2 // layout.panels
    figure = Figure((layout.width, rows * height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, layout.panels)))


def _lines(layout: Layout, labels: Sequence[str], pitch: float = 0.21) -> tuple[Figure, Axes]:
    """A figure with one horizontal line for each label, from top to bottom.

    Lines lie at 0, 1, and so on, `pitch` inches apart.
    """
    figure = Figure((layout.width, 1.2 + pitch * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return figure, axes


def _bars(
    layout: Layout,
    names: pd.Series,
    values: pd.Series,
    interval: pd.DataFrame,
    colours: str | np.ndarray,
) -> tuple[Figure, Axes]:
    """A bar for each name, its interval `low` and `high`, and its value in percent beside it."""
    figure, axes = _lines(layout, fit(names, layout.label), pitch=0.3)
    lines = np.arange(len(values))
    axes.barh(lines, values, 0.65, color=colours)
    axes.hlines(lines, interval["low"], interval["high"], color=INK)
    for line, value in enumerate(values):
        axes.text(
            1.02, line, f"{100 * value:z.1f}", transform=axes.get_yaxis_transform(), va="center"
        )
    axes.xaxis.set_major_formatter(_percent())
    return figure, axes


def _dots(axes: Axes, values: pd.Series, low: pd.Series, high: pd.Series) -> Line2D:
    """A dot and its interval on each line."""
    lines = np.arange(len(values))
    axes.hlines(lines, low, high, color=INK, linewidth=1)
    (dots,) = axes.plot(values, lines, "o", color=BLUE, clip_on=False)
    axes.xaxis.set_major_formatter(_percent())
    return dots


def _legend(
    layout: Layout, figure: Figure, drawn: Iterable[Artist | Container], names: Iterable[str]
) -> None:
    """A legend above the panels."""
    figure.legend(
        cast(list[Artist], list(drawn)),
        fit(names, LEGEND),
        loc="outside upper left",
        ncols=layout.columns,
    )


def _shown_groups(rows: pd.Series, others: str) -> pd.Series:
    """Under which name each group is drawn, the largest first; `rows` are theirs.

    Of more than `MOST_GROUPS`, the smaller ones are `others`.
    """
    names = rows.sort_values(ascending=False, kind="stable").index.to_series()
    if len(names) > MOST_GROUPS:
        names.iloc[MOST_GROUPS - 1 :] = others
    return names


def _colours(names: Iterable[str], others: str) -> list[str]:
    """A colour for each name that is drawn, grey for the groups that share one."""
    return [
        GREY if name == others else colour for name, colour in zip(names, COLOURS, strict=False)
    ]


def _percent() -> FuncFormatter:
    """Shares as percent, whose sign is in the name of the axis."""
    return FuncFormatter(lambda share, _: f"{100 * share:z.5g}")


def _ratio(value: float, _: int) -> str:
    """2 as "2" and a half as "1/2"."""
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
