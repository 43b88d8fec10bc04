"""The table of what the model says of each row of val, as `train` gives it to `evaluate`."""

import json
from pathlib import Path

import pyarrow as pa

VAL_PROBABILITIES = Path("models/val_probabilities.parquet")


def val_probabilities_schema(source: str, labels: list[str]) -> pa.Schema:
    """Schema of the table of probabilities of val; the labels are in its metadata."""
    return pa.schema(
        [("image_file", pa.string()), ("probabilities", pa.list_(pa.float32(), len(labels)))],
        metadata={"source": source, "labels": json.dumps(labels, ensure_ascii=False)},
    )
