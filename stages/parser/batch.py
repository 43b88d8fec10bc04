"""Turn a batch of raw rows into rows of the artefacts table."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stages.parser.bad_rows import Problem
from stages.parser.columns import Columns, read_extra, read_metadata
from stages.parser.contract import Conditions, broken_metadata
from stages.parser.embeddings import (
    holds_numbers,
    is_printed,
    read_numbers,
    usable_rows,
    what_is_wrong,
)
from stages.tables.artefacts import EMBEDDING
from stages.tables.parquet import fixed_size_list


@dataclass(frozen=True)
class ParsedBatch:
    """What became of n raw rows."""

    good: pa.RecordBatch  # the m rows that break no rule, as the artefacts table has them
    good_rows: np.ndarray  # (m,) int, their places among the raw rows
    image_files: list[str]  # (n,) of all raw rows
    problems: dict[int, list[Problem]]  # for each other row, by its place
    changes: Counter[str]  # in how many rows a text was changed, by what was done


def parse_batch(
    batch: pa.RecordBatch, columns: Columns, schema: pa.Schema, conditions: Conditions
) -> ParsedBatch:
    """Turn n raw rows into rows of the artefacts table, which has the schema `schema`.

    The rows of the problems are counted from 0, within the batch.

    Raises PipelineError for a column of a type that cannot be what it stands for.
    """
    metadata, rows, changes = read_metadata(batch, columns)
    extra, broken_extra, changes_of_extra = read_extra(batch, columns.extra)
    image_files = metadata["image_file"].to_pylist()
    problems: dict[int, list[Problem]] = {}

    def add(row: int, rule: str, value: object) -> None:
        text = "nothing" if value is None or value == "" else str(value)
        problems.setdefault(row, []).append(Problem(row, rule, image_files[row], text))

    for row, rule, value in [*broken_metadata(rows, conditions), *broken_extra]:
        add(row, rule, value)
    if columns.embedding:
        length = schema.field(EMBEDDING).type.list_size
        matrix, usable, broken = usable_rows(
            read_numbers(batch, columns.embedding), length, conditions.longest
        )
        for row, rule in broken:
            value = _raw_embedding(batch, columns.embedding, row)
            if rule == "embedding_unreadable" and is_printed(value):
                rule = "embedding_printed"
            add(row, rule, what_is_wrong(rule, value))
        good_rows = np.setdiff1d(np.flatnonzero(usable), list(problems))
        if len(good_rows) < len(matrix):
            matrix = matrix[np.searchsorted(np.flatnonzero(usable), good_rows)]
    else:
        good_rows = np.setdiff1d(np.arange(batch.num_rows), list(problems))
    arrays = [*metadata.values(), *extra]
    if problems:
        arrays = [array.take(good_rows) for array in arrays]
    if columns.embedding:
        kept = schema.field(EMBEDDING).type.value_type.to_pandas_dtype()
        arrays.insert(len(metadata), fixed_size_list(matrix.astype(kept, copy=False)))
    good = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return ParsedBatch(good, good_rows, image_files, problems, changes + changes_of_extra)


def _raw_embedding(batch: pa.RecordBatch, columns: list[str], row: int) -> object:
    """A list, the text of one, or None."""
    first = batch.column(columns[0])
    if len(columns) == 1 and not holds_numbers(first.type):
        return first[row].as_py()
    return [batch.column(name)[row].as_py() for name in columns]
