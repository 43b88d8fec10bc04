"""Seconds and peak memory of `parse_embeddings_to_parquet`, beside other ways to do the same.

    make bench

which is `python -m benchmarks.parse` with the packages of benchmarks/requirements.txt. It makes
its tables in a temporary folder, which takes 3 GB, runs a clone of the last commit, and writes
docs/benchmarks.md, texts included. `--preset toy --output toy.md` is a short trial.
Linux and macOS.

The system counts the memory of the process that starts another one as that one's, too. So this
process imports nothing large, and works on tables in processes of their own.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from benchmarks.harness import (
    Run,
    clone,
    library_versions,
    measure,
    say,
    system,
    table,
    write_part,
)
from benchmarks.peers import FEATURES

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 29
STAGE = "parse_embeddings_to_parquet"
LIBRARIES = ("pyarrow", "numpy", "pandas", "polars", "duckdb")
# Compression is compared on so many rows: gzip would take minutes for all.
COMPRESSION_ROWS = 8192
COMPRESSION_ROUNDS = 2


@dataclass(frozen=True)
class Way:
    """A way from the raw table to a Parquet file."""

    name: str  # in benchmarks/peers.py
    label: str
    rounds: int  # in which it runs: fewer, the longer it takes
    text: str  # what it does, for the document


OURS = Way("ours", "this project", 5, "the stage of this project")
CSV_WAYS = (
    OURS,
    Way("polars", "Polars", 5, "a lazy query with string functions and a cast, streamed to a file"),
    Way("duckdb", "DuckDB", 2, "one SQL statement with a cast"),
    Way(
        "pandas-fromstring",
        "pandas, `numpy.fromstring`",
        2,
        "`read_csv`, then `numpy.fromstring` for each row",
    ),
    Way("pandas-json", "pandas, `json.loads`", 2, "`read_csv`, then `json.loads` for each row"),
    Way(
        "pandas-literal-eval",
        "pandas, `ast.literal_eval`",
        1,
        "`read_csv`, then `ast.literal_eval` for each row",
    ),
)
PARQUET_WAYS = (
    OURS,
    Way("pandas-parquet", "pandas", 3, "`pandas.read_parquet`, `numpy.stack` and `to_parquet`"),
)


@dataclass
class Runs:
    """The runs of one way on one table, in the order of the rounds, beginning with the first."""

    way: Way
    runs: list[Run] = field(default_factory=list)
    embeddings: str = ""  # whether they are ours

    def seconds(self) -> float:
        return median(run.seconds for run in self.runs)

    def megabytes(self) -> float:
        return median(run.megabytes for run in self.runs)

    def spread(self) -> float:
        """How far the seconds of the runs lie apart, in percent of their median."""
        seconds = [run.seconds for run in self.runs]
        return 100 * (max(seconds) - min(seconds)) / median(seconds)


@dataclass
class Packing:
    """One way to pack the same rows in a Parquet file, and what it takes."""

    compression: str
    byte_stream_split: bool
    megabytes: float = 0  # of the file
    write_seconds: list[float] = field(default_factory=list)  # one for each round
    read_seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """All that one run of this benchmark measured."""

    preset: str  # of the simulator
    rows: int
    single: list[Runs]
    double: list[Runs]
    parquet: list[Runs]
    packings: list[Packing]
    packing_rows: int
    chosen: str  # `compression` in params.yaml


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parse")
    parser.add_argument("--preset", default="full", choices=("full", "toy"))
    parser.add_argument(
        "--most-rounds", type=int, default=5, help="no way runs in more rounds than this"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    versions = library_versions(LIBRARIES, "bench")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        clone(folder)
        results = benchmark(folder, arguments.preset, arguments.most_rounds)
    text = document(results, versions)
    write_part(arguments.output, "make bench", text)
    say(f"wrote {arguments.output}")


def benchmark(folder: Path, preset: str, most_rounds: int) -> Results:
    """Make the tables in a clone of the project and measure all that the document shows."""
    raw = folder / "data/raw"
    raw.mkdir(parents=True)
    single, double, parquet = raw / "single.csv", raw / "double.csv", raw / "single.parquet"
    say("making the tables")
    rows = apart(make_csv, single, preset, SEED)
    write_twice(single, double)
    tables = [(single, CSV_WAYS), (double, CSV_WAYS)]
    of_single, of_double = run_rounds(folder, tables, most_rounds)
    artefacts = folder / "data/single-ours.parquet"
    run_ours(folder, single, artefacts)
    settings = YAML(typ="safe").load(folder / "params.yaml")[STAGE]
    say("compressing")
    packings = apart(
        measure_packings,
        artefacts,
        folder / "data/packed.parquet",
        settings["row_group_rows"],
        COMPRESSION_ROWS,
        COMPRESSION_ROUNDS,
    )
    say("making the table as gzip Parquet")
    apart(make_parquet, artefacts, parquet, settings["columns"])
    (of_parquet,) = run_rounds(folder, [(parquet, PARQUET_WAYS)], most_rounds)
    return Results(
        preset,
        rows,
        of_single,
        of_double,
        of_parquet,
        packings,
        min(rows, COMPRESSION_ROWS),
        settings["compression"],
    )


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, so that this one stays small."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def run_rounds(
    folder: Path, tables: Sequence[tuple[Path, Sequence[Way]]], most_rounds: int
) -> list[list[Runs]]:
    """Run every way on every table, in turn; return the runs for each table.

    Ours comes first for each table. Every other round goes backwards, so that no way always
    follows the same one. The first round also compares the embeddings with ours.
    """
    of_tables = [[Runs(way) for way in ways] for _, ways in tables]
    turns = [
        (source, runs)
        for (source, _), all_runs in zip(tables, of_tables, strict=True)
        for runs in all_runs
    ]
    rounds = min(most_rounds, max(runs.way.rounds for _, runs in turns))
    ours, theirs = folder / "data/ours.parquet", folder / "data/theirs.parquet"
    for number in range(rounds):
        for source, runs in turns if number % 2 == 0 else reversed(turns):
            if number >= runs.way.rounds:
                continue
            # What others left to write to the disk would slow this one.
            os.sync()
            if runs.way is OURS:
                run = run_ours(folder, source, ours)
            else:
                run = run_peer(folder, runs.way.name, source, theirs)
                if number == 0:
                    runs.embeddings = apart(compare, ours, theirs)
            runs.runs.append(run)
            say(
                f"round {number + 1} of {rounds}, {source.name}, {runs.way.label}: "
                f"{run.seconds:.1f} s, {run.megabytes:,.0f} MB"
            )
    return of_tables


def run_ours(folder: Path, source: Path, target: Path) -> Run:
    """Run the stage on a table in data/raw of the project in `folder`."""
    provenance = {"source": "synthetic", "file": source.name}
    (source.parent / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    run = measure([sys.executable, "-m", f"stages.{STAGE}"], folder)
    (folder / "data/artefacts.parquet").replace(target)
    return run


def run_peer(folder: Path, name: str, source: Path, target: Path) -> Run:
    """Run one of benchmarks/peers.py in the project in `folder`."""
    command = [sys.executable, "-m", "benchmarks.peers", name, str(source), str(target)]
    return measure(command, folder)


def make_csv(path: Path, preset: str, seed: int) -> int:
    """Simulate the raw table; return its number of rows."""
    from stages.sources.simulator import write_csv

    return write_csv(path, preset, seed)


def write_twice(source: Path, target: Path) -> None:
    """Write the rows of a CSV file twice, the second time with other names of the image files.

    The name is the first field, without quotes, and no field has a line break.
    """
    with source.open("rb") as first, target.open("wb") as file:
        shutil.copyfileobj(first, file)
        first.seek(0)
        next(first)
        for line in first:
            file.write(b"again-" + line)


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


def ratio(theirs: Runs, ours: Runs, figure: str) -> float:
    """How many times ours theirs is: the median over the rounds in which both ran.

    `figure` is seconds or megabytes.
    """
    pairs = zip(theirs.runs, ours.runs, strict=False)
    return median(getattr(their, figure) / getattr(our, figure) for their, our in pairs)


def table_of_runs(all_runs: Sequence[Runs]) -> str:
    """A Markdown table of the ways on one table, ours first, by which the others are divided."""
    ours = all_runs[0]
    head = ("way", "runs", "seconds", "times ours", "peak memory, MB", "times ours", "embeddings")
    rows = [
        (
            runs.way.label,
            f"{len(runs.runs)}",
            f"{runs.seconds():.1f}",
            f"{ratio(runs, ours, 'seconds'):.2f}",
            f"{runs.megabytes():,.0f}",
            f"{ratio(runs, ours, 'megabytes'):.2f}",
            runs.embeddings,
        )
        for runs in all_runs
    ]
    return table(head, rows, text_columns=(0, 6))


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


def document(results: Results, versions: Mapping[str, str]) -> str:
    """The part of docs/benchmarks.md on parsing."""
    all_runs = [*results.single, *results.double, *results.parquet]
    spread = max(runs.spread() for runs in all_runs)
    trial = "" if results.preset == "full" else f"\n**A trial, of the preset {results.preset}.**\n"
    repeats = len(results.packings[0].write_seconds)
    ways = "\n".join(f"- {way.label}: {way.text}." for way in CSV_WAYS)
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    single, double = results.single[0], results.double[0]
    return f"""# How fast the embeddings are parsed

One command writes this part of the page. All its figures come from one run of it:

```sh
make bench
```
{trial}
The course's table comes as text. Each row holds an embedding, which is a list of 1,024 numbers
written out, beside nine columns of metadata. The stage `parse-embeddings-to-parquet` turns
the text into numbers. This page compares it with other ways to do the same.

The rows are **synthetic**: simulated, with the shape and the statistics of the real ones. The
figures say nothing about museum photographs.

## From CSV

Each way starts with the CSV file. It ends with a Parquet file that has all columns, with the
embeddings as lists of float32, packed with zstd. The ways:

{ways}

All but ours are in [benchmarks/peers.py](../benchmarks/peers.py). Ours also checks every row
against [the rules for the table](table.md). The others check nothing. Ours, Polars and DuckDB
use several cores. The ways with pandas use one most of the time.

### {results.rows:,} rows

{table_of_runs(results.single)}

### {2 * results.rows:,} rows

The same rows twice. The image files of the second half have other names.

{table_of_runs(results.double)}

On twice the rows, ours takes {ratio(double, single, "seconds"):.2f} times the seconds and
{ratio(double, single, "megabytes"):.2f} times the memory.

## How to read the tables

- **seconds** are those of a whole process. The start of Python is in them.
- **peak memory** is the most that the process held at any time.
- **times ours** divides by ours in the same round. 2.00 is twice as much as ours, 0.50 is half.
  Below 1.00, the other way is better.
- **embeddings** compares the numbers with ours. `equal` means in every bit.

Every run is a process of its own. The ways take turns: each runs once, then the next round
begins. So what else the machine does meets all of them. Slow ways run in fewer rounds. A figure
is the median of its runs. Runs of the same way on the same table lay up to {spread:.0f} % apart in
seconds. The tables were written just before, so that the system still held them in memory, as far
as it had room.

## From Parquet

The course has its table as Parquet, too: embeddings as lists of float64, packed with gzip, all
rows in one group. Here are the {results.rows:,} rows in that form. The other way goes through
{PARQUET_WAYS[1].text}.

{table_of_runs(results.parquet)}

## Compression

`parse_embeddings_to_parquet.compression` in `params.yaml` says how `data/artefacts.parquet` is
packed. The bytes of the embeddings can be written as they come. Or they can be sorted by their
place in the number: the first bytes of all numbers, then all second bytes, and so on. Parquet
calls this byte stream split. Bytes of the same place are more alike, which helps some
compressions and not others.

This was measured on the first {results.packing_rows:,} of the {results.rows:,} rows, the same for
all, because gzip takes long. The seconds are for writing a table from memory to a file, and for
reading the whole file back. Each is the median of {repeats}. Real embeddings may pack
better or worse than these simulated ones.

{table_of_packings(results.packings, results.chosen)}

## Where this was measured

{system()}, {os.cpu_count()} cores.
{libraries}.
"""


if __name__ == "__main__":
    main()
