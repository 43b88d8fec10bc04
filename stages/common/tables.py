"""The tables that stages hand to each other: their schemas, and how they are read and written.

| table | columns |
|---|---|
| artefacts | the columns of `METADATA`, and `embedding` where the input has one |
| split | the columns of `SPLIT_COLUMNS`, in the order of the artefacts |
| features | `image_file`, `medium`, `features` |
| predictions | `image_file`, `subset`, `medium`, `museum`, `probabilities` |
| probabilities of val | `image_file`, `probabilities` |
| quarantine | the columns of `QUARANTINE_COLUMNS`, as CSV |

Every Parquet table names the source of its data (`synthetic`, `mame` or `file`) in its
schema's metadata, so that results can say what they were computed from.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.files import atomic_write

ARTEFACTS = Path("data/artefacts.parquet")
QUARANTINE = Path("data/quarantine.csv")
SPLIT = Path("data/split.parquet")
PREDICTIONS = Path("data/predictions.parquet")
VAL_PROBABILITIES = Path("models/val_probabilities.parquet")
TRANSFORMER = Path("data/features/transformer.npz")

SUBSETS = ("train", "val", "test")

# Columns of the artefacts table and their types.
METADATA = {
    "image_file": pa.string(),
    "medium": pa.string(),
    "museum": pa.string(),
    "museum_based_instance_id": pa.string(),
    "subset": pa.string(),
    "width": pa.float64(),  # pixels
    "height": pa.float64(),  # pixels
    "product_size": pa.float64(),  # width x height, pixels
    "aspect_ratio": pa.float64(),  # width / height
}

SPLIT_COLUMNS = {
    "image_file": pa.string(),
    "subset": pa.string(),  # train, val or test
    # The training row whose embedding is the most alike, and the cosine of the two after
    # standardisation. Empty for training rows, and where there are no embeddings.
    "nearest_train": pa.string(),
    "nearest_train_cosine": pa.float32(),
}

# One line for each rule that a row breaks. Text is cut to a length that can be read.
QUARANTINE_COLUMNS = (
    "row",  # counted from 1, without the header
    "line",  # of the CSV file, counted from 1 with the header; empty for Parquet
    "image_file",
    "rule",  # its name in stages/parser/contract.py
    "value",  # what the row has
    "reason",  # what is wrong with it
)


def features_path(subset: str) -> Path:
    """Where the features of one subset lie."""
    return Path(f"data/features/{subset}.parquet")


def artefacts_schema(
    source: str, embedding_length: int | None, extra: Iterable[pa.Field] = ()
) -> pa.Schema:
    """Schema of the artefacts table.

    `embedding_length` is None where there is no embedding; `extra` are the further
    columns of the raw table that are kept.
    """
    fields = [pa.field(name, type_) for name, type_ in METADATA.items()]
    if embedding_length is not None:
        fields.append(pa.field("embedding", pa.list_(pa.float32(), embedding_length)))
    return pa.schema([*fields, *extra], metadata={"source": source})


def split_schema(source: str) -> pa.Schema:
    """Schema of the split table."""
    return pa.schema(SPLIT_COLUMNS.items(), metadata={"source": source})


def features_schema(source: str, feature_names: list[str]) -> pa.Schema:
    """Schema of a features table; the names of the features are in its metadata."""
    return pa.schema(
        [
            ("image_file", pa.string()),
            ("medium", pa.string()),
            ("features", pa.list_(pa.float32(), len(feature_names))),
        ],
        metadata={"source": source, "feature_names": json.dumps(feature_names)},
    )


def predictions_schema(source: str, labels: list[str]) -> pa.Schema:
    """Schema of the predictions table; the labels of the probabilities are in its metadata."""
    return pa.schema(
        [
            ("image_file", pa.string()),
            ("subset", pa.string()),  # val or test
            ("medium", pa.string()),
            ("museum", pa.string()),
            ("probabilities", pa.list_(pa.float32(), len(labels))),
        ],
        metadata={"source": source, "labels": json.dumps(labels, ensure_ascii=False)},
    )


def val_probabilities_schema(source: str, labels: list[str]) -> pa.Schema:
    """Schema of the table of probabilities of val; the labels are in its metadata."""
    return pa.schema(
        [("image_file", pa.string()), ("probabilities", pa.list_(pa.float32(), len(labels)))],
        metadata={"source": source, "labels": json.dumps(labels, ensure_ascii=False)},
    )


def source_of(path: Path) -> str:
    """The source that a table's schema names."""
    return pq.read_schema(path).metadata[b"source"].decode()


def embedding_length(path: Path) -> int | None:
    """Length of the embeddings in an artefacts table, None where it has none."""
    schema = pq.read_schema(path)
    return schema.field("embedding").type.list_size if "embedding" in schema.names else None


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read a Parquet table by record batches, one for each row group."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns, use_threads=False)
            yield from table.combine_chunks().to_batches()


def write_batches(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    compression: str = "zstd",
    row_group_rows: int = 4096,
) -> int:
    """Write record batches to a Parquet table, atomically; return the number of rows.

    The row groups hold `row_group_rows` rows (the last one may hold fewer)
    whatever the size of the batches, so that the bytes depend on the rows alone.
    """
    rows = 0
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression=compression,
            # A dictionary pays for text only: embeddings hardly repeat. Sorted by their place in
            # the number, their bytes suit zstd, and no other: docs/benchmarks.md.
            use_dictionary=[f.name for f in schema if pa.types.is_string(f.type)],
            # The least and the greatest number of all embeddings help nobody to find a row.
            write_statistics=[f.name for f in schema if not pa.types.is_nested(f.type)],
            use_byte_stream_split=[
                f"{f.name}.list.element" for f in schema if compression == "zstd" and _is_vector(f)
            ],
        ) as writer,
    ):
        for batch in _regroup(batches, row_group_rows):
            writer.write_table(batch, row_group_size=row_group_rows)
            rows += batch.num_rows
    return rows


def _is_vector(field: pa.Field) -> bool:
    return pa.types.is_fixed_size_list(field.type) and field.type.value_type == pa.float32()


def _regroup(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Join and cut batches so that each holds `rows` rows, the last one maybe fewer."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, rows)
            waiting = table.slice(rows).to_batches()
            count -= rows
    if count:
        yield pa.Table.from_batches(waiting)


def matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A fixed-size-list column of n rows of length d as an (n, d) array, without a copy if it can.

    Raises ValueError for a column with missing rows.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} rows are missing")
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # Not -1 for the length: a batch may have no rows.
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """An (n, d) array as a column of n lists of length d; the inverse of `matrix`."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def probabilities_column(probabilities: np.ndarray) -> pa.FixedSizeListArray:
    """Probabilities (n, k) as a column, rounded to 6 decimals: what lies below says nothing."""
    return fixed_size_list(probabilities.astype(np.float32).round(6))


@dataclass(frozen=True)
class Features:
    """The rows of one subset as a model takes them."""

    image_files: np.ndarray  # (n,) object, texts
    mediums: np.ndarray  # (n,) object, the labels
    values: np.ndarray  # (n, d) float32
    names: list[str]  # d names, one for each feature
    source: str  # synthetic, mame or file


def read_features(subset: str) -> Features:
    """Read the features of one subset."""
    table = pq.read_table(features_path(subset))
    return Features(
        image_files=table["image_file"].to_numpy(),
        mediums=table["medium"].to_numpy(),
        values=matrix(table["features"]),
        names=json.loads(table.schema.metadata[b"feature_names"]),
        source=table.schema.metadata[b"source"].decode(),
    )
