"""What `evaluate` writes for people, for DVC and for the page: metrics, details and plots."""

from pathlib import Path

# What one chooses by, which DVC shows and compares: the metrics of val and test, and baselines.
METRICS = Path("reports/metrics.json")
# What stands beside the metrics: intervals, museums, rows without near-duplicates.
DETAILS = Path("reports/details.json")
# The tables of the plots.
PLOTS = Path("reports/plots")

# Bins of equal width by the probability of the first answer, in which the calibration error and
# the reliability plot compare it with the share of right answers.
CALIBRATION_BINS = 15
