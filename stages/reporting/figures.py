"""The pictures of the report: one function for each, from plain data to a figure.

k is the number of mediums, n of rows. `to_png` and `to_svg` write a figure, with the same
bytes from run to run. Where text, axes and intervals have the colour `INK`, the SVG takes
the colour of the text around it: it is as readable on a dark page as on a light one.
"""

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from stages.common.files import atomic_write
from stages.tables.results import CALIBRATION_BINS

INK = "#1a1b1c"  # used for nothing else: the SVG has `currentColor` in its place
GREY = "#808080"  # can be seen on white and on black
# Colours that are told apart by colour-blind readers too (Okabe and Ito 2008).
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILLION, SKY_BLUE, PURPLE = "#d55e00", "#56b4e9", "#cc79a7"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY_BLUE, PURPLE)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (2, 1)))
STYLE = {
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}
# For all that draws: the style above, and nothing of the user's own settings.
_styled = style.context(STYLE, after_reset=True)

WIDTH = 7.5  # inches
TITLE_HEIGHT = 0.3  # inches
DPI = 150  # of pictures
LABEL = 216  # points: the longest label of a line
CONFUSION_WIDTH = 8.5  # inches
CONFUSION_LABEL = 160  # points
MOST_MUSEUMS = 6
OTHER_MUSEUMS = "other museums"
BINS = 40
BINS_PER_DOUBLING = (4, 8)  # of the longer side, of the ratio
MAP_COLUMNS = 6
MAP_LINES = 3  # of a panel's title
MARKED_ROWS = 30  # a curve of so few rows has markers
WRITTEN_SHARE = 0.05
MOST_WRITTEN = 30  # with more mediums, the cells are too small for figures


@_styled
def draw_rows(counts: pd.DataFrame) -> Figure:
    """How many rows each medium has, and from which museums; `counts` is mediums by museums."""
    museums = _shown_museums(counts.sum())
    counts = counts.T.groupby(museums, sort=False).sum().T.reindex(columns=museums.unique())
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    figure, axes = _lines(_fit(counts.index))
    lines, left = np.arange(len(counts)), np.zeros(len(counts))
    bars = []
    for museum, colour in zip(counts, _museum_colours(counts), strict=True):
        bars.append(axes.barh(lines, counts[museum], 0.75, left, color=colour))
        left += counts[museum].to_numpy()
    axes.set_xlim(0, 1.03 * left.max())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("rows")
    _legend(figure, bars, counts.columns)
    return figure


@_styled
def draw_sizes(width: np.ndarray, height: np.ndarray, museum: np.ndarray) -> Figure:
    """How large and how oblong the photographs of each museum are.

    `width` and `height` (n,) are in pixels, `museum` (n,) are names.
    """
    museum = pd.Series(museum)
    shown = _shown_museums(museum.value_counts())
    museum, names = museum.map(shown).to_numpy(), list(shown.unique())
    figure = Figure((WIDTH, 3.3), layout="constrained")
    sides, ratios = panels = figure.subplots(1, 2)
    values = (np.maximum(width, height), width / height)
    for axes, value, bins in zip(panels, values, BINS_PER_DOUBLING, strict=True):
        places = np.rint(np.log2(value) * bins).astype(int)
        places, first = places - places.min(), places.min()
        edges = 2 ** ((first + np.arange(places.max() + 2) - 0.5) / bins)
        drawn = []
        for name, colour, line in zip(names, _museum_colours(names), LINES, strict=False):
            counts = np.bincount(places[museum == name], minlength=len(edges) - 1)
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
    sides.set(xlabel="longer side in pixels", ylabel="% of the museum's rows")
    ratios.xaxis.set_major_locator(LogLocator(2))
    ratios.xaxis.set_major_formatter(FuncFormatter(_ratio))
    ratios.set_xlabel("width divided by height")
    _legend(figure, drawn, names)
    return figure


@_styled
def draw_embedding(mean: np.ndarray, std: np.ndarray) -> Figure:
    """The mean and the standard deviation (d,) of each number of the embedding."""
    figure = Figure((WIDTH, 2.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, values, name in zip(panels, (mean, std), ("mean", "standard deviation"), strict=True):
        axes.stairs(*np.histogram(values, BINS), fill=True, color=BLUE)
        axes.grid()
        axes.set_xlabel(f"{name} over training rows")
    panels[0].set_ylabel("numbers of the embedding")
    return figure


@_styled
def draw_map(points: np.ndarray, mediums: np.ndarray) -> Figure:
    """Where the rows of each medium lie: one panel each, with all other rows in grey.

    `points` (n, 2) are the places of the rows, `mediums` (n,) their names.
    """
    names = np.unique(mediums)
    columns = min(MAP_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    panel = WIDTH / columns  # inches
    titles = [_wrapped(name, 72 * panel - 8) for name in names]
    text = 0.16 * max(title.count("\n") + 1 for title in titles)
    figure = Figure((WIDTH, rows * (min(panel, 2) + text)), layout="constrained")
    # Squares of whole pixels: smooth edges would make the images twice as large.
    dots = {"marker": "s", "linewidths": 0, "rasterized": True}
    for place, (name, title) in enumerate(zip(names, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1, xticks=[], yticks=[], title=title)
        axes.spines[:].set(visible=True, color=GREY, linewidth=0.5)
        axes.scatter(*points.T, 1, color=GREY, alpha=0.5, **dots)
        axes.scatter(*points[mediums == name].T, 5, color=VERMILLION, **dots)
    return figure


@_styled
def draw_training(curve: pd.DataFrame) -> Figure:
    """How the model got better; `curve` has `CURVE_COLUMNS` of stages/models/base.py."""
    figure = Figure((WIDTH, 2.9), layout="constrained")
    drawn = {}
    for axes, column, name in zip(
        figure.subplots(1, 2), ("log_loss", "accuracy"), ("log loss", "accuracy in %"), strict=True
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
        axes.set(xlabel="iteration", ylabel=name)
    axes.yaxis.set_major_formatter(_percent())
    _legend(figure, drawn.values(), drawn)
    return figure


@_styled
def draw_headline(figures: pd.DataFrame) -> Figure:
    """The accuracy of the model beside that of baselines: columns name, accuracy, low, high.

    What has no interval, `low` and `high`, is a baseline, and is grey.
    """
    colours = np.where(figures["low"].notna(), BLUE, GREY)
    figure, axes = _bars(figures["name"], figures["accuracy"], figures, colours)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy in %")
    return figure


@_styled
def draw_importance(importance: pd.DataFrame) -> Figure:
    """How much accuracy is lost when a group of features is shuffled between rows.

    Columns group, accuracy_drop, low, high.
    """
    figure, axes = _bars(importance["group"], importance["accuracy_drop"], importance, BLUE)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("accuracy lost, in percentage points")
    return figure


@_styled
def draw_per_class(per_class: pd.DataFrame) -> Figure:
    """Recall, with its interval, and F1 of each medium; the columns are those of per_class.csv."""
    table = per_class.sort_values("recall", ascending=False, kind="stable")
    figure, axes = _lines(_fit(table["medium"]))
    recall = _dots(axes, table["recall"], table["recall_low"], table["recall_high"])
    (f1,) = axes.plot(
        table["f1"], np.arange(len(table)), "D", color=ORANGE, mfc="none", mew=1.3, clip_on=False
    )
    for line in np.flatnonzero(table["recall"].isna()):
        axes.text(0.01, line, "no test rows", va="center_baseline")
    axes.set_xlim(0, 1)
    axes.set_xlabel("recall and F1 in %")
    _legend(figure, [recall, f1], ["recall, with its 95 % interval", "F1"])
    return figure


@_styled
def draw_museums(museums: pd.DataFrame) -> Figure:
    """The accuracy on the rows of each museum: columns museum, rows, accuracy, low, high."""
    names = _fit(museums["museum"])
    labels = [f"{name}, {rows:,} rows" for name, rows in zip(names, museums["rows"], strict=True)]
    figure, axes = _lines(labels, pitch=0.28)
    _dots(axes, museums["accuracy"], museums["low"], museums["high"])
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy in %, with its 95 % interval")
    return figure


@_styled
def draw_confusion(shares: pd.DataFrame) -> Figure:
    """For which medium the rows of each medium were taken: `shares` (k, k), actual by predicted."""
    count = len(shares)
    values = shares.to_numpy(float)
    names = _fit(shares.index, CONFUSION_LABEL)
    label = max(_points(name) for name in names) / 72  # inches
    square = CONFUSION_WIDTH - label - 0.4
    height = label + 1.1 + min(0.35 * count, square)
    figure = Figure((CONFUSION_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, "cividis", vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_yticks(range(count), names)
    axes.set_xticks(
        range(count), names, rotation=90, rotation_mode="anchor", ha="right", va="center"
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted medium", ylabel="actual medium")
    bar = figure.colorbar(image, location="top", shrink=0.5, aspect=40, pad=0.02, format=_percent())
    bar.set_label("% of the rows of the actual medium")
    if count <= MOST_WRITTEN:
        for row, column in np.argwhere((values >= WRITTEN_SHARE) & ~np.eye(count, dtype=bool)):
            share = values[row, column]
            colour = "#101010" if share > 0.5 else "#ffffff"
            axes.text(
                column, row, f"{100 * share:.0f}", color=colour, size=7, ha="center", va="center"
            )
    return figure


@_styled
def draw_reliability(bins: pd.DataFrame) -> Figure:
    """How often the model is right when it is so sure.

    Columns confidence, accuracy, low, high, rows; between `low` and `high` chance alone would
    put a model whose probabilities are exactly right.
    """
    figure = Figure((WIDTH, 5.2), layout="constrained")
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
    _legend(figure, [line, diagonal, band], names)
    return figure


@_styled
@_styled
def to_png(figure: Figure, path: Path, title: str = "") -> None:
    """Write a figure as a picture on white, with a title above it.

    The title is added to the picture: in the figure it would stand in the legend's place.
    """
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=DPI, facecolor="white")
    canvas.draw()
    width, height = figure.get_size_inches()
    whole = Figure((width, height + TITLE_HEIGHT), dpi=DPI, facecolor="white")
    whole.figimage(np.asarray(canvas.buffer_rgba()), origin="upper")
    whole.text(0.01, (height + 0.08) / (height + TITLE_HEIGHT), title, weight="bold")
    with atomic_write(path) as temporary:
        # Without the version of Matplotlib.
        whole.savefig(temporary, format="png", metadata={"Software": None})


def to_svg(figure: Figure, name: str) -> str:
    """A figure as an `svg` element, to stand in an HTML page among others.

    It is as wide as what is around it. Each id starts with `name`, which the page has once.
    """
    file = io.StringIO()
    settings = {**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}
    with style.context(settings, after_reset=True):
        figure.savefig(file, format="svg", dpi=100)
    root = ElementTree.fromstring(file.getvalue())
    view = root.get("viewBox", "")
    # Its metadata, a date among them, and its style, which would count for the whole page.
    for element in root.findall("{*}metadata") + root.findall("{*}defs[{*}style]"):
        root.remove(element)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attribute(*pair, name) for pair in element.items())
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": view,
        "font-family": "sans-serif",
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> tuple[str, str]:
    """An attribute of Matplotlib's SVG as it is in a page: see `to_svg`."""
    key = key.rpartition("}")[2]
    if key == "id":
        value = f"{name}-{value}"
    elif key == "href":
        value = re.sub("^#", f"#{name}-", value.replace(" ", ""))
    else:
        value = value.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
    return key, value


def _lines(labels: Sequence[str], pitch: float = 0.21) -> tuple[Figure, Axes]:
    """A figure with one horizontal line for each label, from top to bottom.

    Lines lie at 0, 1, and so on, `pitch` inches apart.
    """
    figure = Figure((WIDTH, 1.2 + pitch * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return figure, axes


def _bars(
    names: pd.Series, values: pd.Series, interval: pd.DataFrame, colours: str | np.ndarray
) -> tuple[Figure, Axes]:
    """A bar for each name, its interval `low` and `high`, and its value in percent beside it."""
    figure, axes = _lines(_fit(names), pitch=0.3)
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


def _legend(figure: Figure, drawn: Iterable[Artist], names: Iterable[str]) -> None:
    """A legend above the panels."""
    figure.legend(list(drawn), _fit(names), loc="outside upper left", ncols=2)


def _shown_museums(rows: pd.Series) -> pd.Series:
    """Under which name each museum is drawn, the largest first; `rows` are theirs.

    Of more than `MOST_MUSEUMS`, the smaller ones share a name.
    """
    names = rows.sort_values(ascending=False, kind="stable").index.to_series()
    if len(names) > MOST_MUSEUMS:
        names.iloc[MOST_MUSEUMS - 1 :] = OTHER_MUSEUMS
    return names


def _museum_colours(names: Iterable[str]) -> list[str]:
    """A colour for each name that is drawn, grey for the museums that share one."""
    return [
        GREY if name == OTHER_MUSEUMS else colour
        for name, colour in zip(names, COLOURS, strict=False)
    ]


def _percent() -> FuncFormatter:
    """Shares as percent, whose sign is in the name of the axis."""
    return FuncFormatter(lambda share, _: f"{100 * share:z.5g}")


def _ratio(value: float, _: int) -> str:
    """2 as "2" and a half as "1/2"."""
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def _fit(names: Iterable[str], points: float = LABEL) -> list[str]:
    """Each name on one line of at most so many points, cut in the middle if it is longer."""

    def fit(name: str) -> str:
        shorter = (
            f"{name[: kept - kept // 3]}…{name[len(name) - kept // 3 :]}"
            for kept in range(len(name) - 1, 0, -1)
        )
        return next((text for text in (name, *shorter) if _points(text) <= points), "…")

    return [fit(name) for name in names]


def _wrapped(name: str, points: float) -> str:
    """A name on at most `MAP_LINES` lines of at most so many points, cut if it is longer."""
    # A line may also end after a slash: a tab stands there meanwhile.
    marked = name.replace("/", "/\t")
    for characters in range(len(marked), 0, -1):
        parts = textwrap.wrap(
            marked,
            characters,
            max_lines=MAP_LINES,
            placeholder="…",
            expand_tabs=False,
            replace_whitespace=False,
        )
        text = "\n".join(parts).replace("\t", "")
        if _points(text) <= points:
            return text
    return ""


def _points(text: str) -> float:
    """How wide a text is."""
    font = FontProperties()
    return max(
        text_to_path.get_text_width_height_descent(line, font, False)[0]
        for line in text.split("\n")
    )
