"""The predictions table: what the model says of each row of val and test."""

import json
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from stages.common.files import REMAKE, reading
from stages.tables.parquet import (
    check_probabilities,
    columns_of,
    matrix,
    metadata_of,
    names_of,
    open_table,
    source_of_schema,
)

PREDICTIONS = Path("data/predictions.parquet")
# Columns without gaps; a row may lack what is said of its museum, and answers without the sizes.
ALWAYS = {
    *("image_file", "subset", "medium", "predicted", "probability", "second"),
    *("second_probability", "probabilities"),
}


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


def read_predictions(
    columns: Collection[str] | None = None,
    content: bytes | None = None,
    name: str = str(PREDICTIONS),
    way_out: str = REMAKE,
) -> pa.Table:
    """The predictions table, or some columns of it, with the probabilities among them.

    `content` is that of another revision's file, `name` and `way_out` are what is said of it.

    Raises PipelineError for another table, and for one that cannot be read.
    """
    with reading(Path(name), way_out):
        file = open_table(PREDICTIONS if content is None else content)
        found = file.schema_arrow
        whole = predictions_schema(source_of_schema(found), names_of(found, "labels"), "")
        taken = {name: whole.field(name).type for name in columns or whole.names}
        table = columns_of(file, taken, *ALWAYS.intersection(taken))
        if columns is None:
            metadata_of(found, "model")  # another revision's may be from before it was there
        check_probabilities(matrix(table["probabilities"]))
        if other := set(table["subset"].to_pylist()) - {"val", "test"}:
            raise ValueError(f"it names the subset `{min(other)}`")
    return table
