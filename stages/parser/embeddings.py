"""Read embeddings from raw columns as float32, and find the rows that have none to use.

Text becomes the float32 that is nearest to the written number, as Arrow converts it. simdjson takes
half the time, but goes by way of float64: what that could round otherwise is left to Arrow.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.common.errors import PipelineError, shorten
from stages.parser.contract import LEAST_NUMBER, MOST_NUMBER
from stages.tables.artefacts import FLOAT

try:
    import simdjson
except ImportError:  # it has no wheels for Python 3.14
    simdjson = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Numbers:
    """The numbers of n rows, one row after the other."""

    values: np.ndarray  # (sum of lengths,) float32; nan where the input has a missing number
    lengths: np.ndarray  # (n,) int64
    readable: np.ndarray  # (n,) bool, False for text that is no list of numbers; its length is 0

    def common_length(self) -> int:
        """The length that most rows have, of those that have numbers; 0 where none has."""
        lengths = Counter(self.lengths[self.lengths > 0].tolist())
        return max(lengths, key=lambda length: (lengths[length], length), default=0)


def read_numbers(batch: pa.RecordBatch, columns: list[str]) -> Numbers:
    """Read the embeddings of n rows.

    `columns` is one column of lists or of their text, or one column for each dimension.

    Raises PipelineError for columns that hold something else.
    """
    column = batch.column(columns[0])
    if len(columns) > 1 or holds_numbers(column.type):
        return numbers_of_columns(batch, columns)
    if pa.types.is_string(column.type):
        return numbers_of_text(column)
    return numbers_of_lists(column, columns[0])


def kept_type(batch: pa.RecordBatch, columns: list[str]) -> pa.DataType:
    """As what the numbers of `read_numbers` are kept: half floats if the lists hold those."""
    type_ = batch.column(columns[0]).type
    return pa.float16() if getattr(type_, "value_type", None) == pa.float16() else FLOAT


def holds_numbers(type_: pa.DataType) -> bool:
    """Whether values of an Arrow type are numbers, or all missing."""
    return (
        pa.types.is_floating(type_)
        or pa.types.is_integer(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_null(type_)
    )


def numbers_of_lists(column: pa.Array, name: str) -> Numbers:
    """The numbers of a column of lists of any kind.

    Raises PipelineError for a column of another type.
    """
    if not (
        pa.types.is_list(column.type)
        or pa.types.is_large_list(column.type)
        or pa.types.is_fixed_size_list(column.type)
    ):
        raise PipelineError(
            f"`{shorten(name, 40)}` holds {column.type}, not lists of numbers or their text"
        )
    if not holds_numbers(column.type.value_type):
        raise PipelineError(
            f"`{shorten(name, 40)}` holds lists of {column.type.value_type}, not of numbers"
        )
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return Numbers(
        to_float32(pc.list_flatten(column)),
        lengths.astype(np.int64),
        np.ones(len(column), dtype=bool),
    )


def to_float32(numbers: pa.Array) -> np.ndarray:
    """Numbers of any width as float32, the nearest one to each; a missing one is nan."""
    return to_float(numbers, pa.float32()).to_numpy(zero_copy_only=False)


def to_float(numbers: pa.Array, type_: pa.DataType) -> pa.Array:
    """Numbers of any width as floats, the nearest one to each; too large becomes infinite."""
    if pa.types.is_decimal(numbers.type):
        numbers = numbers.cast(pa.string())  # from which Arrow rounds once
    return numbers.cast(type_, safe=False)  # `safe` refuses whole numbers that need rounding


def numbers_of_columns(batch: pa.RecordBatch, columns: list[str]) -> Numbers:
    """The numbers of rows that have one column for each dimension, as numbers or as text.

    Raises PipelineError for a column that holds neither.
    """
    readable = np.ones(batch.num_rows, dtype=bool)
    values = np.empty((batch.num_rows, len(columns)), dtype=np.float32)
    for index, name in enumerate(columns):
        column = batch.column(name)
        if pa.types.is_string(column.type):
            numbers = to_numbers(pc.ascii_trim_whitespace(column), pa.float32())
            readable &= numbers.is_valid().to_numpy(zero_copy_only=False)
            column = numbers
        elif not holds_numbers(column.type):
            raise PipelineError(f"`{shorten(name, 40)}` holds {column.type}, which is not numbers")
        values[:, index] = to_float32(column)
    lengths = np.where(readable, len(columns), 0)
    return Numbers(values[readable].ravel(), lengths, readable)


def to_numbers(text: pa.StringArray, type_: pa.DataType) -> pa.Array:
    """Cast text to numbers; text that is no number becomes missing.

    One by one where necessary: Arrow stops at the first text that is no number, and
    Python's own rules differ (`float("1_0")` is 10).
    """
    try:
        return text.cast(type_)
    except pa.ArrowInvalid:
        return pa.array([_to_number(value, type_) for value in text], type_)


def _to_number(text: pa.StringScalar, type_: pa.DataType) -> pa.Scalar:
    try:
        return text.cast(type_)
    except pa.ArrowInvalid:
        return pa.scalar(None, type_)


def numbers_of_text(column: pa.StringArray) -> Numbers:
    """The numbers of rows that hold the text of a list, with brackets or without.

    Numbers are separated by commas, with any white space around them.
    """
    if simdjson and (found := _numbers_of_json(column)) is not None:
        return found
    text = pc.ascii_trim_whitespace(pc.fill_null(column, ""))
    opened, closed = pc.starts_with(text, "["), pc.ends_with(text, "]")
    inner = pc.if_else(opened, pc.utf8_slice_codeunits(text, 1, -1), text)
    # A row with only one bracket was cut off.
    matched = pc.equal(opened, closed)
    has_text = pc.not_equal(pc.ascii_trim_whitespace(inner), "")
    readable = matched.to_numpy(zero_copy_only=False).copy()
    usable = pc.and_(matched, has_text)
    if pc.all(usable).as_py() and (numbers := _split_and_cast(inner)) is not None:
        return Numbers(*numbers, readable)
    all_values, lengths = [], np.zeros(len(column), dtype=np.int64)
    # Some rows have no numbers, or something else: read row by row.
    for row in pc.indices_nonzero(usable).to_pylist():
        numbers = _split_and_cast(inner.slice(row, 1))
        if numbers is None:
            readable[row] = False
        else:
            all_values.append(numbers[0])
            lengths[row] = numbers[1][0]
    values = np.concatenate(all_values) if all_values else np.empty(0, dtype=np.float32)
    return Numbers(values, lengths, readable)


def _numbers_of_json(column: pa.StringArray) -> Numbers | None:
    """The numbers of rows that all hold JSON, None where one holds what Arrow has to read.

    simdjson gives the nearest float64. The float32 nearest to that is not the one nearest to the
    number only if the float64 lies halfway between two of them: then its last 29 bits are a one and
    zeros, or it is below the smallest normal float32.
    """
    # In a whole number -0, simdjson drops the sign.
    if column.null_count or pc.any(pc.match_substring_regex(column, r"-0[^.\d]")).as_py():
        return None
    parse: Any = simdjson.Parser().parse
    lists = []
    try:
        for text in column.to_pylist():
            if text.rfind("[") != 0:  # lists within lists would come out as one
                return None
            lists.append(parse(text).as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):
        return None
    values = np.frombuffer(b"".join(lists), dtype=np.float64)
    halfway = (values.view(np.uint64) & 0x1FFFFFFF) == 0x10000000
    tiny = (np.abs(values) < np.finfo(np.float32).tiny) & (values != 0)
    if (halfway | tiny).any():
        return None
    lengths = np.array([numbers.size for numbers in lists], dtype=np.int64) // values.itemsize
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        floats = values.astype(np.float32)
    return Numbers(floats, lengths, np.ones(len(column), dtype=bool))


def _split_and_cast(text: pa.StringArray) -> tuple[np.ndarray, np.ndarray] | None:
    """The numbers and lengths of rows of text, None where anything is not a number."""
    # Python writes a blank after each comma. Splitting at both saves trimming, a fifth of the
    # time; where the text is written otherwise, the cast fails, and the comma alone is tried.
    for separator in (", ", ","):
        lists = pc.split_pattern(text, separator)
        pieces = lists.flatten()
        if separator == ",":
            pieces = pc.ascii_trim_whitespace(pieces)
        try:
            values = pieces.cast(pa.float32())
        except pa.ArrowInvalid:
            continue
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        return values.to_numpy(), lengths.astype(np.int64)
    return None


def norms(matrix: np.ndarray) -> np.ndarray:
    """The Euclidean norm of each row of an (n, d) float32 matrix; infinite where it overflows."""
    with np.errstate(over="ignore"):
        return np.sqrt(np.einsum("nd,nd->n", matrix, matrix))


def usable_rows(
    numbers: Numbers, length: int, longest: float
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Divide n rows into those that can be used and those that break a rule.

    Usable embeddings have `length` numbers and a norm of at most `longest`.

    Returns the matrix of the m usable rows, (m, length) float32; which rows they are, an
    (n,) array of bool; and for each other row its place and the name of the rule.
    """
    if (numbers.lengths == length).all() and length:
        matrix = numbers.values.reshape(len(numbers.lengths), length)
        usable = np.ones(len(matrix), dtype=bool)
    else:
        usable = (numbers.lengths == length) & (length > 0)
        matrix = numbers.values[np.repeat(usable, numbers.lengths)].reshape(-1, max(length, 1))
    broken = []
    for row in np.flatnonzero(~usable):
        if not numbers.readable[row]:
            broken.append((int(row), "embedding_unreadable"))
        elif numbers.lengths[row] == 0:
            broken.append((int(row), "embedding_missing"))
        else:
            broken.append((int(row), "embedding_length"))
    rows = np.flatnonzero(usable)
    largest = np.maximum(matrix.max(axis=1), -matrix.min(axis=1))
    finite = largest <= MOST_NUMBER  # which nan is not
    some = largest >= LEAST_NUMBER
    broken += [(int(row), "embedding_not_finite") for row in rows[~finite]]
    broken += [(int(row), "embedding_all_zero") for row in rows[finite & ~some]]
    far = finite & (norms(matrix) > longest)
    broken += [(int(row), "embedding_outlier") for row in rows[far]]
    good = finite & some & ~far
    if not good.all():
        usable[rows[~good]] = False
        matrix = matrix[good]
    return matrix, usable, broken


# `array([...])`, `tensor([...])`, `np.float32(0.1)`: code that shows an array, not its numbers.
_CODE = re.compile(r"\b(array|tensor|float\d+)\(")


def is_printed(value: object) -> bool:
    """Whether a value is the text that printing an array gives, of NumPy or PyTorch."""
    if not isinstance(value, str):
        return False
    words = value.strip().strip("[]").split(maxsplit=1)
    return "..." in value or ("," not in value and len(words) > 1) or bool(_CODE.search(value))


def what_is_wrong(rule: str, value: Any) -> str:
    """What breaks a rule in an embedding, for people.

    `value` is what the raw table has: a text, a list or nothing.
    """
    if rule == "embedding_missing":
        return "nothing"
    if isinstance(value, str):
        text = value.strip()
        if rule == "embedding_unreadable" and text.startswith("[") != text.endswith("]"):
            return f"one bracket without the other in {text}"
    pieces = _pieces(value)
    if rule == "embedding_length":
        return f"{len(pieces):,} numbers"
    if rule in ("embedding_not_finite", "embedding_unreadable"):
        numbers = to_numbers(pa.array(pieces), pa.float32()).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~(np.abs(numbers) <= MOST_NUMBER))
        if bad.size:
            return f"{pieces[bad[0]] or 'nothing'} as number {bad[0] + 1:,}"
    if rule == "embedding_outlier":
        largest = int(np.abs(np.array(pieces, dtype=np.float64)).argmax())
        return f"{pieces[largest]} as number {largest + 1:,}"
    return f"begins {str(value).strip()}"


def _pieces(value: Any) -> list[str]:
    """The numbers of a list, or of the text of one, each as text."""
    if isinstance(value, str):
        text = value.strip()
        inner = text[1:-1] if text.startswith("[") else text
        return [piece.strip() for piece in inner.split(",")]
    return ["" if piece is None else str(piece).strip() for piece in value]
