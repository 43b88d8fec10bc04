"""Embeddings that have been computed, by the content of the photographs.

An SQLite file: what was computed before a run was interrupted stays, and a file that was moved or
copied is not computed again. It may be deleted at any time.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from photographs.pictures import picture
from stages.common.errors import PipelineError, shorten
from stages.common.files import sha256

# What SQLite keeps in a file to tell whose it is.
APPLICATION_ID = 0x656D6265  # embe


class Embedded(NamedTuple):
    """What is kept of a photograph."""

    embedding: np.ndarray  # (d,) float32
    width: int  # pixels
    height: int


def recipe_key(
    network: Path, outputs: list[str], identity: Mapping[str, str], answer: np.ndarray
) -> str:
    """What embeddings depend on beside the photographs, as one SHA-256.

    Other versions of the libraries may differ in the last bits. `answer`, (d,) float32, is what the
    network says to one picture that is always the same: another processor may differ too. So may
    another way to read pictures.
    """
    versions = {name: version(name) for name in ("pillow", "onnxruntime", "numpy")}
    numbers = hashlib.sha256(_bytes_of(answer)).hexdigest()
    reading = sha256(Path(picture.__file__))
    recipe = [sha256(network), outputs, dict(identity), versions, numbers, reading]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def cache_files(path: Path) -> list[Path]:
    """The cache's file and those that SQLite keeps beside it while it is open, or after a kill."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]


class Cache:
    """Embeddings of one recipe in a file that may hold those of others too.

    Several threads may use it, and several runs at a time. What was added stays, also when the
    process is killed. Whatever is wrong with the file raises PipelineError.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        """Raises PipelineError for a file that is something else."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._recipe = bytes.fromhex(recipe)
        self._lock = threading.Lock()
        with self._trouble():
            # Each statement is a transaction, for which another run waits.
            self._base = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._base.close()  # or its lock would keep others waiting
                raise

    def _prepare(self) -> None:
        """Raises sqlite3.Error for the file of another program."""
        (application,) = self._base.execute("PRAGMA application_id").fetchone()
        (tables,) = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise sqlite3.DatabaseError("it is the file of another program")
        self._base.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        # After a power cut the last embeddings may be lost, not the file.
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS embeddings (recipe BLOB, content BLOB, width INTEGER, "
            "height INTEGER, embedding BLOB, PRIMARY KEY (recipe, content))"
        )

    def get(self, content: bytes) -> Embedded | None:
        """What is kept of a photograph, by the SHA-256 of its content; None when nothing is."""
        with self._lock, self._trouble():
            found = self._base.execute(
                "SELECT embedding, width, height FROM embeddings WHERE recipe = ? AND content = ?",
                (self._recipe, content),
            ).fetchone()
        if found is None:
            return None
        embedding, width, height = found
        # A file that something else has written to holds nothing that is known.
        if not (isinstance(embedding, bytes) and len(embedding) % 4 == 0):
            return None
        if not (isinstance(width, int) and isinstance(height, int)):
            return None
        return Embedded(np.frombuffer(embedding, "<f4"), width, height)

    def add(self, computed: Mapping[bytes, Embedded]) -> None:
        """Keep what was computed, by the SHA-256 of the photographs' contents."""
        rows = [
            (self._recipe, content, one.width, one.height, _bytes_of(one.embedding))
            for content, one in computed.items()
        ]
        if not rows:
            return
        # One transaction for all of them: each would take as long as they do together.
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(rows))
        with self._lock, self._trouble():
            self._base.execute(
                f"INSERT OR REPLACE INTO embeddings VALUES {places}", list(chain(*rows))
            )

    def close(self) -> None:
        """No thread may use it any more."""
        self._base.close()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeError) as error:  # its messages may hold bytes of the file
            raise PipelineError(
                f"{self._path} cannot be used as a cache of embeddings "
                f"({shorten(str(error), 120)}): move it away, or name another with --cache"
            ) from None


def _bytes_of(embedding: np.ndarray) -> bytes:
    return np.ascontiguousarray(embedding, "<f4").tobytes()
