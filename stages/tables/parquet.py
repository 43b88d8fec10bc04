"""Read and write Parquet tables: what all of them share.

Every table names the source of its data (`synthetic`, `mame` or `file`) in its schema's metadata,
so that results can say what they were computed from.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.files import atomic_write, reading
from stages.tables.values import Source

# How far the sum of a row's probabilities may be from 1: each is rounded to 6 decimals.
SUM_TOLERANCE = 0.01
ROWS_OF_A_BYTE = 10  # of a file, at most


def source_of(path: Path) -> str:
    """The source that a table's schema names.

    Raises PipelineError when it names none.
    """
    with reading(path):
        return source_of_schema(pq.read_schema(path))


def source_of_schema(schema: pa.Schema) -> str:
    """The source that a schema names. Raises ValueError or KeyError when it names none."""
    source = metadata_of(schema, "source")
    if source not in get_args(Source):
        raise ValueError("its source of data is none that is known")
    return source


def metadata_of(schema: pa.Schema, name: str) -> str:
    """A text of a schema's metadata. Raises KeyError when it is missing."""
    if name.encode() not in (schema.metadata or {}):
        raise KeyError(name)
    return schema.metadata[name.encode()].decode()


def names_of(schema: pa.Schema, name: str) -> list[str]:
    """Different texts, one at least, that a schema's metadata lists as JSON under a name.

    Raises ValueError or KeyError for anything else.
    """
    names = json.loads(metadata_of(schema, name))
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ValueError(f"its `{name}` are no list of texts")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"its `{name}` are none, or one is there twice")
    return names


def check_columns(schema: pa.Schema, expected: Mapping[str, pa.DataType]) -> None:
    """Raises ValueError when a schema lacks a column, or has another type for it."""
    for name, type_ in expected.items():
        if schema.names.count(name) != 1:
            raise ValueError(f"it has {schema.names.count(name) or 'no'} columns `{name}`")
        if schema.field(name).type != type_:
            found = str(schema.field(name).type)[:60]
            raise ValueError(f"its column `{name}` holds {found} and not {type_}")


def read_columns(path: Path, columns: Mapping[str, pa.DataType], *full: str) -> pa.Table:
    """Some columns of a table of the pipeline, which have these types; `full` have no gaps.

    Raises PipelineError for another table, or one that cannot be read.
    """
    with reading(path):
        return columns_of(open_table(path), columns, *full)


def open_table(source: Path | bytes) -> pq.ParquetFile:
    """A Parquet file of the pipeline, or its content.

    Raises OSError, ValueError and Arrow's errors.
    """
    content = isinstance(source, bytes)
    file = pq.ParquetFile(pa.BufferReader(source) if content else source)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    # Each row has a name of its own, so that a few bytes cannot hold millions of them.
    if file.metadata.num_rows > ROWS_OF_A_BYTE * size:
        raise ValueError("it has more rows than its bytes can hold")
    return file


def columns_of(file: pq.ParquetFile, columns: Mapping[str, pa.DataType], *full: str) -> pa.Table:
    """What `read_columns` gives, of a file that is open.

    Raises ValueError and Arrow's errors.
    """
    check_columns(file.schema_arrow, columns)
    table = file.read(list(columns))
    table.validate(full=True)  # whether texts are UTF-8, too
    for name in full:
        if table[name].null_count:
            raise ValueError(f"its column `{name}` has gaps")
    # A file says it twice, and what was checked is this.
    return table.replace_schema_metadata(file.schema_arrow.metadata)


def check_probabilities(values: np.ndarray) -> None:
    """Raises ValueError for rows (n, k) that are no probabilities, such as nan."""
    # Not the other way round: nothing is true of nan.
    good = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)
    if not good.all():
        raise ValueError(f"row {int(np.flatnonzero(~good)[0]) + 1:,} holds no probabilities")


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read a Parquet table by record batches, one for each row group.

    The next one is read meanwhile: Arrow releases the GIL.

    Raises PipelineError for a table that cannot be read, or lacks a column.
    """
    with reading(path), open_table(path) as file, ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        for group in range(file.num_row_groups):
            waiting.append(pool.submit(_read_group, file, group, columns))
            if group:
                yield from waiting.popleft().result().to_batches()
        for last in waiting:
            yield from last.result().to_batches()


def read_group(path: Path, group: int, columns: list[str]) -> pa.Table:
    """Read one row group of a Parquet table, by its place. Raises errors as `read_batches` does."""
    with reading(path), open_table(path) as file:
        return _read_group(file, group, columns)


def _read_group(file: pq.ParquetFile, group: int, columns: list[str] | None) -> pa.Table:
    if lacking := set(columns or ()) - set(file.schema_arrow.names):
        raise KeyError(min(lacking))
    table = file.read_row_group(group, columns=columns, use_threads=False).combine_chunks()
    table.validate(full=True)  # whether texts are UTF-8, too
    return table


@contextmanager
def writer(
    path: Path,
    schema: pa.Schema,
    compression: str = "zstd",
    row_group_rows: int = 4096,
    compression_level: int | None = None,
) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """A function that writes record batches to a Parquet table, which appears once all are written.

    The row groups hold `row_group_rows` rows (the last one may hold fewer)
    whatever the size of the batches, so that the bytes depend on the rows alone. One is
    written while the batches of the next are made: Arrow releases the GIL.
    """
    writing: deque[Future[None]] = deque()
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression=compression,
            compression_level=compression_level,
            # A dictionary pays for text only: embeddings hardly repeat. Sorted by their place in
            # the number, their bytes suit zstd, and no other: docs/benchmarks.md.
            use_dictionary=[f.name for f in schema if pa.types.is_string(f.type)],
            # Row-group statistics of an embedding's numbers never prune anything here.
            write_statistics=[f.name for f in schema if not pa.types.is_nested(f.type)],
            use_byte_stream_split=[
                f"{f.name}.list.element" for f in schema if compression == "zstd" and _is_vector(f)
            ],
        ) as file,
        ThreadPoolExecutor(1) as pool,
    ):

        def write_group(group: pa.Table) -> None:
            if writing:
                writing.popleft().result()
            writing.append(pool.submit(file.write_table, group, row_group_size=row_group_rows))

        groups = Regrouped(row_group_rows)

        def write(batch: pa.RecordBatch) -> None:
            for group in groups.add(batch):
                write_group(group)

        yield write
        for group in groups.rest():
            write_group(group)
        for last in writing:
            last.result()


def write_batches(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *how: Any, **more: Any
) -> int:
    """Write record batches to a Parquet table, as `writer` does; return the number of rows."""
    rows = 0
    with writer(path, schema, *how, **more) as write:
        for batch in batches:
            write(batch)
            rows += batch.num_rows
    return rows


def _is_vector(field: pa.Field) -> bool:
    return pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type)


class Regrouped:
    """Joins and cuts batches so that each holds `rows` rows, the last one maybe fewer."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._waiting: list[pa.RecordBatch] = []
        self._count = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Those that are full with this batch."""
        self._waiting.append(batch)
        self._count += batch.num_rows
        while self._count >= self._rows:
            table = pa.Table.from_batches(self._waiting)
            yield table.slice(0, self._rows)
            self._waiting = table.slice(self._rows).to_batches()
            self._count -= self._rows

    def rest(self) -> Iterator[pa.Table]:
        """What is left after the last batch."""
        if self._count:
            yield pa.Table.from_batches(self._waiting)


def regroup(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Batches of any size as tables of `rows` rows, the last one maybe of fewer."""
    groups = Regrouped(rows)
    for batch in batches:
        yield from groups.add(batch)
    yield from groups.rest()


def matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A fixed-size-list column of n rows of length d as an (n, d) array, without a copy if it can.

    Half floats become float32, in which NumPy computes many times faster.

    Raises ValueError for a column with missing rows.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} rows are missing")
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # Not -1 for the length: a batch may have no rows.
    values = array.flatten().to_numpy(zero_copy_only=False)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return values.reshape(len(array), array.type.list_size)


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """An (n, d) array as a column of n lists of length d; the inverse of `matrix`."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def rounded_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (n, k) as float32, rounded to 6 decimals: what lies below says nothing."""
    return probabilities.astype(np.float32).round(6)
