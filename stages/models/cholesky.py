"""The Cholesky factorisation of a large matrix in place, tile by tile.

Each tile is computed in one thread, so that the bytes are the same with any number of threads.
LAPACK's own threads would give other bytes with another number, and wait in busy loops.
"""

import numpy as np

from stages.common.threads import in_threads

TILE = 1024  # rows and columns


def tiles_of(start: int, end: int) -> list[slice]:
    """Where the tiles of rows lie; the last one may be smaller."""
    return [slice(first, min(first + TILE, end)) for first in range(start, end, TILE)]


def factorize(matrix: np.ndarray) -> None:
    """Put the lower factor of a symmetric matrix (n, n) float32 in the place of its lower half.

    What lies above the tiles of the diagonal is neither read nor written.

    Raises LinAlgError when the matrix is not positive definite.
    """
    from scipy.linalg import blas, lapack

    tiles = tiles_of(0, len(matrix))
    for number, own in enumerate(tiles):
        before = slice(0, own.start)

        def update(rows: slice, own: slice = own, before: slice = before) -> None:
            matrix[rows, own] -= matrix[rows, before] @ matrix[own, before].T

        if number:
            in_threads(update, tiles[number:])
        factor, failed = lapack.spotrf(matrix[own, own], lower=1)
        if failed:
            raise np.linalg.LinAlgError
        matrix[own, own] = factor

        def solve(rows: slice, own: slice = own, factor: np.ndarray = factor) -> None:
            matrix[rows, own] = blas.strsm(1, factor, matrix[rows, own].T, lower=1).T

        in_threads(solve, tiles[number + 1 :])


def inverse_diagonal(factor: np.ndarray) -> np.ndarray:
    """The diagonal (n,) float32 of the inverse of the matrix that has this lower factor (n, n)."""
    from scipy.linalg import blas

    count = len(factor)
    result = np.empty(count, dtype=np.float32)

    def square(columns: slice) -> None:
        # These columns of the factor's inverse, from the diagonal on.
        inverse = np.eye(count - columns.start, columns.stop - columns.start, dtype=np.float32)
        for own in tiles_of(columns.start, count):
            rows = slice(own.start - columns.start, own.stop - columns.start)
            inverse[rows] -= factor[own, columns.start : own.start] @ inverse[: rows.start]
            inverse[rows] = blas.strsm(1, factor[own, own], inverse[rows], lower=1)
        result[columns] = np.einsum("ij,ij->j", inverse, inverse)

    in_threads(square, tiles_of(0, count))
    return result
