"""Turn artefacts into the matrices that models take.

Reads data/artefacts.parquet and data/split.parquet. Writes
data/features/train.parquet, val.parquet and test.parquet, and the fitted
transformer, data/features/transformer.npz.
"""

import math
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from stages.common.params import Section, load_params
from stages.common.stage import PipelineError, run
from stages.features.transformer import TRANSFORMER, Transformer, dimensions_of, yeo_johnson
from stages.tables.artefacts import ARTEFACTS, Artefacts, embedding_length, read_artefacts
from stages.tables.features import features_path, features_schema
from stages.tables.parquet import fixed_size_list, source_of, write_batches
from stages.tables.split import subsets_of_artefacts
from stages.tables.values import SUBSETS

STAGE = "featurize"
# Beyond these, a row that is a little further out than those of train would get a huge number.
EXPONENTS = (-8.0, 8.0)
# The exponents at which the power transform is a logarithm, and how near one may come.
LOGARITHMS = (0.0, 2.0)
NEAREST = 1e-6


class Nothing(Section):
    """A section that has no keys."""


class Pca(Section):
    """`featurize.pca`"""

    components: int = Field(gt=0)


class Params(Section):
    """`featurize`; the sections that are not chosen are None."""

    embedding: Literal["none", "raw", "standardize", "power", "pca"]
    none: Nothing | None = None
    raw: Nothing | None = None
    standardize: Nothing | None = None
    power: Nothing | None = None
    pca: Pca | None = None
    dimensions: bool
    museum: bool


def main() -> str:
    params = load_params(STAGE, Params, choice="embedding")
    check_params(params, embedding_length(ARTEFACTS))
    subset_of = subsets_of_artefacts()
    read = partial(
        read_artefacts,
        subset_of=subset_of,
        with_embedding=params.embedding != "none",
        title=STAGE,
    )
    train = Artefacts.join([artefacts for artefacts, _ in read("train")])
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
                for artefacts, batch in read(subset)
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
            "alone, or name their column in `parse_embeddings_to_parquet.columns.embedding`"
        )
    if params.pca is not None and params.pca.components > length:
        raise PipelineError(
            f"`featurize.pca.components` is {params.pca.components}, "
            f"more than the {length} numbers of an embedding"
        )


def fit(train: Artefacts, params: Params) -> Transformer:
    """Fit the transformer on training rows.

    Raises PipelineError when the training rows are too few for the principal components.
    """
    from sklearn.preprocessing import StandardScaler

    empty = np.empty(0)
    exponents = embedding_mean = embedding_scale = dimensions_mean = dimensions_scale = empty
    components, museums = np.empty((0, 0)), np.empty(0, dtype="U1")
    if params.embedding == "raw":
        length = train.embedding.shape[1]
        embedding_mean, embedding_scale = np.zeros(length), np.ones(length)
    elif params.embedding != "none":
        embedding = train.embedding
        if params.embedding == "power":
            exponents = fit_exponents(embedding)
            embedding = yeo_johnson(embedding, exponents)
        scaler = StandardScaler().fit(embedding)
        embedding_mean, embedding_scale = scaler.mean_, scaler.scale_
        if params.pca is not None:
            from sklearn.decomposition import PCA

            if params.pca.components >= len(train.embedding):
                raise PipelineError(
                    f"`featurize.pca.components` is {params.pca.components}, but "
                    f"{len(train.embedding)} training rows have fewer principal components"
                )
            # The exact solver: the default one may draw at random.
            pca = PCA(params.pca.components, svd_solver="covariance_eigh")
            components = pca.fit(scaler.transform(train.embedding)).components_.astype(np.float64)
    if params.dimensions:
        scaler = StandardScaler().fit(dimensions_of(train))
        dimensions_mean, dimensions_scale = scaler.mean_, scaler.scale_
    if params.museum:
        museums = np.unique(train.museum).astype(str)
    return Transformer(
        exponents,
        embedding_mean,
        embedding_scale,
        components,
        dimensions_mean,
        dimensions_scale,
        museums,
    )


def fit_exponents(embedding: np.ndarray) -> np.ndarray:
    """For each of d numbers, the exponent of `yeo_johnson` that makes it most like a normal one.

    `embedding` is (n, d) float32. Returns (d,) float64. A number that is the same in all rows
    is left as it is: its exponent is 1.
    """
    from sklearn.preprocessing import PowerTransformer

    exponents = np.ones(embedding.shape[1])
    varies = np.flatnonzero(np.ptp(embedding, axis=0) > 0)
    for column in tqdm(varies, desc=f"{STAGE} exponents", unit=" numbers", disable=None):
        values = embedding[:, [column]].astype(np.float64)
        fitted = PowerTransformer(standardize=False).fit(values).lambdas_[0]
        exponents[column] = np.clip(apart_from_logarithms(fitted), *EXPONENTS)
    return exponents


def apart_from_logarithms(exponent: float) -> float:
    """The nearest exponent with which `yeo_johnson` is a power: the same to 6 decimals."""
    for logarithm in LOGARITHMS:
        if abs(exponent - logarithm) < NEAREST:
            return logarithm + math.copysign(NEAREST, exponent - logarithm)
    return exponent


if __name__ == "__main__":
    run(STAGE, main)
