"""Rows of numbers that need not fit in the memory: where it is short, they lie in a file."""

import mmap
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from stages import address_limit
from stages.common.errors import PipelineError
from stages.common.memory import free_for_stage

# Beside the results, as the folder for temporary files may itself be in the memory.
FOLDER = Path("data")
# Rows that take more than one part in so many of the memory lie in a file; a stage holds some such
# arrays at a time. Nobody counts the bytes of few.
PARTS, FEW_BYTES = 8, 2**24


def lies_in_file(rows: int, length: int) -> bool:
    """Whether `new_rows` would put rows (n, d) in a file."""
    size = 4 * rows * length
    # Where addresses are limited, a file takes as many.
    if size <= FEW_BYTES or address_limit() is not None:
        return False
    free = free_for_stage()
    return free is not None and PARTS * size > free


def numbers_in_memory(rows: int, length: int) -> int:
    """How many numbers of rows (n, d) `new_rows` holds in the memory: all or none."""
    return 0 if lies_in_file(rows, length) else rows * length


def new_rows(rows: int, length: int) -> np.ndarray:
    """Rows (n, d) float32 that are still to be filled.

    Those in a file are read and written like others: the system brings in what is touched, and puts
    out again what it needs the memory for. The file has no name, and is gone with the array.

    Raises PipelineError where the disk has no room for it.
    """
    if not lies_in_file(rows, length):
        return np.empty((rows, length), dtype=np.float32)
    size = 4 * rows * length
    free = shutil.disk_usage(FOLDER).free
    if size > free:
        raise PipelineError(
            f"{rows:,} rows of {length:,} numbers take {size / 1e9:.1f} GB, more than the memory "
            f"has room for, and the disk below {FOLDER}/ has {free / 1e9:.1f} GB free: free some, "
            "or take fewer rows"
        )
    with tempfile.TemporaryFile(dir=FOLDER) as file:
        if hasattr(os, "posix_fallocate"):
            # A disk that is full later would end the process without a word.
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        content = mmap.mmap(file.fileno(), size)
    return np.frombuffer(content, dtype=np.float32).reshape(rows, length)


def take_rows(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some rows of (n, d) float32, as a copy: (m, d); their places are (m,) int."""
    result = new_rows(len(places), values.shape[1])
    return np.take(values, places, axis=0, out=result, mode="clip")  # `raise` would copy once more


def take_columns(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some columns of (n, d) float32, as a copy: (n, m); their places are (m,) int."""
    result = new_rows(len(values), len(places))
    return np.take(values, places, axis=1, out=result, mode="clip")
