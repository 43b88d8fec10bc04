"""`parse_embeddings_to_parquet` beside other ways to do the same, and what compressions cost."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from benchmarks.harness import (
    DOWNLOAD,
    OURS,
    Aim,
    Bench,
    Round,
    Run,
    Turn,
    apart,
    middle,
    table,
    table_of_aims,
    table_of_ways,
    take_turns,
    times,
)
from benchmarks.peers import FEATURES

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "parse-embeddings-to-parquet"
PARAMS = "parse_embeddings_to_parquet"
LIBRARIES = ("pyarrow", "pysimdjson", "numpy", "pandas", "polars", "duckdb")
ROUNDS = 5
# Ways from the raw table to a Parquet file, by their names in benchmarks/peers.py: what the page
# calls them, and the rounds in which they run.
CSV_WAYS = {
    "polars": ("Polars", 5),
    "duckdb": ("DuckDB", 2),
    "pandas-fromstring": ("pandas, `numpy.fromstring`", 2),
    "pandas-json": ("pandas, `json.loads`", 2),
    "pandas-literal-eval": ("pandas, `ast.literal_eval`", 1),
}
PARQUET_WAYS = {"pandas-parquet": ("pandas", 3)}
# What no way can be below: its bytes are read once, in pieces that stay in the processor's cache.
LIMIT = "reading the bytes once"
READ = """
import sys
piece = bytearray(1 << 18)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.readinto(piece):
        pass
"""
MOST_TIMES_POLARS, LEAST_TIMES_LITERAL_EVAL = 0.7, 40
# Compression is compared on so many rows: gzip would take minutes for all.
COMPRESSION_ROWS, TRIAL_COMPRESSION_ROWS = 4096, 256
COMPRESSION_ROUNDS = 2


@dataclass
class Packing:
    """One way to pack the same rows in a Parquet file, and what it takes."""

    compression: str
    byte_stream_split: bool
    megabytes: float = 0  # of the file
    write_seconds: list[float] = field(default_factory=list)  # one for each round
    read_seconds: list[float] = field(default_factory=list)


def run(bench: Bench) -> dict[str, str]:
    """Measure; return what stands in each place of the page, in their order there."""
    bench.set_params(download=bench.synthetic())
    bench.stages(DOWNLOAD)
    settings = YAML(typ="safe").load(bench.project / "params.yaml")[PARAMS]
    of_csv = compare_ways(bench, CSV_WAYS)
    artefacts = bench.project / "data/artefacts.parquet"
    packings = apart(
        measure_packings,
        artefacts,
        bench.folder / "packed.parquet",
        settings["row_group_rows"],
        TRIAL_COMPRESSION_ROWS if bench.trial else COMPRESSION_ROWS,
        bench.rounds(COMPRESSION_ROUNDS),
    )
    parquet = bench.project / "data/raw/single.parquet"
    apart(make_parquet, artefacts, parquet, settings["columns"])
    provenance = bench.project / "data/raw/provenance.json"
    text = provenance.read_text(encoding="utf-8")
    provenance.write_text(text.replace(bench.raw_table().name, parquet.name), encoding="utf-8")
    of_parquet = compare_ways(bench, PARQUET_WAYS)
    return {
        "parse": f"{table_of_aims(aims(of_csv))}\n\n{table_of_parsers(of_csv)}",
        "parse Parquet": table_of_parsers(of_parquet),
        "compression": table_of_packings(packings, settings["compression"]),
    }


def compare_ways(bench: Bench, ways: Mapping[str, tuple[str, int]]) -> list[Round]:
    """Let the stage and some of benchmarks/peers.py take turns on the raw table.

    Their first round also compares the embeddings with ours.
    """
    source, target = bench.raw_table(), bench.folder / "theirs.parquet"
    compared: set[str] = set()

    def ours() -> Round:
        return {OURS: bench.stages(STAGE)[STAGE]}

    def peer(name: str, label: str) -> Round:
        took = bench.python("-m", "benchmarks.peers", name, source, target)
        if name not in compared:
            compared.add(name)
            equal = apart(compare, bench.project / "data/artefacts.parquet", target)
            took = replace(took, found={"embeddings": equal})
        return {label: took}

    turns = {LIMIT: Turn(lambda: {LIMIT: bench.python("-c", READ, source)}, bench.rounds(ROUNDS))}
    turns[OURS] = Turn(ours, bench.rounds(ROUNDS))
    for name, (label, rounds) in ways.items():
        turns[label] = Turn(partial(peer, name, label), bench.rounds(rounds))
    return take_turns(turns)


def aims(rounds: Sequence[Round]) -> list[Aim]:
    """What was aimed at for CSV."""
    polars, literal = (CSV_WAYS[name][0] for name in ("polars", "pandas-literal-eval"))
    return [
        Aim(
            "times Polars' seconds",
            "at most",
            MOST_TIMES_POLARS,
            middle(rounds, times(OURS, polars)),
        ),
        Aim(
            "times as fast as `ast.literal_eval`",
            "at least",
            LEAST_TIMES_LITERAL_EVAL,
            middle(rounds, times(literal, OURS)),
            1,
        ),
    ]


def table_of_parsers(rounds: Sequence[Round]) -> str:
    """A Markdown table of the ways, and whether their embeddings are ours."""

    def embeddings(run: Run) -> str:
        return str(run.found.get("embeddings", ""))

    return table_of_ways(rounds, OURS, rounds[0], embeddings=embeddings)


def make_parquet(artefacts: Path, target: Path, columns: Mapping[str, str]) -> None:
    """Write artefacts as the course's file has them: float64, gzip, one row group.

    `columns` has the raw name of each column of the artefacts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(artefacts)
    place = table.column_names.index("embedding")
    embedding = table["embedding"].cast(pa.list_(pa.float64()))
    table = table.set_column(place, "embedding", embedding)
    table = table.rename_columns([columns[name] for name in table.column_names])
    pq.write_table(table, target, compression="gzip", row_group_size=len(table))


def compare(ours: Path, theirs: Path) -> str:
    """Whether the embeddings of two tables are equal, nearly equal or different."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from stages.tables.parquet import matrix

    expected = matrix(pq.read_table(ours, columns=["embedding"])["embedding"])
    column = pq.read_table(theirs, columns=[FEATURES])[FEATURES].combine_chunks()
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if (
        column.type.value_type != pa.float32()
        or column.null_count
        or len(column) != len(expected)
        or (lengths != expected.shape[1]).any()
    ):
        return "different"
    found = column.flatten().to_numpy(zero_copy_only=False).reshape(expected.shape)
    if np.array_equal(found.view(np.uint32), expected.view(np.uint32)):  # also the sign of a 0
        return "equal"
    return "nearly equal" if np.allclose(found, expected) else "different"


def measure_packings(
    artefacts: Path, target: Path, row_group_rows: int, rows: int, rounds: int
) -> list[Packing]:
    """Write and read back the first rows of the artefacts in every packing, in turn."""
    import pyarrow.parquet as pq

    from stages.tables.parquet import read_batches

    table = pq.read_table(artefacts).slice(0, rows).combine_chunks()
    packings = [
        Packing(compression, split)
        for compression in ("zstd", "snappy", "gzip", "none")
        for split in (True, False)
    ]
    for _ in range(rounds):
        for packing in packings:
            os.sync()
            start = time.perf_counter()
            write_packed(target, table, packing, row_group_rows)
            written = time.perf_counter()
            for _ in read_batches(target):
                pass
            packing.write_seconds.append(written - start)
            packing.read_seconds.append(time.perf_counter() - written)
            packing.megabytes = target.stat().st_size / 1e6
    return packings


def write_packed(target: Path, table: "pa.Table", packing: Packing, row_group_rows: int) -> None:
    """Write artefacts as `stages.tables.parquet.write_batches` does, but for the packing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(
        target,
        table.schema,
        compression=packing.compression,
        use_dictionary=[f.name for f in table.schema if pa.types.is_string(f.type)],
        write_statistics=[f.name for f in table.schema if not pa.types.is_nested(f.type)],
        use_byte_stream_split=["embedding.list.element"] if packing.byte_stream_split else False,
    ) as writer:
        writer.write_table(table, row_group_size=row_group_rows)


def table_of_packings(packings: Sequence[Packing], chosen: str) -> str:
    """A Markdown table of the packings; the one that the project writes is marked."""
    head = (
        "compression",
        "bytes of the numbers",
        "file, MB",
        "seconds to write",
        "seconds to read",
    )
    rows = []
    for packing in packings:
        is_ours = packing.byte_stream_split and packing.compression == chosen
        rows.append(
            (
                packing.compression + (" (this project)" if is_ours else ""),
                "sorted by place" if packing.byte_stream_split else "plain",
                f"{packing.megabytes:.1f}",
                f"{median(packing.write_seconds):.2f}",
                f"{median(packing.read_seconds):.2f}",
            )
        )
    return table(head, rows, text_columns=(0, 1))
