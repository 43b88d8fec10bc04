"""The table of what the model says of each row of val, as `train` gives it to `evaluate`."""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

VAL_PROBABILITIES = Path("models/val_probabilities.parquet")


def val_probabilities_schema(source: str, labels: list[str], outputs: Iterable[str]) -> pa.Schema:
    """Schema of the table of what each output of the model says; the labels are in its metadata."""
    probabilities = pa.list_(pa.float32(), len(labels))
    return pa.schema(
        [("image_file", pa.string()), *((output, probabilities) for output in outputs)],
        metadata={"source": source, "labels": json.dumps(labels, ensure_ascii=False)},
    )
