"""Read what the page is made from: what earlier stages wrote."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from stages.common.errors import PipelineError
from stages.common.files import REMAKE, read_csv, reading
from stages.common.params import load_values
from stages.model_file.interface import CURVE_COLUMNS, MODEL
from stages.model_file.scoring import ModelFile
from stages.model_file.words import Words
from stages.sources.raw import read_provenance
from stages.tables.artefacts import (
    ARTEFACTS,
    EMBEDDING,
    METADATA,
    embedding_length,
    read_artefacts,
)
from stages.tables.parquet import metadata_of, read_columns
from stages.tables.predictions import PREDICTIONS
from stages.tables.predictions import read_predictions as read_table_of_predictions
from stages.tables.results import PLOT_COLUMNS, PLOTS, read_results
from stages.tables.split import SPLIT, How, directions, read_split, subsets_of_artefacts
from stages.tables.values import UNKNOWN

STAGE = "report"
MAP_ROWS = 3000  # at most: more would only cover each other
MAP_SEED = 0
MISTAKES = 20
NEIGHBOURS = 3  # training rows that are shown beside a mistake


@dataclass(frozen=True)
class EmbeddingFacts:
    """The numbers of the embeddings of n training rows."""

    mean: np.ndarray  # (d,) float64
    std: np.ndarray  # (d,) float64
    zeros: float  # share of all numbers
    places: np.ndarray  # (m, 2) float64, some of the rows along the two directions of most variance
    labels: np.ndarray  # (m,) str, of those rows
    explained: float  # share of the variance in these two directions

    @property
    def scale(self) -> np.ndarray:
        """The standard deviations, with 1 for a number that is the same everywhere: (d,)."""
        return np.where(self.std > 0, self.std, 1)


@dataclass(frozen=True)
class Inputs:
    """All that the page is made from."""

    provenance: dict[str, Any]
    artefacts: pd.DataFrame  # the columns of `read_table`
    search: How  # for near-duplicates
    embedding: EmbeddingFacts | None
    mistakes: pd.DataFrame  # the columns of `confident_mistakes`
    neighbours: dict[str, list[dict[str, Any]]]  # what `most_alike_in_train` gives for them
    subset: str  # that of `mistakes`, and of the four tables below
    metrics: dict[str, Any]  # metrics.json and details.json
    confusion: pd.DataFrame
    per_class: pd.DataFrame
    reliability: pd.DataFrame
    importance: pd.DataFrame
    curve: pd.DataFrame
    model: dict[str, Any]  # the metadata of the model's file
    strategy: str  # split.strategy
    words: Words


def read_inputs() -> Inputs:
    """Read what earlier stages wrote."""
    subset, strategy = load_values("evaluate.plots_subset", "split.strategy")
    columns = PLOT_COLUMNS | {"training_curve": CURVE_COLUMNS}
    tables = {name: read_csv(PLOTS / f"{name}.csv", held) for name, held in columns.items()}
    facts = None if embedding_length(ARTEFACTS) is None else read_embeddings()
    model = ModelFile(MODEL)
    mistakes = confident_mistakes(read_predictions(subset, model.digest))
    return Inputs(
        provenance=read_provenance("location", "bytes", "sha256"),
        artefacts=read_table(),
        search=read_search(),
        embedding=facts,
        mistakes=mistakes,
        neighbours={} if facts is None else most_alike_in_train(mistakes, facts),
        subset=subset,
        metrics=read_results(),
        confusion=tables["confusion"],
        per_class=tables["per_class"],
        reliability=tables["reliability"],
        importance=tables["importance"],
        curve=tables["training_curve"],
        model=model.metadata,
        strategy=strategy,
        words=Words.read(),
    )


def read_table() -> pd.DataFrame:
    """The metadata of all artefacts with their subset and their most alike training row.

    Columns medium, museum, width, height, subset, nearest_train_cosine, nearest_medium. An
    empty museum is called unknown.
    """
    columns = ["image_file", "medium", "museum", "width", "height"]
    types = {name: METADATA[name] for name in columns}
    table = read_columns(ARTEFACTS, types, "image_file", "medium", "width", "height").to_pandas()
    split = read_split().to_pandas()
    if split["image_file"].tolist() != table["image_file"].tolist():
        raise PipelineError(f"{SPLIT} is of other rows than {ARTEFACTS}: {REMAKE}")
    table = pd.concat([table, split.drop(columns="image_file")], axis="columns")
    medium_of = table.set_index("image_file")["medium"]
    table["museum"] = named_groups(table["museum"])
    table["nearest_medium"] = table["nearest_train"].map(medium_of)
    return table.drop(columns=["image_file", "nearest_train"])


def read_search() -> How:
    """How near-duplicates were looked for. Raises PipelineError for another split table."""
    with reading(SPLIT):
        found = metadata_of(read_split().schema, "search")
        known: tuple[How, ...] = get_args(How)
        for how in known:
            if how == found:
                return how
        raise ValueError("how near-duplicates were looked for is none of the ways that are known")


def named_groups(groups: pd.Series) -> pd.Series:
    """The same with `unknown` where there is none."""
    return groups.fillna("").replace("", UNKNOWN)


def read_embeddings() -> EmbeddingFacts:
    """Go through the embeddings of the training rows, batch by batch."""
    subset_of = subsets_of_artefacts()
    training_rows = sum(subset == "train" for subset in subset_of.values())
    kept = np.zeros(training_rows, dtype=bool)
    random = np.random.default_rng(MAP_SEED)
    kept[random.permutation(training_rows)[:MAP_ROWS]] = True
    length = embedding_length(ARTEFACTS) or 0
    total, squares, zeros, rows = np.zeros(length), np.zeros(length), 0, 0
    chosen, labels = [], []
    for artefacts in read_artefacts("train", subset_of, ["medium", EMBEDDING], STAGE):
        numbers = artefacts[EMBEDDING].astype(np.float64)
        total += numbers.sum(axis=0)
        squares += (numbers**2).sum(axis=0)
        zeros += int((numbers == 0).sum())
        some = kept[rows : rows + len(numbers)]
        chosen.append(numbers[some])
        labels.append(artefacts["medium"][some])
        rows += len(numbers)
    mean = total / rows
    std = np.sqrt(np.maximum(squares / rows - mean**2, 0))
    places, explained = two_directions((np.concatenate(chosen) - mean) / np.where(std > 0, std, 1))
    return EmbeddingFacts(
        mean, std, zeros / (rows * length), places, np.concatenate(labels), explained
    )


def two_directions(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components of (m, d) values: (m, 2), and their share of variance.

    Where there are fewer than two, the rest is 0. Each points to where its largest weight is
    positive. They come from Lanczos's method (ARPACK), which needs no covariance.
    """
    from scipy.sparse.linalg import svds

    values = values - values.mean(axis=0)
    if min(values.shape) > 2 and values.any():
        directions = svds(values, 2, rng=MAP_SEED, return_singular_vectors="vh")[2][::-1]
    else:  # too few for it
        directions = np.linalg.svd(values, full_matrices=False)[2][:2]
    largest = np.abs(directions).argmax(axis=1, keepdims=True)
    directions = directions * np.sign(np.take_along_axis(directions, largest, axis=1))
    places = values @ directions.T
    explained = (places**2).sum() / max((values**2).sum(), np.finfo(np.float64).tiny)
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1]))), float(explained)


def read_predictions(subset: str, model: str) -> pd.DataFrame:
    """The predictions table of one subset, without the probabilities of all labels.

    Raises PipelineError when they are not those of the model with this digest.
    """
    table = read_table_of_predictions().drop_columns("probabilities")
    if metadata_of(table.schema, "model") != model:
        raise PipelineError(f"{PREDICTIONS} is of another model than {MODEL}: {REMAKE}")
    rows = table.filter(pc.field("subset") == subset).to_pandas()
    return rows.assign(museum=named_groups(rows["museum"]))


def confident_mistakes(predictions: pd.DataFrame) -> pd.DataFrame:
    """The wrong answers that the model is most sure of, the surest first."""
    wrong = predictions[predictions["medium"] != predictions["predicted"]]
    order = ["probability", "image_file"]
    return wrong.sort_values(order, ascending=[False, True]).head(MISTAKES)


def most_alike_in_train(
    mistakes: pd.DataFrame, facts: EmbeddingFacts
) -> dict[str, list[dict[str, Any]]]:
    """The training rows that are most alike, for each image file of the mistakes.

    `NEIGHBOURS` each, the most alike first: image_file, medium and cosine, that of the embeddings
    standardised on train, as the stage `split` computes it for one of them.
    """
    asked, subset_of = set(mistakes["image_file"]), subsets_of_artefacts()
    only_asked = {name: "asked" if name in asked else "" for name in subset_of}
    parts = [
        (rows["image_file"], directions(rows[EMBEDDING], facts.mean, facts.scale))
        for rows in read_artefacts("asked", only_asked, [EMBEDDING], f"{STAGE} mistakes")
        if len(rows)
    ]
    if not parts:
        return {}
    names = np.concatenate([files for files, _ in parts])
    asked_directions = np.concatenate([values for _, values in parts])
    found: list[list[tuple[float, str, str]]] = [[] for _ in names]
    for rows in read_artefacts("train", subset_of, ["medium", EMBEDDING], STAGE):
        likeness = asked_directions @ directions(rows[EMBEDDING], facts.mean, facts.scale).T
        for row, values in enumerate(likeness):
            best = np.argsort(-values, kind="stable")[:NEIGHBOURS]
            found[row] += [
                (float(values[place]), rows["image_file"][place], rows["medium"][place])
                for place in best
            ]
            found[row] = sorted(found[row], key=lambda one: -one[0])[:NEIGHBOURS]
    return {
        name: [
            {"image_file": file, "medium": medium, "cosine": cosine}
            for cosine, file, medium in near
        ]
        for name, near in zip(names, found, strict=True)
    }
