"""Where photographs lie: a folder, a zip file, which is read as it is, a folder in a store such as
S3, or one file alone.

Nothing outside of the folder is read: links that lead out of it are listed as left out.
"""

import os
import socket
import stat
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from photographs.pictures.picture import PictureError, in_few_words
from stages.common.errors import PipelineError
from stages.sources.store import NotGivenError, check_store, files_at, in_own_words
from stages.sources.url import is_url

# A larger file is not read: no museum's photograph comes near it, and each thread holds one.
MOST_BYTES = 1_000_000_000
TOO_LARGE = f"the file has more than {MOST_BYTES:,} bytes"
# What a zip file may be packed with: the others unpack without a bound.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1  # a bit of the flags of a file in a zip file
# Photographs of a store that are waited for at a time: s3fs has as many connections.
AWAITED = 10


class Place(Protocol):
    """Files by their names: paths below the place, with / on every system."""

    # Threads that wait for files, beside those that compute.
    awaited: int

    def names(self) -> list[str]:
        """The names of all files, sorted."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises PictureError when it may not or cannot be read.
        """


def located(text: str) -> Path | str:
    """A path, or a URL as it was typed, of which a path would drop a slash."""
    return text if is_url(text) else Path(text)


def open_place(
    path: Path | str, except_for: Collection[Path | str] = (), single: bool = False
) -> Place:
    """A folder, a zip file, or the URL of a folder in a store.

    `except_for` are files in a folder that are no photographs. With `single`, any other file of
    this machine is a photograph by itself.

    Raises PipelineError when the path is none of these, or the store does not give the folder.
    """
    if isinstance(path, str):
        return Store(path, except_for)
    if path.is_dir():
        return Folder(path, except_for)
    if path.is_file() and zipfile.is_zipfile(path):
        return Zip(path)
    if single and path.exists():
        return Single(path)
    if not path.exists():
        raise PipelineError(f"there is no folder or zip file {path}")
    raise PipelineError(f"{path} is neither a folder nor a zip file of photographs")


def _reached(kind: Callable[[Path], Place], path: Path) -> Place:
    """A place, on a worker of a cluster. Raises PipelineError where that does not reach it."""
    if not path.exists():
        raise PipelineError(
            f"the worker on {socket.gethostname()} does not reach {path}: put the photographs "
            "where all machines reach them by the same path"
        )
    return kind(path)


@cache
def _zip_at(path: Path) -> Place:
    """A zip file, whose list a worker reads once."""
    return _reached(Zip, path)


def _store_at(url: str) -> Place:
    """A folder in a store, which a worker of a cluster reads with credentials of its own."""
    try:
        return Store(url)
    except PipelineError as error:
        raise PipelineError(f"the worker on {socket.gethostname()}: {error}") from None


def shown_name(name: str) -> str:
    """A name that can stand in a table: in Unicode's composed form, as most systems type it."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())


class Folder:
    """All files in a folder and the folders in it."""

    awaited = 0

    def __init__(self, path: Path, except_for: Collection[Path | str] = ()) -> None:
        self._root = path.resolve()
        self._except = {Path(os.path.realpath(other)) for other in except_for}
        self._problems: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reached, (Folder, self._root), {"_problems": self._problems}

    def names(self) -> list[str]:
        return sorted(self._walk())

    def _walk(self) -> Iterator[str]:
        folders = [self._root]  # not by recursion: they may be a thousand deep
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                name = f"{self._name(folder)}/"
                self._problems[name] = f"the folder cannot be read: {error.strerror}"
                yield name
                continue
            for entry in entries:
                path = folder / entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif path not in self._except:
                    yield self._name(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def read(self, name: str) -> bytes:
        if name in self._problems:
            raise PictureError(self._problems[name])
        return _content(self._root / name, self._root)


class Single:
    """One file, which is named itself, so that a link is followed wherever it leads."""

    awaited = 0

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _reached, (Single, self._path.absolute())

    def names(self) -> list[str]:
        return [self._path.name]

    def read(self, name: str) -> bytes:
        return _content(self._path)


def _content(path: Path, root: Path | None = None) -> bytes:
    """The content of a file, which has to lie below the root.

    Raises PictureError when it may not or cannot be read.
    """
    try:
        real = path.resolve(strict=True)
        if root is not None and not real.is_relative_to(root):
            raise PictureError("a link that leads out of the folder")
        if real.is_dir():
            raise PictureError("a folder, or a link to one")
        # Not to wait for a pipe that nobody writes to, nor to follow what has become a link.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(real, flags | getattr(os, "O_BINARY", 0)), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PictureError("no regular file")
            if status.st_size > MOST_BYTES:
                raise PictureError(TOO_LARGE)
            return file.read(status.st_size)  # and not what is being added
    except RuntimeError:  # Python 3.13 has an OSError
        raise PictureError("a link that leads to itself") from None
    except FileNotFoundError:
        raise PictureError("there is no such file, or it is a broken link") from None
    except MemoryError:
        raise PictureError("it takes more memory than there is") from None
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror}") from None


def open_zip(path: Path) -> zipfile.ZipFile:
    """Raises PipelineError for what is no zip file, or one whose list of files is damaged."""
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # of many kinds
        raise PipelineError(f"{path} cannot be read as a zip file: {in_few_words(error)}") from None


def files_in(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """All but its folders, in its order; a name may be there twice."""
    # Not is_dir(), which an empty name stops.
    return [item for item in archive.infolist() if not item.filename.endswith("/")]


class Store:
    """All files in a folder of a store and the folders in it."""

    awaited = AWAITED

    def __init__(self, url: str, except_for: Collection[Path | str] = ()) -> None:
        """Raises PipelineError when the URL is none of a store, or the store does not give it."""
        check_store(url)
        self._url = url.rstrip("/")
        self._except = set(except_for)
        with self._told():
            self._files, self._root = files_at(self._url)
            self._check()

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_at, (self._url,)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with in_own_words():
                yield
        except PipelineError as error:
            raise PipelineError(f"{self._url}: {error}") from None

    def _check(self) -> None:
        """Raises whatever the store's package does, or PipelineError when there is no folder."""
        if self._files.info(self._root)["type"] != "directory":
            raise PipelineError("it is a file, not a folder: download it, and give its path")

    def names(self) -> list[str]:
        with self._told():
            paths = self._files.find(self._root)
        names = [path.removeprefix(f"{self._root}/") for path in paths]
        return sorted(
            name
            for name in names
            # Some programs make files for folders.
            if not name.endswith("/") and f"{self._url}/{name}" not in self._except
        )

    def read(self, name: str) -> bytes:
        try:
            with in_own_words(), self._files.open(f"{self._root}/{name}", "rb") as file:
                content = None if file.size > MOST_BYTES else file.read(file.size)
        except MemoryError:
            raise PictureError("it takes more memory than there is") from None
        except NotGivenError as error:
            # Not for each photograph when the right to the folder has expired.
            with self._told():
                self._check()
            raise PictureError(str(error)) from None
        except PipelineError as error:
            raise PipelineError(f"{self._url}/{name}: {error}") from None
        if content is None:
            raise PictureError(TOO_LARGE)
        return content


class Zip:
    """All files in a zip file."""

    awaited = 0

    def __init__(self, path: Path) -> None:
        """Raises PipelineError when its list of files is damaged."""
        self._path = path
        self._file = open_zip(path)
        self._items: dict[str, list[zipfile.ZipInfo]] = {}
        for item in files_in(self._file):
            self._items.setdefault(item.filename, []).append(item)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _zip_at, (self._path.resolve(),)

    def names(self) -> list[str]:
        return sorted(self._items)

    def read(self, name: str) -> bytes:
        item, *others = self._items[name]
        path = PurePosixPath(name)
        if others:
            raise PictureError("the zip file holds more than one file of this name")
        if path.is_absolute() or ".." in path.parts:
            raise PictureError("its name leads out of the zip file")
        if stat.S_ISLNK(item.external_attr >> 16):
            raise PictureError("a link, which is not followed in a zip file")
        if item.flag_bits & ENCRYPTED:
            raise PictureError("it is encrypted")
        if item.compress_type not in PACKED:
            raise PictureError("it is packed by another method than deflate")
        if item.file_size > MOST_BYTES:
            raise PictureError(TOO_LARGE)
        try:
            # The lock, because zipfile does not promise that threads may share it.
            with self._lock, self._file.open(item) as file:
                # No more than the zip file says: it may unpack to something else.
                return file.read(item.file_size)
        except MemoryError:
            raise PictureError("it takes more memory than there is") from None
        except Exception as error:  # of many kinds
            raise PictureError(f"the zip file is damaged here: {in_few_words(error)}") from None
