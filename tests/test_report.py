"""The report is made from this run's files, and from nothing else."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from stages import report
from stages.tables.artefacts import ARTEFACTS
from stages.tables.parquet import matrix
from stages.tables.split import SPLIT


@pytest.fixture
def inputs(reproduced, monkeypatch):
    """What the report of the reproduced project is made from."""
    monkeypatch.chdir(reproduced.folder)
    return report.read_inputs()


def page_of(inputs):
    """The page without its drawings, as plain text."""
    drawn = {
        picture.name: {
            "name": picture.name,
            "title": picture.title,
            "alternative": picture.alternative,
            "caption": picture.caption,
            "svg": "<svg></svg>",
        }
        for picture in report.pictures(inputs)
    }
    return report.render(inputs, drawn)


def text_of(inputs):
    page = re.sub(r"<style>.*?</style>", "", page_of(inputs), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_of_the_pipeline_is_one_small_file_that_refers_to_no_other(reproduced):
    page = (reproduced.folder / "reports/index.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert len(page.encode()) < 2_000_000
    assert "<script" not in page
    links = re.findall(r'<a[^>]*href="([^"#]+)"', page)
    assert links
    for link in links:
        assert (reproduced.folder / "reports" / link).is_file(), link
    without_links = re.sub(r"<a .*?</a>", "", page, flags=re.DOTALL)
    for target in re.findall(r'(?:src|href)="([^"]+)"', without_links):
        assert target.startswith(("#", "data:")), target


def test_every_picture_of_the_page_is_a_file_too(reproduced):
    page = (reproduced.folder / "reports/index.html").read_text(encoding="utf-8")
    shown = re.findall(r'<figure id="(\w+)">', page)
    files = {path.stem for path in (reproduced.folder / "reports/figures").iterdir()}
    assert set(shown) == files
    assert len(shown) == 11


def test_the_table_knows_each_rows_subset_and_its_nearest_training_row(inputs):
    table = inputs.artefacts
    split = pq.read_table(SPLIT).to_pandas()
    artefacts = pq.read_table(ARTEFACTS, columns=["image_file", "medium"]).to_pandas()
    medium_of = dict(artefacts.to_numpy())
    assert table["subset"].tolist() == split["subset"].tolist()
    known = split["nearest_train"].notna()
    expected = [medium_of[name] for name in split.loc[known, "nearest_train"]]
    assert table.loc[known, "nearest_medium"].tolist() == expected


def test_facts_of_the_embedding_are_those_of_the_training_rows(inputs):
    subset = pq.read_table(SPLIT)["subset"].to_numpy()
    values = matrix(pq.read_table(ARTEFACTS)["embedding"])[subset == "train"].astype(np.float64)
    facts = inputs.embedding
    np.testing.assert_allclose(facts.mean, values.mean(axis=0))
    np.testing.assert_allclose(facts.std, values.std(axis=0))
    assert facts.zeros == np.mean(values == 0)
    standardized = (values - values.mean(axis=0)) / values.std(axis=0)
    pca = PCA(2).fit(standardized)
    np.testing.assert_allclose(np.abs(facts.places), np.abs(pca.transform(standardized)), atol=1e-6)
    assert facts.explained == pytest.approx(pca.explained_variance_ratio_.sum())


def test_the_map_shows_no_more_rows_than_can_be_seen(inputs, monkeypatch):
    monkeypatch.setattr(report, "MAP_ROWS", 20)
    facts = report.read_embeddings()
    assert facts.places.shape == (20, 2)
    assert facts.mediums.shape == (20,)


def test_a_map_of_one_direction_has_a_second_one_of_zeros():
    places, explained = report.two_directions(np.array([[1.0], [2.0], [4.0]]))
    assert places[:, 1].tolist() == [0, 0, 0]
    assert explained == 1


def test_mistakes_are_the_wrong_answers_that_the_model_was_most_sure_of(monkeypatch):
    lines = [("a", "Clay", "Gold", 0.7), ("b", "Clay", "Clay", 0.99), ("c", "Gold", "Clay", 0.9)]
    lines += [("d", "Gold", "Clay", 0.8)]
    columns = ["image_file", "medium", "predicted", "probability"]
    monkeypatch.setattr(report, "MISTAKES", 2)
    found = report.confident_mistakes(pd.DataFrame(lines, columns=columns))
    assert found["image_file"].tolist() == ["c", "d"]


def test_the_page_has_the_figures_of_the_run(inputs):
    text = text_of(inputs)
    metrics = inputs.metrics
    assert f"accuracy on test {metrics['test']['accuracy']:.4f}" in text
    ends = metrics["test_interval"]["log_loss"]
    assert f"{ends['low']:.4f} to {ends['high']:.4f}" in text
    assert inputs.provenance["sha256"] in text.replace(" ", "")
    assert "logistic_regression" in text
    mistakes = inputs.predictions.query("medium != predicted")
    assert len(mistakes) > 0
    for name in mistakes["image_file"]:
        assert name in text


def test_other_figures_give_other_captions(inputs):
    swapped = inputs.confusion.rename(columns={"actual": "predicted", "predicted": "actual"})
    captions = {p.name: p.caption for p in report.pictures(inputs)}
    others = {p.name: p.caption for p in report.pictures(replace(inputs, confusion=swapped))}
    assert captions.keys() == others.keys()
    assert {name for name in captions if captions[name] != others[name]} == {"confusion"}


def test_synthetic_data_has_a_banner_and_other_data_has_none(inputs):
    assert "Synthetic data" not in text_of(inputs)
    metrics = {**inputs.metrics, "data": {**inputs.metrics["data"], "source": "synthetic"}}
    page = page_of(replace(inputs, metrics=metrics))
    assert page.index('class="banner"') < page.index("<h1>")


def test_a_table_without_embeddings_has_a_page_without_a_map(inputs):
    params = {**inputs.params, "featurize.embedding": "none"}
    artefacts = inputs.artefacts.assign(nearest_train_cosine=np.nan, nearest_medium=None)
    without = replace(inputs, embedding=None, artefacts=artefacts, params=params)
    text = text_of(without)
    assert "the table has none" in text
    assert "Without embeddings, nobody can look for near-duplicates" in text
    assert "map" not in {picture.name for picture in report.pictures(without)}


def test_rows_that_were_set_aside_are_counted_on_the_page(inputs):
    quarantined = {"rows": 3, "width": 2, "medium": 1}
    metrics = {**inputs.metrics, "quarantined": quarantined}
    text = text_of(replace(inputs, metrics=metrics))
    assert "3 rows that break a rule (width: 2, medium: 1)" in text


def test_a_medium_without_rows_is_said_to_have_none(inputs):
    table = inputs.per_class.copy()
    table.loc[0, "rows"] = 0
    table.loc[0, ["precision", "recall", "f1"]] = np.nan
    medium = table.loc[0, "medium"]
    assert f"{medium} 0 no rows in test" in text_of(replace(inputs, per_class=table))


def test_names_from_the_table_are_text_and_no_markup(inputs):
    predictions = inputs.predictions.copy()
    predictions["museum"] = "<b>Met</b> & `Co`"
    page = page_of(replace(inputs, predictions=predictions))
    assert "&lt;b&gt;Met&lt;/b&gt; &amp; `Co`" in page
    assert str(report.prose("`<i>` of 5 %")) == "<code>&lt;i&gt;</code> of 5\u00a0%"
