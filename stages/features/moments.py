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


def above_0_in_32_bits(deviations: np.ndarray) -> np.ndarray:
    """Deviations (d,), and 1 for each that is so small that it would be 0 as float32."""
    return np.where(deviations.astype(np.float32) == 0, 1, deviations)
