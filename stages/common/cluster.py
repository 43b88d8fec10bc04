"""Pieces of work on a Dask cluster, through its interface of `concurrent.futures`.

A piece gives the same bytes wherever it runs: a worker refuses it unless it has the same code, the
same libraries and the same settings of linear algebra as the process that asks.
"""

import atexit
import hashlib
import logging
import platform
import socket
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stages.common.errors import PipelineError

# Seconds to wait for a scheduler to answer, for a worker to join, for a lost scheduler, and for a
# worker where all have left.
PATIENCE = 30.0
# Pieces that are taken in advance for each thread of the cluster.
AHEAD = 2
CODE = ("stages", "photographs", "answers")
# Libraries that a piece's bytes may depend on. Not each Python has all.
LIBRARIES = (
    *("numpy", "scipy", "pyarrow", "pandas", "orjson", "pysimdjson"),
    *("onnx", "onnxruntime", "pillow"),
)
UNSET = "unset DASK_SCHEDULER_ADDRESS to work on this machine alone"


class Cluster:
    """The workers of one scheduler."""

    def __init__(self, address: str) -> None:
        """Raises PipelineError where there is no scheduler, or it has no worker."""
        try:
            from distributed import Client
        except ImportError:
            raise PipelineError(
                "DASK_SCHEDULER_ADDRESS is set, and Dask is not installed: `pip install "
                f"--require-hashes -r requirements-cluster.txt`, or {UNSET}"
            ) from None
        # What goes wrong is told in our own sentences. Pieces are large, and few.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module="distributed")
        self.address = address
        try:
            self._client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise PipelineError(
                f"no Dask scheduler answers at {address}, which DASK_SCHEDULER_ADDRESS names "
                f"({type(error).__name__}): start it by `dask scheduler`, or {UNSET}"
            ) from None
        atexit.register(self.close)
        self._executor = self._client.get_executor(pure=False)
        self._counted = (-PATIENCE, 0)
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise self._without_workers() from None

    def close(self) -> None:
        """Take leave of the scheduler; one that is gone is not waited for."""
        self._client.close(timeout=2)

    def submitter(self, function: Callable[[Any], Any]) -> Callable[[Any], "Future[Any]"]:
        """A function that has a worker run this one on an item."""
        from distributed.protocol.serialize import serialize_bytes

        # Packed by themselves: a worker unpacks them once it knows that it is alike.
        expected, packed = fingerprint(), serialize_bytes(function)

        def submit(item: Any) -> "Future[Any]":
            content = serialize_bytes(item)
            try:
                return self._executor.submit(run_piece, expected, packed, content)
            except Exception:
                raise self._lost() from None

        return submit

    def ahead(self) -> int:
        """How many pieces to take in advance: workers come and go."""
        asked, ahead = self._counted
        if time.monotonic() - asked > 1:
            ahead = AHEAD * self._threads()
            self._counted = time.monotonic(), ahead
        return max(1, ahead)

    def _threads(self) -> int:
        """How many threads the workers have; 0 where the scheduler is lost, as a result tells."""
        try:
            return sum(self._client.nthreads().values())
        except Exception:
            return 0

    def result(self, future: "Future[Any]") -> Any:
        """The result of a piece. Raises PipelineError where nobody is left to give it."""
        from distributed.scheduler import KilledWorker

        away_since: float | None = None
        while True:
            try:
                return future.result(timeout=1)
            except TimeoutError:
                if future.done():
                    raise  # the function's own
                # A scheduler that is lost would not be asked in a moment.
                there = self._client.status == "running"
                if there and self._threads():
                    away_since = None
                    continue
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > PATIENCE:
                    raise (self._without_workers() if there else self._lost()) from None
            except KilledWorker:
                raise PipelineError(
                    f"workers of {self.address} ended while they worked on one piece, several "
                    "times over: give each more memory (`python -m commands.worker --memory`), or "
                    f"{UNSET}"
                ) from None
            except CancelledError:
                raise self._lost() from None
            except ModuleNotFoundError as error:
                raise PipelineError(
                    f"a worker of {self.address} cannot load {error.name}: start workers in the "
                    "project's folder, with its packages, by `python -m commands.worker "
                    f"{self.address}`"
                ) from None

    def _without_workers(self) -> PipelineError:
        return PipelineError(
            f"the scheduler at {self.address} has no worker: start some by `python -m "
            f"commands.worker {self.address}`, or {UNSET}"
        )

    def _lost(self) -> PipelineError:
        return PipelineError(
            f"the Dask scheduler at {self.address} is gone: start it and its workers, and run this "
            f"again, or {UNSET}"
        )


@cache
def cluster_at(address: str) -> Cluster:
    """The cluster of a scheduler: one connection for the whole process."""
    return Cluster(address)


def run_piece(expected: dict[str, str], function: bytes, item: bytes) -> Any:
    """Run a function on an item, both as Dask packs them, on a worker.

    Raises PipelineError where the worker would give other bytes than the process that asks.
    """
    own = fingerprint()
    for name, value in expected.items():
        if own[name] != value:
            raise PipelineError(
                f"the worker on {socket.gethostname()} has {name} {own[name]}, and here it is "
                f"{value}: other bytes could come from there, so give all machines the same clone "
                "and the packages of requirements.txt, and start workers by `python -m "
                "commands.worker`"
            )
    from distributed.protocol.serialize import deserialize_bytes

    return _loaded(function)(deserialize_bytes(item))


@lru_cache(maxsize=4)
def _loaded(function: bytes) -> Callable[[Any], Any]:
    """A function, which a worker loads once: it may hold a network."""
    from distributed.protocol.serialize import deserialize_bytes

    return deserialize_bytes(function)


@cache
def fingerprint() -> dict[str, str]:
    """What the bytes of a piece may depend on, by what people call it."""
    # Loaded now, where it was not: its settings are asked for.
    import numpy as np  # noqa: F401
    from threadpoolctl import threadpool_info

    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    kernels = {f"{info.get('architecture')}, {info['num_threads']} threads" for info in blas}
    return {
        "the processor": platform.machine(),
        "Python": ".".join(map(str, sys.version_info[:2])),
        **{name: _version(name) for name in LIBRARIES},
        "linear algebra for": " and ".join(sorted(kernels)),
        "the code": _digest_of_code(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _digest_of_code() -> str:
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
