"""Embeddings that have been computed, by the content of the photographs.

An SQLite file: what was computed before a run was interrupted stays, and a file that was moved or
copied is not computed again. It may be deleted at any time.
"""

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from stages.common.files import sha256
from stages.common.stage import PipelineError

# Embeddings are written to the disk so often.
COMMIT_SECONDS = 5.0


class Embedded(NamedTuple):
    """What is kept of a photograph."""

    embedding: np.ndarray  # (d,) float32
    width: int  # pixels
    height: int


def recipe_key(network: Path, outputs: list[str], identity: Mapping[str, str]) -> str:
    """What embeddings depend on beside the photographs, as one SHA-256.

    Other versions of the libraries may differ in the last bits.
    """
    versions = {name: version(name) for name in ("pillow", "onnxruntime", "numpy")}
    recipe = [sha256(network), outputs, dict(identity), versions]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


class Cache:
    """Embeddings of one recipe in a file that may hold those of others too.

    Several threads may use it.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        """Raises PipelineError for a file that is something else."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._recipe = bytes.fromhex(recipe)
        self._lock = threading.Lock()
        try:
            # A second run on one file waits for the first to write.
            self._base = sqlite3.connect(path, timeout=60, check_same_thread=False)
            # After a power cut the last seconds may be lost, not the file.
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS embeddings (recipe BLOB, content BLOB, width INTEGER, "
                "height INTEGER, embedding BLOB, PRIMARY KEY (recipe, content))"
            )
            self._base.commit()
        except sqlite3.DatabaseError as error:
            raise PipelineError(
                f"{path} can't be used as a cache of embeddings ({error}): delete it, or name "
                "another with --cache"
            ) from None
        self._committed = time.monotonic()

    def get(self, content: bytes) -> Embedded | None:
        """What is kept of a photograph, by the SHA-256 of its content; None when nothing is."""
        with self._lock:
            found = self._base.execute(
                "SELECT embedding, width, height FROM embeddings WHERE recipe = ? AND content = ?",
                (self._recipe, content),
            ).fetchone()
        if found is None:
            return None
        embedding, width, height = found
        return Embedded(np.frombuffer(embedding, "<f4"), width, height)

    def add(self, content: bytes, embedded: Embedded) -> None:
        """Keep what was computed."""
        numbers = np.ascontiguousarray(embedded.embedding, "<f4").tobytes()
        with self._lock:
            self._base.execute(
                "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?)",
                (self._recipe, content, embedded.width, embedded.height, numbers),
            )
            if time.monotonic() - self._committed > COMMIT_SECONDS:
                self._base.commit()
                self._committed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Also after an error: what was computed is right.
        self._base.commit()
        self._base.close()
