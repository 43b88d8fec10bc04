"""How many near-duplicates the index finds that a comparison of all pairs finds, and how fast.

    python -m benchmarks.neighbours
    python -m benchmarks.neighbours --table /path/to/real_art_extended.parquet

The first simulates 600,000 training rows, and for 1,000 of them a second photograph at each of
several cosines: it is **synthetic**, and takes 5.3 GB. The second takes the training rows of a
table, and its other rows as they are. A row counts as found where the cosine that is given is that
of its nearest training row.
It prints Markdown.
"""

import argparse
import time
from pathlib import Path

import stages  # noqa: F401  # it sets the threads, before NumPy loads

# isort: split
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import table
from benchmarks.sizes import MEDIUMS, SEED
from stages.features.moments import moments
from stages.features.neighbours import Search, search_among
from stages.sources import simulator
from stages.sources.identity import COURSE_COLUMN
from stages.tables.split import directions, turn_into_directions, unit_rows

TRAIN_ROWS, PLANTED = 600_000, 1_000
COSINES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
ROWS_AT_A_TIME = 1000
SAME = 1e-5  # how far two cosines of one pair may be apart


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours")
    parser.add_argument(
        "--table", type=Path, help="with the columns of the course's file, as Parquet"
    )
    path = parser.parse_args().table
    raw, others = read(path) if path else (simulated(), None)
    mean, scale = (found.astype(np.float32) for found in moments(raw))
    train = raw
    turn_into_directions(train, mean, scale)
    asked = planted(train) if others is None else directions(others, mean, scale)
    start = time.process_time()
    index = search_among(train, "approximate")
    built = time.process_time() - start
    print(f"{len(train):,} training rows of {train.shape[1]:,} numbers, {len(asked):,} other rows.")
    print(f"To build the index took {built:.1f} CPU seconds.\n")
    exact, all_pairs = run(search_among(train, "exact"), asked)
    found, by_index = run(index, asked)
    print(
        f"A row took {all_pairs:.2f} ms of CPU with all pairs, {by_index:.2f} ms with the index.\n"
    )
    print(table_of(exact, found))


def run(search: Search, asked: np.ndarray) -> tuple[np.ndarray, float]:
    """The cosines (n,) that a search gives, and the milliseconds of CPU of a row."""
    start = time.process_time()
    parts = [
        search(asked[place : place + ROWS_AT_A_TIME])[1]
        for place in range(0, len(asked), ROWS_AT_A_TIME)
    ]
    return np.concatenate(parts), 1000 * (time.process_time() - start) / len(asked)


def table_of(exact: np.ndarray, found: np.ndarray) -> str:
    """How many rows were found, by the cosine of their nearest training row."""
    rows = []
    for low, high in zip((-1, *COSINES), (*COSINES, 1.01), strict=True):
        some = (exact > low) & (exact <= high)
        if some.any():
            share = np.mean(found[some] >= exact[some] - SAME)
            lost = np.mean(np.maximum(exact[some] - found[some], 0))
            rows.append(
                [
                    f"{max(low, 0):g} to {min(high, 1):g}",
                    f"{some.sum():,}",
                    f"{share:.4f}",
                    f"{lost:.4f}",
                ]
            )
    head = ["cosine of the nearest", "rows", "share found", "cosine lost, mean"]
    return table(head, rows)


def simulated() -> np.ndarray:
    """Embeddings (n, 1024) float32 of training rows, all drawn anew."""
    simulator.PRESETS["of a size"] = {"train": TRAIN_ROWS // MEDIUMS, "val": 1, "test": 1}
    return np.concatenate([values for _, values in simulator.simulate("of a size", SEED)])


def planted(train: np.ndarray) -> np.ndarray:
    """Rows at each of the cosines from some of the training rows, in any other direction."""
    random = np.random.default_rng(SEED)
    rows = train[random.choice(len(train), PLANTED, replace=False)]
    parts = []
    for cosine in COSINES:
        away = random.standard_normal(rows.shape, dtype=np.float32)
        away -= np.einsum("nd,nd->n", away, rows)[:, None] * rows
        # A little more, so that rounding does not put it below.
        parts.append((cosine + 0.01) * rows + np.sqrt(1 - (cosine + 0.01) ** 2) * unit_rows(away))
    return np.concatenate(parts).astype(np.float32)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings (n, d) float32 of a table's training rows, and of its others."""
    content = pq.read_table(path, columns=["Subset", COURSE_COLUMN])
    values = content[COURSE_COLUMN].combine_chunks().flatten().cast(pa.float32()).to_numpy()
    embeddings = values.reshape(len(content), -1)
    train = np.array(content["Subset"].to_pylist()) == "train"
    return embeddings[train], embeddings[~train]


if __name__ == "__main__":
    main()
