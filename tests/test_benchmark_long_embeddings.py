"""The benchmark of long embeddings makes a table like MAMe's, which the pipeline takes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Run
from benchmarks.long_embeddings import MEDIUMS, NUMBERS, ROWS, SUBSETS, write_table
from benchmarks.stages import table_of
from stages.tables.artefacts import ARTEFACTS
from stages.tables.parquet import matrix, source_of


def test_the_table_is_of_the_size_of_mame():
    assert (ROWS, MEDIUMS) == (37_407, 29)
    assert sum(SUBSETS.values()) == ROWS
    # The channels of MobileNetV1's 27 activations: the first convolution, then thirteen blocks of a
    # depthwise and a pointwise one.
    pointwise = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert 32 + sum([32, *pointwise[:-1]]) + sum(pointwise) == NUMBERS


def test_the_table_is_read_as_synthetic_half_floats(parse):
    write_table(Path("long.parquet"), rows=2400, numbers=12)
    table = parse(Path("long.parquet").read_bytes(), "long.parquet")
    assert source_of(ARTEFACTS) == "synthetic"
    assert table.num_rows == 2400
    assert table["embedding"].type == pa.list_(pa.float16(), 12)
    assert len(set(table["medium"].to_pylist())) == MEDIUMS
    counts = Counter(table["subset"].to_pylist())
    for subset, rows in SUBSETS.items():
        assert abs(counts[subset] - 2400 * rows / ROWS) <= 1
    values = matrix(table["embedding"])
    assert values.min() >= 0
    assert values.max() <= 6
    assert (values.std(axis=0) > 0).all()


def test_the_table_is_the_same_each_time_and_lies_in_lists_as_the_courses_does(tmp_path):
    for name in ("one", "other"):
        write_table(tmp_path / name, rows=1100, numbers=5)
    one, other = (pq.read_table(tmp_path / name) for name in ("one", "other"))
    assert one.equals(other)
    assert one.schema.field("MobileNetV1 features").type == pa.list_(pa.float16())
    assert len(np.unique(one["Image file"].to_numpy())) == 1100


def test_the_stages_are_summed_up():
    lines = table_of({"split": Run(2.04, 100), "train": Run(3, 1400.2)}).splitlines()
    assert lines[2:] == [
        "| split | 2.0 | 100 |",
        "| train | 3.0 | 1,400 |",
        "| all (sum of seconds, largest peak) | 5.0 | 1,400 |",
    ]
