"""The report is made from this run's files, and from nothing else."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from stages.model_file.words import Words
from stages.reporting import inputs as reading
from stages.reporting.figures import (
    confusion_shares,
    figures_of,
    largest,
    with_most_rows,
)
from stages.reporting.page import prose, render
from stages.tables.artefacts import ARTEFACTS
from stages.tables.parquet import matrix
from stages.tables.split import SPLIT


@pytest.fixture
def inputs(reproduced, monkeypatch):
    """What the report of the reproduced project is made from."""
    monkeypatch.chdir(reproduced.folder)
    return reading.read_inputs()


def page_of(inputs):
    """The page without its drawings, as plain text."""
    drawn = {
        figure.name: {
            "name": figure.name,
            "title": figure.title,
            "alternative": figure.alternative,
            "caption": figure.caption,
            "wide": "<svg></svg>",
            "narrow": "<svg></svg>",
        }
        for figure in figures_of(inputs)
    }
    return render(inputs, drawn)


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


def test_every_figure_of_the_page_is_a_file_too(reproduced):
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
    monkeypatch.setattr(reading, "MAP_ROWS", 20)
    facts = reading.read_embeddings()
    assert facts.places.shape == (20, 2)
    assert facts.labels.shape == (20,)


def test_a_map_of_one_direction_has_a_second_one_of_zeros():
    places, explained = reading.two_directions(np.array([[1.0], [2.0], [4.0]]))
    assert places[:, 1].tolist() == [0, 0, 0]
    assert explained == 1


@pytest.mark.parametrize("shape", [(80, 50), (80, 3), (80, 2), (3, 50), (2, 50)])
def test_the_directions_of_the_map_are_those_of_most_variance(shape):
    values = np.random.default_rng(0).standard_normal(shape) + 3
    places, explained = reading.two_directions(values)
    pca = PCA(min(2, *shape)).fit(values)
    expected = pca.transform(values) * np.sign(
        pca.components_[range(len(pca.components_)), np.abs(pca.components_).argmax(axis=1)]
    )
    np.testing.assert_allclose(places, expected, atol=1e-9)
    assert explained == pytest.approx(pca.explained_variance_ratio_.sum())


def test_embeddings_that_are_all_alike_lie_in_one_place_of_the_map():
    places, explained = reading.two_directions(np.ones((5, 4)))
    assert places.tolist() == [[0, 0]] * 5
    assert explained == 0


def test_mistakes_are_the_wrong_answers_that_the_model_was_most_sure_of(monkeypatch):
    lines = [("a", "Clay", "Gold", 0.7), ("b", "Clay", "Clay", 0.99), ("c", "Gold", "Clay", 0.9)]
    lines += [("d", "Gold", "Clay", 0.8)]
    columns = ["image_file", "medium", "predicted", "probability"]
    monkeypatch.setattr(reading, "MISTAKES", 2)
    found = reading.confident_mistakes(pd.DataFrame(lines, columns=columns))
    assert found["image_file"].tolist() == ["c", "d"]


def test_the_page_has_the_metrics_of_the_run(inputs):
    text = text_of(inputs)
    metrics = inputs.metrics
    assert f"accuracy on test {metrics['test']['accuracy']:.4f}" in text
    ends = metrics["test_interval"]["log_loss"]
    assert f"{ends['low']:.4f} to {ends['high']:.4f}" in text
    assert inputs.provenance["sha256"] in text.replace(" ", "")
    assert "logistic_regression" in text
    assert len(inputs.mistakes) > 0
    for line in inputs.mistakes.itertuples():
        for found in (line.image_file, line.museum_based_instance_id, line.predicted, line.second):
            assert found in text
        for near in inputs.neighbours[line.image_file]:
            assert f"{near['image_file']}: {near['medium']}, {near['cosine']:.2f}" in text


def test_other_numbers_give_other_captions(inputs):
    swapped = inputs.confusion.rename(columns={"actual": "predicted", "predicted": "actual"})
    captions = {p.name: p.caption for p in figures_of(inputs)}
    others = {p.name: p.caption for p in figures_of(replace(inputs, confusion=swapped))}
    assert captions.keys() == others.keys()
    assert {name for name in captions if captions[name] != others[name]} == {"confusion"}


def test_synthetic_data_has_a_banner_and_other_data_has_none(inputs):
    assert "Synthetic data" not in text_of(inputs)
    metrics = {**inputs.metrics, "data": {**inputs.metrics["data"], "source": "synthetic"}}
    page = page_of(replace(inputs, metrics=metrics))
    assert page.index('class="banner"') < page.index("<h1>")


def test_a_table_without_embeddings_has_a_page_without_a_map(inputs):
    artefacts = inputs.artefacts.assign(nearest_train_cosine=np.nan, nearest_medium=None)
    without = replace(inputs, embedding=None, artefacts=artefacts, neighbours={})
    text = text_of(without)
    assert "The table has no embeddings" in text
    assert "most alike in train" not in text
    assert "Without embeddings, nobody can look for near-duplicates" in text
    assert "map" not in {figure.name for figure in figures_of(without)}


def test_rows_that_were_set_aside_are_counted_on_the_page(inputs):
    quarantined = {"rows": 3, "width": 2, "medium": 1}
    metrics = {**inputs.metrics, "quarantined": quarantined}
    text = text_of(replace(inputs, metrics=metrics))
    assert "3 rows that break a rule (width: 2, medium: 1)" in text
    one = {**inputs.metrics, "quarantined": {"rows": 1, "width": 1}}
    assert "1 row that breaks a rule (width: 1)" in text_of(replace(inputs, metrics=one))


def test_a_medium_without_rows_is_said_to_have_none(inputs):
    table = inputs.per_class.copy()
    table.loc[0, "rows"] = 0
    table.loc[0, ["precision", "recall", "f1"]] = np.nan
    medium = table.loc[0, "medium"]
    assert f"{medium} 0 no rows in test" in text_of(replace(inputs, per_class=table))


def test_names_from_the_table_are_text_and_no_markup(inputs):
    mistakes = inputs.mistakes.assign(museum="<b>Met</b> & `Co`")
    page = page_of(replace(inputs, mistakes=mistakes))
    assert "&lt;b&gt;Met&lt;/b&gt; &amp; `Co`" in page
    assert str(prose("`<i>` of 5 %")) == "<code>&lt;i&gt;</code> of 5\u00a0%"


def test_the_nearest_training_rows_of_a_mistake_are_those_of_the_split_and_two_more(inputs):
    split = pq.read_table(SPLIT).to_pandas().set_index("image_file")
    table = pq.read_table(ARTEFACTS).to_pandas().set_index("image_file")
    values = pd.DataFrame(np.stack(table["embedding"].to_numpy()), table.index)
    train = values[(split["subset"] == "train").to_numpy()]
    standardized = (values - train.mean()) / train.std(ddof=0)
    directions = standardized.div(np.linalg.norm(standardized, axis=1), axis="index")
    assert set(inputs.neighbours) == set(inputs.mistakes["image_file"])
    for name, near in inputs.neighbours.items():
        assert near[0]["image_file"] == split.loc[name, "nearest_train"]
        assert near[0]["cosine"] == pytest.approx(split.loc[name, "nearest_train_cosine"], abs=1e-5)
        likeness = directions.loc[train.index] @ directions.loc[name]
        expected = likeness.sort_values(ascending=False).head(3)
        assert [one["image_file"] for one in near] == expected.index.tolist()
        np.testing.assert_allclose([one["cosine"] for one in near], expected, atol=1e-6)
        assert [one["medium"] for one in near] == table.loc[expected.index, "medium"].tolist()


WORDS = Words("genre", "genres", "library", "libraries")


def test_the_page_calls_labels_and_groups_what_the_parameters_say(inputs):
    def renamed(value):
        """The same with other names of labels and groups, which have the words in them here."""
        if isinstance(value, pd.DataFrame):
            return value.rename(renamed).map(renamed) if len(value) else value
        if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
            return np.array([renamed(one) for one in value])
        if isinstance(value, list):
            return [renamed(one) for one in value]
        if isinstance(value, dict):
            return {key: renamed(one) for key, one in value.items()}
        if isinstance(value, str):
            return re.sub("Medium (?=[0-9])|Museum of", "X ", value)
        return value

    parts = ("artefacts", "mistakes", "neighbours", "confusion", "per_class", "importance")
    metrics = inputs.metrics
    metrics |= {"test_museum": dict(zip("XYZ", metrics["test_museum"].values(), strict=False))}
    other = replace(
        inputs,
        words=WORDS,
        metrics=metrics,
        embedding=replace(inputs.embedding, labels=renamed(inputs.embedding.labels)),
        **{name: renamed(getattr(inputs, name)) for name in parts},
    )
    text = text_of(other)
    assert "Recall and F1 of each genre" in text
    assert "Accuracy in each library" in text
    assert "2 libraries" in text
    # A strategy's name is that of a parameter.
    text = text.replace("holdout_museum", "")
    assert not re.search("medium|museum", text, re.IGNORECASE), text
    for figure in figures_of(other):
        for written in (figure.title, figure.alternative):
            assert not re.search("medium|museum|artefact", written, re.IGNORECASE), written


def test_families_are_a_column_only_where_a_label_has_one(inputs):
    header = "share of its rows family"
    assert "share of its rows" in text_of(inputs)
    assert header not in text_of(inputs)
    first = inputs.per_class["medium"].iloc[0]
    named = inputs.per_class.replace({"medium": {first: "Etching"}})
    assert header in text_of(replace(inputs, per_class=named))


def test_a_kind_of_features_is_on_the_page_as_the_models_file_describes_it(inputs):
    kind = {"columns": "Year", "treatment": "its `logarithm`", "reason": "{groups} differ"}
    kind |= {"name": "Year", "limit": "{groups} buy {labels}."}
    model = {**inputs.model, "kinds": [*inputs.model["kinds"], kind], "models": ["a", "b"]}
    line = {"group": "Year", "accuracy_drop": 0.1, "low": 0.05, "high": 0.15}
    importance = pd.concat([inputs.importance, pd.DataFrame([line])])
    page = page_of(replace(inputs, model=model, words=WORDS, importance=importance))
    assert "Without the Year it would lose 10.0 points" in page
    assert "Without the Year the accuracy would be 10.0 points lower. libraries buy genres." in page
    assert "<td>its <code>logarithm</code></td><td>libraries differ</td>" in page
    assert "<td>a, b</td>" in page


def test_a_table_that_names_no_group_has_none_on_the_page(inputs):
    text = text_of(replace(inputs, artefacts=inputs.artefacts.assign(museum="unknown")))
    assert "6 mediums sources" not in text
    assert re.search(r"rows \d+ 6 mediums 1 Data", text)
    assert "No row names its museum." in text


def test_of_many_labels_a_figure_shows_those_with_most_rows():
    rows = pd.DataFrame({"a": range(100)}, [f"label {n:03}" for n in range(100)])
    assert largest(rows).index.tolist() == rows.index[-60:].tolist()
    lines = pd.DataFrame({"medium": rows.index, "rows": rows["a"].to_numpy()[::-1]})
    assert with_most_rows(lines)["medium"].tolist() == rows.index[:60].tolist()
    names = rows.index
    counts = pd.DataFrame(
        [(one, other, int(one == other) * 9) for one in names for other in names],
        columns=["actual", "predicted", "count"],
    )
    counts.loc[counts["actual"] == "label 077", "count"] = 1
    shares = confusion_shares(counts)
    assert shares.shape == (60, 60)
    assert "label 077" in shares.index
    assert shares.loc["label 077", "label 077"] == pytest.approx(0.01)
    # Pairs that never occur may be missing.
    occur = (counts["count"] > 0) | (counts["actual"] == counts["predicted"])
    pd.testing.assert_frame_equal(confusion_shares(counts[occur]), shares, check_names=False)


def test_labels_that_look_like_numbers_are_texts(reproduced, tmp_path, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    plots = shutil.copytree(reading.PLOTS, tmp_path / "plots")
    for name in ("confusion", "per_class"):
        text = (plots / f"{name}.csv").read_text(encoding="utf-8").replace("Medium 1", "00")
        (plots / f"{name}.csv").write_text(text.replace("Medium ", ""), encoding="utf-8")
    monkeypatch.setattr(reading, "PLOTS", plots)
    found = reading.read_inputs()
    assert found.per_class["medium"].tolist() == ["0", "00", "2", "3", "4", "5"]
    assert set(found.confusion["actual"]) == set(found.per_class["medium"])
