"""The features tables: the rows of one subset as a model takes them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.common.files import reading
from stages.common.large_arrays import new_rows
from stages.tables.parquet import (
    check_columns,
    matrix,
    names_of,
    open_table,
    read_batches,
    source_of_schema,
)


def features_path(subset: str) -> Path:
    """Where the features of one subset lie."""
    return Path(f"data/features/{subset}.parquet")


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


@dataclass(frozen=True)
class Features:
    """The rows of one subset as a model takes them."""

    image_files: np.ndarray  # (n,) object, texts
    mediums: np.ndarray  # (n,) object, the labels
    values: np.ndarray  # (n, d) float32
    names: list[str]  # d names, one for each feature
    source: str  # synthetic, mame or file


def size_of_features(subset: str) -> tuple[int, int]:
    """How many rows and features one subset has, without reading them.

    Raises PipelineError for another table, and for one that cannot be read.
    """
    path = features_path(subset)
    with reading(path):
        file = open_table(path)
        return file.metadata.num_rows, len(names_of(file.schema_arrow, "feature_names"))


def read_features(subset: str) -> Features:
    """Read the features of one subset.

    Raises PipelineError for another table, and for one that cannot be read or has features that are
    no numbers.
    """
    path = features_path(subset)
    with reading(path), open_table(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        names, source = names_of(schema, "feature_names"), source_of_schema(schema)
        expected = features_schema(source, names)
        check_columns(schema, dict(zip(expected.names, expected.types, strict=True)))
        if not rows:
            raise ValueError("it has no rows")
    # Filled by row groups: all of them, as Arrow has them, would take as much memory once more.
    values = new_rows(rows, len(names))
    texts: dict[str, list[np.ndarray]] = {"image_file": [], "medium": []}
    start = 0
    for batch in read_batches(path, expected.names):
        with reading(path):
            for name, found in texts.items():
                if batch[name].null_count:
                    raise ValueError(f"its column `{name}` has gaps")
                found.append(batch[name].to_numpy(zero_copy_only=False))
            own = matrix(batch["features"])
            good = np.isfinite(own).all(axis=1)
            if not good.all():
                raise ValueError(
                    f"{batch['image_file'][int(np.flatnonzero(~good)[0])]} has features that are "
                    "no finite numbers: it is damaged, or a number of your table is too large"
                )
            values[start : start + len(own)] = own
            start += len(own)
    return Features(
        image_files=np.concatenate(texts["image_file"]),
        mediums=np.concatenate(texts["medium"]),
        values=values,
        names=names,
        source=source,
    )
