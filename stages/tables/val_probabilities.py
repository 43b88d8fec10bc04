"""The table of what the model says of each row of val, as `train` gives it to `evaluate`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.common.errors import PipelineError
from stages.common.files import REMAKE, reading
from stages.tables.parquet import check_probabilities, matrix, names_of, read_columns

VAL_PROBABILITIES = Path("models/val_probabilities.parquet")


def val_probabilities_schema(source: str, labels: list[str], outputs: Iterable[str]) -> pa.Schema:
    """Schema of the table of what each output of the model says; the labels are in its metadata."""
    probabilities = pa.list_(pa.float32(), len(labels))
    return pa.schema(
        [("image_file", pa.string()), *((output, probabilities) for output in outputs)],
        metadata={"source": source, "labels": json.dumps(labels, ensure_ascii=False)},
    )


def read_val_probabilities(
    labels: list[str], outputs: Sequence[str]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The image files of the n rows of val, and by each output its probabilities (n, k) float32.

    Raises PipelineError when the table cannot be read, or is not that of a model with these labels
    and outputs.
    """
    schema = val_probabilities_schema("", labels, outputs)
    columns = dict(zip(schema.names, schema.types, strict=True))
    table = read_columns(VAL_PROBABILITIES, columns, *columns)
    with reading(VAL_PROBABILITIES):
        if names_of(table.schema, "labels") != labels:
            raise ValueError("it is of other labels than the model")
        found = {output: matrix(table[output]) for output in outputs}
        for values in found.values():
            check_probabilities(values)
    return table["image_file"].to_pylist(), found


def other_val_rows() -> PipelineError:
    """That the table is of other rows than val."""
    return PipelineError(f"{VAL_PROBABILITIES} is of other rows than val: {REMAKE}")
