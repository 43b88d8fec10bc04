"""Tell a run's story as one page: the data, the features, the training, the figures, the limits.

Reads data/raw/provenance.json, data/artefacts.parquet, data/split.parquet,
data/predictions.parquet, models/model.onnx, reports/metrics.json and details.json, and the
tables under reports/plots/. Writes reports/index.html, and its figures as pictures,
reports/figures/*.png.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from tqdm import tqdm

from stages.common.files import write_text
from stages.common.params import load_value
from stages.common.stage import run
from stages.model_file.interface import MODEL
from stages.model_file.scoring import ModelFile
from stages.reporting import captions, figures
from stages.reporting.families import family_of
from stages.sources.raw import PROVENANCE
from stages.tables.artefacts import ARTEFACTS, EMBEDDING, embedding_length, read_artefacts
from stages.tables.parquet import matrix
from stages.tables.predictions import PREDICTIONS
from stages.tables.results import DETAILS, METRICS, PLOTS
from stages.tables.split import SPLIT, subsets_of_artefacts
from stages.tables.values import SUBSETS

STAGE = "report"
PAGE = Path("reports/index.html")
FIGURES = Path("reports/figures")
TEMPLATE = Path("stages/reporting/template.html")
MAP_ROWS = 3000  # at most: more would only cover each other
MAP_SEED = 0
MISTAKES = 20


@dataclass(frozen=True)
class EmbeddingFacts:
    """The numbers of the embeddings of n training rows."""

    mean: np.ndarray  # (d,) float64
    std: np.ndarray  # (d,) float64
    zeros: float  # share of all numbers
    places: np.ndarray  # (m, 2) float64, some of the rows along the two directions of most variance
    mediums: np.ndarray  # (m,) str, of those rows
    explained: float  # share of the variance in these two directions


@dataclass(frozen=True)
class Inputs:
    """All that the page is made from."""

    provenance: dict[str, Any]
    artefacts: pd.DataFrame  # the columns of `read_table`
    embedding: EmbeddingFacts | None
    predictions: pd.DataFrame  # image_file, medium, museum, predicted, probability
    subset: str  # that of `predictions`, and of the four tables below
    metrics: dict[str, Any]  # metrics.json and details.json
    confusion: pd.DataFrame
    per_class: pd.DataFrame
    reliability: pd.DataFrame
    importance: pd.DataFrame
    curve: pd.DataFrame
    model: dict[str, Any]  # the metadata of the model's file
    params: dict[str, Any]  # of featurize and split, by their names in params.yaml


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    name: str  # of its file, without the ending
    title: str
    alternative: str  # what it shows, for those who cannot see it
    caption: str  # what it means in this run
    draw: Callable[[], Figure]


def main() -> str:
    inputs = read_inputs()
    synthetic = inputs.metrics["data"]["source"] == "synthetic"
    drawn = {}
    for picture in tqdm(pictures(inputs), desc=STAGE, unit=" pictures", disable=None):
        figure = picture.draw()
        drawn[picture.name] = {
            "name": picture.name,
            "title": picture.title,
            "alternative": picture.alternative,
            "caption": picture.caption,
            "svg": figures.to_svg(figure, picture.name),
        }
        # A slide has neither the page's headings nor its banner.
        title = picture.title + (", synthetic data" if synthetic else "")
        figures.to_png(figure, FIGURES / f"{picture.name}.png", title)
    page = render(inputs, drawn)
    write_text(PAGE, page)
    return f"{len(drawn)} figures, {len(page.encode()) / 1e6:.2f} MB"


def read_inputs() -> Inputs:
    """Read what earlier stages wrote."""
    subset = load_value("evaluate.plots_subset")
    tables = {
        name: pd.read_csv(PLOTS / f"{name}.csv", keep_default_na=False, na_values=[""])
        for name in ("confusion", "per_class", "reliability", "importance", "training_curve")
    }
    chosen = load_value("featurize.embedding")
    parameters = ("embedding", chosen, "sizes", "museum")
    return Inputs(
        provenance=json.loads(PROVENANCE.read_text(encoding="utf-8")),
        artefacts=read_table(),
        embedding=None if embedding_length(ARTEFACTS) is None else read_embeddings(),
        predictions=read_predictions(subset),
        subset=subset,
        metrics=json.loads(METRICS.read_text(encoding="utf-8"))
        | json.loads(DETAILS.read_text(encoding="utf-8")),
        confusion=tables["confusion"],
        per_class=tables["per_class"],
        reliability=tables["reliability"],
        importance=tables["importance"],
        curve=tables["training_curve"],
        model=ModelFile(MODEL).metadata,
        params={
            **{f"featurize.{name}": load_value(f"featurize.{name}") for name in parameters},
            "split.strategy": load_value("split.strategy"),
        },
    )


def read_table() -> pd.DataFrame:
    """The metadata of all artefacts with their subset and their most alike training row.

    Columns medium, museum, width, height, subset, nearest_train_cosine, nearest_medium. An
    empty museum is called unknown.
    """
    columns = ["image_file", "medium", "museum", "width", "height"]
    table = pq.read_table(ARTEFACTS, columns=columns).to_pandas()
    split = pq.read_table(SPLIT).to_pandas().drop(columns="image_file")  # the same order
    table = pd.concat([table, split], axis="columns")
    medium_of = table.set_index("image_file")["medium"]
    table["museum"] = named_museums(table["museum"])
    table["nearest_medium"] = table["nearest_train"].map(medium_of)
    return table.drop(columns=["image_file", "nearest_train"])


def named_museums(museums: pd.Series) -> pd.Series:
    """The same with `unknown` where there is none."""
    return museums.fillna("").replace("", "unknown")


def read_embeddings() -> EmbeddingFacts:
    """Go through the embeddings of the training rows, batch by batch."""
    subset_of = subsets_of_artefacts()
    training_rows = sum(subset == "train" for subset in subset_of.values())
    kept = np.zeros(training_rows, dtype=bool)
    random = np.random.default_rng(MAP_SEED)
    kept[random.permutation(training_rows)[:MAP_ROWS]] = True
    length = embedding_length(ARTEFACTS)
    total, squares, zeros, rows = np.zeros(length), np.zeros(length), 0, 0
    chosen, mediums = [], []
    for artefacts in read_artefacts("train", subset_of, ["medium", EMBEDDING], STAGE):
        numbers = artefacts[EMBEDDING].astype(np.float64)
        total += numbers.sum(axis=0)
        squares += (numbers**2).sum(axis=0)
        zeros += int((numbers == 0).sum())
        some = kept[rows : rows + len(numbers)]
        chosen.append(numbers[some])
        mediums.append(artefacts["medium"][some])
        rows += len(numbers)
    mean = total / rows
    std = np.sqrt(np.maximum(squares / rows - mean**2, 0))
    places, explained = two_directions((np.concatenate(chosen) - mean) / np.where(std > 0, std, 1))
    return EmbeddingFacts(
        mean, std, zeros / (rows * length), places, np.concatenate(mediums), explained
    )


def two_directions(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components of (m, d) values: (m, 2), and their share of variance.

    Where there are fewer than two, the rest is 0.
    """
    from sklearn.decomposition import PCA

    pca = PCA(min(2, *values.shape), svd_solver="covariance_eigh")
    places = pca.fit_transform(values)
    if places.shape[1] < 2:
        places = np.column_stack([places, np.zeros(len(places))])
    return places, float(pca.explained_variance_ratio_.sum())


def read_predictions(subset: str) -> pd.DataFrame:
    """The first answers for the rows of a subset.

    Columns image_file, medium, museum, predicted and probability (of what was predicted).
    """
    table = pq.read_table(PREDICTIONS, filters=[("subset", "==", subset)])
    labels = np.array(json.loads(table.schema.metadata[b"labels"]))
    probabilities = matrix(table["probabilities"])
    rows = table.select(["image_file", "medium", "museum"]).to_pandas()
    rows["museum"] = named_museums(rows["museum"])
    return rows.assign(
        predicted=labels[probabilities.argmax(axis=1)], probability=probabilities.max(axis=1)
    )


def confident_mistakes(predictions: pd.DataFrame) -> pd.DataFrame:
    """The wrong answers that the model is most sure of, the surest first."""
    wrong = predictions[predictions["medium"] != predictions["predicted"]]
    order = ["probability", "image_file"]
    return wrong.sort_values(order, ascending=[False, True]).head(MISTAKES)


def headline_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """The accuracy of the model and of the baselines: name, accuracy, low, high."""
    ends = metrics["test_interval"]["accuracy"]
    lines = [
        {
            "name": "this model",
            "accuracy": metrics["test"]["accuracy"],
            "low": ends["low"],
            "high": ends["high"],
        }
    ]
    names = {
        "majority": "most frequent medium",
        "nearest_centroid": "nearest mean features",
        "sizes": "sizes alone",
    }
    for name, found in metrics["baseline"].items():
        lines.append(
            {"name": names[name], "accuracy": found["accuracy"], "low": np.nan, "high": np.nan}
        )
    return pd.DataFrame(lines)


def museums_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """The accuracy on the test rows of each museum: museum, rows, accuracy, low, high."""
    return pd.DataFrame(
        [
            {
                "museum": museum,
                "rows": found["rows"],
                "accuracy": found["accuracy"],
                "low": found["accuracy_low"],
                "high": found["accuracy_high"],
            }
            for museum, found in metrics["test_museum"].items()
        ]
    )


def pictures(inputs: Inputs) -> list[Picture]:
    """The figures in the order of the page; those that the data cannot give are left out."""
    table, metrics, subset = inputs.artefacts, inputs.metrics, inputs.subset
    counts = pd.crosstab(table["medium"], table["museum"])
    width, height, museum = (table[name].to_numpy() for name in ("width", "height", "museum"))
    confusion = inputs.confusion.pivot(index="actual", columns="predicted", values="count")
    shares = confusion.div(confusion.sum(axis="columns").clip(lower=1), axis="index")
    headline, by_museum = headline_table(metrics), museums_table(metrics)
    model = inputs.model["model"]
    found = [
        Picture(
            "rows",
            "Rows of each medium",
            "Bars: the number of rows of each medium, divided by museum.",
            captions.rows(counts),
            lambda: figures.draw_rows(counts),
        ),
        Picture(
            "sizes",
            "Sizes of the photographs",
            "Lines: how the longer sides and the aspect ratios are distributed at each museum.",
            captions.sizes(width, height, museum),
            lambda: figures.draw_sizes(width, height, museum),
        ),
    ]
    facts = inputs.embedding
    if facts is not None:
        found += [
            Picture(
                "embedding",
                "The numbers of the embedding",
                "Two histograms: the means and the standard deviations of the numbers.",
                captions.embedding(facts.mean, facts.std, facts.zeros),
                lambda: figures.draw_embedding(facts.mean, facts.std),
            ),
            Picture(
                "map",
                "A map of the embeddings",
                "Small maps, one for each medium, that show where its rows lie among all others.",
                captions.embedding_map(facts.places, facts.mediums, facts.explained),
                lambda: figures.draw_map(facts.places, facts.mediums),
            ),
        ]
    if not inputs.curve.empty:
        found.append(
            Picture(
                "training",
                "Training curve",
                "Lines: log loss and accuracy on train and val in the course of training.",
                captions.training(inputs.curve, model),
                lambda: figures.draw_training(inputs.curve),
            )
        )
    found += [
        Picture(
            "headline",
            "Accuracy beside the baselines",
            "Bars: the accuracy of the model, with its interval, and of three baselines, on test.",
            captions.headline(metrics),
            lambda: figures.draw_headline(headline),
        ),
        Picture(
            "per_class",
            f"Recall and F1 of each medium, on {subset}",
            "Points with intervals: recall and F1 of each medium, sorted by recall.",
            captions.per_class(inputs.per_class),
            lambda: figures.draw_per_class(inputs.per_class),
        ),
        Picture(
            "confusion",
            f"Confusions, on {subset}",
            "A grid: which share of each actual medium was taken for which medium.",
            captions.confusion(inputs.confusion),
            lambda: figures.draw_confusion(shares),
        ),
        Picture(
            "reliability",
            f"Reliability, on {subset}",
            "A line near the diagonal: the share of right answers by how sure the model was.",
            captions.reliability(
                inputs.reliability, metrics[subset], metrics[f"{subset}_if_calibrated"]
            ),
            lambda: figures.draw_reliability(inputs.reliability),
        ),
        Picture(
            "museums",
            "Accuracy in each museum, on test",
            "Points with intervals: the accuracy on the test rows of each museum.",
            captions.museums(by_museum),
            lambda: figures.draw_museums(by_museum),
        ),
        Picture(
            "importance",
            f"What the model leans on, on {subset}",
            "Bars: how much accuracy is lost when a group of features is shuffled between rows.",
            captions.importance(inputs.importance),
            lambda: figures.draw_importance(inputs.importance),
        ),
    ]
    return found


def prose(text: str) -> Markup:
    """A sentence as HTML: `code` between backquotes, and no line break before a percent sign."""
    marked = re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text)))
    return Markup(marked.replace(" %", "\u00a0%"))


def render(inputs: Inputs, drawn: dict[str, dict[str, str]]) -> str:
    """The page in HTML; `drawn` has the pictures by their names."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": captions.percent,
        "medium_family": family_of,
        "prose": prose,
    }
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    table, metrics = inputs.artefacts, inputs.metrics
    subsets = pd.crosstab(table["medium"], table["subset"]).reindex(columns=SUBSETS, fill_value=0)
    museums = pd.crosstab(table["medium"], table["museum"])
    mistakes = confident_mistakes(inputs.predictions)
    return template.render(
        drawn=drawn,
        provenance=inputs.provenance,
        synthetic=metrics["data"]["source"] == "synthetic",
        rows=len(table),
        mediums=len(museums),
        subsets=subsets,
        museums=museums,
        quarantined=metrics["quarantined"],
        near_duplicates=captions.near_duplicates(table),
        params=inputs.params,
        model=inputs.model,
        training=captions.training(inputs.curve, inputs.model["model"]),
        metrics=metrics,
        subset=inputs.subset,
        per_class=inputs.per_class.to_dict("records"),
        pairs=captions.confused_pairs(inputs.confusion).to_dict("records"),
        mistakes=mistakes.to_dict("records"),
        mistakes_caption=captions.mistakes(mistakes),
        limits=captions.limits(metrics, inputs.per_class, inputs.importance, inputs.model),
        to_try=captions.to_try(metrics, inputs.curve, inputs.per_class, inputs.model["model"]),
    )


if __name__ == "__main__":
    run(STAGE, main)
