"""What stands beside the metrics: how far chance may have moved them, and parts of the rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.evaluation.intervals import intervals, wilson
from stages.evaluation.rows import Scored
from stages.model_file.interface import PROBABILITIES, PROBABILITIES_WITHOUT_SIZES
from stages.model_file.scoring import ModelFile, is_sure
from stages.tables.split import NEAR_DUPLICATE, read_split
from stages.tables.values import UNKNOWN

# What the metrics of each output of the model are called.
TEST_OF = {PROBABILITIES: "test", PROBABILITIES_WITHOUT_SIZES: "test_without_sizes"}


def details_of(
    labels: list[str], val: Scored, test: Scored, duplicate: np.ndarray
) -> dict[str, dict[str, Any]]:
    """What is known of the metrics of val and test: a part of details.json.

    Intervals on test, what both subsets would show if the model's probabilities were exactly
    right, and the metrics on test of each museum. `duplicate` (number of test rows,) bool, of
    `near_duplicates`, marks rows that are left out of the metrics without near-duplicates, which
    are not given when all or none are.
    """
    found: dict[str, dict[str, Any]] = {
        "val_if_calibrated": val.if_calibrated.ranges(),
        "test_interval": intervals(test.truth(labels), test.probabilities),
        "test_if_calibrated": test.if_calibrated.ranges(),
    }
    if duplicate.any() and not duplicate.all():
        distinct = test.take(~duplicate)
        found["test_without_near_duplicates"] = {
            "rows": len(distinct.mediums),
            **distinct.metrics(labels),
        }
        found["test_without_near_duplicates_interval"] = intervals(
            distinct.truth(labels), distinct.probabilities
        )
    found["test_museum"] = by_museum(labels, test)
    return found


def of_answers(model: ModelFile, test: Mapping[str, Scored]) -> dict[str, dict[str, Any]]:
    """What is known of the answers that the model is sure of, and of those without the sizes.

    A part of details.json. `test` has the rows with what each output says. `test_sure` is of those
    whose first answer is at least as probable as the threshold that val gave, and has no accuracy
    where there are none.
    """
    found = {}
    for output, rows in test.items():
        name = TEST_OF[output]
        if output != PROBABILITIES:
            found[name] = accuracy_and_loss(model.labels, rows)
        certain = is_sure(rows.probabilities, model.threshold(output))
        sure: dict[str, float] = {"rows": int(certain.sum()), "share": float(certain.mean())}
        if certain.any():
            sure |= accuracy_and_loss(model.labels, rows.take(certain))
        found[f"{name}_sure"] = sure
    return found


def accuracy_and_loss(labels: list[str], rows: Scored) -> dict[str, float]:
    """The number of rows, the accuracy with its interval, and the log loss in nats."""
    metrics, count = rows.metrics(labels), len(rows.mediums)
    low, high = wilson(np.array(metrics["accuracy"] * count), np.array(count))
    return {
        "rows": count,
        "accuracy": metrics["accuracy"],
        "accuracy_low": float(low),
        "accuracy_high": float(high),
        "log_loss": metrics["log_loss"],
    }


def by_museum(labels: list[str], rows: Scored) -> dict[str, dict[str, float]]:
    """The rows, the accuracy with its interval and the log loss in each museum, by its name."""
    found = {}
    museums = np.where(rows.artefacts["museum"] == "", UNKNOWN, rows.artefacts["museum"])
    for museum in np.unique(museums):
        found[str(museum)] = accuracy_and_loss(labels, rows.take(museums == museum))
    return found


def near_duplicates(image_files: np.ndarray) -> np.ndarray:
    """Which rows have a training row whose embedding is nearly the same: (n,) bool.

    Nearly the same is a cosine above `NEAR_DUPLICATE`, as the stage `split` computes it.
    """
    table = read_split().select(["image_file", "nearest_train_cosine"]).to_pandas()
    cosine = table.set_index("image_file")["nearest_train_cosine"].loc[image_files]
    return (cosine > NEAR_DUPLICATE).to_numpy()  # False where there is none


def count_quarantined(quarantine: pd.DataFrame) -> dict[str, int]:
    """How many rows were set aside, as `rows`, and how many broke each rule, by its name.

    A row may break more than one, so that the counts of the rules may add up to more.
    """
    rules = quarantine["rule"].value_counts().sort_index()
    return {"rows": quarantine["row"].nunique(), **{rule: int(n) for rule, n in rules.items()}}
