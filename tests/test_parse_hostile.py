"""Files that are no table, or were made to do harm, end with a sentence and in bounded memory."""

import contextlib
import gzip
import io
import os
import sqlite3
import subprocess
import sys
import zlib
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, tiny_rows, write_csv_table

from stages.common.errors import PipelineError
from stages.parser import csv_file, parquet_sizes
from stages.tables.artefacts import ARTEFACTS

HEADER = (
    b"Image file,Medium,Museum,Museum-based instance ID,Subset,Width,Height,Product size,"
    b"Aspect ratio,MobileNetV1 features\n"
)
ROW = b'%d.jpg,Etching,Museum,1,train,100,100,10000,1.0,"[0.5, 1.5]"\n'
MEGABYTE = 1 << 20
BOMB_MEGABYTES = 64  # unpacked


def refusal(parse, content, name):
    with pytest.raises(PipelineError) as error:
        parse(content, name)
    assert "\n" not in str(error.value)
    assert not ARTEFACTS.exists()
    return str(error.value)


def text_of(rows, folder):
    return write_csv_table(folder / "t.csv", rows).read_bytes()


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b"", "t.csv", "t.csv is empty"),
        (b"", "t.parquet", "t.parquet is empty"),
        (gzip.compress(b"", mtime=0), "t.csv.gz", "t.csv.gz is empty"),
        (b"\n\r\n\n", "t.csv", "holds nothing but empty lines"),
        (HEADER, "t.csv", "has a header but no rows"),
        (HEADER.strip(), "t.csv", "has a header but no rows"),
        (b"<!DOCTYPE html>", "t.csv", "a web page or XML: save the table as CSV"),
        (b"<table>\n", "t.csv", "a web page or XML"),
        (bytes(5000), "t.csv", "holds bytes that are not text: it is no CSV table"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "t.csv", "a picture: `python -m commands.embed`"),
        (b"\0\1\2" + bytes(99), "t.csv", "holds bytes that are not text"),
        (
            b"PK\x03\x04" + bytes(99),
            "t.csv",
            "a zip archive or an Excel workbook: save the table as CSV",
        ),
        (("\ufeff" + HEADER.decode()).encode("utf-16-le"), "t.csv", "UTF-16 text: save"),
        (HEADER.decode().encode("utf-16-le"), "t.csv", "UTF-16 text: save the table as CSV"),
        (HEADER.decode().encode("utf-16-be"), "t.csv", "UTF-16 text: save the table as CSV"),
        ("Größe,Medium\n1,2\n".encode("latin-1"), "t.csv", "is not UTF-8 text, in line 1"),
        (
            HEADER + ROW % 1 + (ROW % 2).replace(b"Etching", b"Gem\xe4lde"),
            "t.csv",
            "in line 3: save",
        ),
        (b"a,b,a,b\n1,2,3,4\n", "t.csv", "more than one column `a`, `b`"),
        (b"PAR1 but no more", "t.parquet", "cannot be read as Parquet"),
        (HEADER + ROW % 1, "t.parquet", "a CSV table has a name that ends in .csv"),
        (b"PAR1 but no more", "t.csv", "a Parquet file: end its name in .parquet"),
        (gzip.compress(HEADER), "t.csv", "packed with gzip: end its name in .csv.gz"),
        (HEADER + ROW % 1, "t.csv.gz", "cannot be unpacked, it is cut off or damaged"),
        (HEADER + ROW % 1, "t.csv.zst", "cannot be unpacked, it is cut off or damaged"),
    ],
)
def test_a_file_that_is_no_table_ends_with_a_sentence(parse, content, name, problem):
    assert problem in refusal(parse, content, name)


def written(by, *arguments, **options):
    """The bytes of a small table as pandas writes it."""
    rows = [row | {"MobileNetV1 features": "[1]"} for row in tiny_rows(1, 2)]
    file = io.BytesIO()
    getattr(pd.DataFrame(rows), by)(file, *arguments, **options)
    return file.getvalue()


def sqlite():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        pd.DataFrame(tiny_rows(1, 2)).drop(columns="MobileNetV1 features").to_sql("t", connection)
        return connection.serialize()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (partial(written, "to_json"), "JSON: write it as Parquet, in Python by `pandas.read_json("),
        (partial(written, "to_json", orient="records"), "JSON: write it as Parquet"),
        (partial(written, "to_json", orient="records", lines=True), "read_json(path, lines=True)"),
        (partial(written, "to_feather"), "a Feather or Arrow file: write it as Parquet"),
        (partial(written, "to_orc"), "an ORC file: write it as Parquet"),
        (partial(written, "to_pickle"), "a pickle"),
        (sqlite, "an SQLite database: write it as Parquet"),
    ],
)
def test_a_table_in_another_form_is_named_with_what_to_do(parse, make, what):
    sentence = refusal(parse, make(), "table.csv")
    assert sentence.startswith("data/raw/table.csv is no CSV table but ")
    assert what in sentence


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_packed_file_that_was_cut_off_is_refused(parse, stage_folder, kind, kept):
    text = text_of(tiny_rows(rows_each=200, length=64), stage_folder)
    packed = gzip.compress(text) if kind == "gz" else pa.compress(text, "zstd", asbytes=True)
    sentence = refusal(parse, packed[: int(kept * len(packed))], f"t.csv.{kind}")
    assert "cannot be unpacked, it is cut off or damaged" in sentence


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_parquet_file_that_was_cut_off_is_refused(parse, stage_folder, kept):
    pq.write_table(pa.Table.from_pylist(tiny_rows()), stage_folder / "t.parquet")
    content = (stage_folder / "t.parquet").read_bytes()
    sentence = refusal(parse, content[: int(kept * len(content))], "t.parquet")
    assert "cannot be read as Parquet, it is cut off or damaged" in sentence


def test_a_parquet_file_that_ends_the_process_of_pyarrow_is_refused(parse):
    # One bit of its footer was turned over: pyarrow 26.0.1 does not catch its own error.
    content = (PROJECT / "tests/damaged_sizes.parquet").read_bytes()
    result = subprocess.run(
        [sys.executable, parquet_sizes.__file__, str(PROJECT / "tests/damaged_sizes.parquet")],
        capture_output=True,
    )
    assert result.returncode != 0, "pyarrow is mended: the process of its own is no longer needed"
    assert "the sizes of its columns make no sense" in refusal(parse, content, "t.parquet")


def test_a_csv_that_was_cut_off_inside_a_field_is_refused(parse, stage_folder):
    text = text_of(tiny_rows(1, 5), stage_folder)[:-10]
    assert "ends inside a quoted field, in the row that begins in line 6" in refusal(
        parse, text, "t.csv"
    )


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
def test_a_quote_that_never_closes_swallows_no_row_in_silence(
    parse, stage_folder, set_params, on_bad_row
):
    set_params(
        **{
            "parse_embeddings_to_parquet.on_bad_row": on_bad_row,
            "parse_embeddings_to_parquet.max_bad_fraction": 1.0,
        }
    )
    lines = text_of(tiny_rows(1, 5), stage_folder).splitlines(keepends=True)
    lines[3] = lines[3].replace(b"Medium 0", b'"Medium 0').replace(b'"[', b"[").replace(b']"', b"]")
    lines[4:] = [line.replace(b'"', b"") for line in lines[4:]]
    sentence = refusal(parse, b"".join(lines), "t.csv")
    assert "ends inside a quoted field, in the row that begins in line 4" in sentence


def test_a_quote_that_never_closes_in_a_large_file_is_refused(parse, stage_folder, monkeypatch):
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 4096)
    text = text_of(tiny_rows(), stage_folder).replace(b'"', b"")
    broken = text.replace(b",Medium 1,", b',"Medium 1,', 1)
    assert "a quote is missing, or this is no CSV table" in refusal(parse, broken, "t.csv")


def test_a_first_line_that_is_too_long_is_refused(parse, monkeypatch):
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 4096)
    assert "the first line is longer than" in refusal(parse, b"x" * 10_000, "t.csv")


def test_rows_of_the_wrong_shape_without_end_are_given_up(parse, monkeypatch):
    monkeypatch.setattr(csv_file, "MOST_SKIPPED", 100)
    content = HEADER + ROW % 1 + b"x\n" * 1000
    assert "more than 100 rows have more or fewer fields" in refusal(parse, content, "t.csv")


# Each makes its file in the folder `data/raw` and gives its name. They run in a process of
# their own, whose memory is measured.


def line_of_a_gigabyte(raw):
    with (raw / "t.csv").open("wb") as file:
        file.write(HEADER + b'1.jpg,Etching,Museum,1,train,1,1,1,1,"[')
        file.write(b"0.5, " * MEGABYTE)
        file.truncate(1024 * MEGABYTE)
    return "t.csv"


def gigabyte_of_nul_bytes(raw):
    with (raw / "t.csv").open("wb") as file:
        file.truncate(1024 * MEGABYTE)
    return "t.csv"


def nul_bytes_after_good_rows(raw):
    with (raw / "t.csv").open("wb") as file:
        file.write(HEADER + b"".join(ROW % row for row in range(50_000)))
        file.truncate(1024 * MEGABYTE)
    return "t.csv"


def packed(raw, pieces):
    pack = zlib.compressobj(9, wbits=31)
    with (raw / "t.csv.gz").open("wb") as file:
        for piece in pieces:
            file.write(pack.compress(piece))
        file.write(pack.flush())
    return "t.csv.gz"


def gzip_bomb_of_one_line(raw):
    return packed(raw, [HEADER, *[b"x" * MEGABYTE] * BOMB_MEGABYTES])


def gzip_bomb_of_empty_lines(raw):
    return packed(raw, [HEADER, *[b"\n" * MEGABYTE] * BOMB_MEGABYTES])


def gzip_bomb_of_rows(raw):
    row = (ROW % 1).replace(b"0.5, ", b"0.5, " * 20_000)
    return packed(raw, [HEADER, *[row * 10] * BOMB_MEGABYTES])


def parquet_bomb_of_one_row(raw):
    rows = pa.table({name: [row] for name, row in zip(NAMES, FIELDS, strict=True)})
    numbers = np.zeros(16_000_000, dtype=np.float64)
    numbers[0] = 1
    embedding = pa.array([numbers], pa.list_(pa.float64()))
    pq.write_table(rows.append_column("MobileNetV1 features", embedding), raw / "t.parquet")
    return "t.parquet"


def parquet_bomb_of_text(raw):
    rows = pa.table({name: [row] for name, row in zip(NAMES, FIELDS, strict=True)})
    text = pa.array(["[" + "0, " * 20_000_000 + "1]"])
    pq.write_table(
        rows.append_column("MobileNetV1 features", text), raw / "t.parquet", compression="zstd"
    )
    return "t.parquet"


NAMES = HEADER.decode().strip().split(",")[:-1]
FIELDS = ["1.jpg", "Etching", "Museum", "1", "train", 100.0, 100.0, 10000.0, 1.0]

RUN = """
import json, pathlib, sys
from stages import parse_embeddings_to_parquet as stage
from stages.common.errors import PipelineError
from stages.parser import unpacking
unpacking.EXPANSION_FREE_BYTES = 32 << 20  # so that a small bomb is one
name = sys.argv[1]
raw = pathlib.Path("data/raw")
(raw / "provenance.json").write_text(json.dumps({"source": "file", "file": name}))
try:
    print(stage.main())
except PipelineError as error:
    print("sentence:", str(error).splitlines()[0])
# Not getrusage, which begins with the memory of the process that started this one.
status = pathlib.Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (line_of_a_gigabyte, "a row after row 0 is longer than 2 MB"),
        (gigabyte_of_nul_bytes, "holds bytes that are not text"),
        (nul_bytes_after_good_rows, "longer than 2 MB"),
        (gzip_bomb_of_one_line, "longer than 2 MB"),
        (gzip_bomb_of_empty_lines, "over 200 times its size"),
        (gzip_bomb_of_rows, "over 200 times its size"),
        (parquet_bomb_of_one_row, "over 200 times its size"),
        (parquet_bomb_of_text, "over 200 times its size"),
    ],
)
def test_a_file_that_asks_for_all_the_memory_does_not_get_it(stage_folder, make, problem):
    raw = stage_folder / "data/raw"
    raw.mkdir(parents=True)
    # Made in a process of its own: what it takes to make one is not measured.
    child = os.fork()
    if child == 0:
        make(raw)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    (name,) = (path.name for path in raw.iterdir())
    result = subprocess.run(
        [sys.executable, "-c", RUN, name],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (raw / name).unlink()
    *_, said, peak = result.stdout.splitlines()
    assert said.startswith("sentence: ")
    assert problem in said
    assert int(peak) / 1024 < 500  # MB
