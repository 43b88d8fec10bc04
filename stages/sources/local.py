"""Copy a file of this machine, and see that no disk is filled."""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from stages.common.errors import PipelineError, about_file, shorten
from stages.common.files import atomic_write

# What is left free on a disk, for the stages that follow: so much, or a twentieth of a small one.
RESERVE_BYTES = 100_000_000
PIECE_BYTES = 1 << 18
# Files that the kernel makes up while they are read: their sizes say nothing.
MADE_UP = ("/proc/", "/sys/")
KINDS = {
    stat.S_IFDIR: "is a folder: give the path of the file in it",
    stat.S_IFIFO: "is a pipe, not a file: write what comes out of it to a file first",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


class TooLargeError(PipelineError):
    """The file has more bytes than were allowed."""


def expand_user(path: str) -> Path:
    """The path with `~` expanded; unchanged where there is no such home directory."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises for an unknown user


def path_problem(path: str) -> str | None:
    """Why the file at `path` cannot be copied, as the words that go on after the path's name.

    None where it can. Nothing but an ordinary file is opened: a pipe would be waited for.
    """
    if not path.isprintable():
        return "has a line break or another character in it that should be in no name: rename it"
    # An address that was mistyped may have a password before its @ and a secret after its ?.
    named = "of that name" if re.search("[@?]", path) else shorten(path, 200)
    file = expand_user(path)
    try:
        found = file.stat()
        if found.st_size and stat.S_ISREG(found.st_mode):
            file.open("rb").close()
    except OSError as error:
        return _stat_problem(file, named, error)
    if (kind := stat.S_IFMT(found.st_mode)) in KINDS:
        return KINDS[kind]
    if os.path.realpath(file).startswith(MADE_UP):
        return "is made up by the kernel while it is read: copy it to a file, and give that"
    return None if found.st_size else "is an empty file: give one that holds a table"


def _stat_problem(file: Path, named: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself: give the path of the file"
    if error.errno == errno.ENAMETOOLONG:
        return "is longer than the name of a file can be"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "may not be read by you: ask for the right to read it, and to enter its folders"
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return f"cannot be read: {error.strerror}"
    if file.is_symlink():
        return f"is a link to a file that is not there: {shorten(str(file.readlink()), 200)}"
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", str(file)):
        return "is a path of Windows, and this is another system: give the path that it has here"
    return f"leads nowhere: there is no file {named} (a relative path starts at {Path.cwd()})"


def copy(source: Path, target: Path, most: int) -> None:
    """Copy a file of `most` bytes at most, atomically.

    Raises PipelineError when it is larger, changes meanwhile, or the disk has no room for it.
    """
    try:
        with (
            source.open("rb") as file,
            atomic_write(target) as temporary,
            temporary.open("wb") as copied,
        ):
            before = os.fstat(file.fileno())
            check_size(before.st_size, most)
            check_room(target.parent, before.st_size)
            for piece in within(pieces_of(file), target.parent, most):
                copied.write(piece)
                # One that grows is not followed.
                if copied.tell() > before.st_size:
                    break
            after = os.fstat(file.fileno())
            changed = (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
            if changed or copied.tell() != before.st_size:
                raise PipelineError(
                    f"{source} changed while it was copied: run again when nothing writes to it"
                )
    except OSError as error:
        raise PipelineError(f"{source} cannot be copied: {about_file(error)}") from None


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """What is left to read of a file, in pieces."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def within(pieces: Iterable[bytes], folder: Path, most: int) -> Iterator[bytes]:
    """The pieces of a file, each as long as the file has `most` bytes, and `folder` room for it.

    Raises TooLargeError or PipelineError before the first piece that is too much.
    """
    size = 0
    for piece in pieces:
        size += len(piece)
        check_size(size, most)
        check_room(folder, len(piece))
        yield piece


def check_size(size: int, most: int) -> None:
    """Raises TooLargeError for more bytes than `most`."""
    if size > most:
        raise TooLargeError(f"the file has more than the {most:,} bytes that are allowed")


def check_room(folder: Path, size: int) -> None:
    """Raises PipelineError where `size` more bytes would not leave the reserve on the disk."""
    disk = shutil.disk_usage(folder)
    reserve = min(RESERVE_BYTES, disk.total // 20)
    if size > disk.free - reserve:
        raise PipelineError(
            f"the disk of {folder} has too little room: {disk.free:,} bytes are free, of which "
            f"{reserve:,} are kept: make room on that disk, then run it again"
        )
