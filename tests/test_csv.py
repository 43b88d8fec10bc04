"""No text in a CSV file is a formula for a spreadsheet to run, and each comes back as it was."""

import csv
import json
from random import Random

import pandas as pd
import pyarrow as pa
import pytest
from conftest import PROJECT, texts

from answers.output import write_answers
from photographs.pictures.table import write_left_out
from stages.common.files import as_it_was, harmless, read_csv, write_csv
from stages.parser.bad_rows import BadRows, Problem
from stages.tables.results import PLOT_COLUMNS

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\r=x", " =1", "\n=1"]
FORMULAS += ["\N{FULLWIDTH EQUALS SIGN}1", '=HYPERLINK("http://x")', "--", "+"]
LABELS = [
    *FORMULAS,
    "'=1",
    "''=1",
    "'t Hooft",
    "'",
    "a=b",
    "NA",
    "1e5",
    "-5",
    "'-5",
    'a "b", c',
    "a\rb",
]
STARTS = "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH COMMERCIAL AT}"


def is_formula(text):
    """Whether a spreadsheet would run it; a number it would only show."""
    try:
        float(text)
    except ValueError:
        return text.lstrip(" ").startswith(tuple(STARTS))
    return False


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_has_an_apostrophe_before_it(text):
    assert is_formula(text)
    assert harmless(text) == f"'{text}"


def test_every_text_comes_back_as_it_was():
    random = Random(0)
    made = ["".join(random.choices("'=+-@\t\r 1.ea", k=random.randrange(6))) for _ in range(5000)]
    for text in [*LABELS, *made]:
        assert as_it_was(harmless(text)) == text
        assert not is_formula(harmless(text))


@pytest.mark.parametrize("number", [-5, -0.25, "-5", "+1.5e-3", "-.5", None, True, "false", "0.1"])
def test_numbers_stay_numbers(number):
    assert harmless(number) is number


def test_a_table_of_such_labels_is_read_as_it_was_written(tmp_path):
    pairs = [(one, other) for one in LABELS for other in LABELS[:4]]
    table = pd.DataFrame(pairs, columns=["actual", "predicted"]).assign(count=-3)
    write_csv(tmp_path / "confusion.csv", table)
    found = read_csv(tmp_path / "confusion.csv", PLOT_COLUMNS["confusion"])
    pd.testing.assert_frame_equal(found, table, check_dtype=False)
    with (tmp_path / "confusion.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if is_formula(cell)]
    assert cells.count("-3") == len(pairs)


def cells_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [cell for row in csv.reader(file) for cell in row]


def test_rows_that_were_set_aside_hold_no_formula(tmp_path):
    bad = BadRows(keep_all=True)
    bad.add([Problem(1, "width", "=cmd()", "=1+1"), Problem(1, "height", "+x", "-5")])
    (tmp_path / "q.csv").write_text(bad.csv(), encoding="utf-8", newline="")
    cells = cells_of(tmp_path / "q.csv")
    assert {"'=cmd()", "'=1+1", "'+x", "-5"} <= set(cells)


def test_answers_and_what_has_none_hold_no_formula(tmp_path):
    write_left_out(tmp_path / "left.csv", [("=cmd().jpg", "-- no picture"), ("a.jpg", "x")])
    assert cells_of(tmp_path / "left.csv")[2:] == ["'=cmd().jpg", "'-- no picture", "a.jpg", "x"]
    schema = pa.schema([("image_file", pa.string()), ("p", pa.float32()), ("unsure", pa.bool_())])
    batch = pa.RecordBatch.from_pylist([{"image_file": "@x", "p": -0.5, "unsure": True}], schema)
    write_answers(tmp_path / "a.csv", schema, [batch])
    assert cells_of(tmp_path / "a.csv")[3:] == ["'@x", "-0.500000", "true"]


@pytest.mark.parametrize("template", ["bars", "confusion_recall"])
def test_the_plots_show_the_labels_as_they_are(tmp_path, template):
    labels = ["=1+1", "'=1", "-x", "@a", "plain", "'t Hooft", "-5"]
    write_csv(tmp_path / "x.csv", pd.DataFrame({"medium": labels, "actual": labels, "count": 1}))
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = [row | {"rev": "here"} for row in csv.DictReader(file)]
    assert rows[0]["medium"] == "'=1+1"
    text = (PROJECT / f".dvc/plots/{template}.json").read_text(encoding="utf-8")
    for name, value in {
        '"<DVC_METRIC_DATA>"': json.dumps(rows),
        '"<DVC_METRIC_PLOT_WIDTH>"': "300",
        '"<DVC_METRIC_PLOT_HEIGHT>"': "300",
        '["<DVC_METRIC_ZOOM_AND_PAN>"]': "[]",
        '"<DVC_METRIC_COLOR>"': "{}",
        '"<DVC_METRIC_COLUMN>"': "{}",
        "<DVC_METRIC_Y>": "actual",
        "<DVC_METRIC_X>": "count" if template == "bars" else "medium",
    }.items():
        text = text.replace(name, value)
    content = json.loads(text)
    content.get("encoding", {}).pop("column", None)
    assert set(labels) <= set(texts({"content": json.dumps(content)}))
