"""Write files so that a reader never meets half of one, and read them so that a spoiled one is
named; tell one content from another.
"""

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from stages.common.errors import PipelineError, shorten

if TYPE_CHECKING:
    import pandas as pd

# The way out where a file of the pipeline is spoiled. One that is in the cache comes from there
# again, spoiled too where the cache is.
REMAKE = (
    "run `dvc repro`, which makes it again; if that does not help, `python -m commands.check` "
    "tells whether the cache is damaged"
)
TOO_LARGE = "it takes more memory than there is"
# The most bytes of a JSON file: those of the pipeline have some thousands.
MOST_JSON = 16_000_000
# How a text begins that a spreadsheet takes for a formula, and what only looks like one.
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]| *[\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@contextmanager
def reading(path: Path, way_out: str = REMAKE) -> Iterator[None]:
    """Tell in one sentence what is wrong with the file that the block reads, and the way out.

    Raises PipelineError for whatever the block raises.
    """
    try:
        yield
    except PipelineError:
        raise
    except FileNotFoundError:
        raise PipelineError(f"there is no {path}: {way_out}") from None
    except MemoryError:
        raise PipelineError(f"{path} cannot be read, {TOO_LARGE}: {way_out}") from None
    # Arrow, NumPy, zip files, JSON and protocol buffers have errors of many kinds for what they
    # cannot read.
    except Exception as error:
        raise PipelineError(f"{path} cannot be used ({_problem(error)}): {way_out}") from error


def _problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"it lacks `{shorten(place)}`"
        return f"`{shorten(place)}`: {shorten(first['msg'], 120)}"
    if isinstance(error, KeyError):
        return f"it lacks `{shorten(str(error.args[0] if error.args else error))}`"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return shorten(error.strerror, 120)
    return shorten(str(error), 120).rstrip(".") or type(error).__name__


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of the pipeline, which is an object.

    Raises PipelineError for anything else.
    """
    with reading(path):
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON // 1_000_000} MB")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no JSON")


# The temporary files that this process has not brought to their places yet.
_unfinished: set[Path] = set()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when the block succeeds.

    When the block fails, the temporary file is removed and `path` stays as it was. So it is when
    the power fails: the content is on the disk before it takes its place. An OSError that names no
    file, or the temporary one, gets `path` as its file name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in leftovers(path):
        left.unlink(missing_ok=True)
    temporary = partial_path(path)
    _unfinished.add(temporary)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        _unfinished.discard(temporary)
        with suppress(OSError):  # the disk may only be read
            temporary.unlink()


def partial_path(path: Path) -> Path:
    """Where `atomic_write` of this process writes; one that is killed leaves the file there.

    Each process has its own, so that two that write the same file do not mix their bytes.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def leftovers(path: Path) -> list[Path]:
    """What processes that were killed have left of `path`."""
    entries = path.parent.iterdir() if path.parent.is_dir() else ()
    return [
        entry for entry in entries if entry.name.startswith(f".{path.name}.") and is_leftover(entry)
    ]


def is_leftover(path: Path) -> bool:
    """Whether it is a temporary file of a process that is not running any more."""
    match = re.fullmatch(r"\..+\.(\d+)\.partial", path.name)
    return match is not None and not _is_running(int(match[1]))


def _is_running(process: int) -> bool:
    import psutil  # takes a while, and is seldom needed

    try:
        # What was killed keeps its number until it is waited for.
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def remove_partial_files() -> None:
    """Remove the temporary files of this process, which is about to end."""
    for temporary in list(_unfinished):
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def file_digest(path: Path, kind: str) -> str:
    """The digest of a file's content, in hexadecimal; `kind` is sha256 or md5."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return file_digest(path, "sha256")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line ends on every system."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write JSON; a NaN is refused, because JSON has none."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, numbers with at most 6 decimals, as `csv_line` writes each line."""
    values = table.round(6).astype(object)
    rows = values.where(values.notna(), None).itertuples(index=False)
    write_text(path, "".join(map(csv_line, [table.columns, *rows])))


def read_csv(path: Path, columns: Mapping[str, type]) -> "pd.DataFrame":
    """A table of the pipeline that is a CSV file: texts as they were, numbers that may be missing.

    `columns` are all of its columns, and what each holds: str, float, or int, which is not missing.

    Raises PipelineError for another table, or one that cannot be read.
    """
    import pandas as pd

    texts = [name for name, type_ in columns.items() if type_ is str]
    with reading(path):
        text = path.read_bytes().decode()  # as it is: a text may hold a CR
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        # pandas takes a line that is too short.
        if not text.endswith("\n") or {len(line) for line in lines} != {len(columns)}:
            raise ValueError("it is cut off, or has a line of more or fewer fields")
        table = pd.read_csv(
            io.StringIO(text, newline=""),
            keep_default_na=False,
            na_values=[""],
            dtype=dict.fromkeys(texts, str),
            index_col=False,
        )
        if list(table.columns) != list(columns):
            raise ValueError(f"its columns are not {', '.join(columns)}")
        for name, type_ in columns.items():
            found = table[name]
            if type_ is str:
                table[name] = found.fillna("").map(as_it_was)
            elif len(table) and found.dtype.kind not in ("i" if type_ is int else "if"):
                raise ValueError(f"its column `{name}` holds something else than numbers")
            elif len(table) and found.isin([math.inf, -math.inf]).any():
                raise ValueError(f"its column `{name}` holds a number without end")
    return table


def csv_line(values: Iterable[Any], quoting: Literal[0, 2] = csv.QUOTE_MINIMAL) -> str:
    """A line of a CSV file, with its end: texts as `harmless` gives them.

    `quoting` is a constant of the module csv: what has quotes around it.
    """
    line = io.StringIO()
    # Before 3.13, Python leaves a lone CR without quotes unless the line's end has one.
    writer = csv.writer(line, lineterminator="\r\n", quoting=quoting)
    writer.writerow(map(harmless, values))
    return line.getvalue().removesuffix("\r\n") + "\n"


def harmless(value: Any) -> Any:
    """A value for a CSV file, in which no spreadsheet finds a formula to run.

    A text that begins like one gets an apostrophe before it, and so does a text that would then
    look like that one, so that `as_it_was` gives each its own again. Numbers stay as they are.
    """
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    return f"'{value}" if FORMULA.match(value.lstrip("'")) else value


def as_it_was(text: str) -> str:
    """The text of which `harmless` has made this one."""
    if text.startswith("'") and FORMULA.match(text.lstrip("'")):
        return text[1:]
    return text
