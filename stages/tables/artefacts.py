"""The artefacts table: one row for each photograph, as `parse-embeddings-to-parquet` writes it.

Its columns are those of `METADATA`, `embedding` where the raw table has one, and the extra columns
of the raw table that params.yaml names. The schema's metadata says where the table comes from, and
what made the embeddings, where that is known.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.common.engine import in_order
from stages.common.errors import PipelineError
from stages.common.files import REMAKE, reading
from stages.tables.parquet import (
    check_columns,
    matrix,
    read_batches,
    read_group,
    source_of_schema,
)

ARTEFACTS = Path("data/artefacts.parquet")
EMBEDDING = "embedding"  # the column of the embeddings

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

# The most numbers that an embedding may have for what takes time with their square or their cube;
# what is as good and faster is for longer ones.
LONGEST_EXACT = 2048
FLOAT = pa.float32()  # a number of an embedding, unless the raw table has half floats
NUMBERS = (FLOAT, pa.float16())

# What an extra column may hold, and the type it then has.
ExtraKind = Literal["number", "category"]
EXTRA: dict[ExtraKind, pa.DataType] = {
    "number": pa.float64(),  # null where it is missing
    "category": pa.string(),  # "" where it is missing
}

Result = TypeVar("Result")


def artefacts_schema(
    source: str,
    embedding_length: int | None,
    extra: Mapping[str, ExtraKind] = MappingProxyType({}),
    identity: Mapping[str, str] | None = None,
    number: pa.DataType = FLOAT,
) -> pa.Schema:
    """Schema of the artefacts table.

    `embedding_length` is None where there is no embedding; `extra` are the further columns of the
    raw table that are kept, and what they hold; `identity` says what made the embeddings,
    None where nobody knows; `number` is the type of their numbers, float32 or float16.
    """
    fields = [pa.field(name, type_) for name, type_ in METADATA.items()]
    if embedding_length is not None:
        fields.append(pa.field(EMBEDDING, pa.list_(number, embedding_length)))
    fields += [pa.field(name, EXTRA[kind]) for name, kind in extra.items()]
    metadata = {"source": source}
    if identity is not None:
        metadata[EMBEDDING] = json.dumps(dict(identity), ensure_ascii=False)
    return pa.schema(fields, metadata=metadata)


def schema_of_artefacts(path: Path = ARTEFACTS) -> pa.Schema:
    """The schema of an artefacts table.

    Raises PipelineError for another table.
    """
    with reading(path):
        schema = pq.read_schema(path)
        source_of_schema(schema)
        check_columns(schema, METADATA)
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise ValueError(f"its column `{name}` is there twice")
            type_ = schema.field(name).type
            if name == EMBEDDING:
                good = pa.types.is_fixed_size_list(type_) and type_.value_type in NUMBERS
            else:
                good = type_ in (METADATA.get(name), *EXTRA.values())
            if not good:
                raise ValueError(f"its column `{name}` holds something else")
        return schema


def embedding_length(path: Path) -> int | None:
    """Length of the embeddings in an artefacts table, None where it has none.

    Raises PipelineError for another table.
    """
    return length_of_embeddings(schema_of_artefacts(path))


def length_of_embeddings(schema: pa.Schema) -> int | None:
    """What `embedding_length` gives, for the table's schema."""
    return schema.field(EMBEDDING).type.list_size if EMBEDDING in schema.names else None


def embedding_identity(path: Path) -> dict[str, str] | None:
    """What made the embeddings of an artefacts table, as docs/table.md has it.

    None where the table does not say, or has none.

    Raises PipelineError when it says something else.
    """
    with reading(path):
        content = (pq.read_schema(path).metadata or {}).get(EMBEDDING.encode())
        identity = None if content is None else json.loads(content)
        if identity is not None and not (
            isinstance(identity, dict) and all(isinstance(text, str) for text in identity.values())
        ):
            raise ValueError("what it says of its embeddings are no texts")
        return identity


def identity_in_words(identity: Mapping[str, str]) -> str:
    """What made embeddings, for people: network MobileNetV1, weights Keras, and so on."""
    return ", ".join(f"{name} {value}" for name, value in identity.items())


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The names by which two things that made embeddings differ; what one leaves out agrees."""
    return [name for name in one if name in other and one[name] != other[name]]


@dataclass(frozen=True)
class Artefacts:
    """Some columns of n artefacts, by their names.

    The embedding is (n, d) float32, numbers are (n,) float64, texts (n,) object. What is missing
    is nan, or an empty text.
    """

    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, batch: pa.RecordBatch | pa.Table) -> "Artefacts":
        """The columns of rows of the artefacts table."""
        return cls({name: _values(batch.column(name)) for name in batch.schema.names})

    @classmethod
    def join(cls, parts: Sequence["Artefacts"]) -> "Artefacts":
        """One after the other."""
        return cls({name: np.concatenate([p[name] for p in parts]) for name in parts[0].columns})

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def check(self) -> None:
        """Raises ValueError for what no row of the artefacts table has."""
        for name, values in self.columns.items():
            good = True
            if name in ("image_file", "medium"):
                good = bool((values != "").all())
            elif name == EMBEDDING:
                good = bool(np.isfinite(values).all())
            elif name in ("width", "height"):
                good = bool(((values > 0) & np.isfinite(values)).all())
            if not good:
                raise ValueError(f"its column `{name}` holds what no artefact has")

    def take(self, rows: np.ndarray | slice) -> "Artefacts":
        """Some of the rows: a slice, their places (m,) int, or which of them (n,) bool."""
        return Artefacts({name: values[rows] for name, values in self.columns.items()})

    def with_columns(self, columns: Mapping[str, np.ndarray]) -> "Artefacts":
        """The same rows with other values in some of the columns."""
        return Artefacts({**self.columns, **columns})


def _values(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        return matrix(column)
    if pa.types.is_string(column.type):
        return column.fill_null("").to_numpy(zero_copy_only=False)
    return column.to_numpy(zero_copy_only=False)


def read_artefacts(
    subset: str | None, subset_of: Mapping[str, str], columns: Collection[str], title: str
) -> Iterator[Artefacts]:
    """Some columns of the rows of one subset, batch by batch; None: of all.

    `subset_of` has the subset of each artefact, by its image file. A progress bar with `title`
    shows the rows.

    Raises PipelineError for a table that cannot be read, is of other artefacts, or has an embedding
    or a size that no artefact has.
    """
    asked = list(dict.fromkeys(["image_file", *columns]))
    schema_of_artefacts()
    counted = _Counted(subset_of)
    with tqdm(desc=f"{title} {subset or 'all'}", unit=" rows", disable=None) as bar:
        for batch in read_batches(ARTEFACTS, asked):
            subsets = counted.subsets(batch)
            rows = batch
            if subset is not None:
                rows = batch.filter(pa.array(subsets == subset))
            yield _checked(rows)
            bar.update(rows.num_rows)
    counted.check_all()


def map_artefacts(
    function: Callable[[Artefacts, np.ndarray], Result],
    subset_of: Mapping[str, str],
    columns: Collection[str],
    title: str,
) -> Iterator[Result]:
    """What a function makes of each row group, in their order: of some columns, and the subsets.

    The subsets (n,) are texts. Row groups are read, checked and given to the function in several
    threads at a time, or on a cluster, which gets the function's arguments: `in_order` says how.

    Raises PipelineError as `read_artefacts` does.
    """
    asked = list(dict.fromkeys(["image_file", *columns]))
    schema_of_artefacts()
    counted = _Counted(subset_of)
    # Elsewhere, another folder may be the current one.
    of_group = partial(_of_group, function, ARTEFACTS.resolve(), asked)
    with tqdm(desc=f"{title} all", unit=" rows", total=len(subset_of), disable=None) as bar:
        names = read_batches(ARTEFACTS, ["image_file"])
        groups = enumerate(counted.subsets(batch) for batch in names)
        for rows, result in in_order(of_group, groups):
            yield result
            bar.update(rows)
    counted.check_all()


def _of_group(
    function: Callable[[Artefacts, np.ndarray], Result],
    path: Path,
    columns: list[str],
    item: tuple[int, np.ndarray],
) -> tuple[int, Result]:
    """How many rows a row group has, and what the function makes of them."""
    group, subsets = item
    return len(subsets), function(_checked(read_group(path, group, columns)), subsets)


def _checked(batch: pa.RecordBatch | pa.Table) -> Artefacts:
    with reading(ARTEFACTS):
        artefacts = Artefacts.of(batch)
        artefacts.check()
    return artefacts


class _Counted:
    """Looks up the subsets of rows, and counts them."""

    def __init__(self, subset_of: Mapping[str, str]) -> None:
        self._subset_of = subset_of
        self._seen = 0

    def subsets(self, batch: pa.RecordBatch) -> np.ndarray:
        """The subsets (n,) of the rows of a batch. Raises PipelineError for a row without."""
        names = batch.column("image_file").to_pylist()
        self._seen += len(names)
        found = [self._subset_of.get(name) for name in names]
        if None in found:
            raise _other_rows(f"{names[found.index(None)]} has no subset")
        return np.array(found)

    def check_all(self) -> None:
        """Raises PipelineError where other rows than all have been counted."""
        if self._seen != len(self._subset_of):
            raise _other_rows(
                f"it has {self._seen:,} rows, and {len(self._subset_of):,} have a subset"
            )


def _other_rows(problem: str) -> PipelineError:
    return PipelineError(f"{ARTEFACTS} does not belong to the split table ({problem}): {REMAKE}")
