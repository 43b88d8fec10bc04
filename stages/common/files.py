"""Write files so that a reader never meets half of one, and tell one content from another."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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

    return process == os.getpid() or psutil.pid_exists(process)


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
    """Write a table as CSV, numbers with at most 6 decimals."""
    write_text(path, table.round(6).to_csv(index=False, lineterminator="\n"))
