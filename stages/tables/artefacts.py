"""The artefacts table: one row for each photograph, as `parse-embeddings-to-parquet` writes it.

Its columns are those of `METADATA`, and `embedding` where the raw table has one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.tables.parquet import matrix, read_batches

ARTEFACTS = Path("data/artefacts.parquet")

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


def embedding_length(path: Path) -> int | None:
    """Length of the embeddings in an artefacts table, None where it has none."""
    schema = pq.read_schema(path)
    return schema.field("embedding").type.list_size if "embedding" in schema.names else None


@dataclass(frozen=True)
class Artefacts:
    """The columns of n artefacts that features are made of."""

    embedding: np.ndarray | None  # (n, d) float32
    width: np.ndarray  # (n,) float64, pixels
    height: np.ndarray  # (n,) float64, pixels
    museum: np.ndarray  # (n,) object, texts

    @classmethod
    def join(cls, parts: list["Artefacts"]) -> "Artefacts":
        """One after the other."""
        columns = {
            field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)
        }
        return cls(
            **{
                name: None if arrays[0] is None else np.concatenate(arrays)
                for name, arrays in columns.items()
            }
        )


def read_artefacts(
    subset: str, subset_of: dict[str, str], with_embedding: bool, title: str
) -> Iterator[tuple[Artefacts, pa.RecordBatch]]:
    """The rows of one subset, batch by batch, also as they are in the table.

    A progress bar with `title` shows the rows.
    """
    columns = ["image_file", "medium", "museum", "width", "height"]
    if with_embedding:
        columns.append("embedding")
    with tqdm(desc=f"{title} {subset}", unit=" rows", disable=None) as bar:
        for batch in read_batches(ARTEFACTS, columns):
            chosen = [subset_of[name] == subset for name in batch.column("image_file").to_pylist()]
            rows = batch.filter(pa.array(chosen))
            yield (
                Artefacts(
                    embedding=matrix(rows.column("embedding")) if with_embedding else None,
                    width=rows.column("width").to_numpy(),
                    height=rows.column("height").to_numpy(),
                    museum=rows.column("museum").fill_null("").to_numpy(zero_copy_only=False),
                ),
                rows,
            )
            bar.update(rows.num_rows)
