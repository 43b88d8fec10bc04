"""What the model says of each row, as a table."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from stages.evaluation.rows import Scored
from stages.model_file.interface import PROBABILITIES, PROBABILITIES_WITHOUT_SIZES
from stages.tables.parquet import fixed_size_list, rounded_probabilities, write_batches
from stages.tables.predictions import PREDICTIONS, predictions_schema


def write_predictions(
    source: str, labels: list[str], model: str, subsets: Mapping[str, Mapping[str, Scored]]
) -> None:
    """Write what each output of the model says of each row of val, cross-fitted, and of test.

    `model` is the SHA-256 of its file.
    """
    schema = predictions_schema(source, labels, model)
    batches = [
        pa.RecordBatch.from_pydict(_columns(subset, rows, np.array(labels, dtype=object)), schema)
        for subset, rows in subsets.items()
    ]
    write_batches(PREDICTIONS, schema, batches)


def _columns(subset: str, answers: Mapping[str, Scored], labels: np.ndarray) -> dict[str, object]:
    """The columns of the table for the rows of one subset."""
    rows, others = answers[PROBABILITIES], answers.get(PROBABILITIES_WITHOUT_SIZES)
    # The answers are those that the metrics count; rounding may make two labels equal.
    order = np.argsort(-rows.probabilities, axis=1, kind="stable")
    probabilities = rounded_probabilities(rows.probabilities)
    every = np.arange(len(order))
    first, second = order[:, 0], order[:, 1]
    nothing = [None] * len(every)
    return {
        "image_file": rows.image_files,
        "museum_based_instance_id": rows.artefacts["museum_based_instance_id"],
        "subset": [subset] * len(every),
        "medium": rows.mediums,
        "museum": rows.artefacts["museum"],
        "predicted": labels[first],
        "probability": probabilities[every, first],
        "second": labels[second],
        "second_probability": probabilities[every, second],
        "predicted_without_sizes": labels[others.best] if others else nothing,
        "probability_without_sizes": (
            rounded_probabilities(others.probabilities)[every, others.best] if others else nothing
        ),
        "probabilities": fixed_size_list(probabilities),
    }
