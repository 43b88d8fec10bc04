"""The benchmark of the parser compares equal things, and writes down what was measured."""

import csv
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import tiny_rows

from benchmarks import parse as benchmark
from benchmarks.harness import Run
from benchmarks.parse import OURS, Packing, Results, Runs, Way
from benchmarks.peers import FEATURES, PEERS
from stages.common.params import load_params
from stages.parse_embeddings_to_parquet import Params
from stages.sources.simulator import COLUMNS
from stages.tables.artefacts import ARTEFACTS
from stages.tables.parquet import matrix, write_batches

CSV = Path("data/raw/table.csv")
# Those that need no package beside requirements.txt.
PANDAS = ("pandas-literal-eval", "pandas-json", "pandas-fromstring")
OTHER = Way("other", "another", 3, "what it does")


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_gives_the_embeddings_of_the_stage(parse, name):
    rows = tiny_rows()
    parse(rows)
    PEERS[name](str(CSV), "peer.parquet")
    assert benchmark.compare(ARTEFACTS, Path("peer.parquet")) == "equal"
    names = pq.read_table("peer.parquet").column_names
    assert names == list(rows[0])


def test_every_way_is_a_peer_and_every_peer_is_a_way():
    ways = {way.name for way in (*benchmark.CSV_WAYS, *benchmark.PARQUET_WAYS)}
    assert ways == {OURS.name, *PEERS}
    assert benchmark.CSV_WAYS[0] is benchmark.PARQUET_WAYS[0] is OURS


def test_peers_read_the_column_that_the_simulator_writes():
    assert FEATURES in COLUMNS


def change_last_bit(values):
    values[2, 3] = np.nextafter(values[2, 3], np.float32(9))
    return values


def change_one(values):
    values[2, 3] += 1
    return values


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda values: values, "equal"),
        (change_last_bit, "nearly equal"),
        (change_one, "different"),
        (lambda values: values[::-1], "different"),
        (lambda values: values[:-1], "different"),
        (lambda values: values[:, :-1], "different"),
        (lambda values: values.reshape(len(values) * 2, -1), "different"),
        (lambda values: values.astype(np.float64), "different"),
    ],
)
def test_embeddings_that_differ_are_told(parse, change, expected):
    values = change(matrix(parse(tiny_rows())["embedding"]).copy())
    column = pa.array(list(values), pa.list_(pa.from_numpy_dtype(values.dtype)))
    pq.write_table(pa.table({FEATURES: column}), "peer.parquet")
    assert benchmark.compare(ARTEFACTS, Path("peer.parquet")) == expected


def test_the_table_of_twice_the_rows_is_one_that_the_stage_takes(parse):
    once = parse(tiny_rows())
    benchmark.write_twice(CSV, Path("double.csv"))
    with Path("double.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * len(once)
    twice = parse(Path("double.csv").read_bytes())
    names = twice["image_file"].to_pylist()
    assert len(set(names)) == len(names) == 2 * len(once)
    both = pa.concat_tables([once, once])
    assert twice.drop(["image_file"]).equals(both.drop(["image_file"]))


def test_the_parquet_table_is_the_same_in_the_form_of_the_course(parse, stage_folder):
    from_csv = parse(tiny_rows())
    columns = dict(load_params("parse_embeddings_to_parquet", Params).columns)
    target = stage_folder / "table.parquet"
    benchmark.make_parquet(ARTEFACTS, target, columns)
    with pq.ParquetFile(target) as file:
        assert file.schema_arrow.field(FEATURES).type.value_type == pa.float64()
        assert file.metadata.num_row_groups == 1
        group = file.metadata.row_group(0)
        packed = {group.column(i).compression for i in range(group.num_columns)}
        assert packed == {"GZIP"}
    PEERS["pandas-parquet"](str(target), "peer.parquet")
    assert benchmark.compare(ARTEFACTS, Path("peer.parquet")) == "equal"
    assert parse(target.read_bytes(), "table.parquet").equals(from_csv)


def test_the_packing_of_the_project_is_the_one_that_the_stage_writes(parse):
    table = parse(tiny_rows())
    for split in (True, False):
        packing = Packing("zstd", split)
        benchmark.write_packed(Path("packed.parquet"), table, packing, row_group_rows=50)
        write_batches(Path("stage.parquet"), table.schema, table.to_batches(), "zstd", 50)
        same = Path("packed.parquet").read_bytes() == Path("stage.parquet").read_bytes()
        assert same == split
        assert pq.read_table("packed.parquet").equals(table)


def test_ways_take_turns_and_slow_ones_stop_early(tmp_path, monkeypatch):
    slow = Way("slow", "slow", 1, "")
    turns = []

    def peer(folder, name, source, target):
        turns.append(f"{name} {source}")
        return Run(len(turns), 1)

    def ours(folder, source, target):
        return peer(folder, "ours", source, target)

    monkeypatch.setattr(benchmark, "run_ours", ours)
    monkeypatch.setattr(benchmark, "run_peer", peer)
    monkeypatch.setattr(benchmark, "apart", lambda function, *arguments: function.__name__)
    first, second = benchmark.run_rounds(
        tmp_path, [(Path("a"), (OURS, slow)), (Path("b"), (OURS, OTHER))], most_rounds=4
    )
    assert turns == [
        *("ours a", "slow a", "ours b", "other b"),
        *("other b", "ours b", "ours a"),
        *("ours a", "ours b", "other b"),
        *("ours b", "ours a"),
    ]
    assert [[run.seconds for run in runs.runs] for runs in second] == [[3, 6, 9, 11], [4, 5, 10]]
    assert [len(runs.runs) for runs in first] == [4, 1]
    assert [runs.embeddings for runs in (*first, *second)] == ["", "compare", "", "compare"]


def some_runs() -> list[Runs]:
    """Ours in 5 rounds and another way in the first 3 of them."""
    ours = [Run(2, 100), Run(4, 100), Run(10, 200), Run(1, 100), Run(1, 100)]
    other = [Run(6, 50), Run(16, 300), Run(25, 400)]
    return [Runs(OURS, ours), Runs(OTHER, other, "equal")]


def test_a_table_has_medians_and_the_medians_of_ratios_within_rounds():
    *_, ours, other = benchmark.table_of_runs(some_runs()).splitlines()
    assert ours == "| this project | 5 | 2.0 | 1.00 | 100 | 1.00 |  |"
    # Ratios of the seconds: 3, 4 and 2.5; of the memory: 0.5, 3 and 2.
    assert other == "| another | 3 | 16.0 | 3.00 | 300 | 2.00 | equal |"


def test_the_document_says_what_was_measured():
    double = [Runs(OURS, [Run(5, 110), Run(8, 120), Run(25, 220)])]
    packings = [
        Packing("zstd", True, 8.7, [1, 3, 2], [0.1, 0.3, 0.5]),
        Packing("zstd", False, 9.3, [1, 1, 1], [1, 1, 1]),
    ]
    results = Results("full", 37407, some_runs(), double, some_runs(), packings, 8192, "zstd")
    text = benchmark.document(results, {"polars": "1.2.3"})
    assert re.findall("^### (.*)", text, re.MULTILINE) == ["37,407 rows", "74,814 rows"]
    assert "ours takes 2.50 times the seconds and 1.10 times the memory" in " ".join(text.split())
    assert "| zstd (this project) | sorted by place | 8.7 | 2.00 | 0.30 |" in text
    assert "| zstd | plain | 9.3 | 1.00 | 1.00 |" in text
    assert "first 8,192 of the 37,407 rows" in text
    assert "polars 1.2.3" in text
    # Of ours: (10 - 1) / 2; the others lie nearer.
    assert "up to 450 % apart" in text
    assert "trial" not in text
    assert "synthetic" in text
    assert "```sh\nmake bench\n```" in text


def test_the_libraries_of_the_benchmark_are_pinned():
    pins = Path(benchmark.__file__).with_name("requirements.txt").read_text(encoding="utf-8")
    assert {"polars", "duckdb"} <= set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))
    assert "index-url" not in pins
