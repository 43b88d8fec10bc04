"""Each rule of the contract: the sentence, what is set aside, and what may still pass."""

import csv
import re

import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT, tiny_rows, write_csv_table

from stages.common.errors import PipelineError, shorten
from stages.common.params import ParameterError
from stages.parser import csv_file, parquet_file
from stages.parser.contract import MAME_MEDIUMS, NO_MEDIUMS, RULES
from stages.tables.artefacts import ARTEFACTS
from stages.tables.quarantine import QUARANTINE, QUARANTINE_COLUMNS

SECTION = "parse_embeddings_to_parquet"


def refusal(parse, rows, name="table.csv", source="file"):
    """The lines of the error with which the parser refuses a table."""
    with pytest.raises(PipelineError) as error:
        parse(rows, name, source)
    assert not ARTEFACTS.exists()
    assert not QUARANTINE.exists()
    return str(error.value).split("\n  ")


def changed(row, values, length=3):
    """Six rows, one of them with other values."""
    rows = tiny_rows(1, 6, length=length)
    rows[row].update(values)
    return rows


# The rule, what breaks it, and how the value is shown.
BROKEN = [
    ("image_file", {"Image file": ""}, "nothing"),
    ("image_file", {"Image file": "  "}, ""),
    ("image_file_repeated", {"Image file": "tiny-0-0.jpg"}, "as in line 2"),
    *(
        ("text_too_long", {column: "x" * 1001}, "x" * 60 + "...")
        for column in ("Image file", "Medium", "Museum", "Museum-based instance ID")
    ),
    ("text_too_long", {"Museum": "é" * 1001}, "é" * 60 + "..."),
    ("medium", {"Medium": ""}, "nothing"),
    ("medium", {"Medium": " "}, "nothing"),
    ("subset", {"Subset": "held out"}, "held out"),
    ("subset", {"Subset": ""}, "nothing"),
    ("width", {"Width": "wide"}, "wide"),
    ("width", {"Width": 0}, "0.0"),
    ("width", {"Width": 1_000_001, "Product size": "", "Aspect ratio": ""}, "1000001.0"),
    ("height", {"Height": "1e30", "Product size": "", "Aspect ratio": ""}, "1e+30"),
    ("width", {"Width": "inf", "Product size": "", "Aspect ratio": ""}, "inf"),
    ("width", {"Width": "1_000"}, "1_000"),
    ("height", {"Height": ""}, "nothing"),
    ("height", {"Height": -3}, "-3.0"),
    ("height", {"Height": "nan"}, "nan"),
    ("product_size", {"Product size": "12"}, "12.0"),
    ("product_size", {"Product size": "large"}, "large"),
    ("aspect_ratio", {"Aspect ratio": "99"}, "99.0"),
    ("aspect_ratio", {"Aspect ratio": "4:3"}, "4:3"),
    ("embedding_missing", {"MobileNetV1 features": ""}, "nothing"),
    ("embedding_missing", {"MobileNetV1 features": "[ ]"}, "nothing"),
    ("embedding_length", {"MobileNetV1 features": "[1, 2]"}, "2 numbers"),
    ("embedding_length", {"MobileNetV1 features": "[1,2,3,4]"}, "4 numbers"),
    ("embedding_not_finite", {"MobileNetV1 features": "[1, nan, 3]"}, "nan as number 2"),
    (
        "embedding_not_finite",
        {"MobileNetV1 features": "[1, 2, -Infinity]"},
        "-Infinity as number 3",
    ),
    ("embedding_not_finite", {"MobileNetV1 features": "[1e39, 2, 3]"}, "1e39 as number 1"),
    ("embedding_not_finite", {"MobileNetV1 features": "[1, 2, -1.1e9]"}, "-1.1e9 as number 3"),
    ("embedding_all_zero", {"MobileNetV1 features": "[0, -0.0, 0]"}, "begins [0, -0.0, 0]"),
    ("embedding_all_zero", {"MobileNetV1 features": "[0, -9e-10, 0]"}, "begins [0, -9e-10, 0]"),
    ("embedding_unreadable", {"MobileNetV1 features": "[1, two, 3]"}, "two as number 2"),
    ("embedding_unreadable", {"MobileNetV1 features": "[1_0, 2, 3]"}, "1_0 as number 1"),
    ("embedding_unreadable", {"MobileNetV1 features": "[1, , 3]"}, "nothing as number 2"),
    (
        "embedding_unreadable",
        {"MobileNetV1 features": "[1, 2, 3"},
        "one bracket without the other in [1, 2, 3",
    ),
    ("embedding_unreadable", {"MobileNetV1 features": "[[1, 2, 3]]"}, "[1 as number 1"),
    ("embedding_unreadable", {"MobileNetV1 features": "[1, None, 3]"}, "None as number 2"),
    (
        "embedding_printed",
        {"MobileNetV1 features": "[0.1 0.2 ... 0.9]"},
        "begins [0.1 0.2 ... 0.9]",
    ),
    ("embedding_printed", {"MobileNetV1 features": "[0.1 0.2\n 0.3]"}, "begins [0.1 0.2 0.3]"),
    (
        "embedding_printed",
        {"MobileNetV1 features": "[np.float32(0.1), 2]"},
        "begins [np.float32(0.1), 2]",
    ),
    ("embedding_printed", {"MobileNetV1 features": "tensor([0.1, 2])"}, "begins tensor([0.1, 2])"),
]


@pytest.mark.parametrize(("rule", "values", "shown"), BROKEN)
def test_a_row_that_breaks_a_rule_is_named_with_its_line_image_file_and_value(
    parse, rule, values, shown
):
    rows = changed(4, values)
    sentence, *examples = refusal(parse, rows)
    assert sentence.startswith(f"bad rows: 1 of 6 (1 {RULES[rule].broken}).")
    assert "Nothing was written" in sentence
    image_file = shorten(rows[4]["Image file"]) or "not named"
    line = 6 + sum(str(row["MobileNetV1 features"]).count("\n") for row in rows[:4])
    assert examples == [f"line {line}, image file {image_file}: {RULES[rule].broken}: {shown}"]


@pytest.mark.parametrize(
    ("rule", "column", "value", "shown"),
    [
        ("width", "Width", None, "nothing"),
        ("medium", "Medium", None, "nothing"),
        ("embedding_missing", "MobileNetV1 features", None, "nothing"),
        ("embedding_missing", "MobileNetV1 features", [], "nothing"),
        ("embedding_length", "MobileNetV1 features", [1.0], "1 numbers"),
        ("embedding_not_finite", "MobileNetV1 features", [1.0, None, 3.0], "nothing as number 2"),
        ("embedding_not_finite", "MobileNetV1 features", [1.0, 2.0, 1e300], "1e+300 as number 3"),
        ("embedding_all_zero", "MobileNetV1 features", [0.0, 0.0, 0.0], "begins [0.0, 0.0, 0.0]"),
    ],
)
def test_a_row_of_a_parquet_file_is_named_by_its_number(parse, rule, column, value, shown):
    rows = changed(4, {column: value})
    _, *examples = refusal(parse, rows, "t.parquet")
    assert examples == [f"row 5, image file tiny-0-4.jpg: {RULES[rule].broken}: {shown}"]


def test_every_rule_is_tested_here():
    tested = {rule for rule, *_ in [*BROKEN, *BROKEN_EXTRA]}
    tested |= {"medium_unknown", "fields", "embedding_outlier"}
    assert tested == set(RULES)


def test_texts_of_a_thousand_characters_and_sizes_of_a_million_pixels_are_good(parse):
    columns = ("Image file", "Medium", "Museum", "Museum-based instance ID")
    values = dict.fromkeys(columns, "é" * 1000)
    sizes = {"Width": 1_000_000, "Height": 1_000_000, "Product size": "", "Aspect ratio": ""}
    assert parse(changed(4, values | sizes)).num_rows == 6


def with_outlier(row, factor=None, number=None, rows=30):
    """Rows of which one has an embedding that is too long, or one number that is."""
    table = tiny_rows(1, rows)
    embedding = np.array(table[row]["MobileNetV1 features"])
    if factor:
        embedding *= factor
    if number:
        embedding[5] = number
    table[row]["MobileNetV1 features"] = embedding.tolist()
    return table


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("row", [0, 29])
@pytest.mark.parametrize("change", [{"factor": 100}, {"number": 1e8}, {"number": -1e8}], ids=str)
def test_an_embedding_that_is_far_longer_than_the_others_is_refused(parse, name, row, change):
    rows = with_outlier(row, **change)
    sentence, example = refusal(parse, rows, name)
    assert f"(1 {RULES['embedding_outlier'].broken})" in sentence
    largest = np.abs(rows[row]["MobileNetV1 features"]).argmax()
    shown = f"{rows[row]['MobileNetV1 features'][largest]} as number {largest + 1}"
    assert example.endswith(
        f"image file tiny-0-{row}.jpg: {RULES['embedding_outlier'].broken}: {shown}"
    )


def test_an_embedding_is_compared_with_the_median_of_the_first_rows(parse):
    norms = np.linalg.norm([row["MobileNetV1 features"] for row in tiny_rows(1, 30)], axis=1)
    # The row itself is one of those of which the median is taken, and does not move it.
    factor = 10 * np.median(norms) / norms[3]
    assert parse(with_outlier(3, factor * 0.99)).num_rows == 30
    ARTEFACTS.unlink()
    QUARANTINE.unlink()
    refusal(parse, with_outlier(3, factor * 1.01))


def test_few_rows_are_not_enough_to_call_one_of_them_an_outlier(parse):
    assert parse(with_outlier(3, 1000, rows=29)).num_rows == 29


def test_rows_are_counted_across_batches_until_there_are_enough(parse, monkeypatch):
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 2000)
    _, example = refusal(parse, with_outlier(2, 1000, rows=60))
    assert "image file tiny-0-2.jpg" in example


def test_a_good_row_stays_whose_image_file_a_bad_row_had_before(parse, set_params):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.5})
    rows = tiny_rows(1, 10, length=3)
    plain = parse(rows)
    rows[2]["Image file"] = rows[6]["Image file"]
    rows[2]["Width"] = "wide"
    rows[9]["Image file"] = rows[6]["Image file"]
    assert parse(rows).equals(plain.take([0, 1, 3, 4, 5, 6, 7, 8]))
    assert [(row["row"], row["rule"], row["value"]) for row in quarantined()] == [
        ("3", "width", "wide"),
        ("10", "image_file_repeated", "as in line 8"),
    ]


def test_a_medium_that_mame_does_not_have_is_refused_in_mame_only(parse):
    rows = [row | {"Medium": MAME_MEDIUMS[i]} for i, row in enumerate(tiny_rows(1, 3))]
    rows[1]["Medium"] += " "  # as MAMe's own file has it
    assert parse(rows, source="mame").num_rows == 3
    rows[1]["Medium"] = "Chocolate"
    assert parse(rows).num_rows == 3
    ARTEFACTS.unlink()
    QUARANTINE.unlink()
    _, example = refusal(parse, rows, source="mame")
    assert example.endswith(f"{RULES['medium_unknown'].broken}: Chocolate")


def test_any_subset_passes_where_the_split_does_not_use_it(parse, set_params):
    set_params(**{"split.strategy": "stratified"})
    rows = changed(4, {"Subset": "held out"})
    assert parse(rows)["subset"][4].as_py() == "held out"
    set_params(**{f"{SECTION}.columns.subset": None})
    assert set(parse(rows)["subset"].to_pylist()) == {""}


def test_the_official_split_needs_a_column_of_subsets(parse, set_params):
    set_params(**{f"{SECTION}.columns.subset": None})
    with pytest.raises(ParameterError, match=r"`split\.strategy` is official"):
        parse(tiny_rows())


@pytest.mark.parametrize(("column", "factor"), [("Product size", 1.0009), ("Aspect ratio", 1.0009)])
def test_a_rounded_size_or_ratio_passes(parse, column, factor):
    rows = tiny_rows(1, 6)
    rows[3][column] *= factor
    rows[4][column] = ""
    assert parse(rows).num_rows == 6


def test_rows_are_counted_by_rule_and_the_first_ten_are_shown(parse):
    rows = tiny_rows(2, 20)
    for row in rows[3:18]:
        row["Width"] = "?"
    rows[30]["Medium"] = ""
    rows[5]["Medium"] = ""
    sentence, *examples = refusal(parse, rows)
    assert sentence.startswith(
        "bad rows: 16 of 40 (15 have a width that is not a number from 1 to 1,000,000; "
        "2 have no medium)."
    )
    lines = [int(re.match(r"line (\d+)", example)[1]) for example in examples]
    assert lines == [5, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14]


def test_lines_are_those_of_the_file_also_after_line_breaks_and_empty_lines(parse, stage_folder):
    rows = changed(4, {"Width": "wide"})
    rows[1]["Museum"] = "one\ntwo\r\nthree"
    path = write_csv_table(stage_folder / "t.csv", rows)
    text = path.read_bytes().replace(b"tiny-0-3.jpg", b"\n\ntiny-0-3.jpg")
    _, example = refusal(parse, text)
    assert text.split(b"\n")[int(re.match(r"line (\d+)", example)[1]) - 1].startswith(b"tiny-0-4")


def test_a_row_with_too_many_or_too_few_fields_is_named(parse, stage_folder):
    rows = tiny_rows(1, 6, length=3)
    lines = write_csv_table(stage_folder / "t.csv", rows).read_bytes().splitlines()
    lines[2] = lines[2].replace(b'"', b"")
    lines[4] = b"x.jpg,Etching"
    lines[6] = lines[6].replace(rows[5]["Medium"].encode(), b"")
    sentence, *examples = refusal(parse, b"\n".join(lines))
    assert sentence.startswith(
        "bad rows: 3 of 6 (2 have more or fewer fields than the header; 1 has no medium). "
        "A text with commas, such as a list, needs quotes around it."
    )
    assert examples == [
        "line 3, image file tiny-0-1.jpg: has more or fewer fields than the header: "
        "12 instead of 10",
        "line 5, image file x.jpg: has more or fewer fields than the header: 2 instead of 10",
        "line 7, image file tiny-0-5.jpg: has no medium: nothing",
    ]


def test_a_list_without_quotes_in_every_row_is_explained(parse, stage_folder):
    text = write_csv_table(stage_folder / "t.csv", tiny_rows()).read_bytes().replace(b'"', b"")
    (sentence,) = refusal(parse, text)
    assert "no row has as many fields as the header, which has 10" in sentence
    assert "needs quotes around it" in sentence


def test_a_printed_array_is_explained_with_what_to_do(parse):
    rows = [row | {"MobileNetV1 features": "[0.1 0.2 ... 0.9]"} for row in tiny_rows()]
    sentence, *examples = refusal(parse, rows)
    assert sentence.startswith(
        "bad rows: 144 of 144 (144 have an embedding that is a NumPy array printed as text)."
    )
    assert "The numbers are lost" in sentence
    assert "`array.tolist()`" in sentence
    assert len(examples) == 10


def test_the_length_that_most_rows_have_is_the_right_one(parse):
    _, example = refusal(parse, changed(0, {"MobileNetV1 features": [1.0]}))
    assert example.startswith("line 2, ")


def test_the_length_is_known_although_the_first_batches_have_bad_rows_only(
    parse, set_params, monkeypatch
):
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 2000)
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.5})
    rows = tiny_rows()
    for row in rows[:40]:
        row["MobileNetV1 features"] = "[0.1 0.2]"
    assert parse(rows).num_rows == 104


def test_one_column_for_each_dimension_is_held_to_the_same_rules(parse):
    rows = tiny_rows(1, 6, length=2)
    for row in rows:
        row["f0"], row["f1"] = row.pop("MobileNetV1 features")
    rows[1]["f1"] = "x"
    rows[2]["f0"] = ""
    rows[3]["f1"] = "nan"
    rows[4]["f0"] = rows[4]["f1"] = 0
    sentence, *examples = refusal(parse, rows)
    assert sentence.startswith(
        "bad rows: 4 of 6 (2 have an embedding that is not a list of numbers"
    )
    assert [example.split(": ")[-1] for example in examples] == [
        "x as number 2",
        "nothing as number 1",
        "nan as number 2",
        "begins ['0', '0']",
    ]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_an_image_file_is_unique_across_batches(parse, monkeypatch, name):
    monkeypatch.setattr(parquet_file, "PARQUET_BATCH_ROWS", 10)
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 2000)
    rows = tiny_rows()
    for repeated in (100, 105):  # the first row of a batch, and one within
        rows[repeated]["Image file"] = rows[1]["Image file"]
    _, *examples = refusal(parse, rows, name)
    csv = name == "t.csv"
    for row, example in zip((101, 106), examples, strict=True):
        place = f"line {row + 1}" if csv else f"row {row}"
        assert example.startswith(f"{place}, image file tiny-0-1.jpg")
        assert example.endswith("as in line 3" if csv else "as in row 2")


def quarantined(path=QUARANTINE):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_bad_rows_are_set_aside_with_their_reasons(parse, set_params, capsys):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.5})
    rows = tiny_rows(1, 10, length=3)
    plain = parse(rows)
    rows[2]["Width"] = "wide"
    rows[2]["Medium"] = ""
    rows[6]["MobileNetV1 features"] = "[1, nan, 3]"
    rows[8]["Image file"] = rows[0]["Image file"]
    assert parse(rows).equals(plain.take([0, 1, 3, 4, 5, 7, 9]))
    table = quarantined()
    assert tuple(table[0]) == tuple(QUARANTINE_COLUMNS)
    assert [tuple(row.values()) for row in table] == [
        ("3", "4", "tiny-0-2.jpg", "medium", "nothing", RULES["medium"].broken),
        ("3", "4", "tiny-0-2.jpg", "width", "wide", RULES["width"].broken),
        (
            "7",
            "8",
            "tiny-0-6.jpg",
            "embedding_not_finite",
            "nan as number 2",
            RULES["embedding_not_finite"].broken,
        ),
        (
            "9",
            "10",
            "tiny-0-0.jpg",
            "image_file_repeated",
            "as in line 2",
            RULES["image_file_repeated"].broken,
        ),
    ]
    assert "bad rows: 3 of 10" in capsys.readouterr().out


def test_rows_with_other_fields_are_set_aside_too_and_rows_after_them_keep_their_place(
    parse, set_params, stage_folder
):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.5})
    rows = tiny_rows(1, 6, length=3)
    rows[5]["Width"] = "wide"
    lines = write_csv_table(stage_folder / "t.csv", rows).read_bytes().splitlines()
    lines[2] = b"x.jpg,Etching"
    assert parse(b"\n".join(lines)).num_rows == 4
    found = [(row["row"], row["line"], row["rule"]) for row in quarantined()]
    assert found == [("2", "3", "fields"), ("6", "7", "width")]


def test_a_row_of_parquet_that_is_set_aside_has_no_line(parse, set_params):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.5})
    parse(changed(4, {"Width": -1.0}), "t.parquet")
    assert [(row["row"], row["line"]) for row in quarantined()] == [("5", "")]


def test_more_bad_rows_than_allowed_stop_and_write_nothing(parse, set_params):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.25})
    rows = tiny_rows(1, 8)
    rows[1]["Width"] = rows[2]["Width"] = "wide"
    assert parse(rows).num_rows == 6  # exactly as many as allowed
    ARTEFACTS.unlink()
    QUARANTINE.unlink()
    rows[3]["Width"] = "wide"
    sentence, *examples = refusal(parse, rows)
    assert "bad rows: 3 of 8" in sentence
    assert "`parse_embeddings_to_parquet.max_bad_fraction` allows 0.25 of the rows" in sentence
    assert len(examples) == 3


def test_a_table_of_bad_rows_only_is_refused_whatever_is_allowed(parse, set_params):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 1.0})
    rows = [row | {"Width": "wide"} for row in tiny_rows(1, 3)]
    assert refusal(parse, rows)[0].startswith("bad rows: 3 of 3")


def test_extra_columns_stay_with_their_rows_when_rows_are_set_aside(parse, set_params):
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.max_bad_fraction": 0.5})
    set_params(**{f"{SECTION}.extra_columns": {"Artist": "category", "Year": "number"}})
    rows = [
        row | {"Artist": f"No {i}", "Year": i} for i, row in enumerate(changed(4, {"Width": "?"}))
    ]
    rows[1]["Year"] = "about 1900"
    table = parse(rows)
    assert table["Artist"].to_pylist() == ["No 0", "No 2", "No 3", "No 5"]
    assert table["Year"].to_pylist() == [0, 2, 3, 5]
    assert [(row["row"], row["rule"], row["value"]) for row in quarantined()] == [
        ("2", "extra_number", "`Year`: about 1900"),
        ("5", "width", "?"),
    ]


# The rule, what an extra column is said to hold, what it has in one row, and how that is shown.
BROKEN_EXTRA = [
    ("extra_number", "number", "unknown", "`More`: unknown"),
    ("extra_number", "number", "1_000", "`More`: 1_000"),
    ("extra_number", "number", "nan", "`More`: nan"),
    ("extra_number", "number", "-inf", "`More`: -inf"),
    ("extra_number", "number", "1e999", "`More`: inf"),
    ("text_too_long", "category", "é" * 1001, f"`More`: {'é' * 52}..."),
]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(("rule", "kind", "value", "shown"), BROKEN_EXTRA)
def test_an_extra_column_that_breaks_a_rule_is_named_with_its_value(
    parse, set_params, name, rule, kind, value, shown
):
    set_params(**{f"{SECTION}.extra_columns": {"More": kind}})
    rows = [row | {"More": "12"} for row in tiny_rows(1, 6)]
    rows[4]["More"] = value
    sentence, example = refusal(parse, rows, name)
    assert sentence.startswith(f"bad rows: 1 of 6 (1 {RULES[rule].broken}).")
    place = "line 6" if name == "t.csv" else "row 5"
    assert example == f"{place}, image file tiny-0-4.jpg: {RULES[rule].broken}: {shown}"


def test_a_category_of_a_thousand_characters_and_a_missing_number_are_good(parse, set_params):
    set_params(**{f"{SECTION}.extra_columns": {"Artist": "category", "Year": "number"}})
    rows = [row | {"Artist": "é" * 1000, "Year": ""} for row in tiny_rows(1, 6)]
    assert parse(rows).num_rows == 6


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("number", True, "`More` holds bool, which is not numbers"),
        ("number", [1.0], "`More` holds list<"),
        ("category", ["a"], "`More` holds list<"),
        ("category", {"a": 1}, "`More` holds struct<"),
    ],
)
def test_an_extra_column_of_a_type_that_does_not_fit_is_named(
    parse, set_params, kind, value, problem
):
    set_params(**{f"{SECTION}.extra_columns": {"More": kind}})
    rows = [row | {"More": value} for row in tiny_rows(1, 2)]
    assert problem in refusal(parse, rows, "t.parquet")[0]


def test_an_extra_column_that_the_table_lacks_is_named_beside_those_there_are(parse, set_params):
    set_params(**{f"{SECTION}.extra_columns": {"Yeer": "number"}})
    (sentence,) = refusal(parse, [row | {"Year": 1} for row in tiny_rows(1, 2)])
    assert sentence.startswith(
        "the raw table has no column `Yeer`, which `parse_embeddings_to_parquet.extra_columns` "
        "names; it has `Image file`, `Medium`"
    )
    assert sentence.endswith("`MobileNetV1 features`, `Year`")


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("keep", "`{}.extra_columns` should be a mapping of columns to number or category, not "),
        (
            {"Year": "integer"},
            "`{}.extra_columns.Year` should be 'number' or 'category', not 'integer'",
        ),
        ({1900: "number"}, "`{}.extra_columns.1900` should be a valid string, not 1900"),
        (
            {"Medium": "category"},
            "`{}` names the column `Medium` in `extra_columns` and as `columns.medium`: ",
        ),
        (
            {"MobileNetV1 features": "category"},
            "`{}` names the column `MobileNetV1 features` in `extra_columns` and as ",
        ),
        ({"width": "number"}, "`{}` has `width` in `extra_columns`, which the artefacts table "),
        ({"embedding": "number"}, "`{}` has `embedding` in `extra_columns`, which the artefacts "),
    ],
    ids=str,
)
def test_extra_columns_that_cannot_be_are_refused_before_any_work(
    parse, set_params, extra, problem
):
    set_params(**{f"{SECTION}.extra_columns": extra})
    rows = [row | {"width": 3, "Year": 1, "embedding": 1} for row in tiny_rows()]
    with pytest.raises(ParameterError) as error:
        parse(rows)
    assert str(error.value).startswith("params.yaml: " + problem.format(SECTION))
    assert "\n" not in str(error.value)


def test_what_is_shown_of_a_value_is_short_and_harmless(parse):
    rows = changed(4, {"Width": "\x1b[31m" + "wide " * 1000, "Image file": "a\nb.jpg"})
    _, example = refusal(parse, rows)
    assert "image file a b.jpg" in example
    assert "\x1b" not in example
    assert len(example) < 200


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("Width", True, "`Width` holds bool, which is not numbers"),
        ("Width", [1.0], "`Width` holds list<"),
        ("Medium", ["a"], "`Medium` holds list<"),
        ("Medium", b"\xff", "`Medium` holds binary, which is not text"),
        ("MobileNetV1 features", True, "holds bool, not lists of numbers or their text"),
        ("MobileNetV1 features", [[1.0]], "holds lists of list<element: double>, not of numbers"),
        ("MobileNetV1 features", [True], "holds lists of bool, not of numbers"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_named(parse, column, value, problem):
    rows = [row | {column: value} for row in tiny_rows(1, 2)]
    assert problem in refusal(parse, rows, "t.parquet")[0]


def test_two_uses_of_one_column_are_refused(parse, set_params):
    set_params(**{f"{SECTION}.columns.embedding": "Medium"})
    with pytest.raises(ParameterError, match="names the column `Medium` 2 times"):
        parse(tiny_rows())


def test_a_missing_column_is_named_beside_those_there_are_and_its_parameter(parse):
    rows = [{k: v for k, v in row.items() if k != "Medium"} for row in tiny_rows()]
    (sentence,) = refusal(parse, rows)
    assert "has no column `Medium`; it has `Image file`, `Museum`" in sentence
    assert "`parse_embeddings_to_parquet.columns.medium` says what the column is called" in sentence
    assert sentence.endswith(NO_MEDIUMS)


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
def test_a_table_without_a_medium_cannot_be_trained_on_and_predict_answers_for_it(
    parse, set_params, on_bad_row
):
    set_params(**{f"{SECTION}.on_bad_row": on_bad_row})
    rows = [row | {"Medium": ""} for row in tiny_rows()]
    (sentence,) = refusal(parse, rows)
    assert sentence == f"no row of data/raw/table.csv has a medium, and {NO_MEDIUMS}"
    assert "`python -m commands.predict` answers for it" in NO_MEDIUMS


def test_columns_that_a_table_may_lack_come_with_the_options_that_say_so(parse, set_params):
    lacking = ("Museum", "Subset", "Aspect ratio")
    rows = [{k: v for k, v in row.items() if k not in lacking} for row in tiny_rows()]
    (sentence,) = refusal(parse, rows)
    keys = [f"{SECTION}.columns.{key}" for key in ("museum", "subset", "aspect_ratio")]
    options = " ".join(f"-S {key}=null" for key in keys)
    assert sentence.endswith(f"`dvc exp run {options} -S split.strategy=stratified`")
    set_params(**dict.fromkeys(keys), **{"split.strategy": "stratified"})
    assert parse(rows).num_rows == len(rows)


def test_the_usual_words_for_a_subset_are_understood_and_said(parse, capsys):
    words = ["TRAIN ", "Training", "dev", "Validation", "testing", "train"]
    rows = [row | {"Subset": word} for row, word in zip(tiny_rows(1, 6), words, strict=True)]
    found = parse(rows)["subset"].to_pylist()
    assert found == ["train", "train", "val", "val", "test", "train"]
    said = capsys.readouterr().out
    for word, name in zip(words[1:5], found[1:5], strict=True):
        assert f"read the subset `{word}` as {name}, rows changed: 1" in said
    assert "`train` as" not in said


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (["f0", "f2"], "the numbered columns that begin with `f` have no 1"),
        (["f0", "f1", "f01"], "the numbered columns that begin with `f` have twice 1"),
        (["f0", "f1", "g0", "g1"], "begin with `f`, `g`: set"),
    ],
)
def test_numbered_columns_that_are_no_embedding_by_themselves_are_named(parse, columns, problem):
    rows = tiny_rows(1, 2)
    for row in rows:
        del row["MobileNetV1 features"]
        row.update(dict.fromkeys(columns, 1.0))
    assert problem in refusal(parse, rows)[0]


def test_the_document_of_the_contract_has_every_rule_with_its_reason():
    text = (PROJECT / "docs/table.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Rules\n(.*)", text, re.MULTILINE | re.DOTALL)
    rules = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
    assert rules == {name: f"{rule.broken} | {rule.reason}" for name, rule in RULES.items()}


def test_the_mediums_of_mame_are_those_of_the_simulator(stage_folder):
    import pandas as pd

    facts = pd.read_csv(PROJECT / "stages/sources/simulator_facts.csv")
    assert set(facts["medium"].str.strip()) == set(MAME_MEDIUMS)


def test_a_rule_that_is_broken_beyond_the_first_batch_is_found(parse, monkeypatch):
    monkeypatch.setattr(parquet_file, "PARQUET_BATCH_ROWS", 10)
    rows = tiny_rows()
    rows[57]["Height"] = -1.0
    _, example = refusal(parse, rows, "t.parquet")
    assert example.startswith("row 58, image file tiny-2-9.jpg")


def test_dictionary_text_in_parquet_is_held_to_the_rules(parse):
    table = pa.Table.from_pylist(changed(4, {"Medium": ""}))
    index = table.schema.get_field_index("Medium")
    column = table["Medium"].cast(pa.dictionary(pa.int32(), pa.string()))
    assert refusal(parse, table.set_column(index, "Medium", column), "t.parquet")[1].startswith(
        "row 5"
    )
