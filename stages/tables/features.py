"""The features tables: the rows of one subset as a model takes them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.tables.parquet import matrix


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
