"""What a calibrated model would show: how far chance alone moves metrics of calibration.

A calibrated model's probabilities are exactly right. Were this one of that kind, its first answer
for a row would be right with just the probability that it gives. So the right answers are drawn
from these probabilities, many times: consistency resampling, Broecker and Smith 2007, Increasing
the Reliability of Reliability Diagrams. What lies within the draws is no sign of a fault.
"""

from dataclasses import dataclass

import numpy as np

from stages.evaluation.intervals import INTERVAL, MOST_DRAWN
from stages.evaluation.metrics import calibration_bins
from stages.tables.results import CALIBRATION_BINS

DRAWS = 1000
HIGH = 95  # percent of the draws that have a smaller calibration error


@dataclass(frozen=True)
class Consistent:
    """What n rows would show if the probabilities of their first answers were exactly right.

    The ranges hold 95 % of the draws.
    """

    accuracy: tuple[float, float]
    error_mean: float  # of the calibration error
    error_high: float  # that is seldom exceeded: in 5 % of the draws
    bin_low: np.ndarray  # (b,) the share of right answers in each bin; NaN in one without rows
    bin_high: np.ndarray  # (b,)

    def ranges(self) -> dict[str, dict[str, float]]:
        """A part of details.json, by the names of the metrics."""
        low, high = self.accuracy
        return {
            "accuracy": {"low": low, "high": high},
            "calibration_error": {"mean": self.error_mean, "high": self.error_high},
        }


def consistent(probabilities: np.ndarray, seed: int = 0) -> Consistent:
    """Draw right answers from the probabilities (n, k) of n rows."""
    confidence, bins = calibration_bins(probabilities)
    in_bin = np.eye(CALIBRATION_BINS)[bins]
    rows = in_bin.sum(axis=0)
    random = np.random.default_rng(seed)
    at_a_time = max(1, MOST_DRAWN // len(confidence))
    parts = []
    for start in range(0, DRAWS, at_a_time):
        count = min(at_a_time, DRAWS - start)
        right = random.random((count, len(confidence))) < confidence
        parts.append(right.astype(np.float64) @ in_bin)
    right = np.concatenate(parts)  # (draws, b)
    errors = np.abs(right - confidence @ in_bin).sum(axis=1) / len(confidence)
    low, high = np.percentile(right.sum(axis=1) / len(confidence), INTERVAL)
    bin_low, bin_high = np.percentile(right, INTERVAL, axis=0) / np.where(rows > 0, rows, np.nan)
    return Consistent(
        (float(low), float(high)),
        float(errors.mean()),
        float(np.percentile(errors, HIGH)),
        bin_low,
        bin_high,
    )
