"""The pictures of the report: what they show, that all of it can be read, and their files."""

import re
import warnings
from functools import partial
from io import BytesIO
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread
from matplotlib.text import Text

from stages.models.base import CURVE_COLUMNS
from stages.reporting.drawing import (
    NARROW,
    WIDE,
    draw_confusion,
    draw_embedding,
    draw_groups,
    draw_headline,
    draw_importance,
    draw_map,
    draw_per_class,
    draw_reliability,
    draw_rows,
    draw_sizes,
    draw_training,
)
from stages.reporting.export import to_png, to_svg
from stages.reporting.style import BLUE, GREY, INK
from stages.reporting.texts import MAP_LINES, fit, text_width, wrapped

OTHERS = "other museums"
WORDS = ("museum", OTHERS)
RANDOM = np.random.default_rng(0)
EMPTY = [np.nan] * 6


def long_names(count):
    """Names of 40 characters; the widest letters, formulas and markup are among them."""
    kinds = ("Stone with gold/silver, hand-colored", "W" * 40, r"_$\frac{gold$", "<b>&amp;")
    return [f"{kinds[place % len(kinds)]:<38.38}{place:02}" for place in range(count)]


def counts(mediums, museums):
    """Rows of each medium in each museum, those of the last museum the most."""
    rows = np.add.outer(np.arange(len(mediums)), 10 * np.arange(1, len(museums) + 1))
    return pd.DataFrame(rows, mediums, museums)


def sizes(museums):
    width, height = RANDOM.integers(80, 8000, (2, 40 * len(museums)))
    return width, height, np.repeat(np.array(museums, dtype=object), 40)


def cloud(mediums):
    return RANDOM.normal(size=(8 * len(mediums), 2)), np.repeat(np.array(mediums, object), 8)


def curve(rows):
    table = {"iteration": np.arange(1, rows + 1)}
    table |= {name: RANDOM.random(rows) for name in list(CURVE_COLUMNS)[1:]}
    return pd.DataFrame(table)


def per_class(mediums):
    """The last medium, but for two, has no rows."""
    columns = ["recall", "recall_low", "recall_high", "f1", "f1_low", "f1_high"]
    table = pd.DataFrame(RANDOM.random((len(mediums), 6)), columns=columns)
    table[["recall_low", "recall_high"]] = table["recall"].to_numpy()[:, None] * [0.9, 1.0]
    table.insert(0, "medium", mediums)
    table.insert(1, "rows", 5)
    if len(mediums) > 2:
        table.loc[len(mediums) - 1, columns], table.loc[len(mediums) - 1, "rows"] = EMPTY, 0
    return table


def confusion(mediums):
    shares = np.full((len(mediums),) * 2, 0.04)
    shares[0, 1], shares[1, 0] = 0.05, 0.96
    return pd.DataFrame(shares, mediums, mediums)


def intervals(name, value, names):
    table = pd.DataFrame({name: names, value: np.linspace(1, 0, len(names))})
    return table.assign(low=table[value] - 0.1, high=table[value] + 0.1)


def headline(names):
    """The first is a model, the others are baselines."""
    table = intervals("name", "accuracy", names)
    table.loc[1:, ["low", "high"]] = np.nan
    return table


def museums(names):
    return intervals("museum", "accuracy", names).assign(rows=1234)


def importance(groups):
    return intervals("group", "accuracy_drop", groups)


BINS = pd.DataFrame({"confidence": [0.3, 0.35, 1.0], "accuracy": [0, 0.5, 1], "rows": [1, 2, 9]})
BINS = BINS.assign(low=[0.0, 0.1, 1.0], high=[0.9, 0.6, 1.0])
NO_VAL = curve(3).assign(val_log_loss=np.nan, val_accuracy=np.nan)
FEW = ("clay", "gold")
CASES = {
    "rows": partial(draw_rows, counts(FEW, FEW), OTHERS),
    "rows-29": partial(draw_rows, counts(long_names(29), long_names(3)), OTHERS),
    "rows-40": partial(draw_rows, counts(long_names(40), long_names(12)), OTHERS),
    "sizes-far": partial(draw_sizes, *np.array([[1, 2**10], [2**10, 1]]), ["a", "b"], *WORDS),
    "sizes": partial(draw_sizes, *sizes(long_names(12)), *WORDS),
    "sizes-one": partial(draw_sizes, *np.array([[500], [500]]), ["_"], *WORDS),
    "embedding": partial(draw_embedding, RANDOM.random(1024), np.zeros(1024)),
    "map": partial(draw_map, *cloud(FEW)),
    "map-40": partial(draw_map, *cloud(long_names(40))),
    "training-3": partial(draw_training, curve(3)),
    "training": partial(draw_training, curve(400)),
    "training-1": partial(draw_training, curve(1)),
    "training-0": partial(draw_training, curve(0)),
    "training-no-val": partial(draw_training, NO_VAL),
    "headline": partial(draw_headline, headline(long_names(4))),
    "importance": partial(draw_importance, importance(["embedding", "museum"])),
    "per-class": partial(draw_per_class, per_class(FEW)),
    "per-class-29": partial(draw_per_class, per_class(long_names(29))),
    "per-class-40": partial(draw_per_class, per_class(long_names(40))),
    "confusion": partial(draw_confusion, confusion(FEW), "medium"),
    "confusion-29": partial(draw_confusion, confusion(long_names(29)), "medium"),
    "confusion-40": partial(draw_confusion, confusion(long_names(40)), "medium"),
    "reliability": partial(draw_reliability, BINS),
    "museums-one": partial(draw_groups, museums(["LACMA"])),
    "museums": partial(draw_groups, museums(long_names(12))),
}
# One of each function, the first above.
KINDS = {name.partition("-")[0]: name for name in reversed(CASES)}


def texts(figure):
    """The texts of a picture that are drawn: not the labels of ticks that are out of sight."""
    drawn = []

    def draw(text, renderer):
        drawn.append(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.draw_without_rendering()
    return [text for text in drawn if text.get_visible() and text.get_text()]


def written(figure):
    return [text.get_text() for text in texts(figure)]


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["desk", "phone"])
@pytest.mark.parametrize("case", CASES)
def test_all_text_can_be_read(case, layout):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = CASES[case](layout=layout)
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    page = figure.bbox.padded(1)
    for text, box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for (one, box), (other, other_box) in combinations(boxes, 2):
        assert not box.overlaps(other_box), (one, other)


def write(kind, folder):
    """The PNG and the SVG of a figure."""
    figure = CASES[KINDS[kind]]()
    to_png(figure, folder / "a.png")
    return (folder / "a.png").read_bytes(), to_svg(figure, kind)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The PNG and the SVG of a figure of each kind, by its name."""
    return {kind: write(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def svgs(files):
    return {kind: svg for kind, (_, svg) in files.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_files_have_the_same_bytes_each_time_whatever_the_users_settings(kind, files, tmp_path):
    settings = {"font.size": 20, "savefig.dpi": 10, "savefig.transparent": True, "svg.id": "x"}
    with matplotlib.rc_context(settings):
        assert write(kind, tmp_path) == files[kind]
        assert matplotlib.rcParams["font.size"] == 20
    assert b"Software" not in files[kind][0]


def test_a_picture_is_drawn_on_white(files):
    picture = imread(BytesIO(files["museums"][0]))
    assert (picture[0, 0] == 1).all()


def attributes(svg, *names):
    """The values of attributes in a picture, their names without namespaces."""
    return [
        value
        for element in ElementTree.fromstring(svg).iter()
        for key, value in element.items()
        if key.rpartition("}")[2] in names
    ]


def test_an_svg_takes_its_size_and_its_colour_from_the_page(svgs):
    for name, svg in svgs.items():
        root = ElementTree.fromstring(svg)
        assert svg.startswith("<svg "), name
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        assert {"width", "height", "style"}.isdisjoint(root.keys()), name
        assert re.fullmatch(r"0 0 [\d.]+ [\d.]+", root.get("viewBox")), name
        assert len(svg) < 120_000, name
        assert "currentColor" in svg, name
        assert INK not in svg, name
        fills = [text.get("style") for text in root.iterfind(".//{*}text")]
        assert fills, name
        # Only what stands on the colours of the confusions has a colour of its own.
        own = [fill for fill in fills if "fill: currentColor" not in fill]
        assert all(re.search("fill: #(101010|ffffff)", fill) for fill in own), name
        assert not own or name == "confusion"
        assert "font-family:" not in svg, name
        assert not list(root.iterfind(".//{*}style")), name


def test_an_svg_asks_for_nothing_from_outside(svgs):
    for name, svg in svgs.items():
        namespace = 'xmlns="http://www.w3.org/2000/svg"'
        assert svg.count(namespace) == 1, name
        assert "http" not in svg.replace(namespace, ""), name
        assert "<!" not in svg, name
        assert not attributes(svg, "src"), name
        targets = attributes(svg, "href") + re.findall(r"url\((.*?)\)", svg)
        assert all(re.match(r"#|data:image/png;base64,\w", target) for target in targets), name


def test_svgs_of_one_page_do_not_share_ids(svgs):
    # The same picture again has the same ids but for the name.
    svgs = {**svgs, "again": to_svg(CASES[KINDS["sizes"]](), "again")}
    seen = set()
    for name, svg in svgs.items():
        ids = attributes(svg, "id")
        assert all(there.startswith(f"{name}-") for there in ids), name
        assert len(set(ids)) == len(ids), name
        assert seen.isdisjoint(ids), name
        seen.update(ids)
        targets = attributes(svg, "href") + re.findall(r"url\((.*?)\)", svg)
        inside = {target[1:] for target in targets if target.startswith("#")}
        assert inside <= set(ids), name
    assert re.search(r"url\(#again-", svgs["again"])


def test_text_stays_text_whatever_it_holds():
    name = r"$\frac{gold$ <b>&amp; url(#a) id='b'"
    svg = to_svg(draw_groups(museums([name])), "a")
    found = [text.text for text in ElementTree.fromstring(svg).iterfind(".//{*}text")]
    assert f"{name}, 1,234 rows" in found


@pytest.mark.filterwarnings("ignore:Glyph")
def test_characters_that_no_page_can_hold_are_replaced():
    svg = to_svg(draw_groups(museums(["a\0b\x07\uffff"])), "a")
    found = [text.text for text in ElementTree.fromstring(svg).iterfind(".//{*}text")]
    assert "a\ufffdb\ufffd\ufffd, 1,234 rows" in found


def test_a_map_of_many_points_is_a_small_file():
    mediums = np.repeat(np.array(long_names(12), dtype=object), 2000 // 12)
    points = RANDOM.normal(size=(len(mediums), 2))
    assert len(to_svg(draw_map(points, mediums), "a")) < 110_000


@pytest.mark.parametrize("name", ["W" * 3000, "Oil on canvas " * 250, "a/b" * 1000, ""])
def test_a_name_of_any_length_is_cut_to_what_fits(name):
    (cut,) = fit([name], 100)
    assert text_width(cut) <= 100
    assert text_width(wrapped(name, 80)) <= 80
    assert wrapped(name, 80).count("\n") < MAP_LINES
    if name:
        # Not one character more would fit.
        assert "…" in cut
        assert text_width(cut.replace("…", "W…")) > 100 - text_width("W")


def test_a_name_that_fits_is_left_as_it_is():
    assert fit(["Oil on canvas"], 100) == ["Oil on canvas"]


def test_a_phone_has_numbers_in_place_of_the_names_of_columns():
    figure = draw_confusion(confusion(long_names(29)), "medium", NARROW)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "1",
        *["5", "10", "15", "20", "25"],
    ]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert [int(name.split()[-1]) for name in rows] == list(range(1, 30))


def test_the_title_of_a_panel_ends_lines_where_words_end():
    names = ["Textile (woven/embroidered)", *"abcde"]
    titles = written(draw_map(*cloud(names)))
    assert "Textile (woven/\nembroidered)" in titles


def bars(figure):
    """The widths of a picture's bars, by their colours."""
    found = {}
    for bar in figure.axes[0].patches:
        found.setdefault(to_hex(bar.get_facecolor()), []).append(bar.get_width())
    return found


def test_the_smaller_of_many_museums_are_drawn_together():
    table = counts(FEW, list("abcdefgh"))
    figure = draw_rows(table, OTHERS)
    found = bars(figure)
    assert len(found) == 6
    assert found[GREY] == [10 + 20 + 30 + 3, 10 + 20 + 30]
    assert found[BLUE] == [81, 80]
    assert sum(map(sum, found.values())) == table.to_numpy().sum()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["h", "g", "f", "e", "d", "other museums"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["gold", "clay"]
    six = draw_rows(counts(FEW, list("abcdef")), OTHERS)
    assert "other museums" not in written(six)


def test_each_museum_has_the_shares_of_its_own_rows():
    width = np.array([100, 100, 100, 800, 800])
    museum = np.array(["a", "a", "a", "a", "b"], dtype=object)
    figure = draw_sizes(width, np.full(5, 100), museum, *WORDS)
    for axes in figure.axes:
        a, b = (steps.get_data() for steps in axes.patches)
        assert a.values[[0, -1]].tolist() == [0.75, 0.25]
        assert b.values[[0, -1]].tolist() == [0, 1]
        assert a.values.sum() == 1
        assert a.edges[0] < (100 if axes is figure.axes[0] else 1) < a.edges[1]
    assert {"1", "2", "4", "8"} <= set(written(figure))


def test_a_panel_of_the_map_has_all_rows_behind_those_of_its_medium():
    points, mediums = cloud(["gold", "clay"])
    (axes,) = draw_map(points, mediums).axes
    behind, own = (np.asarray(dots.get_offsets()) for dots in axes.collections)
    shares = 0.05 + 0.9 * (points - points.min(axis=0)) / np.ptp(points, axis=0)
    shares[:, 1] = 1 - shares[:, 1]  # the page counts from its top
    for panel, medium in zip(axes.patches, ("clay", "gold"), strict=True):
        places = panel.get_xy() + shares * (panel.get_width(), panel.get_height())
        inside = behind[panel.contains_points(axes.transData.transform(behind))]
        np.testing.assert_allclose(inside, places)
        inside = own[panel.contains_points(axes.transData.transform(own))]
        np.testing.assert_allclose(inside, places[mediums == medium])


@pytest.mark.parametrize(("rows", "markers"), [(3, {"o", "s"}), (400, {""})])
def test_only_short_curves_have_markers(rows, markers):
    for axes in draw_training(curve(rows)).axes:
        assert {line.get_marker() for line in axes.lines} == markers
        assert [len(line.get_xdata()) for line in axes.lines] == [rows, rows]


@pytest.mark.parametrize("rows", [1, 3])
def test_iterations_are_whole_numbers(rows):
    for axes in draw_training(curve(rows)).axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks == list(range(1, rows + 1))


def test_a_curve_shows_what_was_measured():
    assert "val" not in written(draw_training(NO_VAL))
    assert written(draw_training(curve(0))).count("not measured") == 2
    gaps = curve(3)
    gaps.loc[1, "val_accuracy"] = np.nan
    train, val = draw_training(gaps).axes[1].lines
    assert train.get_xdata().tolist() == [1, 2, 3]
    assert val.get_xdata().tolist() == [1, 3]


def test_a_baseline_is_grey():
    figure = draw_headline(headline(["model", "majority"]))
    assert bars(figure) == {BLUE: [1], GREY: [0]}
    assert {"100.0", "0.0"} <= set(written(figure))


def test_mediums_are_sorted_by_recall_and_those_without_rows_say_so():
    table = per_class(["a", "b", "c", "d"])
    table.loc[:2, "recall"] = [0.2, 0.9, 0.5]
    figure = draw_per_class(table)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["b", "c", "a", "d"]
    found = [text for text in texts(figure) if text.get_text() == "no test rows"]
    assert [text.get_position()[1] for text in found] == [labels.index("d")]
    recall, f1 = figure.axes[0].lines
    assert recall.get_xdata().tolist()[:3] == [0.9, 0.5, 0.2]
    assert f1.get_xdata()[:3].tolist() == table["f1"][[1, 2, 0]].tolist()
    assert recall.get_marker() != f1.get_marker()


def test_large_shares_off_the_diagonal_are_written():
    cells = draw_confusion(confusion(FEW), "medium").axes[0].texts
    assert {cell.get_position(): cell.get_text() for cell in cells} == {(1, 0): "5", (0, 1): "96"}
    assert [to_hex(cell.get_color()) for cell in cells] == ["#ffffff", "#101010"]
    assert not draw_confusion(confusion(long_names(31)), "medium").axes[0].texts


def test_the_range_that_chance_explains_stands_at_each_bin():
    (band,) = draw_reliability(BINS).axes[0].collections
    ends = [segment[:, 1].tolist() for segment in band.get_segments()]
    assert ends == BINS[["low", "high"]].to_numpy().tolist()
    assert [segment[0, 0] for segment in band.get_segments()] == BINS["confidence"].tolist()


def test_bins_of_confidence_have_the_rows_that_are_in_them():
    bars = draw_reliability(BINS).axes[1].patches
    assert [bar.get_height() for bar in bars] == [0] * 4 + [1, 2] + [0] * 8 + [9]
    assert bars[4].get_x() < 0.3 < bars[4].get_x() + bars[4].get_width()
