"""Turn artefacts into the matrices that models take.

Reads data/artefacts.parquet and data/split.parquet. Writes
data/features/train.parquet, val.parquet and test.parquet, and the fitted
transformer, data/features/transformer.npz.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa

from stages.common.errors import ParameterError, PipelineError
from stages.common.large_arrays import new_rows, numbers_in_memory
from stages.common.memory import check_memory, of_featurize
from stages.common.params import Section, load_params
from stages.common.stage import hidden, log, run
from stages.features.block import Block
from stages.features.kinds.category import MUSEUM, Category
from stages.features.kinds.embedding import Embedding, Pca, needs_rows
from stages.features.kinds.sizes import Sizes
from stages.features.making import features_of, moments_of_train
from stages.features.moments import Moments, total
from stages.features.transformer import (
    COLUMN_KINDS,
    LEFT_OUT,
    TRANSFORMER,
    Transformer,
    is_embedding,
)
from stages.model_file.interface import PROBABILITIES
from stages.tables.artefacts import (
    ARTEFACTS,
    EMBEDDING,
    METADATA,
    Artefacts,
    embedding_identity,
    length_of_embeddings,
    map_artefacts,
    read_artefacts,
    schema_of_artefacts,
)
from stages.tables.features import features_path, features_schema
from stages.tables.parquet import source_of, writer
from stages.tables.split import subsets_of_artefacts
from stages.tables.values import SUBSETS

STAGE = "featurize"
# Columns that name the row, its label or its subset.
NO_FEATURES = ("image_file", "medium", "museum_based_instance_id", "subset", EMBEDDING)


class Nothing(Section):
    """A section that has no keys."""


class Params(Section):
    """`featurize`; the sections that are not chosen are None."""

    embedding: Literal["none", "raw", "standardize", "power", "pca"]
    none: Nothing | None = None
    raw: Nothing | None = None
    standardize: Nothing | None = None
    power: Nothing | None = None
    pca: Pca | None = None
    sizes: bool
    museum: bool
    columns: dict[str, str]


def main() -> str:
    params = load_params(STAGE, Params, choice="embedding")
    schema = schema_of_artefacts()
    check_params(params, schema)
    subset_of = subsets_of_artefacts()
    rows = Counter(subset_of.values())
    length = 0 if params.embedding == "none" else length_of_embeddings(schema) or 0
    on_rows = needs_rows(params.embedding, length)
    numbers = numbers_in_memory(rows["train"], length) if on_rows else 0
    if on_rows and not numbers:
        log(STAGE, f"embeddings of {rows['train']:,} rows lie in files, as the memory is short")
    check_memory(
        of_featurize(len(subset_of), numbers, length, params.embedding == "pca" and not on_rows),
        f"fitting features on {rows['train']:,} training rows",
        "take fewer rows, or `-S featurize.embedding=none`",
    )
    metadata = [name for name in columns_of(params) if name != EMBEDDING]
    train = Artefacts.join(list(read_artefacts("train", subset_of, metadata, STAGE)))
    embeddings = embeddings_of_train(params, subset_of, rows["train"], length)
    transformer = fit(train, params, embeddings, embedding_identity(ARTEFACTS))
    del train, embeddings
    names = transformer.feature_names
    check_names(names)
    schema = features_schema(source_of(ARTEFACTS), names)
    make = partial(features_of, transformer=transformer, schema=schema)
    columns = ["medium", *columns_of(params)]
    with ExitStack() as stack:
        write = {
            subset: stack.enter_context(writer(features_path(subset), schema)) for subset in SUBSETS
        }
        for batches in map_artefacts(make, subset_of, columns, STAGE):
            for subset, batch in batches.items():
                write[subset](batch)
    transformer.save(TRANSFORMER)
    return f"{len(subset_of):,} rows, {len(names):,} features"


def embeddings_of_train(
    params: Params, subset_of: Mapping[str, str], rows: int, length: int
) -> np.ndarray | Moments | None:
    """What `Embedding.fit` takes of so many training rows: as little of them as it can."""
    if params.embedding == "none":
        return None
    if params.embedding == "raw":
        return np.empty((0, length), dtype=np.float32)
    if needs_rows(params.embedding, length):
        # Exponents are fitted to one number of all rows after the other: those lie side by side.
        power = params.embedding == "power"
        values = new_rows(length, rows).T if power else new_rows(rows, length)
        start = 0
        for read in read_artefacts("train", subset_of, [EMBEDDING], STAGE):
            values[start : start + len(read)] = read[EMBEDDING]
            start += len(read)
        return values
    found = partial(moments_of_train, products=params.embedding == "pca")
    parts = map_artefacts(found, subset_of, [EMBEDDING], f"{STAGE} moments")
    return total(part for part in parts if part is not None)


def check_params(params: Params, schema: pa.Schema) -> None:
    """Compare the parameters with what the artefacts table, which has this schema, has.

    Raises PipelineError when no features are asked for, or when the embedding or a column is asked
    for and the table has none.
    """
    if params.embedding == "none" and not (params.sizes or params.museum or params.columns):
        raise PipelineError(
            "no features: set `featurize.embedding`, `featurize.sizes`, `featurize.museum` or "
            "`featurize.columns`"
        )
    if params.embedding != "none" and length_of_embeddings(schema) is None:
        raise PipelineError(
            "the table has no embeddings: set `featurize.embedding` to none to use the metadata "
            "alone, or name their column in `parse_embeddings_to_parquet.columns.embedding`"
        )
    for column, kind in params.columns.items():
        check_column(column, kind, schema)


def check_column(column: str, kind: str, schema: pa.Schema) -> None:
    """Raises PipelineError when a column cannot become features of this kind."""
    key = f"`featurize.columns.{column}`"
    if kind not in COLUMN_KINDS:
        raise ParameterError(
            f"params.yaml: {key} should be {' or '.join(COLUMN_KINDS)}, not {kind!r}"
        )
    if column == MUSEUM:
        raise ParameterError(
            f"params.yaml: {key} is what `featurize.museum` is for: set that to true"
        )
    if column in NO_FEATURES:
        raise PipelineError(f"{key} names the row, its label or its subset, or is the embedding")
    if column in (PROBABILITIES, *LEFT_OUT) or column.startswith("/"):
        raise PipelineError(
            f"{key} has a name that the model's file uses itself: rename the column"
        )
    if is_embedding(column):
        raise PipelineError(f"{key} has the name of a feature of the embedding: rename the column")
    if column not in schema.names:
        extra = [name for name in schema.names if name not in (*METADATA, EMBEDDING)]
        raise PipelineError(
            f"{key}: the artefacts table has no such column; `parse_embeddings_to_parquet."
            f"extra_columns` says which columns it keeps: {', '.join(extra) or 'none so far'}"
        )
    holds = "category" if pa.types.is_string(schema.field(column).type) else "number"
    takes = COLUMN_KINDS[kind].takes
    if holds != takes:
        said = "the column holds" if column in METADATA else "`extra_columns` says that it holds"
        raise PipelineError(f"{key} is {kind}, which takes a {takes}, but {said} a {holds}")


def columns_of(params: Params) -> list[str]:
    """The columns of the artefacts table that the features are made of."""
    return [
        *([EMBEDDING] if params.embedding != "none" else []),
        *(["width", "height"] if params.sizes else []),
        *([MUSEUM] if params.museum else []),
        *params.columns,
    ]


def fit(
    train: Artefacts,
    params: Params,
    embeddings: np.ndarray | Moments | None,
    identity: dict[str, str] | None = None,
) -> Transformer:
    """Fit the transformer on training rows; `embeddings` is what `embeddings_of_train` gives.

    `identity` is what made them.

    Raises PipelineError when they cannot be such features.
    """
    blocks: list[Block] = []
    if params.embedding != "none" and embeddings is not None:
        blocks.append(Embedding.fit(params.embedding, embeddings, params.pca, identity))
    if params.sizes:
        blocks.append(Sizes.fit(train))
    if params.museum:
        blocks.append(Category.fit(MUSEUM, train[MUSEUM]))
    for column, kind in params.columns.items():
        blocks.append(COLUMN_KINDS[kind].fit(column, train[column]))
    return Transformer(blocks)


def check_names(names: list[str]) -> None:
    """Raises PipelineError when two features have one name, as two columns may give."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise PipelineError(
            f"two of the features are called `{name}`: rename a column of `featurize.columns`"
        )


if __name__ == "__main__":
    with hidden("pandas"):
        run(STAGE, main)
