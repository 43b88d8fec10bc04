"""Which training rows are the most alike: the nearest directions of embeddings.

Few rows are compared with all of train. Among many, an index says which of them to look at, and
what it leaves out can be missed; each cosine that is given is exact all the same.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from stages.common.large_arrays import new_rows
from stages.tables.artefacts import LONGEST_EXACT
from stages.tables.split import How, unit_rows

# A search gives, for rows (n, d) of length 1, the places of the nearest of the m training rows,
# (n,) int, the first of equals, and the cosines (n,).
Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# What finds the places of some training rows, (n, c) int, that may be the nearest.
Find = Callable[[np.ndarray], np.ndarray]
# How many of them are then compared exactly: of those with the nearest sketches, of an index.
OF_SKETCHES, OF_INDEX = 32, 64

# All pairs are compared where that takes no more products of numbers than these: a minute or two.
# A short embedding takes as long as one of `LEAST_NUMBERS`.
MOST_PRODUCTS, LEAST_NUMBERS = 1e12, 64
# How long the sketches are that stand for embeddings, and what draws them.
SKETCH, SKETCH_SEED = 512, 0

# The index has a list for LISTED rows, of those that are near to one that was drawn, and looks into
# the PROBED nearest of CONSIDERED ones, which a graph leads to that links each with LINKS others.
# docs/choices.md says what that finds.
LISTED, PROBED, CONSIDERED, LINKS, INDEX_SEED = 256, 256, 384, 32, 0
# Of a row of d numbers, each is rounded to whole steps of 1 / (STEPS √d), and one beyond LARGEST of
# them is cut. A number of a row of length 1 is about 1 / √d. So up to 2^24 / LARGEST of them, all
# sums of steps are whole numbers that 32 bits hold exactly.
STEPS, LARGEST = 32, 127
ROWS_AT_A_TIME = 4096


def how_to_search(asked: int, train: int, length: int) -> How:
    """How `search_among` goes about it, for so many rows and training rows of such a length."""
    compared = length if length <= LONGEST_EXACT else SKETCH
    products = float(asked) * train * max(compared, LEAST_NUMBERS)
    return "exact" if products <= MOST_PRODUCTS else "approximate"


def sketched(length: int, how: How) -> int:
    """How many numbers of sketches `search_among` holds for each training row."""
    return SKETCH if how == "exact" and length > LONGEST_EXACT else 0


def search_among(train: np.ndarray, how: How) -> Search:
    """A search among training rows (m, d) float32 of length 1.

    Those of more than `LONGEST_EXACT` numbers are looked for by their sketches: the products with
    `SKETCH` random directions of signs (Johnson and Lindenstrauss 1984, Achlioptas 2003). Where two
    rows have the cosine c, that of their sketches is off by about (1 - c²) / √SKETCH, 0.016 at 0.8.
    So even where it is called exact, another row that is about as near may be named.
    """
    length = train.shape[1]
    if how == "exact" and not sketched(length, how):
        return exact_search(train)
    signs = np.array([-1, 1], dtype=np.float32)
    axes = np.random.default_rng(SKETCH_SEED).choice(signs, (length, SKETCH))
    find = by_index if how == "approximate" else by_comparing
    return best_of(train, find(train, axes))


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


def by_comparing(train: np.ndarray, axes: np.ndarray) -> Find:
    """Finds the `OF_SKETCHES` rows with the nearest sketches, of all m (m, d); axes are (d, s)."""
    sketches = new_rows(len(train), axes.shape[1])
    for start in range(0, len(train), ROWS_AT_A_TIME):
        some = slice(start, start + ROWS_AT_A_TIME)
        sketches[some] = unit_rows(train[some] @ axes)
    count = min(OF_SKETCHES, len(sketches))

    def find(asked: np.ndarray) -> np.ndarray:
        likeness = unit_rows(asked @ axes) @ sketches.T
        return np.argpartition(likeness, -count, axis=1)[:, -count:]

    return find


def by_index(train: np.ndarray, axes: np.ndarray) -> Find:
    """Finds `OF_INDEX` of m rows (m, d) whose sketches, along axes (d, s), have similar signs.

    Two rows have as many signs in common as the angle between them is small (Charikar 2002). They
    lie in an inverted file of Faiss (Douze et al. 2024, The Faiss library), whose lists a graph
    finds (Malkov and Yashunin 2018): where rows are spread over the lists, each is compared with a
    number of others that does not depend on m, and with a number of lists that grows as log m. All
    are whole numbers, so that every processor finds the same.
    """
    import faiss

    chosen = np.random.default_rng(INDEX_SEED).choice(
        len(train), max(1, len(train) // LISTED), replace=False
    )
    # Each once: those that are alike would be linked with each other alone.
    centres = np.unique(signs_of(train[chosen], axes), axis=0)
    graph = faiss.IndexBinaryHNSW(axes.shape[1], LINKS)
    index = faiss.IndexBinaryIVF(graph, axes.shape[1], len(centres))
    index.is_trained = True  # there is nothing to learn
    index.nprobe = PROBED
    with one_thread():  # several might link another graph
        graph.add(centres)
        for start in range(0, len(train), ROWS_AT_A_TIME):
            index.add(signs_of(train[start : start + ROWS_AT_A_TIME], axes))
    graph.hnsw.efSearch = CONSIDERED  # to put a row in a list, the few of Faiss's default will do

    def find(asked: np.ndarray) -> np.ndarray:
        with one_thread():  # this is one of several that search
            _, places = index.search(signs_of(asked, axes), OF_INDEX)
        return np.maximum(places, 0)  # -1 where its lists have fewer

    return find


@contextmanager
def one_thread() -> Iterator[None]:
    """Let Faiss use one thread for what this thread asks. XGBoost would obey it as well."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def signs_of(rows: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Which products of rows (n, d) with axes (d, s) of signs are above 0: (n, s / 8) uint8."""
    steps = np.rint(rows * np.float32(STEPS * rows.shape[1] ** 0.5))
    return np.packbits(np.clip(steps, -LARGEST, LARGEST, out=steps) @ axes > 0, axis=1)
