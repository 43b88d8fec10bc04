"""The parser gives the numbers that were written, or one sentence about the first bad row."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import tiny_rows, write_csv_table

from stages import parse_embeddings_to_parquet as stage
from stages.common.stage import PipelineError
from stages.common.tables import ARTEFACTS, matrix, source_of
from stages.simulator import simulate_metadata


@pytest.fixture
def parse(stage_folder):
    """A function that writes rows as a raw table, runs the stage and reads its output."""

    def run(rows, name="table.csv", as_text=True):
        raw = stage_folder / "data/raw"
        raw.mkdir(parents=True, exist_ok=True)
        (raw / "provenance.json").write_text(json.dumps({"source": "file", "file": name}))
        if isinstance(rows, bytes):
            (raw / name).write_bytes(rows)
        elif name.endswith(".csv"):
            write_csv_table(raw / name, rows)
        elif isinstance(rows, pa.Table):
            pq.write_table(rows, raw / name, compression="gzip")
        else:
            pq.write_table(pa.Table.from_pylist(rows), raw / name, compression="gzip")
        stage.main()
        return pq.read_table(ARTEFACTS)

    return run


def with_embedding(text):
    """Two rows, the second one with another text as its embedding."""
    first, second = tiny_rows(1, 2, length=3)
    second["MobileNetV1 features"] = text
    return [first, second]


def refusal(parse, rows, name="table.csv"):
    with pytest.raises(PipelineError) as error:
        parse(rows, name)
    assert "\n" not in str(error.value)
    assert not ARTEFACTS.exists()
    return str(error.value)


def test_csv_and_parquet_of_the_same_rows_give_the_same_table(parse):
    rows = tiny_rows()
    from_csv = parse(rows)
    assert from_csv.equals(parse(rows, "table.parquet"))
    assert from_csv.num_rows == len(rows)


def test_embeddings_are_the_float32_that_were_written(parse):
    rows = tiny_rows(length=5)
    written = np.array([row["MobileNetV1 features"] for row in rows], dtype=np.float32)
    column = parse(rows)["embedding"]
    assert column.type == pa.list_(pa.float32(), 5)
    np.testing.assert_array_equal(matrix(column), written)


@pytest.mark.parametrize(
    "text", ["[1, 2.5, 3e-1]", "[1,2.5,0.3]", " [ 1 ,\n 2.5 , 0.3 ]", "1.0, 2.5, 0.3"]
)
def test_white_space_integers_and_exponents_are_read(parse, text):
    values = matrix(parse(with_embedding(text))["embedding"])
    np.testing.assert_array_equal(values[1], np.array([1, 2.5, 0.3], dtype=np.float32))


@pytest.mark.parametrize(
    "type_",
    [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 3)],
    ids=str,
)
def test_parquet_lists_of_any_kind_are_read(parse, type_):
    rows = with_embedding([1.0, 2.5, 4.0])
    table = pa.Table.from_pylist(rows)
    values = [np.array(row["MobileNetV1 features"], dtype=np.float16) for row in rows]
    table = table.set_column(9, "MobileNetV1 features", pa.array(values, type=type_))
    np.testing.assert_array_equal(matrix(parse(table, "t.parquet")["embedding"])[1], [1, 2.5, 4])


def test_names_are_snake_case_and_the_source_is_kept(parse):
    table = parse(tiny_rows())
    assert table.column_names == [
        "image_file",
        "medium",
        "museum",
        "museum_based_instance_id",
        "subset",
        "width",
        "height",
        "product_size",
        "aspect_ratio",
        "embedding",
    ]
    assert source_of(ARTEFACTS) == "file"


def test_a_simulated_table_is_called_synthetic_whichever_way_it_came(parse, capsys):
    simulated = simulate_metadata("toy", seed=1).head(3)
    parse(simulated.to_csv(index=False).encode(), "mine.csv")
    assert source_of(ARTEFACTS) == "synthetic"
    assert "this table is synthetic" in capsys.readouterr().out


def test_ids_that_look_like_numbers_stay_text(parse):
    rows = tiny_rows(1, 2)
    rows[0]["Museum-based instance ID"] = "007.10"
    assert parse(rows)["museum_based_instance_id"][0].as_py() == "007.10"


@pytest.mark.parametrize("column", ["Medium", "Museum", "Subset"])
def test_blanks_around_a_label_are_removed_and_said(parse, capsys, column):
    rows = tiny_rows(1, 3)
    written = [row[column] for row in rows]
    rows[1][column] += " "
    assert parse(rows)[column.lower()].to_pylist() == written
    said = f"removed blanks around the {column.lower()}, rows changed: 1"
    assert said in capsys.readouterr().out


def test_each_column_keeps_its_own_values(parse):
    rows = tiny_rows(1, 2)
    table = parse(rows).drop_columns(["embedding"])
    assert [list(row.values()) for row in table.to_pylist()] == [list(r.values())[:9] for r in rows]


def test_a_byte_order_mark_and_crlf_change_nothing(parse, stage_folder):
    plain = parse(tiny_rows())
    text = write_csv_table(stage_folder / "t.csv", tiny_rows()).read_bytes()
    windows = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")
    assert parse(windows, "windows.csv").equals(plain)


def test_line_breaks_inside_an_embedding_are_read_across_blocks(parse, monkeypatch):
    rows = tiny_rows(length=64)
    plain = parse(rows)
    for row in rows:
        row["MobileNetV1 features"] = str(row["MobileNetV1 features"]).replace(", ", ",\n ")
    monkeypatch.setattr(stage, "CSV_BLOCK", 4096)
    assert parse(rows).equals(plain)


@pytest.mark.parametrize(
    "type_", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_of_every_kind_is_read_from_parquet(parse, type_):
    rows = tiny_rows()
    plain = parse(rows)
    for row in rows:
        row["MobileNetV1 features"] = str(row["MobileNetV1 features"])
        row["Width"] = str(row["Width"])
    table = pa.Table.from_pylist(rows)
    for name in ("Medium", "Image file", "Width", "MobileNetV1 features"):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table[name].cast(type_))
    assert parse(table, "t.parquet").equals(plain)


def test_whole_numbers_in_parquet_are_read(parse):
    rows = tiny_rows()
    plain = parse(rows)
    for row in rows:
        row["Width"], row["Height"] = int(row["Width"]), int(row["Height"])
    assert parse(rows, "t.parquet").equals(plain)


def test_size_and_aspect_ratio_may_be_missing(parse):
    rows = tiny_rows(1, 2)
    rows[1]["Aspect ratio"] = rows[1]["Product size"] = None
    assert parse(rows)["aspect_ratio"].null_count == 1
    assert parse(rows, "t.parquet")["product_size"].null_count == 1


def test_a_table_without_embeddings_is_metadata_only(parse):
    rows = tiny_rows()
    for row in rows:
        del row["MobileNetV1 features"]
    assert "embedding" not in parse(rows).column_names


def test_the_bytes_do_not_depend_on_the_batches_of_the_input(parse, monkeypatch):
    rows = tiny_rows(length=64)
    parse(rows)
    whole = ARTEFACTS.read_bytes()
    monkeypatch.setattr(stage, "CSV_BLOCK", 4096)
    parse(rows)
    assert ARTEFACTS.read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1, 2]", "the embedding is not 3 finite numbers, it begins [1, 2]"),
        ("[1, 2, nan]", "the embedding is not 3 finite numbers"),
        ("[1, 2, inf]", "the embedding is not 3 finite numbers"),
        ("[1, two, 3]", "the embedding is not 3 finite numbers, it begins [1, two, 3]"),
        ("", "the embedding is empty"),
        ("[0.1 0.2 ... 0.9]", "a NumPy array printed as text"),
        ("[0.1 0.2\n 0.3]", "a NumPy array printed as text"),
        ("[1, 2, 3", "the embedding is cut off, a bracket is missing"),
        ("[[1, 2, 3]]", "the embedding is not 3 finite numbers"),
        ("[x]", "the embedding is not 3 finite numbers"),
        ("[1_0, 2, 3]", "the embedding is not 3 finite numbers"),
        ("[1e39, 2, 3]", "the embedding is not 3 finite numbers"),
    ],
)
def test_a_bad_embedding_is_named_by_row_and_image(parse, text, problem):
    sentence = refusal(parse, with_embedding(text))
    assert sentence.startswith("row 2 (image file tiny-0-1.jpg): ")
    assert problem in sentence


def test_an_embedding_of_nothing_but_text_is_refused_in_the_first_row_too(parse):
    rows = with_embedding("[0.1 0.2 ... 0.9]")[::-1]
    assert refusal(parse, rows).startswith("row 1 (image file tiny-0-1.jpg): ")


def test_a_missing_embedding_in_parquet_is_named(parse):
    sentence = refusal(parse, with_embedding(None), "table.parquet")
    assert sentence.startswith("row 2 (image file tiny-0-1.jpg): the embedding is empty")


def test_rows_are_counted_over_batches(parse, monkeypatch):
    monkeypatch.setattr(stage, "PARQUET_BATCH_ROWS", 10)
    rows = tiny_rows()
    rows[57]["Height"] = -1.0
    sentence = refusal(parse, rows, "table.parquet")
    assert sentence.startswith("row 58 (image file tiny-2-9.jpg): `Height` is not a number above 0")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("Width", "wide", "`Width` is not a number above 0 but 'wide'"),
        ("Width", 0, "`Width` is not a number above 0 but '0'"),
        ("Height", "", "`Height` is not a number above 0 but ''"),
        ("Product size", "-3", "`Product size` is not a number above 0 but '-3'"),
        ("Medium", "  ", "`Medium` is empty"),
        ("Image file", "", "`Image file` is empty"),
    ],
)
def test_bad_metadata_is_named_by_row_and_column(parse, column, value, problem):
    rows = tiny_rows()
    rows[2][column] = value
    sentence = refusal(parse, rows)
    assert sentence.startswith("row 3 (image file ")
    assert problem in sentence


def test_an_image_file_that_stands_twice_is_refused(parse):
    rows = tiny_rows()
    rows[5]["Image file"] = rows[1]["Image file"]
    assert refusal(parse, rows) == "row 6: the image file tiny-0-1.jpg stands in row 2 already"


def test_an_image_file_is_unique_across_batches(parse, monkeypatch):
    monkeypatch.setattr(stage, "PARQUET_BATCH_ROWS", 10)
    rows = tiny_rows()
    rows[25]["Image file"] = rows[1]["Image file"]
    sentence = refusal(parse, rows, "t.parquet")
    assert sentence == "row 26: the image file tiny-0-1.jpg stands in row 2 already"


def test_a_csv_that_was_cut_off_is_refused(parse, stage_folder):
    text = write_csv_table(stage_folder / "t.csv", tiny_rows(1, 2)).read_bytes()[:-10]
    assert "the embedding is cut off" in refusal(parse, text, "cut.csv")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("Width", True, "`Width` holds bool, which is not numbers"),
        ("Width", [1.0], "`Width` holds list<"),
        ("Width", None, "`Width` is not a number above 0"),
        ("Medium", ["a"], "`Medium` holds list<"),
        ("Medium", b"\xff", "`Medium` holds binary, which is not text"),
        ("MobileNetV1 features", 1.0, "holds double, not lists of numbers or their text"),
        ("MobileNetV1 features", [[1.0]], "holds list<element: double>, which is not numbers"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_named(parse, column, value, problem):
    rows = [row | {column: value} for row in tiny_rows(1, 2)]
    assert problem in refusal(parse, rows, "t.parquet")


def test_a_column_of_metadata_is_no_embedding(parse, stage_folder):
    params = stage_folder / "params.yaml"
    params.write_text(params.read_text().replace("MobileNetV1 features", "Medium"))
    assert "`Medium`, which is a column of metadata" in refusal(parse, tiny_rows())


def test_a_missing_column_is_named_beside_those_there_are(parse):
    rows = [{k: v for k, v in row.items() if k != "Medium"} for row in tiny_rows()]
    sentence = refusal(parse, rows)
    assert "has no column `Medium`" in sentence
    assert "`Image file`, `Museum`" in sentence


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b"", "t.csv", "is empty"),
        (b"<!DOCTYPE html>", "t.csv", "has no column `Image file`"),
        (b"\xff\xfe\x00", "t.csv", "cannot be read"),
        (b"PAR1 but no more", "t.parquet", "cannot be read"),
        (b"a,a\n1,2\n", "t.csv", "more than one column `a`"),
        (
            b"Image file,Medium,Museum,Museum-based instance ID,Subset,Width,Height,"
            b"Product size,Aspect ratio\n",
            "t.csv",
            "no rows",
        ),
    ],
)
def test_a_file_that_is_no_table_ends_with_a_sentence(parse, content, name, problem):
    assert problem in refusal(parse, content, name)


def test_a_row_with_too_few_fields_ends_with_a_sentence(parse, stage_folder):
    text = write_csv_table(stage_folder / "t.csv", tiny_rows()).read_bytes() + b"x.jpg,Etching\n"
    assert "cannot be read" in refusal(parse, text, "t.csv")
