"""Read a CSV table by record batches, in memory that does not grow with the file."""

import codecs
import csv
import io
import re
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.csv

from stages.common.errors import PipelineError, shorten
from stages.common.params import Section
from stages.parser.kinds import other_kind
from stages.parser.unpacking import UnpackedFile

if TYPE_CHECKING:
    from _csv import Reader

# Bytes of text that are read at a time: some 150 rows of 1,024 numbers. A row that does not fit
# in two of them is refused, which bounds the memory that any file can ask for.
CSV_BLOCK = 2 << 20
# After so many rows of the wrong shape the file is no table, and reading on is pointless.
MOST_SKIPPED = 100_000
# Marks the end of each block: the ASCII record separator, which no text contains.
_CLOSING_FIELD = "\x1e"
# Rows that are looked at to tell how a table is written.
FIRST_ROWS = 20
SECTION = "parse_embeddings_to_parquet.csv"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
TAB, COMMA = "tab", "decimal=','"


class CsvForm(Section):
    """`parse_embeddings_to_parquet.csv`"""

    separator: Literal[",", ";", "|", "tab"]
    decimal: Literal[".", ","]


class CsvFile:
    """A CSV table; all of its columns come as text.

    `skipped_rows` counts the rows that had another number of fields than the header. `hint` says
    which parameters would read the table, where it looks as if its decimals were others.
    """

    metadata: Mapping[bytes, bytes] = MappingProxyType({})  # a CSV file says nothing of itself

    def __init__(self, path: Path, form: CsvForm) -> None:
        self.path = path
        self.decimal = form.decimal
        self.hint = ""
        self._separator: str = "\t" if form.separator == TAB else form.separator
        self.size = path.stat().st_size  # bytes
        self.position = 0  # bytes that were read
        self.skipped_rows = 0
        self.names = self._read_names()

    def _read_names(self) -> list[str]:
        with UnpackedFile(self.path) as file:
            start = self._read(file)
        if not start:
            raise PipelineError(f"{self.path} is empty")
        if (kind := other_kind(start)) is not None:
            raise PipelineError(f"{self.path} is no CSV table but {kind}")
        if b"\0" in start:
            raise PipelineError(f"{self.path} holds bytes that are not text: it is no CSV table")
        try:
            # The block may end inside a character.
            text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)
        except UnicodeDecodeError:
            raise self._not_utf8() from None
        lines = io.StringIO(text, newline="")
        reader = _csv_reader(lines, self._separator)
        names = next((row for row in reader if row), None)
        if names is None:
            raise PipelineError(f"{self.path} holds nothing but empty lines")
        if len(start) == CSV_BLOCK and lines.tell() == len(text):
            raise self._too_long("the first line")
        self._look_at_form(names, text)
        return names

    def _look_at_form(self, names: list[str], text: str) -> None:
        """Raises PipelineError when the fields are separated otherwise; fills `hint`."""
        separator: str = self._separator
        if len(names) == 1:
            # Of those that the header has, the one that it has most often.
            separator = max(SEPARATORS, key=names[0].count)
            separator = separator if separator in names[0] else self._separator
        rows = islice(_csv_reader(io.StringIO(text, newline=""), separator), 1, FIRST_ROWS)
        # Commas that separate nothing, and no points in any number.
        commas = self.decimal == "." and any(
            re.fullmatch(r"\s*[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?\s*", field)
            for row in rows
            for field in row
        )
        if separator != self._separator:
            options = [f"separator={TAB}" if separator == "\t" else f"separator='{separator}'"]
            options += [COMMA] if commas else []
            raise PipelineError(
                f"the fields of {self.path} are separated by {SEPARATORS[separator]}, and "
                f"`{SECTION}` in params.yaml says {SEPARATORS[self._separator]}: change it, or run "
                f"`dvc exp run {_as_options(options)}`"
            )
        if commas:
            self.hint = (
                f" Its numbers seem to have decimal commas, which `{_as_options([COMMA])}` reads."
            )

    def batches(self, columns: list[str]) -> Generator[pa.RecordBatch, None, None]:
        """The columns as text, some 2 MB of the file at a time.

        Raises PipelineError for a file that cannot be read to its end.
        """
        # Not with Arrow's streaming reader: it reads ahead in a thread, which hangs or crashes
        # the process when a Python file is closed early, and it lets a quoted field that never
        # closes run to the end of the file.
        rows = 0
        header_rows = 1
        text = b""
        with UnpackedFile(self.path) as file:
            at_end = False
            while not at_end:
                block = self._read(file)
                self.position = file.position
                at_end = len(block) < CSV_BLOCK
                text += block
                cut = len(text) if at_end else text.rfind(b"\n") + 1
                batch = self._parse_divided(text, cut, columns)
                if batch is None:
                    for cut in [len(text)] if at_end else _ends_of_lines(text):
                        batch = self._parse(text, cut, columns, rows)
                        if batch is not None:
                            break
                if batch is not None:
                    text = text[cut:]
                    batch = batch.slice(header_rows)
                    header_rows = 0
                    rows += batch.num_rows
                    if batch.num_rows:
                        yield batch
                elif at_end:
                    raise PipelineError(
                        f"{self.path} ends inside a quoted field, in the row that begins in line "
                        f"{self._last_line():,}: the file was cut off, or a quote is missing"
                    )
                elif len(text) >= 2 * CSV_BLOCK:
                    raise self._too_long(f"a row after row {rows:,}")

    def _read(self, file: "UnpackedFile") -> bytes:
        try:
            return file.read_block(CSV_BLOCK)
        except OSError as error:
            raise PipelineError(
                f"{self.path} cannot be unpacked, it is cut off or damaged: "
                f"{shorten(str(error), 300)}"
            ) from None

    def _parse_divided(self, text: bytes, end: int, columns: list[str]) -> pa.RecordBatch | None:
        """The columns of the lines up to `end`, None unless `_divide` can take them apart."""
        if columns[-1] != self.names[-1]:
            return None
        divided = _divide(text, end, len(self.names), self._separator.encode())
        if divided is None:
            return None
        heads, last_column = divided
        batch = self._read_lines(heads, self.names[:-1], columns[:-1])
        return batch.append_column(columns[-1], last_column)

    def _parse(self, text: bytes, end: int, columns: list[str], rows: int) -> pa.RecordBatch | None:
        """The columns of the lines up to `end`, None when that is inside a quoted field."""
        if not text.isascii():
            try:
                text[:end].decode()
            except UnicodeDecodeError:
                raise self._not_utf8() from None
        # An empty line keeps Arrow from stripping what looks like a byte order mark; only the
        # beginning of the file may have one.
        start = b"" if rows == 0 else b"\n"
        # A sentinel row: when it does not come out, an open quoted field has swallowed it.
        closing_row = self._separator.join([_CLOSING_FIELD] * len(self.names)).encode()
        lines = b"".join((start, text[:end], b"\n", closing_row))
        skipped_before = self.skipped_rows
        batch = self._read_lines(lines, self.names, columns)
        last = batch.num_rows - 1
        if last < 0 or any(column[last].as_py() != _CLOSING_FIELD for column in batch.columns):
            self.skipped_rows = skipped_before
            return None
        return batch.slice(0, last)

    def _read_lines(self, lines: bytes, names: list[str], columns: list[str]) -> pa.RecordBatch:
        """Some columns of lines of text; counts the rows with another number of fields."""

        def skip(_: pa.csv.InvalidRow) -> str:
            self.skipped_rows += 1
            return "skip" if self.skipped_rows <= MOST_SKIPPED else "error"

        try:
            table = pa.csv.read_csv(
                pa.BufferReader(lines),
                read_options=pa.csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(lines)
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=self._separator, newlines_in_values=True, invalid_row_handler=skip
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=columns,
                    column_types=dict.fromkeys(columns, pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise self._unreadable(error) from None
        return pa.RecordBatch.from_arrays([c.combine_chunks() for c in table.columns], columns)

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The line in which each row after the header begins, counted from 1, and its fields.

        Slow, and only for messages: Arrow does not count lines.
        """
        with (
            UnpackedFile(self.path) as file,
            io.TextIOWrapper(
                io.BufferedReader(file, 1 << 20), "utf-8-sig", errors="replace", newline=""
            ) as text,
        ):
            reader = _csv_reader(text, self._separator)
            line = 1
            header_passed = False
            for fields in reader:
                if fields and header_passed:
                    yield line, fields
                header_passed = header_passed or bool(fields)
                line = reader.line_num + 1

    def _last_line(self) -> int:
        return max((line for line, _ in self.records()), default=1)

    def _unreadable(self, error: pa.ArrowInvalid) -> PipelineError:
        if self.skipped_rows > MOST_SKIPPED:
            return PipelineError(
                f"{self.path}: more than {MOST_SKIPPED:,} rows have more or fewer fields than the "
                f"header, which has {len(self.names):,}: this is no CSV table, or its texts with "
                "commas lack quotes"
            )
        return PipelineError(f"{self.path} cannot be read: {shorten(str(error), 300)}")

    def _too_long(self, what: str) -> PipelineError:
        return PipelineError(
            f"{self.path}: {what} is longer than {CSV_BLOCK >> 20} MB: a quote is missing, or this "
            "is no CSV table"
        )

    def _not_utf8(self) -> PipelineError:
        line = self._first_line_that_is_not_utf8()
        return PipelineError(f"{self.path} is not UTF-8 text, in line {line:,}: save it as UTF-8")

    def _first_line_that_is_not_utf8(self) -> int:
        with UnpackedFile(self.path) as file:
            for number, line in enumerate(io.BufferedReader(file, 1 << 20), 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return number
        return 1


def _ends_of_lines(text: bytes) -> Iterator[int]:
    """Offsets just after a line end where a row may end, the likeliest first.

    The number of quotes before a row's end is even, unless a field without quotes around it
    contains one.
    """
    for line_end in (b"\n", b"\r"):
        for odd in (0, 1):
            quotes = text.count(b'"')
            end = len(text)
            while (place := text.rfind(line_end, 0, end)) >= 0:
                quotes -= text.count(b'"', place, end)
                if quotes % 2 == odd:
                    yield place + 1
                    break
                end = place


def _divide(
    text: bytes, end: int, fields: int, separator: bytes
) -> tuple[bytes, pa.StringArray] | None:
    """Split each line up to `end` into its last field and the text before it.

    None unless the last field of each line is the only one in quotes, as embeddings are
    mostly written. They make up nearly all of the text, and Arrow scans a quoted field byte
    by byte, which is slower than this.
    """
    if not text.isascii() or text.find(b"\r", 0, end) >= 0:
        return None
    view = memoryview(text)
    heads, last = [], []
    offsets = [0]
    line = 0
    while line < end:
        line_end = text.find(b"\n", line, end)
        if line_end < 0:
            line_end = end
        first_quote = text.find(b'"', line, line_end)
        if first_quote < 1 or text.find(b'"', first_quote + 1, line_end) != line_end - 1:
            return None
        head = text[line : first_quote - 1]
        if text[first_quote - 1 : first_quote] != separator or head.count(separator) != fields - 2:
            return None
        if not head:  # Arrow passes over an empty line
            return None
        heads.append(head)
        last.append(view[first_quote + 1 : line_end - 1])
        offsets.append(offsets[-1] + line_end - first_quote - 2)
        line = line_end + 1
    if not heads:
        return None
    column = pa.StringArray.from_buffers(
        len(last), pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(b"".join(last))
    )
    return b"\n".join(heads), column


def _csv_reader(lines: io.TextIOBase, separator: str) -> "Reader":
    csv.field_size_limit(2 * CSV_BLOCK)  # it is 131,072 otherwise
    return csv.reader(lines, delimiter=separator)


def _as_options(settings: list[str]) -> str:
    return " ".join(f'-S "{SECTION}.{setting}"' for setting in settings)
