"""Decide which artefacts are for training, validation and test, and how alike they are.

Reads data/artefacts.parquet. Writes data/split.parquet.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.files import reading
from stages.common.large_arrays import new_rows, numbers_in_memory
from stages.common.memory import check_memory, of_split
from stages.common.params import Section, chosen, load_params
from stages.common.stage import hidden, log, run
from stages.common.threads import in_threads
from stages.features.moments import Moments, above_0_in_32_bits
from stages.features.neighbours import how_to_search, search_among, sketched
from stages.tables.artefacts import (
    ARTEFACTS,
    EMBEDDING,
    METADATA,
    Artefacts,
    embedding_length,
)
from stages.tables.parquet import read_batches, read_columns, source_of, write_batches
from stages.tables.split import (
    ROWS_AT_A_TIME,
    SPLIT,
    How,
    directions,
    split_schema,
    turn_into_directions,
)
from stages.tables.values import SUBSETS

STAGE = "split"
# Pairs that a thread compares at a time, and `ROWS_AT_A_TIME` at most: it bounds the memory.
PAIRS_AT_A_TIME = 2**23
# What to do about a split that leaves too little, by `split.strategy`.
REMEDIES = {
    "official": "`-S split.strategy=stratified` draws them anew from the rows of each label",
    "stratified": "set other fractions in `split.stratified`, or give more rows of each label",
    "holdout_museum": "hold out another museum (`split.holdout_museum`), or draw rows by "
    "`-S split.strategy=stratified`",
}


class Official(Section):
    """`split.official`: the table has it all."""


class Stratified(Section):
    """`split.stratified`"""

    val_fraction: float = Field(gt=0, lt=1)
    test_fraction: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _some_rows_are_left(self) -> "Stratified":
        total = self.val_fraction + self.test_fraction
        if total >= 1:
            raise ValueError(
                f"has a val_fraction and a test_fraction that add up to {total:g}, which leaves "
                "nothing for train"
            )
        return self


class HoldoutMuseum(Section):
    """`split.holdout_museum`"""

    museum: str = Field(min_length=1)
    val_fraction: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)


class Params(Section):
    """`split`; the sections that are not chosen are None."""

    strategy: Literal["official", "stratified", "holdout_museum"]
    official: Official | None = None
    stratified: Stratified | None = None
    holdout_museum: HoldoutMuseum | None = None


def main() -> str:
    params = load_params(STAGE, Params, choice="strategy")
    columns = ["image_file", "medium", "museum", "subset"]
    types = {name: METADATA[name] for name in columns}
    table = read_columns(ARTEFACTS, types, "image_file", "medium")
    artefacts = {name: table[name].to_numpy() for name in columns}
    image_files, mediums = artefacts["image_file"], artefacts["medium"]
    subset = assign_subsets(artefacts, params)
    check_split(artefacts, subset, params.strategy)
    for name in SUBSETS:
        of_subset = mediums[subset == name]
        log(STAGE, f"{name}: {len(of_subset):,} rows, {len(set(of_subset))} labels")
    for names in look_alike(set(mediums)):
        log(STAGE, f"are these one label? They are told apart: {', '.join(map(repr, names))}")
    length = embedding_length(ARTEFACTS)
    train_rows = int((subset == "train").sum())
    how = how_to_search(len(subset) - train_rows, train_rows, length or 0)
    if how == "approximate" and length is not None:
        log(
            STAGE,
            "near-duplicates of so many rows are looked for by an index, which may miss a few",
        )
    nearest, cosine = nearest_training_rows(subset, length, how)
    known = nearest >= 0
    schema = split_schema(source_of(ARTEFACTS), how)
    table = pa.Table.from_arrays(
        [
            pa.array(image_files),
            pa.array(subset),
            pa.array(image_files[nearest], mask=~known),
            pa.array(cosine, mask=~known),
        ],
        schema=schema,
    )
    rows = write_batches(SPLIT, schema, table.to_batches())
    return f"{params.strategy}: {rows:,} rows, {len(set(mediums))} labels"


def assign_subsets(artefacts: Mapping[str, np.ndarray], params: Params) -> np.ndarray:
    """The subset of each of n artefacts, an (n,) array of `train`, `val` and `test`.

    `artefacts` are columns of the table by their names, (n,) texts, or None where one is missing.

    Raises PipelineError when the table does not have what the strategy needs.
    """
    if params.strategy == "official":
        return official(artefacts["subset"])
    if params.strategy == "stratified":
        drawn = chosen(params.stratified)
        return stratified(artefacts["medium"], drawn.val_fraction, drawn.test_fraction, drawn.seed)
    held_out = chosen(params.holdout_museum)
    # The parser has joined accents with their letters.
    museum = unicodedata.normalize("NFC", held_out.museum)
    is_test = artefacts["museum"] == museum
    if not is_test.any():
        known = sorted(filter(None, set(artefacts["museum"])))
        raise PipelineError(
            f"no artefact is of the museum `{held_out.museum}` "
            f"(`split.holdout_museum.museum`); the table has {', '.join(known[:20]) or 'none'}"
        )
    subset = np.full(len(is_test), "test", dtype=object)
    subset[~is_test] = stratified(
        artefacts["medium"][~is_test], held_out.val_fraction, 0, held_out.seed
    )
    return subset


def official(subset: np.ndarray) -> np.ndarray:
    """The table's own subsets.

    Raises PipelineError for a value other than `train`, `val` and `test`.
    """
    unknown = [value for value in subset if value not in SUBSETS]
    if unknown:
        raise PipelineError(
            f"not all rows have the subset train, val or test: {len(unknown):,} do not, the first "
            f"has `{unknown[0]}`: mend the table or set `split.strategy` to stratified"
        )
    return subset


def stratified(
    mediums: np.ndarray, val_fraction: float, test_fraction: float, seed: int
) -> np.ndarray:
    """Draw val and test rows from each medium, the nearest whole number to its fraction.

    The rest is train. Returns an (n,) array. The rounding leaves a medium of one
    row in train, where scikit-learn's stratified split refuses such a medium.
    """
    subset = np.full(len(mediums), "train", dtype=object)
    random = np.random.default_rng(seed)
    for medium in sorted(set(mediums)):
        rows = random.permutation(np.flatnonzero(mediums == medium))
        val_rows = round(val_fraction * len(rows))
        test_rows = round(test_fraction * len(rows))
        subset[rows[:val_rows]] = "val"
        subset[rows[val_rows : val_rows + test_rows]] = "test"
    return subset


def look_alike(labels: Iterable[str]) -> list[list[str]]:
    """Labels that differ in capitals, blanks, the width of letters or what is not seen alone."""
    groups = defaultdict(list)
    for label in sorted(labels):
        letters = unicodedata.normalize("NFKC", label).casefold()
        seen = "".join(char for char in letters if char.isprintable() and char != " ")
        groups[seen].append(label)
    return [names for names in groups.values() if len(names) > 1]


def check_split(artefacts: Mapping[str, np.ndarray], subset: np.ndarray, strategy: str) -> None:
    """Check what every split must hold, whatever made it; `artefacts` as in `assign_subsets`.

    Raises PipelineError when an image is in two subsets, a subset is empty, or val
    or test has a medium that train lacks.
    """
    subset_of: dict[str, str] = {}
    for image_file, name in zip(artefacts["image_file"], subset, strict=True):
        if subset_of.setdefault(image_file, name) != name:
            raise PipelineError(f"the image file {image_file} is in more than one subset")
    empty = [name for name in SUBSETS if not (subset == name).any()]
    if empty:
        raise PipelineError(
            f"the split leaves no rows for {' and '.join(empty)}, and all three subsets are "
            f"needed: {REMEDIES[strategy]}"
        )
    trained = set(artefacts["medium"][subset == "train"])
    lacking = sorted(set(artefacts["medium"]) - trained)
    if lacking:
        raise PipelineError(
            f"no training rows for {', '.join(lacking[:10])} (labels without: {len(lacking)}), so "
            f"no model could name them: {REMEDIES[strategy]}, or take their rows out of the table"
        )


def nearest_training_rows(
    subset: np.ndarray, length: int | None, how: How
) -> tuple[np.ndarray, np.ndarray]:
    """For each row of val and test, the training row that is the most alike.

    Alike is the cosine between the embeddings, each number less its mean over the training
    rows and divided by its standard deviation there. High ones are often two photographs of
    one thing, or one photograph twice. `subset` (n,) is that of each artefact, `length` that of the
    embeddings, None for a table without; `search_among` looks for them.

    Returns the places of the training rows, (n,) int64, and the cosines, (n,) float32. The
    place is -1 for training rows, and everywhere in a table without embeddings.
    """
    nearest = np.full(len(subset), -1)
    cosine = np.zeros(len(subset), dtype=np.float32)
    if length is None:
        return nearest, cosine
    train_rows = np.flatnonzero(subset == "train")
    numbers = numbers_in_memory(len(train_rows), length)
    sketches = numbers_in_memory(len(train_rows), sketched(length, how))
    check_memory(
        of_split(len(subset), numbers + sketches, length),
        f"the search for near-duplicates among {len(subset):,} rows",
        "take fewer rows, or shorter embeddings",
    )
    if not numbers:
        log(STAGE, f"embeddings of {len(train_rows):,} rows lie in a file, as the memory is short")
    train = new_rows(len(train_rows), length)
    filled = 0
    for rows, embedding in _read_embeddings():
        own = embedding[subset[rows] == "train"]
        train[filled : filled + len(own)] = own
        filled += len(own)
    found = Moments.in_parts(train)
    mean = found.mean.astype(np.float32)
    scale = above_0_in_32_bits(found.deviations).astype(np.float32)
    turn_into_directions(train, mean, scale)
    search = search_among(train, how)
    with tqdm(
        desc=f"{STAGE} likeness", total=len(subset), unit=" rows", delay=1, disable=None
    ) as bar:
        for rows, embedding in _read_embeddings():

            def compare(
                some: np.ndarray, rows: np.ndarray = rows, embedding: np.ndarray = embedding
            ) -> None:
                places, cosine[rows[some]] = search(directions(embedding[some], mean, scale))
                nearest[rows[some]] = train_rows[places]

            asked = np.flatnonzero(subset[rows] != "train")
            pairs = len(asked) * len(train) if how == "exact" else 0
            pieces = max(len(rows) // ROWS_AT_A_TIME, pairs // PAIRS_AT_A_TIME)
            in_threads(compare, np.array_split(asked, pieces + 1))
            bar.update(len(rows))
    return nearest, cosine


def _read_embeddings() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The embeddings of the table, batch by batch, after the places of their rows."""
    start = 0
    for batch in read_batches(ARTEFACTS, [EMBEDDING]):
        with reading(ARTEFACTS):
            artefacts = Artefacts.of(batch)
            artefacts.check()
        yield np.arange(start, start + batch.num_rows), artefacts[EMBEDDING]
        start += batch.num_rows


if __name__ == "__main__":
    with hidden("pandas"):
        run(STAGE, main)
