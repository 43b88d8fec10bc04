"""The predictions table: what the model says of each row of val and test."""

import json
from pathlib import Path

import pyarrow as pa

PREDICTIONS = Path("data/predictions.parquet")


def predictions_schema(source: str, labels: list[str], model: str) -> pa.Schema:
    """Schema of the predictions table.

    Its metadata has the labels of the probabilities, and `model`, the SHA-256 of the file that gave
    them.
    """
    return pa.schema(
        [
            ("image_file", pa.string()),
            ("museum_based_instance_id", pa.string()),  # the museum's own number
            ("subset", pa.string()),  # val or test
            ("medium", pa.string()),  # what it is
            ("museum", pa.string()),
            ("predicted", pa.string()),  # the most probable label, and its probability
            ("probability", pa.float32()),
            ("second", pa.string()),  # the second most probable
            ("second_probability", pa.float32()),
            # What the model says without the sizes, where it can do without.
            ("predicted_without_sizes", pa.string()),
            ("probability_without_sizes", pa.float32()),
            ("probabilities", pa.list_(pa.float32(), len(labels))),
        ],
        metadata={
            "source": source,
            "labels": json.dumps(labels, ensure_ascii=False),
            "model": model,
        },
    )
