"""The rows of the artefacts table, subset by subset, as what models take."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.common.tables import ARTEFACTS, SPLIT, matrix, read_batches


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


def subsets_of_artefacts() -> dict[str, str]:
    """The subset of each artefact, by its image file, as the split table has it."""
    split = pq.read_table(SPLIT, columns=["image_file", "subset"]).to_pydict()
    return dict(zip(split["image_file"], split["subset"], strict=True))


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
