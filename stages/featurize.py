"""Turn artefacts into the matrices that models take.

Reads data/artefacts.parquet and data/split.parquet. Writes
data/features/train.parquet, val.parquet and test.parquet, and the fitted
transformer, data/features/transformer.npz.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from tqdm import tqdm

from stages.common.files import atomic_write
from stages.common.params import Section, load_params
from stages.common.stage import PipelineError, run
from stages.common.tables import (
    ARTEFACTS,
    SPLIT,
    SUBSETS,
    TRANSFORMER,
    embedding_length,
    features_path,
    features_schema,
    fixed_size_list,
    matrix,
    read_batches,
    source_of,
    write_batches,
)

STAGE = "featurize"
DIMENSIONS = ["log_width", "log_height", "log_area", "log_aspect_ratio", "abs_log_aspect_ratio"]


class Params(Section):
    """`featurize`"""

    embedding: Literal["none", "standardize", "pca"]
    pca_components: int = Field(gt=0)
    dimensions: bool
    museum: bool


@dataclass(frozen=True)
class Artefacts:
    """The columns of n artefacts that features are made of."""

    embedding: np.ndarray | None  # (n, d) float32
    width: np.ndarray  # (n,) float64, pixels
    height: np.ndarray  # (n,) float64, pixels
    museum: np.ndarray  # (n,) str


@dataclass(frozen=True)
class Transformer:
    """Artefacts to features, with everything in it fitted on training rows.

    An array is empty where its part of the features is left out.
    """

    embedding_mean: np.ndarray  # (d,) float64
    embedding_scale: np.ndarray  # (d,) float64
    components: np.ndarray  # (k, d) float64, the rows are principal components
    dimensions_mean: np.ndarray  # (5,) float64
    dimensions_scale: np.ndarray  # (5,) float64
    museums: np.ndarray  # (m,) str

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, in the order of the columns that `transform` gives."""
        if self.components.size:
            embedding = [f"pca_{i}" for i in range(len(self.components))]
        else:
            embedding = [f"embedding_{i}" for i in range(len(self.embedding_mean))]
        dimensions = DIMENSIONS if self.dimensions_mean.size else []
        return [*embedding, *dimensions, *(f"museum={name}" for name in self.museums)]

    def transform(self, artefacts: Artefacts) -> np.ndarray:
        """The features of n artefacts, (n, number of feature names) float32.

        A museum that no training row has gives zeros in all museum columns.
        """
        blocks = []
        if self.embedding_mean.size:
            standardized = (artefacts.embedding - self.embedding_mean) / self.embedding_scale
            blocks.append(
                standardized @ self.components.T if self.components.size else standardized
            )
        if self.dimensions_mean.size:
            dimensions = dimensions_of(artefacts)
            blocks.append((dimensions - self.dimensions_mean) / self.dimensions_scale)
        if self.museums.size:
            blocks.append(artefacts.museum[:, None] == self.museums[None, :])
        return np.hstack(blocks).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the arrays to an .npz file; the same arrays give the same bytes."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Transformer":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


def main() -> str:
    params = load_params(STAGE, Params)
    check_params(params, embedding_length(ARTEFACTS))
    split = pq.read_table(SPLIT).to_pydict()
    subset_of = dict(zip(split["image_file"], split["subset"], strict=True))
    train = join([artefacts for artefacts, _ in _rows_of("train", subset_of, params)])
    transformer = fit(train, params)
    del train
    names = transformer.feature_names
    schema = features_schema(source_of(ARTEFACTS), names)
    for subset in SUBSETS:
        write_batches(
            features_path(subset),
            schema,
            (
                pa.RecordBatch.from_arrays(
                    [
                        batch.column("image_file"),
                        batch.column("medium"),
                        fixed_size_list(transformer.transform(artefacts)),
                    ],
                    schema=schema,
                )
                for artefacts, batch in _rows_of(subset, subset_of, params)
            ),
        )
    transformer.save(TRANSFORMER)
    return f"{len(subset_of):,} rows, {len(names):,} features"


def check_params(params: Params, length: int | None) -> None:
    """Compare the parameters with what the table has.

    Raises PipelineError when no features are asked for, when the embedding is asked
    for and the table has none, or more components than numbers in an embedding.
    """
    if params.embedding == "none" and not params.dimensions and not params.museum:
        raise PipelineError(
            "no features: set `featurize.embedding`, `featurize.dimensions` or `featurize.museum`"
        )
    if params.embedding != "none" and length is None:
        raise PipelineError(
            "the table has no embeddings: set `featurize.embedding` to none to use the metadata "
            "alone, or name their column in `parse_embeddings_to_parquet.embedding_column`"
        )
    if params.embedding == "pca" and params.pca_components > length:
        raise PipelineError(
            f"`featurize.pca_components` is {params.pca_components}, "
            f"more than the {length} numbers of an embedding"
        )


def _rows_of(
    subset: str, subset_of: dict[str, str], params: Params
) -> Iterator[tuple[Artefacts, pa.RecordBatch]]:
    """The rows of one subset, batch by batch, with a progress bar."""
    columns = ["image_file", "medium", "museum", "width", "height"]
    if params.embedding != "none":
        columns.append("embedding")
    with tqdm(desc=f"{STAGE} {subset}", unit=" rows", disable=None) as bar:
        for batch in read_batches(ARTEFACTS, columns):
            chosen = [subset_of[name] == subset for name in batch.column("image_file").to_pylist()]
            rows = batch.filter(pa.array(chosen))
            yield (
                Artefacts(
                    embedding=matrix(rows.column("embedding")) if "embedding" in columns else None,
                    width=rows.column("width").to_numpy(),
                    height=rows.column("height").to_numpy(),
                    museum=rows.column("museum").to_numpy(zero_copy_only=False).astype(str),
                ),
                rows,
            )
            bar.update(rows.num_rows)


def join(parts: list[Artefacts]) -> Artefacts:
    """One after the other."""
    return Artefacts(
        embedding=(
            None
            if parts[0].embedding is None
            else np.concatenate([part.embedding for part in parts])
        ),
        width=np.concatenate([part.width for part in parts]),
        height=np.concatenate([part.height for part in parts]),
        museum=np.concatenate([part.museum for part in parts]),
    )


def dimensions_of(artefacts: Artefacts) -> np.ndarray:
    """Natural logarithms of width, height, area and aspect ratio, and the last one's absolute.

    Returns (n, 5) float64. The absolute value tells long pictures from square ones
    whichever way they are turned, which no sum of the others can.
    """
    width, height = np.log(artefacts.width), np.log(artefacts.height)
    aspect = width - height
    return np.column_stack([width, height, width + height, aspect, np.abs(aspect)])


def fit(train: Artefacts, params: Params) -> Transformer:
    """Fit the transformer on training rows.

    Raises PipelineError when the training rows are too few for the principal components.
    """
    from sklearn.preprocessing import StandardScaler

    empty = np.empty(0)
    embedding_mean = embedding_scale = dimensions_mean = dimensions_scale = empty
    components, museums = np.empty((0, 0)), np.empty(0, dtype="U1")
    if params.embedding != "none":
        scaler = StandardScaler().fit(train.embedding)
        embedding_mean, embedding_scale = scaler.mean_, scaler.scale_
        if params.embedding == "pca":
            from sklearn.decomposition import PCA

            if params.pca_components >= len(train.embedding):
                raise PipelineError(
                    f"`featurize.pca_components` is {params.pca_components}, but "
                    f"{len(train.embedding)} training rows have fewer principal components"
                )
            # The exact solver: the default one may draw at random.
            pca = PCA(params.pca_components, svd_solver="covariance_eigh")
            components = pca.fit(scaler.transform(train.embedding)).components_.astype(np.float64)
    if params.dimensions:
        scaler = StandardScaler().fit(dimensions_of(train))
        dimensions_mean, dimensions_scale = scaler.mean_, scaler.scale_
    if params.museum:
        museums = np.unique(train.museum)
    return Transformer(
        embedding_mean, embedding_scale, components, dimensions_mean, dimensions_scale, museums
    )


if __name__ == "__main__":
    run(STAGE, main)
