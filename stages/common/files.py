"""Write files so that a reader never meets half of one, and tell one content from another."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when the block succeeds.

    When the block fails, the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Where `atomic_write` writes; a process that is killed leaves the file there."""
    return path.with_name(f".{path.name}.partial")


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
    """Write a table as CSV, numbers with at most 6 decimals."""
    write_text(path, table.round(6).to_csv(index=False, lineterminator="\n"))
