"""Whether the content of a file that was brought is what it should be."""

import hashlib
from pathlib import Path

from stages.common.errors import PipelineError
from stages.common.files import file_digest

# The first bytes of files that are not plain text, and how the names of such files end.
MAGIC = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz", b"\x28\xb5\x2f\xfd": ".csv.zst"}
# What servers send instead of a file, by its first characters that are no white space. No table, no
# zip file and no file of weights begins like this.
INSTEAD = {
    b"<": "a web page instead of the file, such as one that asks to log in: open it in a browser",
    b"{": "JSON instead of the file, such as a server's message: look at what it says, and write a "
    "table as CSV or Parquet",
    b"version https://git-lfs": "a pointer of Git LFS and not the file: `git lfs pull` brings that",
}


def check_beginning(path: Path) -> None:
    """Look whether a file holds something, and is not what servers send instead of one.

    Raises PipelineError when it is.
    """
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        raise PipelineError("the file is empty")
    start = start.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")  # marks of UTF-8 and UTF-16 too
    for beginning, what in INSTEAD.items():
        if start.startswith(beginning):
            raise PipelineError(f"this is {what}")


def check_content(path: Path, checksum: str, size: int | None) -> None:
    """Compare a file with what was pinned: `git-blob:`, `sha256:` or `md5:` and hexadecimal digits,
    and its bytes.

    Raises PipelineError when they differ.
    """
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise PipelineError(f"the content has {found_size:,} bytes instead of the pinned {size:,}")
    kind, expected = checksum.split(":")
    found = git_blob_id(path) if kind == "git-blob" else file_digest(path, kind)
    if found != expected:
        raise PipelineError(f"the content is not what was pinned: its {kind} is {found}")


def git_blob_id(path: Path) -> str:
    """The id that Git gives the content: SHA-1 of `blob <bytes>`, a NUL byte and the content."""
    header = f"blob {path.stat().st_size}\0".encode()
    with path.open("rb") as file:
        start = hashlib.sha1(header, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: start).hexdigest()


def table_suffix(path: Path) -> str:
    """`.parquet` for a file that begins as Parquet does, else `.csv`, `.csv.gz` or `.csv.zst`.

    The content decides, because a URL need not end in a file name.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for magic, suffix in MAGIC.items():
        if start.startswith(magic):
            return suffix
    return ".csv"
