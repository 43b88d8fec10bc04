"""Where photographs lie: a folder, or a zip file, which is read as it is.

Nothing outside of the folder is read: links that lead out of it are listed as left out.
"""

import os
import stat
import threading
import unicodedata
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from photographs.pictures.picture import PictureError
from stages.common.stage import PipelineError

# A larger file is not read: no museum's photograph comes near it.
MOST_BYTES = 2_000_000_000


class Place(Protocol):
    """Files by their names: paths below the place, with / on every system."""

    def names(self) -> list[str]:
        """The names of all files, sorted."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises PictureError when it may not or can't be read.
        """


def open_place(path: Path, except_for: Collection[Path] = ()) -> Place:
    """A folder or a zip file; `except_for` are files in it that are no photographs.

    Raises PipelineError when the path is neither.
    """
    if path.is_dir():
        return Folder(path, except_for)
    if zipfile.is_zipfile(path):
        return Zip(path)
    if not path.exists():
        raise PipelineError(f"there is no folder or zip file {path}")
    raise PipelineError(f"{path} is neither a folder nor a zip file of photographs")


def shown_name(name: str) -> str:
    """A name that can stand in a table: in Unicode's composed form, as most systems type it."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())


class Folder:
    """All files in a folder and the folders in it."""

    def __init__(self, path: Path, except_for: Collection[Path] = ()) -> None:
        self._root = path.resolve()
        self._except = {other.resolve() for other in except_for}
        self._problems: dict[str, str] = {}

    def names(self) -> list[str]:
        return sorted(self._walk(self._root))

    def _walk(self, folder: Path) -> Iterator[str]:
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            name = f"{self._name(folder)}/"
            self._problems[name] = f"the folder can't be read: {error.strerror}"
            yield name
            return
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(path)
            elif path not in self._except:
                yield self._name(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def read(self, name: str) -> bytes:
        if name in self._problems:
            raise PictureError(self._problems[name])
        path = self._root / name
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(self._root):
                raise PictureError("a link that leads out of the folder")
            if real.is_dir():
                raise PictureError("a link to a folder")
            # Not to wait for a pipe that nobody writes to, nor to follow what has become a link.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(real, flags | getattr(os, "O_BINARY", 0)), "rb") as file:  # noqa: PTH123
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise PictureError("no regular file")
                if status.st_size > MOST_BYTES:
                    raise PictureError(f"the file has more than {MOST_BYTES:,} bytes")
                return file.read()
        except RuntimeError:
            raise PictureError("a link that leads to itself") from None
        except FileNotFoundError:
            raise PictureError("there is no such file, or it is a broken link") from None
        except OSError as error:
            raise PictureError(f"the file can't be read: {error.strerror}") from None


class Zip:
    """All files in a zip file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = zipfile.ZipFile(path)
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        names = [item.filename for item in self._file.infolist() if not item.is_dir()]
        if len(names) != len(set(names)):
            raise PipelineError(f"{self._path} holds two files of one name")
        return sorted(names)

    def read(self, name: str) -> bytes:
        # Without the lock two threads would read at one place of the file.
        try:
            with self._lock:
                if self._file.getinfo(name).file_size > MOST_BYTES:
                    raise PictureError(f"the file has more than {MOST_BYTES:,} bytes")
                return self._file.read(name)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
            raise PictureError(f"the zip file is damaged here: {str(error)[:120]}") from None
        except Exception as error:  # zlib.error and the like
            if isinstance(error, PictureError):
                raise
            raise PictureError(f"the zip file is damaged here: {str(error)[:120]}") from None
