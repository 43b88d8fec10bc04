"""Photographs to the table that `download.source` file takes, one row for each."""

import hashlib
import json
import threading
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from photographs.networks.description import LAST
from photographs.pictures.cache import Cache, Embedded
from photographs.pictures.catalogue import (
    ASPECT,
    HEIGHT,
    IMAGE_FILE,
    MEDIUM,
    PRODUCT,
    SUBSET,
    WIDTH,
    Catalogue,
    catalogue_of_files,
)
from photographs.pictures.embedder import Embedder
from photographs.pictures.picture import PictureError
from photographs.pictures.places import Place, shown_name
from stages.common.engine import in_order, on_cluster
from stages.common.errors import PipelineError, shorten
from stages.common.files import csv_line, write_text
from stages.common.threads import thread_pool
from stages.tables.artefacts import EMBEDDING
from stages.tables.parquet import write_batches

# Rows that are written at a time: it bounds the memory used.
GROUP_ROWS = 1024
# Parquet with gzip, as the course has it. Its default level makes a file that is a fifth smaller,
# and takes half as long as the network.
GZIP_LEVEL = 1
# The types of the numbers of several layers.
BITS = {16: pa.float16(), 32: pa.float32()}
# Photographs that a worker of a cluster is given at a time: some seconds of work.
PHOTOGRAPHS_OF_A_PIECE = 64
# Categories of Unicode that a name may not have: control characters such as a line's end, and what
# Python makes of bytes that are not UTF-8.
UNFIT = ("Cc", "Cs", "Zl", "Zp")
# Locks, of which a photograph has one by the first byte of its content's digest.
LOCKS = 256


@dataclass
class Result:
    """What became of the photographs and of the catalogue's rows."""

    rows: int = 0
    computed: int = 0  # now, not in an earlier run
    # Rows that have no label, or no subset.
    unlabelled: int = 0
    without_subset: int = 0
    # Rows of which the catalogue says a smaller size than the photograph has.
    smaller: int = 0
    # A name and a reason each, in the order of the names.
    left_out: list[tuple[str, str]] = field(default_factory=list)


def write_table(
    place: Place,
    embedder: Embedder,
    cache: Cache,
    catalogue: Catalogue | None,
    output: Path,
    label_from_folder: bool = False,
    workers: int = 1,
) -> Result:
    """Embed all photographs of a place and write the table, atomically.

    Without a catalogue, nothing is known of a photograph but its size, and its label where
    `label_from_folder` says so. The rows are in the order of the names; the number of `workers`,
    which are threads that embed, changes nothing but the time.

    Raises PipelineError when no photograph is left.
    """
    result = Result()
    files = files_of(place, result)
    if catalogue is None:
        catalogue = catalogue_of_files(list(files), label_from_folder)
    else:
        files = _matched(files, catalogue, result)
    schema = _schema(catalogue, embedder)
    # Closed at once where something fails, so that no thread works on.
    with closing(embed_each(place, files, embedder, cache, result, workers)) as done:
        batches = _batches(done, catalogue, schema, result, output)
        write_batches(output, schema, batches, "gzip", GROUP_ROWS, GZIP_LEVEL)
    return result


def _batches(
    done: Iterable[tuple[str, Embedded]],
    catalogue: Catalogue,
    schema: pa.Schema,
    result: Result,
    output: Path,
) -> Iterator[pa.RecordBatch]:
    """Rows of the table: the catalogue's, with their embeddings in the last column.

    After the last ones, what is left out is listed. An empty table is an error.
    """
    for group in in_groups(done, GROUP_ROWS):
        embedded = [found for _, found in group]
        widths = pa.array([float(found.width) for found in embedded])
        heights = pa.array([float(found.height) for found in embedded])
        rows = catalogue.rows([name for name, _ in group])
        result.rows += len(group)
        result.unlabelled += rows.column(MEDIUM).null_count
        result.without_subset += rows.column(SUBSET).null_count
        result.smaller += _smaller(rows, widths, heights)
        rows = _filled(rows, widths, heights)
        numbers = np.stack([found.embedding for found in embedded])
        vectors = _lists(numbers, schema.field(-1).type)
        arrays = [*(column.combine_chunks() for column in rows.columns), vectors]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    result.left_out.sort()
    write_left_out(left_out_path(output), result.left_out)
    if not result.rows:
        raise PipelineError(_nothing_left(result.left_out))


def left_out_path(output: Path) -> Path:
    """Where what is not in the table is listed."""
    return output.with_name(f"{output.stem}.left_out.csv")


def write_left_out(path: Path, left_out: Iterable[tuple[str, str]]) -> None:
    """Write the names and reasons as CSV."""
    write_text(path, "".join(map(csv_line, [(IMAGE_FILE, "Reason"), *left_out])))


def files_of(place: Place, result: Result) -> dict[str, str]:
    """The place's own name of each file, by the name that stands in the table, sorted by that."""
    files: dict[str, str] = {}
    for own in place.names():
        name = shown_name(own)
        if any(unicodedata.category(char) in UNFIT for char in own):
            result.left_out.append((name, "its name is not UTF-8, or has control characters"))
        elif "\\" in own:
            result.left_out.append((name, "its name has a backslash, which is / elsewhere"))
        elif name in files:
            result.left_out.append((name, "another file has the same name, typed differently"))
        else:
            files[name] = own
    return dict(sorted(files.items()))


def _matched(files: dict[str, str], catalogue: Catalogue, result: Result) -> dict[str, str]:
    """The place's own name of each file that the catalogue has a row for, by the row's name.

    A row names a file by its path below the place, or by its last part alone where no other file
    has the same. What does not match is left out.
    """
    by_last_part: dict[str, list[str]] = {}
    for name in files:
        by_last_part.setdefault(PurePosixPath(name).name, []).append(name)
    for place in catalogue.unnamed:
        result.left_out.append((f"row {place + 1} of the catalogue", "it names no photograph"))
    found: dict[str, str] = {}
    for row in catalogue.places:
        names = [row] if row in files else by_last_part.get(row, [])
        if len(names) == 1:
            found[row] = names[0]
        elif names:
            result.left_out.append((row, f"{len(names)} photographs are called so: give the path"))
        else:
            result.left_out.append((row, "there is no photograph of this row"))
    if not found and files and catalogue.places:
        raise PipelineError(
            f"no row's `{IMAGE_FILE}` is the name of a photograph: the first row names "
            f"{shorten(next(iter(catalogue.places)))}, the first photograph is "
            f"{shorten(next(iter(files)))}"
        )
    taken = Counter(found.values())
    for row in [row for row, name in found.items() if taken[name] > 1]:
        del found[row]
        result.left_out.append((row, "another row names the same photograph"))
    matched = set(taken)
    result.left_out += [(n, "the catalogue has no row for it") for n in files if n not in matched]
    return {row: files[name] for row, name in sorted(found.items())}


class Found(NamedTuple):
    """What was found for a photograph."""

    key: bytes  # the SHA-256 of its content
    embedded: Embedded
    new: bool  # whether it was computed now


class Source:
    """What photographs are read from, and what embeds them. Several threads may use one.

    On a worker of a cluster it has no cache, and one thread embeds at a time.
    """

    def __init__(
        self, place: Place, embedder: Embedder, cache: Cache | None = None, workers: int = 1
    ) -> None:
        """`workers` are the threads that embed at a time; others wait for files."""
        self.awaited = place.awaited
        self._working = threading.Semaphore(workers)
        self._place = place
        self._embedder = embedder
        self._cache = cache
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def __reduce__(self) -> tuple[type["Source"], tuple[Place, Embedder]]:
        return Source, (self._place, self._embedder)

    def embed(self, own: str) -> Found:
        """What is found for the photograph with this name. Raises PictureError."""
        content = self._place.read(own)
        key = hashlib.sha256(content).digest()
        with self._locks[key[0]]:  # or two copies beside each other would both be computed
            known = None if self._cache is None else self._cache.get(key)
            if known is not None and len(known.embedding) == len(self._embedder.answer):
                return Found(key, known, False)
            with self._working:
                embedded = self._embedder.embed(content)
            if self._cache is not None:
                self._cache.add({key: embedded})
            return Found(key, embedded, True)

    def keep(self, found: list[Found | str]) -> None:
        """Add to the cache what was computed elsewhere."""
        if self._cache is not None:
            self._cache.add({one.key: one.embedded for one in found if isinstance(one, Found)})

    def try_embed(self, own: str) -> Found | str:
        """What is found for the photograph with this name, or why it cannot be embedded."""
        try:
            return self.embed(own)
        except PictureError as error:
            return str(error)


def embed_some(source: Source, names: list[str]) -> list[Found | str]:
    """What is found for photographs with these names, or why one cannot be embedded."""
    with thread_pool(1 + source.awaited) as pool:
        return list(pool.map(source.try_embed, names))


def embed_here_or_there(
    source: Source, names: list[str], workers: int
) -> Generator[Found | str, None, None]:
    """The same, in the order of the names: by threads here, or in pieces on a cluster."""
    if not on_cluster():
        # Pillow and ONNX Runtime release the GIL while they work.
        yield from in_order(source.try_embed, names, workers + source.awaited)
        return
    starts = range(0, len(names), PHOTOGRAPHS_OF_A_PIECE)
    pieces = (names[start : start + PHOTOGRAPHS_OF_A_PIECE] for start in starts)
    with closing(in_order(partial(embed_some, source), pieces)) as done:
        for piece in done:
            source.keep(piece)
            yield from piece


def embed_each(
    place: Place,
    files: dict[str, str],
    embedder: Embedder,
    cache: Cache | None,
    result: Result,
    workers: int,
    title: str = "embed",
) -> Generator[tuple[str, Embedded], None, None]:
    """The names and embeddings of photographs, in the order of `files`.

    `files` is what `files_of` gives, `title` stands before a bar. What cannot be embedded is added
    to the result. On a cluster, workers read the photographs themselves, and what they have
    computed is added to the cache here.
    """
    source = Source(place, embedder, cache, workers)
    with (
        closing(embed_here_or_there(source, list(files.values()), workers)) as done,
        tqdm(desc=title, total=len(files), unit=" photographs", disable=None) as bar,
    ):
        for name, found in zip(files, done, strict=True):
            bar.update()
            if isinstance(found, str):
                result.left_out.append((name, found))
                continue
            result.computed += found.new
            yield name, found.embedded


def in_groups(
    photographs: Iterable[tuple[str, Embedded]], rows: int
) -> Iterator[list[tuple[str, Embedded]]]:
    """Photographs, so many at a time."""
    group = []
    for photograph in photographs:
        group.append(photograph)
        if len(group) == rows:
            yield group
            group = []
    if group:
        yield group


def _schema(catalogue: Catalogue, embedder: Embedder) -> pa.Schema:
    """The catalogue's columns and the embedding: 64 bits for the last layer, as the course has it.

    Several layers have as many bits as the network's description says.
    """
    column = embedder.description.column
    if column in catalogue.schema.names:
        raise PipelineError(
            f"`{column}` is what the network's description calls the embedding, and a column of "
            "the table already: rename one"
        )
    type_ = pa.list_(type_of_numbers(embedder))
    identity = json.dumps(embedder.identity, ensure_ascii=False)
    return catalogue.schema.append(pa.field(column, type_)).with_metadata({EMBEDDING: identity})


def type_of_numbers(embedder: Embedder) -> pa.DataType:
    """What a table keeps the numbers of an embedding in."""
    layers = embedder.description.layers
    if layers is None or embedder.identity["layers"] == LAST:
        return pa.float64()
    return BITS[layers.bits]


def _lists(numbers: np.ndarray, type_: pa.ListType) -> pa.ListArray:
    """A column of n lists of length d, from (n, d) float32."""
    offsets = np.arange(0, numbers.size + 1, numbers.shape[1], dtype=np.int32)
    with np.errstate(over="ignore"):
        values = numbers.astype(type_.value_type.to_pandas_dtype()).ravel()
    if not np.isfinite(values).all():
        raise PipelineError(
            "the layers give numbers that are too large for 16 bits: set `bits` to 32 in `layers` "
            "of the network's description"
        )
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, type_.value_type))


def _smaller(rows: pa.Table, widths: pa.Array, heights: pa.Array) -> int:
    """In how many rows the catalogue's width or height is less than the photograph's."""
    less = pc.or_kleene(pc.less(rows.column(WIDTH), widths), pc.less(rows.column(HEIGHT), heights))
    return pc.sum(less).as_py() or 0


def _filled(rows: pa.Table, widths: pa.Array, heights: pa.Array) -> pa.Table:
    """The rows with what the picture tells where the catalogue does not: its size and aspect.

    A catalogue's number stays as it is, also where no picture has it: the rules of docs/table.md
    are for that.
    """
    width = _filled_column(rows, WIDTH, widths)
    height = _filled_column(rows, HEIGHT, heights)
    filled = {
        WIDTH: width,
        HEIGHT: height,
        PRODUCT: _filled_column(rows, PRODUCT, pc.multiply(width, height)),
        ASPECT: _filled_column(rows, ASPECT, pc.divide(width, height)),
    }
    for name, values in filled.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows


def _filled_column(rows: pa.Table, name: str, values: pa.Array) -> pa.ChunkedArray:
    column = rows.column(name)
    known = pc.if_else(pc.is_nan(column), None, column)  # pandas has nan for what is missing
    return pc.coalesce(known, values)


def _nothing_left(left_out: list[tuple[str, str]]) -> str:
    if not left_out:
        return "the folder or zip file of photographs is empty"
    name, reason = left_out[0]
    return f"no photograph is left: of {len(left_out):,}, the first is {shorten(name)} ({reason})"
