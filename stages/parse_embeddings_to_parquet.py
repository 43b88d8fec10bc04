"""Turn the raw table into one Parquet table with the embedding as numbers.

Reads data/raw/. Writes data/artefacts.parquet.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import Field
from tqdm import tqdm

from stages.common.params import Section, load_params
from stages.common.raw import PROVENANCE, RAW_FOLDER
from stages.common.stage import PipelineError, log, run
from stages.common.tables import (
    ARTEFACTS,
    METADATA,
    artefacts_schema,
    fixed_size_list,
    write_batches,
)

STAGE = "parse_embeddings_to_parquet"

# Bytes of CSV text that are parsed at a time: some 500 rows of 1,024 numbers.
CSV_BLOCK = 8 << 20
# Rows of a Parquet input that are parsed at a time: 8 MB at 1,024 numbers of 8 bytes.
PARQUET_BATCH_ROWS = 1024
# Blanks around these are removed: the course's file writes "Woven fabric " throughout.
STRIPPED = ("medium", "museum", "subset")
# How the simulator begins the names of its image files.
SIMULATED = "synthetic-"
# Without these a row is of no use.
NOT_EMPTY = ("image_file", "medium")
# These are computed from width and height, so they may be missing.
MAY_BE_MISSING = ("product_size", "aspect_ratio")


class Params(Section):
    """`parse_embeddings_to_parquet`"""

    embedding_column: str = Field(min_length=1)
    compression: Literal["zstd", "snappy", "gzip", "none"]
    row_group_rows: int = Field(gt=0, le=1_000_000)


def main() -> str:
    params = load_params(STAGE, Params)
    provenance = json.loads(PROVENANCE.read_text(encoding="utf-8"))
    path = RAW_FOLDER / provenance["file"]
    columns = check_columns(read_column_names(path), params.embedding_column)
    batches = read_raw(path, columns)
    first = next(batches, None)
    if first is None:
        raise PipelineError(f"{path} has a header but no rows")
    length = first_embedding_length(first, params.embedding_column)
    source = true_source(provenance["source"], first)
    schema = artefacts_schema(source, length)
    blanks: Counter[str] = Counter()
    with tqdm(desc=STAGE, unit=" rows", disable=None) as bar:
        parsed = parse(chain([first], batches), schema, params.embedding_column, blanks)
        rows = write_batches(
            ARTEFACTS, schema, _counted(parsed, bar), params.compression, params.row_group_rows
        )
    for column, count in (+blanks).items():  # those above 0
        log(STAGE, f"removed blanks around the {column}, rows changed: {count:,}")
    if length is None:
        return f"{rows:,} rows, metadata only: no column is called `{params.embedding_column}`"
    return f"{rows:,} rows with embeddings of length {length:,}"


def _counted(batches: Iterable[pa.RecordBatch], bar: tqdm) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        bar.update(batch.num_rows)


def read_column_names(path: Path) -> list[str]:
    """The names in a CSV file's first line or a Parquet file's schema.

    Raises PipelineError for a file that is empty or not what its name says.
    """
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path).names
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file), None)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from None
    if not names:
        raise PipelineError(f"{path} is empty")
    return names


def check_columns(names: list[str], embedding_column: str) -> list[str]:
    """The columns to read: those of the course's file, and the embedding where there is one.

    Raises PipelineError when one is missing or a name stands twice.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise PipelineError(f"the raw table has more than one column `{repeated[0]}`")
    wanted = [raw_name for _, _, raw_name in METADATA]
    if embedding_column in wanted:
        raise PipelineError(
            f"`{STAGE}.embedding_column` is `{embedding_column}`, which is a column of metadata"
        )
    missing = [name for name in wanted if name not in names]
    if missing:
        raise PipelineError(
            f"the raw table has no column {_listed(missing)}; it has {_listed(names)}"
        )
    return [*wanted, embedding_column] if embedding_column in names else wanted


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name[:40]}`" for name in names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12:,} more"


def read_raw(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of the raw table by record batches; all columns of a CSV come as text.

    Raises PipelineError for a file that cannot be read to its end.
    """
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=columns):
                    yield with_plain_text(batch)
        else:
            yield from pa.csv.open_csv(
                path,
                read_options=pa.csv.ReadOptions(block_size=CSV_BLOCK),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=columns,
                    column_types=dict.fromkeys(columns, pa.string()),
                    strings_can_be_null=False,
                ),
            )
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from None


def with_plain_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with text of every kind (dictionary, large, view) as plain text."""
    for index, field in enumerate(batch.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        if kind != field.type:
            batch = batch.set_column(index, field.name, batch.column(index).cast(kind))
    return batch


def _unreadable(path: Path, error: Exception) -> PipelineError:
    return PipelineError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}")


def true_source(source: str, first: pa.RecordBatch) -> str:
    """The source of a table; `synthetic` for the simulator's, whichever way it came.

    Its results must not pass for results on photographs.
    """
    image_file = first.column(METADATA[0][2])[0].as_py()
    if source == "synthetic" or not str(image_file).startswith(SIMULATED):
        return source
    log(STAGE, f"the image files are called {SIMULATED}...: this table is synthetic")
    return "synthetic"


def first_embedding_length(batch: pa.RecordBatch, embedding_column: str) -> int | None:
    """Length of the first row's embedding, None for a table without embeddings."""
    if embedding_column not in batch.schema.names:
        return None
    return embedding_values(batch.slice(0, 1), embedding_column, 1, None).shape[1]


def parse(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    embedding_column: str,
    blanks: Counter[str],
) -> Iterator[pa.RecordBatch]:
    """Turn raw batches into batches of the artefacts table with the schema `schema`.

    Counts in `blanks`, for each column, the rows in which blanks were removed.

    Raises PipelineError, which names the first row that breaks a rule: image file
    and medium not empty, image file unique, width and height positive numbers,
    embeddings of finite numbers and of one length.
    """
    first_row = 1
    row_of: dict[str, int] = {}
    for batch in batches:
        columns = []
        for name, type_, raw_name in METADATA:
            if pa.types.is_string(type_):
                column, changed = text_column(batch, raw_name, strip=name in STRIPPED)
                blanks[name] += changed
                if name in NOT_EMPTY:
                    _refuse(batch, pc.equal(column, ""), first_row, f"`{raw_name}` is empty")
            else:
                column = number_column(batch, raw_name, first_row, name in MAY_BE_MISSING)
            columns.append(column)
        for row, image_file in enumerate(columns[0].to_pylist(), first_row):
            earlier = row_of.setdefault(image_file, row)
            if earlier != row:
                raise PipelineError(
                    f"row {row:,}: the image file {image_file} stands in row {earlier:,} already"
                )
        if "embedding" in schema.names:
            length = schema.field("embedding").type.list_size
            values = embedding_values(batch, embedding_column, first_row, length)
            columns.append(fixed_size_list(values))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
        first_row += batch.num_rows


def text_column(batch: pa.RecordBatch, raw_name: str, strip: bool) -> tuple[pa.Array, int]:
    """A column as text, missing values as "", and the number of rows that `strip` changed.

    Raises PipelineError for a column of a type that has no text, such as lists.
    """
    raw = batch.column(raw_name)
    try:
        text = pc.fill_null(raw.cast(pa.string()), "")
    except pa.ArrowException:
        raise PipelineError(f"`{raw_name}` holds {raw.type}, which is not text") from None
    if not strip:
        return text, 0
    stripped = pc.utf8_trim_whitespace(text)
    return stripped, pc.sum(pc.not_equal(stripped, text)).as_py() or 0


def number_column(
    batch: pa.RecordBatch, raw_name: str, first_row: int, may_be_missing: bool
) -> pa.Array:
    """A column as float64; only finite numbers above 0 pass.

    Raises PipelineError, which names the first row with another value.
    """
    raw = batch.column(raw_name)
    if pa.types.is_string(raw.type):
        raw = pc.utf8_trim_whitespace(raw)
        raw = pc.if_else(pc.equal(raw, ""), pa.scalar(None, pa.string()), raw)
    numbers = _to_numbers(raw, pa.float64(), raw_name)
    usable = pc.and_(pc.is_finite(numbers), pc.greater(numbers, 0))
    missing = pc.is_null(raw)
    good = pc.or_(pc.fill_null(usable, False), missing if may_be_missing else pa.scalar(False))
    _refuse(batch, pc.invert(good), first_row, f"`{raw_name}` is not a number above 0", raw_name)
    return numbers


def embedding_values(
    batch: pa.RecordBatch, embedding_column: str, first_row: int, length: int | None
) -> np.ndarray:
    """The embeddings of n rows as an (n, length) array of float32.

    Each number becomes the float32 nearest to what was written. Without `length`,
    the first row's length is the expected one.

    Raises PipelineError, which names the first row whose embedding cannot be used.
    """
    column = batch.column(embedding_column)
    if pa.types.is_string(column.type):
        column = lists_of_text(column)
    elif not (
        pa.types.is_list(column.type)
        or pa.types.is_large_list(column.type)
        or pa.types.is_fixed_size_list(column.type)
    ):
        raise PipelineError(
            f"`{embedding_column}` holds {column.type}, not lists of numbers or their text"
        )
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    expected = lengths[0].as_py() if length is None else length
    values = _to_numbers(pc.list_flatten(column), pa.float32(), embedding_column)
    numbers = values.to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    wrong_length = pc.not_equal(lengths, expected).to_numpy(zero_copy_only=False)
    if wrong_length.any() or not finite.all() or expected == 0:
        # Rows in which any number is not finite, whatever the lengths of the rows.
        row_of_number = np.repeat(np.arange(len(lengths)), lengths.to_numpy())
        not_finite = np.bincount(row_of_number[~finite], minlength=len(lengths)) > 0
        row = int(np.argmax(wrong_length | not_finite | (expected == 0)))
        _raise_for_embedding(batch, embedding_column, row, first_row, expected)
    return numbers.reshape(batch.num_rows, expected)


def lists_of_text(column: pa.StringArray) -> pa.ListArray:
    """Each row's text cut at its commas, without brackets and blanks.

    A row whose brackets do not match, such as the last one of a file that was cut
    off, becomes an empty list.
    """
    text = pc.ascii_trim_whitespace(column)
    opened, closed = pc.starts_with(text, "["), pc.ends_with(text, "]")
    inner = pc.if_else(opened, pc.utf8_slice_codeunits(text, 1, -1), text)
    inner = pc.if_else(pc.equal(opened, closed), inner, pa.scalar(None, pa.string()))
    lists = pc.split_pattern(inner, ",")
    trimmed = pc.ascii_trim_whitespace(lists.flatten())
    return pa.ListArray.from_arrays(lists.offsets, trimmed, mask=pc.is_null(lists))


def _to_numbers(column: pa.Array, type_: pa.DataType, raw_name: str) -> pa.Array:
    """Cast to numbers; text that cannot be read as a number becomes missing.

    Raises PipelineError for a column that holds neither numbers nor text.
    """
    kind = column.type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise PipelineError(f"`{raw_name}` holds {kind}, which is not numbers")
    try:
        return column.cast(type_)
    except pa.ArrowInvalid:
        # One by one, by the same rules: Python's float() would take "1_0" for 10.
        return pa.array([_to_number(value, type_) for value in column], type_)


def _to_number(value: pa.Scalar, type_: pa.DataType) -> pa.Scalar:
    try:
        return value.cast(type_)
    except pa.ArrowInvalid:
        return pa.scalar(None, type_)


def _raise_for_embedding(
    batch: pa.RecordBatch, embedding_column: str, row: int, first_row: int, expected: int
) -> None:
    value = batch.column(embedding_column)[row].as_py()
    text = value.strip() if isinstance(value, str) else ""
    problem = f"the embedding is not {expected:,} finite numbers"
    if value is None or len(value) == 0:
        problem = "the embedding is empty"
    elif "..." in text or (len(text.strip("[]").split()) > 1 and "," not in text):
        problem = (
            "the embedding is a NumPy array printed as text, which leaves out commas and most "
            "numbers: write the table again with the arrays turned into lists (`.tolist()`)"
        )
    elif text.startswith("[") != text.endswith("]"):
        problem = "the embedding is cut off, a bracket is missing"
    begin = " ".join(str(value)[:60].split())
    raise PipelineError(f"{_row_name(batch, row, first_row)}: {problem}, it begins {begin}")


def _refuse(
    batch: pa.RecordBatch,
    bad: pa.BooleanArray,
    first_row: int,
    rule: str,
    raw_name: str | None = None,
) -> None:
    """Raise PipelineError for the first row of `bad` that is true."""
    row = pc.index(bad, True).as_py()
    if row >= 0:
        value = f" but {batch.column(raw_name)[row].as_py()!r}" if raw_name else ""
        raise PipelineError(f"{_row_name(batch, row, first_row)}: {rule}{value}")


def _row_name(batch: pa.RecordBatch, row: int, first_row: int) -> str:
    image_file = batch.column(METADATA[0][2])[row].as_py()
    return f"row {first_row + row:,} (image file {image_file})"


if __name__ == "__main__":
    run(STAGE, main)
