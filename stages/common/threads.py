"""Threads: those of Arrow, started while there are addresses for them, and our own."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stages import address_limit

# Each takes memory: half a gigabyte to score a batch with a kernel around 20,000 rows.
MOST_THREADS = 4


def start_threads() -> None:
    """Below a limit of addresses, give Arrow one thread to read and one to compute, and start them.

    It starts them when they are first needed, and where there are no addresses for one then, it
    waits for that thread for ever. A limit of memory, such as a container's, keeps none from
    starting: a thread that starts fills hardly any. Nothing is done where Arrow is not loaded.
    """
    if "pyarrow" not in sys.modules or address_limit() is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(pa.table({"a": [1], "b": [2]}), path)
        pq.read_table(path)


def thread_pool(threads: int | None = None) -> ThreadPoolExecutor:
    """So many threads, or one for each core, `MOST_THREADS` at most."""
    return ThreadPoolExecutor(threads or min(os.cpu_count() or 1, MOST_THREADS))


def in_threads(work: Callable[[Any], None], pieces: Iterable[Any]) -> None:
    """Do the work on each of the pieces, in a pool of threads.

    The work on one must not touch what that on another does. So the result is the same with any
    number of threads, as linear algebra has one in each: stages/__init__.py. OpenBLAS's own threads
    wait for each other in busy loops (docs/choices.md says what that takes), and another number of
    them gives other last bits.

    Raises what the work raises.
    """
    with thread_pool() as pool:
        for _ in pool.map(work, pieces):
            pass
