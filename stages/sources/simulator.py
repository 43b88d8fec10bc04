"""Simulate the course's file, `MAMe_dataset_extended.csv`, where the real one cannot be had.

Nothing in it comes from a photograph. The metadata follow aggregated facts of MAMe (Pares et al.,
2020, arXiv:2007.13693), kept in `simulator_facts.csv`. The embeddings come from a clipped Gaussian
factor model whose constants were set so that the statistics of 7,370 real artworks' max-pooled
MobileNetV1 embeddings, and the difficulty reported for MAMe, are met; `tests/test_simulator.py`
has the reference values and how near they are. So a score on this file says that the pipeline
works, and nothing about museum photographs.

The bytes depend on the preset and the seed alone. Sums are where processors differ, in their last
bit, so everything that is summed lies on a binary grid coarse enough for the sums to be exact.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from stages.common.files import atomic_write
from stages.sources.identity import COURSE_COLUMN
from stages.sources.raw import SIMULATED
from stages.tables.parquet import fixed_size_list, write_batches
from stages.tables.values import SUBSETS

FACTS = Path(__file__).with_name("simulator_facts.csv")
# Photographs per medium; None: the official number per museum. `toy` is the course's small version,
# `million` has 1,000,007 rows, and MAMe's shares of train, val and test.
PRESETS: dict[str, dict[str, int] | None] = {
    "toy": {"train": 50, "val": 20, "test": 50},
    "full": None,
    "million": {"train": 18_713, "val": 1_337, "test": 14_433},
}
# As text, a million rows would be 14 GB, and most of the time would go into their digits.
IN_PARQUET = ("million",)
COLUMNS = (
    "Image file",
    "Medium",
    "Museum",
    "Museum-based instance ID",
    "Subset",
    "Width",
    "Height",
    "Product size",
    "Aspect ratio",
    COURSE_COLUMN,
)

# Mediums that people, too, mix up on a photograph. The blank after "Woven fabric" is MAMe's own.
FAMILIES: dict[str, tuple[str, ...]] = {
    "print": (
        "Engraving",
        "Etching",
        "Hand-colored engraving",
        "Hand-colored etching",
        "Lithograph",
        "Wood engraving",
        "Woodblock",
        "Woodcut",
    ),
    "picture": ("Albumen photograph", "Graphite", "Oil on canvas", "Pen and brown ink"),
    "vessel": ("Ceramic", "Clay", "Faience", "Glass", "Porcelain"),
    "metal": ("Bronze", "Gold", "Iron", "Silver", "Steel"),
    "carving": ("Ivory", "Polychromed wood", "Wood"),
    "stone": ("Limestone", "Marble"),
    "textile": ("Silk and metal thread", "Woven fabric "),
}

DIMENSIONS = 1024  # of MobileNetV1, alpha 1.0, before its classifier
CEILING = 6.0  # of ReLU6

# Before clipping, the dimensions' centres are CENTRE + CENTRE_STD * n and their spreads are
# SPREAD * (1 + SPREAD_STD * n), with n normal: so are those of the Gaussians that, once clipped,
# have the real dimensions' shares of exact 0 and exact 6.
CENTRE, CENTRE_STD = 3.35, 1.15
SPREAD, SPREAD_STD = 3.55, 0.12

# Before clipping, a dimension's variance is OWN_SHARE noise of its own; FACTORS shared factors
# have the rest, the k-th in proportion to 1 / (k + 1). Both were set on the real curve of PCA.
FACTORS = 256
OWN_SHARE = 0.2
# The first factor moves most dimensions the same way, as a busy picture does: the mean of its
# loadings, 1 at most; set on the spread of the rows' norms.
COMMON = 0.9

# Shares of the k-th factor's variance that lie between families and between the mediums of one:
# FAMILY / (1 + (k / FAMILY_REACH) ** 2), and the like. As in real embeddings the large factors
# tell most; what tells siblings apart is spread thinly over many, so that a classifier has to
# weigh them. Set on the share between mediums over all dimensions, and on accuracy.
FAMILY, FAMILY_REACH = 0.65, 15.0
MEDIUM, MEDIUM_REACH = 0.08, 80.0
# Spread of the museums' own shifts, in units of the spread within a medium: light, background and
# camera; set so that a museum left out of training costs some points of accuracy.
MUSEUM_SHIFT = 0.2

# Shares of photographs that look like another medium of the family, or like any other medium;
# MIXED is how far they have moved there, 1 being all the way. They set the ceiling for any model.
AMBIGUOUS, STRAY = 0.17, 0.03
MIXED = (0.4, 1.0)

# Scores stay below 2**5 and loadings below 1, so a sum of FACTORS products spans fewer than the
# 53 bits of a float64: it is exact, in whatever order a processor adds.
SCORE_GRID = 2.0**-12
LOADING_GRID = 2.0**-20


@dataclass(frozen=True)
class World:
    """What all photographs of one seed share, whichever the preset.

    mediums: names, sorted, M of them; museums: names, sorted.
    medium_scores: (M, FACTORS), where a medium's photographs lie.
    museum_scores: (museums, FACTORS), how far a museum's photographs are shifted.
    within: (FACTORS,), spread of the photographs of one medium.
    loadings: (FACTORS, DIMENSIONS), what a score adds to each dimension.
    centre, spread: (DIMENSIONS,), of a dimension before clipping. All float64.
    """

    mediums: list[str]
    museums: list[str]
    medium_scores: NDArray[np.float64]
    museum_scores: NDArray[np.float64]
    within: NDArray[np.float64]
    loadings: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]


def read_facts() -> pd.DataFrame:
    """MAMe's facts, one row per medium and museum, as `scripts/simulator_facts.py` writes them.

    Columns: medium, museum; train, val, test (photographs); side_qNN (pixels) and aspect_qNN
    (width / height), the NN-th percentiles of the longer side and of the aspect ratio.
    """
    return pd.read_csv(FACTS)


def generators(seed: int) -> dict[str, np.random.Generator]:
    """A generator for each purpose, so that drawing more for one leaves the others unchanged."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; take 0 or a positive whole number")
    purposes = ("layout", "size", "world", "subject", "score", "own")
    children = np.random.SeedSequence(seed).spawn(len(purposes))
    return {
        purpose: np.random.Generator(np.random.PCG64(child))
        for purpose, child in zip(purposes, children, strict=True)
    }


def on_grid(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    return np.round(values / step) * step


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def simulate_metadata(preset: str, seed: int) -> pd.DataFrame:
    """The nine columns of metadata, without the embeddings, in random order of mediums.

    `toy` has 50, 20 and 50 photographs of a medium in train, val and test, 3,480 in all, from
    museums in the official proportions; `full` has the 37,407 of the official split, as many per
    medium, museum and subset; `million` has 18,713, 1,337 and 14,433 of a medium,
    1,000,007 in all. Names and ids are strings; width and height are whole pixels and
    product size is their product, as float64; aspect ratio is width / height to 4 decimals.

    Raises ValueError for a preset or a seed that does not exist.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    rng = generators(seed)
    facts = read_facts()
    photographs = choose_facts(facts, PRESETS[preset])
    photographs = photographs.iloc[rng["layout"].permutation(len(photographs))]
    fact = photographs["fact"].to_numpy()
    width, height = draw_sizes(facts, fact, rng["size"])
    numbers = [f"{i:06d}" for i in range(len(fact))]
    return pd.DataFrame(
        {
            "Image file": [f"{SIMULATED}{number}.jpg" for number in numbers],
            "Medium": facts["medium"].to_numpy()[fact],
            "Museum": facts["museum"].to_numpy()[fact],
            "Museum-based instance ID": [f"SYNTHETIC.{number}" for number in numbers],
            "Subset": photographs["Subset"].to_numpy(),
            "Width": width,
            "Height": height,
            "Product size": width * height,
            "Aspect ratio": np.round(width / height, 4),
        }
    )


def choose_facts(facts: pd.DataFrame, per_medium: dict[str, int] | None) -> pd.DataFrame:
    """Per photograph its row of `facts` (column fact) and its subset (column Subset).

    With `per_medium`, that many of the official photographs of a medium, evenly spaced along its
    museums; without, all of them.
    """
    chosen = []
    for _, of_medium in facts.groupby("medium", sort=True):
        for subset in SUBSETS:
            rows = np.repeat(of_medium.index.to_numpy(), of_medium[subset])
            if per_medium:
                wanted = per_medium[subset]
                rows = rows[(2 * np.arange(wanted) + 1) * len(rows) // (2 * wanted)]
            chosen.append(pd.DataFrame({"fact": rows, "Subset": subset}))
    return pd.concat(chosen, ignore_index=True)


def draw_sizes(
    facts: pd.DataFrame, fact: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Width and height, in whole pixels, of photographs whose rows of `facts` are `fact`.

    Longer side and aspect ratio are drawn apart, by inverse interpolation of their quantiles;
    beyond the outermost quantiles there is nothing.
    """
    sides = facts.filter(regex=r"^side_q\d\d$")
    aspects = facts.filter(regex=r"^aspect_q\d\d$")
    side_levels = [int(name[-2:]) / 100 for name in sides]
    aspect_levels = [int(name[-2:]) / 100 for name in aspects]
    drawn = rng.random((2, len(fact)))
    side, aspect = np.empty(len(fact)), np.empty(len(fact))
    for row in range(len(facts)):
        here = fact == row
        side[here] = np.interp(drawn[0, here], side_levels, sides.iloc[row])
        aspect[here] = np.interp(drawn[1, here], aspect_levels, aspects.iloc[row])
    width = np.round(side * np.minimum(aspect, 1))
    height = np.round(side / np.maximum(aspect, 1))
    return width, height


def build_world(rng: np.random.Generator) -> World:
    """Draw what all photographs share."""
    facts = read_facts()
    mediums, museums = sorted(set(facts["medium"])), sorted(set(facts["museum"]))
    factor = np.arange(FACTORS)

    loadings = rng.standard_normal((FACTORS, DIMENSIONS))
    loadings[0] = COMMON + np.sqrt(1 - COMMON**2) * loadings[0]
    loadings /= np.sqrt(factor + 1)[:, None]
    loadings *= np.sqrt((1 - OWN_SHARE) / (loadings**2).sum(axis=0))

    family = FAMILY / (1 + (factor / FAMILY_REACH) ** 2)
    medium = MEDIUM / (1 + (factor / MEDIUM_REACH) ** 2)
    within = np.sqrt(1 - family - medium)
    families = rng.standard_normal((len(FAMILIES), FACTORS))
    of = [i for name in mediums for i, names in enumerate(FAMILIES.values()) if name in names]
    medium_scores = np.sqrt(family) * standardised(families[of])
    siblings = rng.standard_normal((len(mediums), FACTORS))
    medium_scores += np.sqrt(medium) * standardised(siblings)

    museum_scores = rng.standard_normal((len(museums), FACTORS))
    return World(
        mediums=mediums,
        museums=museums,
        medium_scores=medium_scores,
        museum_scores=museum_scores * MUSEUM_SHIFT * within,
        within=within,
        loadings=on_grid(loadings, LOADING_GRID),
        centre=CENTRE + CENTRE_STD * rng.standard_normal(DIMENSIONS),
        spread=SPREAD * (1 + SPREAD_STD * rng.standard_normal(DIMENSIONS)),
    )


def draw_subjects(
    world: World, medium: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Per photograph, the medium it leans towards and how far, 0 for most of them.

    `medium` holds indices into `world.mediums`, as does the first result; both results have its
    shape.
    """
    siblings = {
        name: [world.mediums.index(other) for other in family if other != name]
        for family in FAMILIES.values()
        for name in family
    }
    kind, which, how_far = rng.random((3, len(medium)))
    towards = (which * len(world.mediums)).astype(np.int64)
    for index, name in enumerate(world.mediums):
        confused = (medium == index) & (kind < AMBIGUOUS)
        choice = (which[confused] * len(siblings[name])).astype(np.int64)
        towards[confused] = np.array(siblings[name])[choice]
    nearest, farthest = MIXED
    mixed = nearest + (farthest - nearest) * how_far
    return towards, np.where(kind < AMBIGUOUS + STRAY, mixed, 0.0)


def simulate(
    preset: str, seed: int, chunk_rows: int = 1000
) -> Iterator[tuple[pd.DataFrame, NDArray[np.float32]]]:
    """Yield the simulated file in chunks: metadata (n, 9) and embeddings (n, 1024) in [0, 6].

    The metadata are those of `simulate_metadata`; the embeddings are float32. The rows are the
    same whatever `chunk_rows` is, and each chunk needs memory in proportion to it. Presets of one
    seed share their world: a model of one fits the other.

    The embeddings are clip(centre + spread * z, 0, 6), where z is a factor model: scores of the
    medium, of the museum and of the photograph times loadings, and noise of the dimension's own.

    Raises ValueError for a preset, a seed or a size of chunk that does not exist.
    """
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows {chunk_rows} is not positive; take 1 or more")
    metadata = simulate_metadata(preset, seed)
    rng = generators(seed)
    world = build_world(rng["world"])
    medium = pd.Index(world.mediums).get_indexer(metadata["Medium"])
    museum = pd.Index(world.museums).get_indexer(metadata["Museum"])
    towards, mixed = draw_subjects(world, medium, rng["subject"])
    for start in range(0, len(metadata), chunk_rows):
        rows = slice(start, start + chunk_rows)
        n = len(medium[rows])
        share = mixed[rows, None]
        scores = (1 - share) * world.medium_scores[medium[rows]]
        scores += share * world.medium_scores[towards[rows]]
        scores += world.museum_scores[museum[rows]]
        scores += world.within * rng["score"].standard_normal((n, FACTORS))
        z = on_grid(scores, SCORE_GRID) @ world.loadings
        z += np.sqrt(OWN_SHARE) * rng["own"].standard_normal((n, DIMENSIONS))
        values = np.clip(world.centre + world.spread * z, 0, CEILING)
        yield metadata.iloc[rows], values.astype(np.float32)


def texts(embeddings: NDArray[np.float32]) -> Iterator[str]:
    """Yield, for each row of (n, dimensions) embeddings, the text that Python prints for its list.

    orjson writes the same digits much faster, but has other rules for numbers with an exponent,
    which Python gives to those below 0.0001.
    """
    with_exponent = (embeddings > 0) & (embeddings <= 1e-4)
    for row, as_python in zip(embeddings, with_exponent, strict=True):
        numbers = row.tolist()
        if as_python.any():
            yield str(numbers)
        else:
            yield orjson.dumps(numbers).decode().replace(",", ", ")


def write(path: Path, preset: str, seed: int) -> int:
    """Write the simulated file, as `write_csv` or `write_parquet` does; return its number of rows.

    Raises ValueError for a preset or a seed that does not exist, OSError where `path` cannot be
    written.
    """
    return (write_parquet if preset in IN_PARQUET else write_csv)(path, preset, seed)


def write_parquet(path: Path, preset: str, seed: int) -> int:
    """Write the simulated file as Parquet with the course's columns; return its number of rows.

    The memory that it takes does not grow with the embeddings. Raises errors as `write` does.
    """
    total = len(simulate_metadata(preset, seed))
    fields = dict.fromkeys(COLUMNS[:5], pa.string()) | dict.fromkeys(COLUMNS[5:-1], pa.float64())
    schema = pa.schema([*fields.items(), (COURSE_COLUMN, pa.list_(pa.float32(), DIMENSIONS))])

    def batches() -> Iterator[pa.RecordBatch]:
        for metadata, embeddings in simulate(preset, seed):
            columns = [pa.array(metadata[name], type_) for name, type_ in fields.items()]
            yield pa.RecordBatch.from_arrays([*columns, fixed_size_list(embeddings)], schema=schema)
            progress.update(len(metadata))

    with tqdm(total=total, desc="simulate", unit=" rows", disable=None) as progress:
        return write_batches(path, schema, batches())


def write_csv(path: Path, preset: str, seed: int) -> int:
    """Write the simulated file as the course's CSV and return its number of rows.

    UTF-8 with LF line ends; an embedding is one quoted field, the text that Python prints for its
    list of numbers. The file appears under its name once it is complete. `full` takes about
    520 MB.

    Raises errors as `write` does.
    """
    total = len(simulate_metadata(preset, seed))
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
        tqdm(total=total, desc="simulate", unit=" rows", disable=None) as progress,
    ):
        csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        writer = csv.writer(file, lineterminator="")  # the embedding ends the line
        for metadata, embeddings in simulate(preset, seed):
            cells = metadata.itertuples(index=False, name=None)
            for row, text in zip(cells, texts(embeddings), strict=True):
                writer.writerow(row)
                file.write(f',"{text}"\n')
            progress.update(len(metadata))
    return total
