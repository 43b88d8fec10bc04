"""Means, standard deviations and covariances, without loading scikit-learn."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

# Columns whose differences from the mean are in the memory at a time, in 64 bits.
COLUMNS = 64
ROWS = 4096  # that are taken at a time


@dataclass(frozen=True)
class Moments:
    """Of n rows of d numbers: the means, and the sums of what lies away from them.

    Those of two sets of rows add up to those of both, as Chan, Golub and LeVeque (1983) say. So
    rows need not be in the memory together. The last bits depend on how they were taken apart.
    """

    count: int  # n
    mean: np.ndarray  # (d,) float64
    # (d,) float64, the sums of the squares; or (d, d), those of the products of any two columns.
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, products: bool = False) -> "Moments":
        """Those of (n, d) floats, one row at least, with or without the products."""
        count = len(values)
        mean = values.sum(axis=0, dtype=np.float64) / count
        if products:
            away = values - mean
            # NumPy computes half of such a product, which is symmetric.
            return cls(count, mean, away.T @ away)
        squares = np.empty(len(mean))
        for start in range(0, len(mean), COLUMNS):
            some = slice(start, start + COLUMNS)
            away = values[:, some] - mean[some]
            off = away.sum(axis=0)
            away **= 2
            squares[some] = away.sum(axis=0) - off**2 / count
        return cls(count, mean, squares)

    @classmethod
    def in_parts(cls, values: np.ndarray, products: bool = False) -> "Moments":
        """What `of` gives, but for the last bits, in memory that does not grow with the rows."""
        parts = range(0, len(values), ROWS)
        return total(cls.of(values[start : start + ROWS], products) for start in parts)

    def divided(self, scale: np.ndarray) -> "Moments":
        """Those of the same rows less their means, and divided by a scale (d,)."""
        by = scale[:, None] * scale if self.squares.ndim == 2 else scale**2
        return Moments(self.count, np.zeros_like(self.mean), self.squares / by)

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        between = other.mean - self.mean
        further = between[:, None] * between if self.squares.ndim == 2 else between**2
        return Moments(
            count,
            self.mean + between * (other.count / count),
            self.squares + other.squares + further * (self.count * (other.count / count)),
        )

    @property
    def deviations(self) -> np.ndarray:
        """The standard deviations (d,) float64, those of scikit-learn's `StandardScaler`.

        What varies by no more than the rounding of its sums has the deviation 1.
        """
        squares = np.diagonal(self.squares) if self.squares.ndim == 2 else self.squares
        variances = squares / self.count
        least = np.finfo(np.float64).eps
        rounding = self.count * least * variances + (self.count * self.mean * least) ** 2
        return np.where(variances <= rounding, 1, np.sqrt(variances))


def total(parts: Iterable[Moments]) -> Moments:
    """The moments of the rows of all parts, one at least, which are added in their order."""
    return reduce(Moments.__add__, parts)


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means and the standard deviations of the columns of (n, d) floats, each (d,) float64."""
    found = Moments.of(values)
    return found.mean, found.deviations


def class_means(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The means (k, d) float64 of the rows of each class, of (n, d) floats and (n,) int from 0.

    The rows are read once, from the first to the last.
    """
    counts = np.bincount(classes)
    sums = np.zeros((len(counts), values.shape[1]))
    for start in range(0, len(values), ROWS):
        own = classes[start : start + ROWS]
        order = np.argsort(own, kind="stable")
        found, first = np.unique(own[order], return_index=True)
        sorted_rows = values[start : start + ROWS][order].astype(np.float64)
        sums[found] += np.add.reduceat(sorted_rows, first, axis=0)
    return sums / counts[:, None]


def above_0_in_32_bits(deviations: np.ndarray) -> np.ndarray:
    """Deviations (d,), and 1 for each that is so small that it would be 0 as float32."""
    return np.where(deviations.astype(np.float32) == 0, 1, deviations)
