"""Means and standard deviations, those of scikit-learn's `StandardScaler`, without loading it."""

import numpy as np

# Columns whose differences from the mean are in the memory at a time, in 64 bits.
COLUMNS = 64


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means and the standard deviations of the columns of (n, d) floats, each (d,) float64.

    Sums are in 64 bits, and corrected as Chan, Golub and LeVeque (1983) say. What varies by no more
    than their rounding has the deviation 1.
    """
    count = len(values)
    means = values.sum(axis=0, dtype=np.float64) / count
    variances = np.empty(len(means))
    for start in range(0, len(means), COLUMNS):
        some = slice(start, start + COLUMNS)
        away = values[:, some] - means[some]
        off = away.sum(axis=0)
        away **= 2
        variances[some] = (away.sum(axis=0) - off**2 / count) / count
    least = np.finfo(np.float64).eps
    same = variances <= count * least * variances + (count * means * least) ** 2
    return means, np.where(same, 1, np.sqrt(variances))


def moments_in_32_bits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same as float32, in which a deviation that is too small would be 0: it is 1."""
    means, deviations = (found.astype(np.float32) for found in moments(values))
    deviations[deviations == 0] = 1
    return means, deviations
