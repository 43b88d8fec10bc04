"""Which training rows are the most alike: the nearest directions of embeddings.

Few rows are compared with all of train. Among many, an index says which of them to look at, and
what it leaves out can be missed; each cosine that is given is exact all the same.
"""

from collections.abc import Callable

import numpy as np

from stages.common.threads import in_threads
from stages.tables.artefacts import LONGEST_EXACT
from stages.tables.split import How, unit_rows

# A search gives, for rows (n, d) of length 1, the places of the nearest of the m training rows,
# (n,) int, the first of equals, and the cosines (n,).
Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# What finds the places of some training rows, (n, c) int, that may be the nearest.
Find = Callable[[np.ndarray], np.ndarray]
# How many of them are then compared exactly: of those with the nearest sketches, of an index.
OF_SKETCHES, OF_INDEX = 32, 8

# All pairs are compared where that takes no more products of numbers than these: a minute or two.
# A short embedding takes as long as one of `LEAST_NUMBERS`.
MOST_PRODUCTS, LEAST_NUMBERS = 1e12, 64
# How long the sketches are that stand for long embeddings, and what draws them.
SKETCH, SKETCH_SEED = 512, 0

# The index has LISTS x √m lists, each of the rows that are nearest to its centre, and looks into
# the PROBED ones with the nearest centres. The centres come from `ROUNDS` rounds of k-means on
# SAMPLED rows for each. docs/choices.md says what that finds.
LISTS, PROBED, ROUNDS, SAMPLED, INDEX_SEED = 4, 16, 4, 16, 0
# A row of d numbers is kept in 8 bits each, in steps of 1 / (STEPS √d). A number of a row of length
# 1 is about 1 / √d, and one beyond four of these is cut: with AVX2, Faiss takes the lowest 8 bits
# of what is asked.
STEPS, LARGEST = 32, 127
ROWS_AT_A_TIME = 4096


def how_to_search(asked: int, train: int, length: int) -> How:
    """How `search_among` goes about it, for so many rows and training rows of such a length."""
    compared = length if length <= LONGEST_EXACT else SKETCH
    products = float(asked) * train * max(compared, LEAST_NUMBERS)
    return "exact" if products <= MOST_PRODUCTS else "approximate"


def search_among(train: np.ndarray, how: How) -> Search:
    """A search among training rows (m, d) float32 of length 1.

    Those of more than `LONGEST_EXACT` numbers are looked for by their sketches: the products with
    `SKETCH` random directions of signs (Johnson and Lindenstrauss 1984, Achlioptas 2003). Where two
    rows have the cosine c, that of their sketches is off by about (1 - c²) / √SKETCH, 0.016 at 0.8.
    So even where it is called exact, another row that is about as near may be named.
    """
    if train.shape[1] <= LONGEST_EXACT:
        return exact_search(train) if how == "exact" else best_of(train, by_index(train, OF_INDEX))
    signs = np.array([-1, 1], dtype=np.float32)
    axes = np.random.default_rng(SKETCH_SEED).choice(signs, (train.shape[1], SKETCH))
    sketches = unit_rows(train @ axes)
    find = by_comparing(sketches) if how == "exact" else by_index(sketches, OF_SKETCHES)
    return best_of(train, lambda asked: find(unit_rows(asked @ axes)))


def exact_search(train: np.ndarray) -> Search:
    """A search that compares all pairs."""

    def search(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        likeness = asked @ train.T
        best = likeness.argmax(axis=1)
        return best, likeness[np.arange(len(asked)), best]

    return search


def best_of(train: np.ndarray, find: Find) -> Search:
    """A search that compares exactly what was found."""

    def search(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = np.sort(find(asked), axis=1, kind="stable")  # of equals, the first is named
        cosines = np.array(
            [train[some] @ row for some, row in zip(places, asked, strict=True)]
        ).reshape(places.shape)
        best = cosines.argmax(axis=1)[:, None]
        return (
            np.take_along_axis(places, best, axis=1)[:, 0],
            np.take_along_axis(cosines, best, axis=1)[:, 0],
        )

    return search


def by_comparing(sketches: np.ndarray) -> Find:
    """Finds the `OF_SKETCHES` rows with the nearest sketches, of all m (m, d)."""
    count = min(OF_SKETCHES, len(sketches))

    def find(asked: np.ndarray) -> np.ndarray:
        return np.argpartition(asked @ sketches.T, -count, axis=1)[:, -count:]

    return find


def by_index(rows: np.ndarray, count: int) -> Find:
    """Finds the `count` nearest of m rows (m, d) of length 1 that an inverted file leads to.

    It is that of Faiss (Douze et al. 2024, The Faiss library). The rows are rounded to whole
    numbers, so that their products and all parts of these are whole numbers below 2^24, which 32
    bits hold exactly. So every processor finds the same, whatever the order in which it adds.
    """
    import faiss

    length = rows.shape[1]
    lists = min(len(rows), round(LISTS * len(rows) ** 0.5))
    centres = centres_of(rows, lists)
    coarse = faiss.IndexFlatIP(length)
    coarse.add(centres)
    kept, product = faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(coarse, length, lists, kept, product, False)
    index.train(centres)  # there is nothing to learn, which it has to be told
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        index.add(in_steps(rows[start : start + ROWS_AT_A_TIME]))
    index.nprobe = PROBED

    def find(asked: np.ndarray) -> np.ndarray:
        # Of this thread, which is one of several that search. XGBoost would obey it as well.
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            _, places = index.search(in_steps(asked), count)
        finally:
            faiss.omp_set_num_threads(before)
        return np.maximum(places, 0)  # -1 where its lists have fewer

    return find


def in_steps(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) in whole steps, (n, d) of their type: `STEPS` says of what."""
    steps = np.rint(rows * np.float32(STEPS * rows.shape[1] ** 0.5))
    return np.clip(steps, -LARGEST, LARGEST, out=steps)


def centres_of(rows: np.ndarray, count: int) -> np.ndarray:
    """Centres (count, d) of rows (m, d) of length 1, in whole steps: k-means by their directions.

    All sums are of whole numbers, and exact.
    """
    random = np.random.default_rng(INDEX_SEED)
    chosen = random.choice(len(rows), min(len(rows), SAMPLED * count), replace=False)
    sample = in_steps(rows[chosen])
    centres = sample[:count].copy()
    nearest = np.empty(len(sample), dtype=int)

    def assign(some: slice) -> None:
        nearest[some] = (sample[some] @ centres.T).argmax(axis=1)

    for _ in range(ROUNDS):
        starts = range(0, len(sample), ROWS_AT_A_TIME)
        in_threads(assign, [slice(start, start + ROWS_AT_A_TIME) for start in starts])
        order = np.argsort(nearest, kind="stable")
        used, first = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(sample[order], first, axis=0)
        # 64 bits hold their squares exactly too; 32 do not, and another rounding is another step.
        centres[used] = in_steps(unit_rows(sums.astype(np.float64)))
    return centres
