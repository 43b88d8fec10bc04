"""What `evaluate` writes for people, for DVC and for the page: metrics, details and plots."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from stages.common.files import read_json, reading
from stages.tables.values import Source

# What one chooses by, which DVC shows and compares: the metrics of val and test, and baselines.
METRICS = Path("reports/metrics.json")
# What stands beside the metrics: intervals, museums, rows without near-duplicates.
DETAILS = Path("reports/details.json")
# The tables of the plots, and what their columns hold; the training curve is one, too.
PLOTS = Path("reports/plots")
PLOT_COLUMNS: dict[str, dict[str, type]] = {
    "confusion": {"actual": str, "predicted": str, "count": int},
    "per_class": {
        "medium": str,
        "rows": int,
        "precision": float,
        **{f"recall{end}": float for end in ("", "_low", "_high")},
        **{f"f1{end}": float for end in ("", "_low", "_high")},
    },
    "reliability": {
        **dict.fromkeys(("confidence", "accuracy", "low", "high"), float),
        "rows": int,
    },
    "importance": {"group": str, **dict.fromkeys(("accuracy_drop", "low", "high"), float)},
}

# Bins of equal width by the probability of the first answer, in which the calibration error and
# the reliability plot compare it with the share of right answers.
CALIBRATION_BINS = 15


class Found(BaseModel):
    """A mapping of the results; it may have more keys."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Seven(Found):
    """The metrics of some rows."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    top3_accuracy: float
    top5_accuracy: float
    log_loss: float  # nats
    calibration_error: float


class Data(Found):
    """What the metrics are of."""

    source: Source
    rows: int


class Accuracy(Found):
    """An accuracy."""

    accuracy: float


class Metrics(Found):
    """metrics.json"""

    data: Data
    val: Seven
    test: Seven
    baseline: dict[str, Accuracy]


class Range(Found):
    """Where a metric may lie."""

    low: float
    high: float


class Drawn(Found):
    """What chance alone does to the calibration error."""

    mean: float
    high: float


class IfCalibrated(Found):
    """What a calibrated model would show."""

    accuracy: Range
    calibration_error: Drawn


class Quarantined(Found):
    """How many rows were set aside."""

    rows: int


class Sure(Found):
    """Answers that the model is sure of; without any, they have no accuracy."""

    rows: int
    share: float


class OfMuseum(Found):
    """The rows of a museum."""

    rows: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float


class Details(Found):
    """details.json"""

    quarantined: Quarantined
    val_if_calibrated: IfCalibrated
    test_interval: dict[str, Range]
    test_if_calibrated: IfCalibrated
    test_without_near_duplicates: Seven | None = None
    test_museum: dict[str, OfMuseum]
    test_sure: Sure


def read_results() -> dict[str, Any]:
    """The metrics and their details together.

    Raises PipelineError for files that are none of these, or cannot be read.
    """
    found: dict[str, Any] = {}
    for path, schema in ((METRICS, Metrics), (DETAILS, Details)):
        content = read_json(path)
        with reading(path):
            schema.model_validate(content)
        found |= content
    return found
