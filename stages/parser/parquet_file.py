"""Read a Parquet table by record batches, in memory that does not grow with the file."""

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import PipelineError, shorten
from stages.parser import parquet_sizes
from stages.parser.kinds import other_kind
from stages.parser.unpacking import check_expansion

# Bytes of numbers that are taken at a time, and rows at most.
PARQUET_BATCH_BYTES = 1 << 20
PARQUET_BATCH_ROWS = 1024


class ParquetFile:
    """A Parquet table; its columns come as they are, text of every kind as plain text."""

    skipped_rows = 0  # a Parquet file has none
    decimal, hint = ".", ""  # nor texts that need one

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size  # bytes
        self.position = 0  # bytes that were read, by the share of the rows
        with path.open("rb") as file:
            start = file.read(1000)
        if not start.startswith(b"PAR1"):
            kind = other_kind(start) or "something else: a CSV table has a name that ends in .csv"
            raise PipelineError(f"{path} is no Parquet file but {kind}")
        try:
            # With a buffer, Arrow reads page by page; without one, whole columns.
            # Buffered in advance, all row groups that were read would stay in the memory.
            self._file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
            schema = self._file.schema_arrow
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        self.names: list[str] = schema.names
        self.metadata: Mapping[bytes, bytes] = schema.metadata or {}  # what the file says of itself

    def batches(self, columns: list[str]) -> Generator[pa.RecordBatch, None, None]:
        """The columns, some 1 MB of numbers at a time.

        Raises PipelineError for a file that cannot be read to its end.
        """
        rows = 0
        expected_rows = self._file.metadata.num_rows
        try:
            for batch in self._file.iter_batches(self._batch_rows(columns), columns=columns):
                rows += batch.num_rows
                self.position = self.size * rows // max(1, expected_rows)
                if batch.num_rows:
                    yield with_plain_text(batch)
        except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        if rows != expected_rows:
            raise self._unreadable(ValueError(f"{rows:,} rows instead of {expected_rows:,}"))

    def _batch_rows(self, columns: list[str]) -> int:
        """How many rows to take at a time.

        Raises PipelineError for a file whose columns hold far more values than its bytes can.
        """
        wanted = tuple(f"{name}." for name in columns)  # the path of a list is longer than its name
        bytes_of_row = 1
        for group, sizes in enumerate(_unpacked_sizes(self.path)):
            unpacked = sum(size for path, size in sizes.items() if f"{path}.".startswith(wanted))
            check_expansion(self.path, unpacked, self.size)
            rows = self._file.metadata.row_group(group).num_rows
            bytes_of_row = max(bytes_of_row, unpacked // max(1, rows))
        return min(PARQUET_BATCH_ROWS, max(1, PARQUET_BATCH_BYTES // bytes_of_row))

    def _unreadable(self, error: Exception) -> PipelineError:
        return PipelineError(
            f"{self.path} cannot be read as Parquet, it is cut off or damaged: "
            f"{shorten(str(error), 300)}"
        )


def _unpacked_sizes(path: Path) -> list[dict[str, int]]:
    """What `parquet_sizes.unpacked_sizes` gives, from a process of its own.

    Raises OSError when that process fails.
    """
    command = [sys.executable, parquet_sizes.__file__, str(path)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    if result.returncode:
        raise OSError("the sizes of its columns make no sense")
    return json.loads(result.stdout)


def with_plain_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with text of every kind (dictionary, large, view) as plain text.

    Raises pyarrow.ArrowInvalid for text that is not UTF-8, which Parquet may hold.
    """
    for index, field in enumerate(batch.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        if pa.types.is_string(kind):
            batch.column(index).validate(full=True)
        if kind != field.type:
            batch = batch.set_column(index, field.name, batch.column(index).cast(kind))
    return batch
