"""The parser gives the numbers that were written, whatever form the table has."""

import gzip
import json
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, tiny_rows, write_csv_table
from dvc.utils.hydra import apply_overrides

from stages import parse_embeddings_to_parquet as stage
from stages.common.errors import PipelineError
from stages.common.params import ParameterError
from stages.parser import csv_file
from stages.sources.identity import KNOWN
from stages.sources.simulator import simulate_metadata
from stages.tables.artefacts import ARTEFACTS, Artefacts, embedding_identity
from stages.tables.parquet import matrix, read_batches, source_of
from stages.tables.quarantine import QUARANTINE

ROWS = tiny_rows()
SECTION = "parse_embeddings_to_parquet"


def with_embedding(text):
    """Two rows, the second one with another text as its embedding."""
    first, second = tiny_rows(1, 2, length=3)
    second["MobileNetV1 features"] = text
    return [first, second]


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


def half_table(rows: list[dict], type_: pa.DataType | None = None) -> pa.Table:
    """Rows as a raw table whose embeddings are lists of half floats."""
    table = pa.Table.from_pylist([{**row, "MobileNetV1 features": None} for row in rows])
    lists = [row["MobileNetV1 features"] for row in rows]
    halves = [x if x is None else [y and np.float16(y) for y in x] for x in lists]
    column = pa.array(halves, type_ or pa.list_(pa.float16()))
    return table.set_column(9, "MobileNetV1 features", column)


@pytest.mark.parametrize(
    "type_",
    [pa.list_(pa.float16()), pa.large_list(pa.float16()), pa.list_(pa.float16(), 8)],
    ids=str,
)
def test_lists_of_half_floats_stay_so_and_are_read_as_float32(parse, type_):
    rows = tiny_rows()
    column = parse(half_table(rows, type_), "t.parquet")["embedding"]
    assert column.type == pa.list_(pa.float16(), 8)
    expected = np.array([row["MobileNetV1 features"] for row in rows], dtype=np.float16)
    for values in (matrix(column), Artefacts.of(next(read_batches(ARTEFACTS)))["embedding"]):
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("rule", "embedding"),
    [
        ("embedding_missing", None),
        ("embedding_length", [1.0, 2.0]),
        ("embedding_not_finite", [1.0] * 7 + [np.nan]),
        ("embedding_not_finite", [1.0] * 7 + [-np.inf]),
        ("embedding_not_finite", [1.0] * 7 + [None]),
        ("embedding_all_zero", [0.0] * 8),
        ("embedding_outlier", [1000.0] * 8),
    ],
)
def test_rules_for_embeddings_hold_for_half_floats(parse, set_params, rule, embedding):
    set_params(**{"parse_embeddings_to_parquet.on_bad_row": "quarantine"})
    rows = tiny_rows()
    rows[40]["MobileNetV1 features"] = embedding
    table = parse(half_table(rows), "t.parquet")
    assert rows[40]["Image file"] not in table["image_file"].to_pylist()
    assert table.num_rows == len(rows) - 1
    found = pd.read_csv(QUARANTINE)
    assert found["rule"].tolist() == [rule]


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


def test_letters_and_their_accents_are_joined_and_that_is_said(parse, capsys):
    rows = tiny_rows(1, 3)
    for row, label in zip(rows, ["Caf\u00e9", "Cafe\u0301", "Cafe\u0301 "], strict=True):
        row["Medium"] = label
    assert parse(rows)["medium"].to_pylist() == ["Caf\u00e9"] * 3
    printed = capsys.readouterr().out
    assert "joined letters with their accents in the medium, rows changed: 2" in printed
    assert "removed blanks around the medium, rows changed: 1" in printed


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
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 4096)
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
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 4096)
    parse(rows)
    assert ARTEFACTS.read_bytes() == whole


def test_one_column_for_each_dimension_is_the_embedding_in_the_order_of_the_numbers(parse, capsys):
    rows = tiny_rows(length=12)
    plain = parse(rows)
    wide = [by_dimension(row, "feature_", first=0) for row in rows]
    assert parse(wide).equals(plain)
    assert "12 columns, first and last `feature_0`, `feature_11`" in capsys.readouterr().out
    assert parse(wide, "t.parquet").equals(plain)
    # From 1, with zeros in front and in another order.
    shuffled = [dict(reversed(by_dimension(row, "v", first=1, zeros=3).items())) for row in rows]
    assert parse(shuffled).equals(plain)


def by_dimension(row, prefix, first, zeros=1):
    row = dict(row)
    for number, value in enumerate(row.pop("MobileNetV1 features"), first):
        row[f"{prefix}{number:0{zeros}}"] = value
    return row


def test_the_beginning_of_numbered_columns_can_be_named(parse, set_params):
    rows = [by_dimension(row, "f", first=0) | {"keyword1": "a", "keyword2": "b"} for row in ROWS]
    set_params(**{f"{SECTION}.columns.embedding": "f"})
    assert parse(rows)["embedding"].type == pa.list_(pa.float32(), 8)


def test_columns_of_any_name_are_mapped_by_parameters(parse, set_params):
    plain = parse(ROWS)
    names = {
        "Image file": "picture",
        "Medium": "medio",
        "Museum": "casa",
        "Museum-based instance ID": "number",
        "Subset": "part",
        "Width": "w",
        "Height": "h",
        "Product size": "area",
        "Aspect ratio": "w:h",
        "MobileNetV1 features": "vector, ours",
    }
    rows = [{names[key]: value for key, value in row.items()} for row in ROWS]
    keys = [*plain.column_names]
    set_params(
        **{f"{SECTION}.columns.{k}": name for k, name in zip(keys, names.values(), strict=True)}
    )
    assert parse(rows).equals(plain)


def test_columns_that_a_table_lacks_are_left_empty_where_that_is_said(parse, set_params):
    lacking = ("museum", "museum_based_instance_id", "product_size", "aspect_ratio")
    set_params(**{f"{SECTION}.columns.{key}": None for key in lacking})
    kept = ("Image file", "Medium", "Subset", "Width", "Height", "MobileNetV1 features")
    rows = [{key: row[key] for key in kept} for row in ROWS]
    table = parse(rows)
    assert set(table["museum"].to_pylist()) == {""}
    assert table["aspect_ratio"].null_count == len(rows)


def test_an_embedding_that_is_set_to_null_is_not_read(parse, set_params):
    set_params(**{f"{SECTION}.columns.embedding": None})
    assert "embedding" not in parse(ROWS).column_names
    assert stage.main().endswith(f"metadata only: `{SECTION}.columns.embedding` is null")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_columns_that_are_named_nowhere_are_left_out_and_said(parse, capsys, name):
    rows = [row | {"Artist": f"No {i}", "Year": 1900 + i} for i, row in enumerate(ROWS)]
    assert parse(rows, name).equals(parse(ROWS))
    said = f"left out: `Artist`, `Year`; `{SECTION}.extra_columns` keeps those it names\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_an_extra_column_is_kept_as_what_it_is_said_to_hold(parse, set_params, name):
    plain = parse(ROWS)
    rows = [row | {"Artist": f"No {i}", "Year": 1900 + i} for i, row in enumerate(ROWS)]
    rows[1]["Artist"] = rows[2]["Year"] = None
    set_params(**{f"{SECTION}.extra_columns": {"Year": "number", "Artist": "category"}})
    kept = parse(rows, name)
    assert kept.column_names == [*plain.column_names, "Year", "Artist"]
    assert kept.schema.field("Year").type == pa.float64()
    assert kept.schema.field("Artist").type == pa.string()
    assert kept["Artist"].to_pylist() == ["No 0", "", *(f"No {i}" for i in range(2, len(ROWS)))]
    years = [1900.0 + i for i in range(len(ROWS))]
    assert kept["Year"].to_pylist() == [*years[:2], None, *years[3:]]
    assert kept.select(plain.column_names).equals(plain)


def test_blanks_around_an_extra_category_are_removed_and_said(parse, set_params, capsys):
    set_params(**{f"{SECTION}.extra_columns": {"Artist": "category"}})
    rows = [row | {"Artist": " Dürer "} for row in tiny_rows(1, 3)]
    assert parse(rows)["Artist"].to_pylist() == ["Dürer"] * 3
    said = "removed blanks around the text of `Artist`, rows changed: 3"
    assert said in capsys.readouterr().out


def test_numbered_columns_that_are_extra_ones_are_not_taken_for_the_embedding(parse, set_params):
    rows = [by_dimension(row, "f", first=0) | {"keyword1": "a", "keyword2": "b"} for row in ROWS]
    set_params(**{f"{SECTION}.extra_columns": {"keyword1": "category", "keyword2": "category"}})
    table = parse(rows)
    assert table["embedding"].type == pa.list_(pa.float32(), 8)
    assert set(table["keyword2"].to_pylist()) == {"b"}


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (pa.array([1, None]), "category", ["1", ""]),
        (pa.array([1.5, None]), "category", ["1.5", ""]),
        (pa.array([True, None]), "category", ["true", ""]),
        (pa.array(["a", None]).dictionary_encode(), "category", ["a", ""]),
        (pa.array(["a", " b"], pa.large_string()), "category", ["a", "b"]),
        (pa.nulls(2), "category", ["", ""]),
        (pa.array([" 1e3 ", ""]), "number", [1000.0, None]),
        (pa.array([Decimal("1.25"), None]), "number", [1.25, None]),
        (pa.array([7, 8], pa.uint8()), "number", [7.0, 8.0]),
        (pa.array(["7", "8"]).dictionary_encode(), "number", [7.0, 8.0]),
        (pa.nulls(2), "number", [None, None]),
    ],
    ids=str,
)
def test_extra_columns_of_every_type_that_fits_are_read(parse, set_params, column, kind, expected):
    set_params(**{f"{SECTION}.extra_columns": {"More": kind}})
    table = pa.Table.from_pylist(tiny_rows(1, 2)).append_column("More", column)
    assert parse(table, "t.parquet")["More"].to_pylist() == expected


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst"])
def test_packed_csv_is_unpacked_by_its_name(parse, stage_folder, suffix):
    plain = parse(ROWS)
    text = write_csv_table(stage_folder / "t.csv", ROWS).read_bytes()
    packed = gzip.compress(text) if suffix == ".csv.gz" else pa.compress(text, "zstd", asbytes=True)
    assert parse(packed, f"t{suffix}").equals(plain)
    if suffix == ".csv.gz":  # of several members, as parallel packers write it
        half = len(text) // 2
        members = gzip.compress(text[:half]) + gzip.compress(text[half:])
        assert parse(members, "t.csv.gz").equals(plain)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_empty_lines_are_no_rows(parse, stage_folder, line_end):
    text = write_csv_table(stage_folder / "t.csv", ROWS).read_bytes()
    lines = text.splitlines()
    assert parse(line_end.join([b"", lines[0], b"", *lines[1:], b"", b""])).equals(parse(ROWS))


def test_numbers_too_small_for_32_bits_become_zero_as_the_nearest(parse):
    values = matrix(parse(with_embedding("[1e-60, 1, 1e-400]"))["embedding"])
    np.testing.assert_array_equal(values[1], [0, 1, 0])


def test_a_number_is_rounded_once(parse):
    # Halfway between two float32 by its first digits, above it by its last one: rounded to
    # float64 first, it would be halfway, and then go down.
    text = "1.00000005960464477539062500000001"
    values = matrix(parse(with_embedding(f"[{text}, 1, 1]"))["embedding"])
    assert values[1, 0] == np.nextafter(np.float32(1), np.float32(2))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1, 2**24 + 1, 3]] * 2, pa.list_(pa.int64())),
        pa.array([["1", "16777217", "3"]] * 2, pa.list_(pa.string())).cast(
            pa.list_(pa.decimal128(20, 2))
        ),
    ],
    ids=["int64", "decimal"],
)
def test_numbers_of_other_kinds_become_the_nearest_float32(parse, values):
    table = pa.Table.from_pylist(tiny_rows(1, 2)).set_column(9, "MobileNetV1 features", values)
    np.testing.assert_array_equal(matrix(parse(table, "t.parquet")["embedding"])[0], [1, 2**24, 3])


IDENTITY = {"network": "VGG16", "weights": "ours", "pooling": "average", "resize": "bicubic"}


def table_that_says(text):
    """A Parquet table that says of its embeddings what is given."""
    return pa.Table.from_pylist(ROWS).replace_schema_metadata({"embedding": text})


@pytest.mark.parametrize("source", ["mame", "synthetic"])
def test_what_made_the_embeddings_is_known_of_some_sources(parse, source):
    parse([row | {"Medium": "Bronze"} for row in ROWS], source=source)
    assert embedding_identity(ARTEFACTS) == KNOWN[source]
    assert KNOWN[source]["pooling"] == "max"


def test_what_made_the_embeddings_of_a_file_is_not_known_unless_params_yaml_says_it(
    parse, set_params, capsys
):
    plain = parse(ROWS)
    assert embedding_identity(ARTEFACTS) is None
    assert plain.schema.metadata == {b"source": b"file"}
    said = f"what made the embeddings is not known: `{SECTION}.embedding` can say it"
    assert said in capsys.readouterr().out
    set_params(**{f"{SECTION}.embedding": IDENTITY})
    assert parse(ROWS).equals(plain)
    assert embedding_identity(ARTEFACTS) == IDENTITY
    assert said not in capsys.readouterr().out
    set_params(**{f"{SECTION}.embedding.network": "Réseau, 2"})
    parse(ROWS)
    assert embedding_identity(ARTEFACTS) == IDENTITY | {"network": "Réseau, 2"}


def test_a_parquet_file_says_what_made_its_embeddings_and_nobody_knows_better(parse):
    parse(table_that_says(json.dumps(IDENTITY)), "t.parquet")
    assert embedding_identity(ARTEFACTS) == IDENTITY
    table = table_that_says(json.dumps(IDENTITY))
    table = table.set_column(1, "Medium", pa.array(["Bronze"] * len(table)))
    parse(table, "t.parquet", source="mame")
    assert embedding_identity(ARTEFACTS) == IDENTITY


def test_a_simulated_table_that_comes_back_as_a_file_keeps_what_the_simulator_has(parse):
    rows = [row | {"Image file": f"synthetic-{i}.jpg"} for i, row in enumerate(ROWS)]
    parse(rows)
    assert embedding_identity(ARTEFACTS) == KNOWN["synthetic"]


def test_a_file_and_params_yaml_that_agree_are_both_right_and_else_one_is_wrong(parse, set_params):
    table = table_that_says(json.dumps(IDENTITY))
    set_params(**{f"{SECTION}.embedding": IDENTITY})
    parse(table, "t.parquet")
    assert embedding_identity(ARTEFACTS) == IDENTITY
    set_params(**{f"{SECTION}.embedding": IDENTITY | {"fit": "crop"}})
    parse(table, "t.parquet")
    assert embedding_identity(ARTEFACTS) == IDENTITY | {"fit": "crop"}
    set_params(**{f"{SECTION}.embedding.weights": "theirs"})
    with pytest.raises(PipelineError) as error:
        parse(table, "t.parquet")
    assert str(error.value) == (
        "data/raw/t.parquet names `ours` as the weights of its embeddings, and "
        f"`{SECTION}.embedding.weights` names `theirs`: mend the one that is wrong, or set "
        f"`{SECTION}.embedding` to null, and what the file says counts"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"MobileNet",
        b"\xff",
        b"null",
        b'["a"]',
        json.dumps(IDENTITY)[:-1],
        json.dumps({"network": "VGG16"}),
        json.dumps(IDENTITY | {"layer": "last"}),
        json.dumps(IDENTITY | {"pooling": 1}),
        json.dumps(IDENTITY | {"pooling": ""}),
        json.dumps(IDENTITY | {"pooling": "x" * 10_001}),
        '{"network": ' + "[" * 100_000,
    ],
    ids=range(12),
)
def test_a_damaged_word_of_a_file_on_its_embeddings_is_refused(parse, text):
    with pytest.raises(PipelineError) as error:
        parse(table_that_says(text), "t.parquet")
    assert str(error.value) == (
        "data/raw/t.parquet: `embedding` in its schema's metadata is not JSON with texts "
        "called network, weights, pooling, resize and, where known, layers, input, scaling, fit, "
        "orientation: mend it, or take it out"
    )


def test_a_table_without_embeddings_has_nothing_that_made_them(parse, set_params):
    set_params(**{f"{SECTION}.columns.embedding": None, f"{SECTION}.embedding": IDENTITY})
    parse(table_that_says("{"), "t.parquet")
    assert embedding_identity(ARTEFACTS) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("VGG16", "`{}.embedding` should be a mapping of keys to values, not 'VGG16'"),
        ({"network": "VGG16"}, "`{}.embedding.weights` is missing"),
        (IDENTITY | {"layer": "last"}, "unknown key `{}.embedding.layer`"),
        (
            IDENTITY | {"pooling": 1},
            "`{}.embedding.pooling` should be a text of 1 to 10,000 characters, not 1",
        ),
        (
            IDENTITY | {"resize": ""},
            "`{}.embedding.resize` should be a text of 1 to 10,000 characters, not ''",
        ),
    ],
    ids=str,
)
def test_params_yaml_says_what_is_needed_or_nothing_of_what_made_the_embeddings(
    parse, set_params, value, problem
):
    set_params(**{f"{SECTION}.embedding": value})
    with pytest.raises(ParameterError) as error:
        parse(ROWS)
    assert problem.format(SECTION) in str(error.value)


TABLE_GUIDE = (PROJECT / "docs/table.md").read_text(encoding="utf-8")


def test_what_made_the_embeddings_can_be_said_for_one_experiment_as_the_guide_says(
    parse, stage_folder
):
    (override,) = re.findall(rf'-S "({SECTION}\.embedding=.*)"', TABLE_GUIDE)
    # What `dvc exp run -S` calls.
    apply_overrides(stage_folder / "params.yaml", [override])
    parse(ROWS)
    said = embedding_identity(ARTEFACTS)
    assert said["network"] == "ResNet50"
    apply_overrides(stage_folder / "params.yaml", [f"{SECTION}.embedding.network=VGG 16"])
    parse(ROWS)
    assert embedding_identity(ARTEFACTS) == said | {"network": "VGG 16"}
    apply_overrides(stage_folder / "params.yaml", [f"{SECTION}.embedding=null"])
    parse(ROWS)
    assert embedding_identity(ARTEFACTS) is None


def test_an_extra_column_can_be_kept_for_one_experiment_as_the_guide_says(parse, stage_folder):
    (override,) = re.findall(rf'-S "(\+{SECTION}\.extra_columns=.*)"', TABLE_GUIDE)
    apply_overrides(stage_folder / "params.yaml", [override])
    table = parse([row | {"Year of acquisition": 1900} for row in ROWS])
    assert set(table["Year of acquisition"].to_pylist()) == {1900.0}


def test_the_guide_shows_what_is_known_of_the_course_and_how_a_file_says_it_itself(
    parse, stage_folder
):
    (known,) = re.findall(r"```json\n(.*?)\n```", TABLE_GUIDE, re.DOTALL)
    assert json.loads(known) == KNOWN["mame"]
    (code,) = re.findall(r"```python\n(.*?)```", TABLE_GUIDE, re.DOTALL)
    names = {"json": json, "pyarrow": pa, "table": pa.Table.from_pylist(ROWS)}
    exec(code, names)
    parse((stage_folder / "my_artefacts.parquet").read_bytes(), "t.parquet")
    assert embedding_identity(ARTEFACTS) == names["identity"]


def test_without_bad_rows_the_quarantine_has_a_header_only(parse):
    parse(ROWS)
    assert QUARANTINE.read_text() == '"row","line","image_file","rule","value","reason"\n'


REAL = PROJECT.parent / "shared/real/real_art_extended.parquet"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/real/real_art_extended.parquet")
def test_real_embeddings_written_as_csv_give_the_same_bytes_as_from_parquet(parse):
    table = pq.read_table(REAL).slice(0, 1000)
    parse(table, "t.parquet")
    from_parquet = ARTEFACTS.read_bytes()
    parse(table.to_pylist())
    assert ARTEFACTS.read_bytes() == from_parquet
