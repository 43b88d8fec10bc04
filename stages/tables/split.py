"""The split table: the subset of each artefact, in the order of the artefacts table."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from stages.common.files import reading
from stages.tables.parquet import read_columns
from stages.tables.values import SUBSETS

SPLIT = Path("data/split.parquet")
# Two rows whose embeddings have a larger cosine are often photographs of one thing, which flatter
# a model where one of them is in train.
NEAR_DUPLICATE = 0.8
# Whose directions are computed at a time: it bounds the memory.
ROWS_AT_A_TIME = 1024

# How near-duplicates were looked for. An approximate search may miss some.
How = Literal["exact", "approximate"]

SPLIT_COLUMNS = {
    "image_file": pa.string(),
    "subset": pa.string(),  # train, val or test
    # The training row whose embedding is the most alike, and the cosine of the two after
    # standardisation. Empty for training rows, and where there are no embeddings.
    "nearest_train": pa.string(),
    "nearest_train_cosine": pa.float32(),
}


def split_schema(source: str, how: How = "exact") -> pa.Schema:
    """Schema of the split table; `how` the nearest training rows were looked for."""
    return pa.schema(SPLIT_COLUMNS.items(), metadata={"source": source, "search": how})


def directions(embedding: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Embeddings (n, d), standardised and of length 1: their products are the table's cosines.

    `mean` and `scale` (d,) are those of the training rows. The result has their type.
    """
    return unit_rows((embedding - mean) / scale)


def turn_into_directions(embedding: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> None:
    """Put what `directions` gives in the place of the embeddings (n, d), some rows at a time."""
    for start in range(0, len(embedding), ROWS_AT_A_TIME):
        some = embedding[start : start + ROWS_AT_A_TIME]
        some[:] = directions(some, mean, scale)


def unit_rows(values: np.ndarray) -> np.ndarray:
    """The rows of (n, d) values, each divided by its length; one of zeros stays as it is."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length == 0, 1, length)


def read_split() -> pa.Table:
    """The split table.

    Raises PipelineError for another table, or one that cannot be read.
    """
    table = read_columns(SPLIT, SPLIT_COLUMNS, "image_file", "subset")
    with reading(SPLIT):
        if other := set(table["subset"].to_pylist()).difference(SUBSETS):
            raise ValueError(f"it names the subset `{min(other)}`")
        if len(set(table["image_file"].to_pylist())) < len(table):
            raise ValueError("an image file is there twice")
    return table


def subsets_of_artefacts() -> dict[str, str]:
    """The subset of each artefact, by its image file, as the split table has it.

    Raises PipelineError as `read_split` does.
    """
    split = read_split()
    return dict(zip(split["image_file"].to_pylist(), split["subset"].to_pylist(), strict=True))
