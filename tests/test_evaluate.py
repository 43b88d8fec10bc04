"""The metrics are right on cases that can be counted by hand."""

import json
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common.errors import PipelineError
from stages.common.params import ParameterError, load_params
from stages.evaluate import STAGE, Params, check_embedding, check_features
from stages.evaluation import plots
from stages.evaluation import rows as evaluation_rows
from stages.evaluation.baselines import baselines, nearest_sizes
from stages.evaluation.consistency import consistent
from stages.evaluation.details import count_quarantined, details_of, near_duplicates
from stages.evaluation.importance import importance
from stages.evaluation.intervals import f1_interval, wilson
from stages.evaluation.plots import confusion_counts, per_class, reliability
from stages.evaluation.predictions import write_predictions
from stages.evaluation.rows import (
    Scored,
    read_inputs,
    read_rows,
    read_val,
    score,
    shuffled_rows,
)
from stages.features import moments
from stages.model_file.interface import PROBABILITIES
from stages.model_file.scoring import Prepared
from stages.tables.artefacts import ARTEFACTS, METADATA, Artefacts, artefacts_schema
from stages.tables.features import Features
from stages.tables.parquet import fixed_size_list, matrix, write_batches
from stages.tables.predictions import PREDICTIONS
from stages.tables.split import SPLIT, split_schema
from stages.tables.val_probabilities import VAL_PROBABILITIES, val_probabilities_schema


def rows(values, mediums, names=("x",)):
    values = np.array(values, dtype=np.float32).reshape(len(mediums), -1)
    files = np.array([f"{i}.jpg" for i in range(len(mediums))])
    return Features(files, np.array(mediums, dtype=object), values, list(names), "synthetic")


def test_baselines_learn_from_train_alone():
    train = rows([0, 0.2, 0.1, 10], ["clay", "clay", "clay", "gold"])
    test = rows([9, 8, 7, 1, 9.5], ["gold", "gold", "gold", "gold", "clay"])
    found = baselines(train, test)
    assert found["majority"].tolist() == ["clay"] * 5
    assert found["nearest_centroid"].tolist() == ["gold", "gold", "gold", "clay", "gold"]


def test_baselines_stand_constant_features(recwarn):
    train = rows([1, 1], ["clay", "gold"])
    assert baselines(train, train)["nearest_centroid"].tolist() == ["clay", "clay"]
    assert not list(recwarn)


TRAIN = rows([-1, 1], ["clay", "gold"])


def kind(name, *columns):
    return {"name": name, "inputs": [{"name": column} for column in columns]}


KINDS = (kind("embedding", "embedding"), kind("sizes", "width", "height"), kind("museum"))


class GoldIsWide:
    """What `evaluate` asks of a model's file: it says gold for widths above 1,000."""

    labels = ("clay", "gold")
    outputs = (PROBABILITIES,)
    inputs = ("embedding", "width", "height")
    embedding_length = 2

    metadata = MappingProxyType({"feature_names": ["x"], "kinds": KINDS})

    def predict_proba(self, artefacts, output=PROBABILITIES):
        gold = np.where(artefacts["width"] > 1000, 0.9, 0.1).astype(np.float32)
        return np.column_stack([1 - gold, gold])

    def prepare(self, batches):
        kind_of = {
            value["name"]: kind["name"]
            for kind in self.metadata["kinds"]
            for value in kind["inputs"]
        }
        for artefacts in batches:
            yield Prepared(artefacts, kind_of, self.predict_proba)


def scored(mediums, widths, museums=None, model=None):
    """Rows as `score` gives them."""
    count = len(mediums)
    artefacts = Artefacts(
        {
            "embedding": np.arange(2 * count, dtype=np.float32).reshape(count, 2),
            "width": np.array(widths, dtype=np.float64),
            "height": np.full(count, 500.0),
            "museum": np.array(museums or ["Met"] * count),
            "museum_based_instance_id": np.array([f"no. {i}" for i in range(count)]),
        }
    )
    files = np.array([f"{i}.jpg" for i in range(count)], dtype=object)
    probabilities = (model or GoldIsWide()).predict_proba(artefacts)
    return Scored(files, np.array(mediums, dtype=object), artefacts, probabilities)


VAL = scored(["clay", "gold", "clay"], [500, 2000, 2000])
TEST = scored(["clay", "gold", "gold", "gold"], [500, 500, 2000, 2000], ["Met", "Met", "LACMA", ""])
LABELS = ["clay", "gold"]


def details(duplicate=(False,) * 4):
    return details_of(LABELS, VAL, TEST, np.array(duplicate))


def test_val_and_test_are_measured_each_on_its_own_rows():
    assert VAL.metrics(LABELS)["accuracy"] == pytest.approx(2 / 3)
    metrics, found = TEST.metrics(LABELS), details()
    assert metrics["accuracy"] == 0.75
    assert metrics["log_loss"] == pytest.approx(-np.log([0.9, 0.1, 0.9, 0.9]).mean())
    assert set(found["test_interval"]) == set(metrics) - {"calibration_error"}
    ends = found["test_interval"]["accuracy"]
    assert (ends["low"], ends["high"]) == pytest.approx(wilson(np.array(3), np.array(4)))
    for subset, rows in (("val", VAL), ("test", TEST)):
        assert found[f"{subset}_if_calibrated"] == consistent(rows.probabilities).ranges()


def test_each_museum_has_metrics_of_its_own_rows():
    found = details()["test_museum"]
    assert {name: (part["rows"], part["accuracy"]) for name, part in found.items()} == {
        "unknown": (1, 1.0),
        "LACMA": (1, 1.0),
        "Met": (2, 0.5),
    }
    ends = found["Met"]["accuracy_low"], found["Met"]["accuracy_high"]
    assert ends == pytest.approx(wilson(np.array(1), np.array(2)))
    assert found["Met"]["log_loss"] == pytest.approx(-np.log([0.9, 0.1]).mean())


def test_a_model_of_other_features_is_refused():
    train = rows([1, 2], ["clay", "gold"], ["y"])
    with pytest.raises(PipelineError, match="was trained on other features"):
        check_features(GoldIsWide(), train, train, train.image_files)


def test_features_of_test_that_are_of_other_rows_are_refused():
    train = rows([1, 2], ["clay", "gold"], ["x"])
    with pytest.raises(PipelineError, match=r"test.parquet is of other rows than test: run `dvc"):
        check_features(GoldIsWide(), train, train, train.image_files[::-1])


def test_rows_without_a_near_duplicate_have_metrics_of_their_own():
    found = details(duplicate=[False, True, False, False])
    distinct = found["test_without_near_duplicates"]
    assert distinct["rows"] == 3
    assert distinct["accuracy"] == 1.0
    assert distinct["log_loss"] == pytest.approx(-np.log(0.9))
    ends = found["test_without_near_duplicates_interval"]["accuracy"]
    assert ends["low"] < 0.5
    assert ends["high"] == 1


@pytest.mark.parametrize("duplicate", [[False] * 4, [True] * 4])
def test_metrics_without_near_duplicates_are_left_out_where_they_would_say_nothing(duplicate):
    assert not any("near_duplicates" in name for name in details(duplicate=duplicate))


def sizes_of(width, height):
    return Artefacts({"width": np.asarray(width), "height": np.asarray(height)})


def test_the_sizes_alone_name_what_is_near_in_size():
    sizes = [(100, 100)] * 9 + [(3000, 1000)] * 10
    train = sizes_of(*np.array(sizes, dtype=float).T)
    mediums = np.array(["clay"] * 9 + ["gold"] * 10, dtype=object)
    test = sizes_of([120.0, 2500.0], [110.0, 900.0])
    # 15 neighbours: nine or ten of the near medium, and five or six of the other.
    assert nearest_sizes(train, mediums, test).tolist() == ["clay", "gold"]


def test_the_means_of_classes_are_those_of_all_their_rows(monkeypatch):
    monkeypatch.setattr(moments, "ROWS", 7)
    random = np.random.default_rng(0)
    values = random.standard_normal((50, 3)).astype(np.float32)
    classes = np.append(random.integers(0, 4, 49), 4)  # the last has one row, in the last part
    expected = [values[classes == one].mean(axis=0, dtype=np.float64) for one in range(5)]
    np.testing.assert_allclose(moments.class_means(values, classes), expected, rtol=1e-12)


def test_the_sizes_alone_ask_fifteen_neighbours():
    # The three nearest are of clay, and so are seven of the nearest fifteen; of 16, half.
    sizes = np.geomspace(1000, 2000, 17)
    mediums = np.array(["clay"] * 7 + ["gold"] * 10, dtype=object)
    train = sizes_of(sizes, np.full(17, 1000.0))
    test = sizes_of([1000.0], [1000.0])
    assert nearest_sizes(train, mediums, test).tolist() == ["gold"]
    mediums[7] = "clay"
    assert nearest_sizes(train, mediums, test).tolist() == ["clay"]


def test_the_sizes_alone_stand_fewer_rows_than_neighbours():
    train = sizes_of([1.0, 1.0], [1.0, 1.0])
    found = nearest_sizes(train, np.array(["clay", "clay"], dtype=object), train)
    assert found.tolist() == ["clay", "clay"]


def test_a_shuffled_group_costs_what_the_model_took_from_it():
    rng = np.random.default_rng(0)
    gold = rng.random(400) < 0.5
    mediums = np.where(gold, "gold", "clay").tolist()
    rows = scored(mediums, np.where(gold, 2000, 500))
    (prepared,) = GoldIsWide().prepare([rows.artefacts])
    found = importance(GoldIsWide(), prepared, rows)
    table = found.set_index("group")
    assert list(table.index) == ["embedding", "sizes"]  # the model takes no museum
    assert table.loc["embedding"].tolist() == [0, 0, 0]
    assert table.loc["sizes", "accuracy_drop"] == pytest.approx(0.5, abs=0.06)
    assert table.loc["sizes", "low"] < 0.5 < table.loc["sizes", "high"]


def test_of_many_rows_some_tell_what_a_group_costs(monkeypatch):
    monkeypatch.setattr(evaluation_rows, "SHUFFLED_ROWS", 100)
    gold = np.random.default_rng(0).random(400) < 0.5
    rows = scored(np.where(gold, "gold", "clay").tolist(), np.where(gold, 2000, 500))
    model = GoldIsWide()
    parts = [rows.artefacts.take(slice(start, start + 70)) for start in range(0, 400, 70)]
    found, prepared = score(model, rows, parts)
    assert len(found[PROBABILITIES].probabilities) == 400
    assert len(prepared) == shuffled_rows(400).sum() == 100
    kept = rows.artefacts.take(shuffled_rows(400))
    np.testing.assert_array_equal(prepared.columns["embedding"], kept["embedding"])
    table = importance(model, prepared, found[PROBABILITIES]).set_index("group")
    assert table.loc["sizes", "accuracy_drop"] == pytest.approx(0.5, abs=0.12)
    assert shuffled_rows(100).all()
    assert np.flatnonzero(shuffled_rows(400))[[0, -1]].tolist() == [0, 399]


class GoldIsLarge(GoldIsWide):
    """It says gold where one of the sizes is above 1,000."""

    def __init__(self, *names):
        self.names = names

    def predict_proba(self, artefacts, output=PROBABILITIES):
        large = np.logical_or.reduce([artefacts[name] > 1000 for name in self.names])
        return np.column_stack([~large, large]).astype(np.float32)


@pytest.mark.parametrize("names", [("width",), ("height",), ("width", "height")])
def test_a_group_is_shuffled_as_a_whole(names):
    """Width and height are those of one other row: the large ones stay as many."""
    gold = np.random.default_rng(0).random(400) < 0.5
    sizes = np.where(gold, 2000.0, 500.0)
    rows = scored(np.where(gold, "gold", "clay").tolist(), sizes)
    rows = replace(rows, artefacts=rows.artefacts.with_columns({"height": sizes.copy()}))
    model = GoldIsLarge(*names)
    found, prepared = score(model, rows, [rows.artefacts])
    table = importance(model, prepared, found[PROBABILITIES]).set_index("group")
    # With sizes of two rows, three in four would be large, and fewer than half of clay right.
    assert table.loc["sizes", "accuracy_drop"] == pytest.approx(0.5, abs=0.04)
    assert table.loc["embedding", "accuracy_drop"] == 0


def test_a_shuffled_museum_costs_what_the_model_took_from_it():
    gold = np.random.default_rng(0).random(400) < 0.5
    museums = np.where(gold, "Met", "LACMA").tolist()
    rows = scored(np.where(gold, "gold", "clay").tolist(), [1] * 400, museums)

    class GoldIsAtTheMet(GoldIsWide):
        inputs = ("museum",)
        metadata = MappingProxyType({"kinds": [kind("museum", "museum")]})

        def predict_proba(self, artefacts, output=PROBABILITIES):
            met = artefacts["museum"] == "Met"
            return np.column_stack([~met, met]).astype(np.float32)

    model = GoldIsAtTheMet()
    found, prepared = score(model, rows, [rows.artefacts])
    (line,) = importance(model, prepared, found[PROBABILITIES]).itertuples()
    assert line.group == "museum"
    assert line.accuracy_drop == pytest.approx(0.5, abs=0.06)


def test_reliability_compares_each_bins_probability_with_its_share_of_right_answers():
    class Sure(GoldIsWide):
        def predict_proba(self, artefacts):
            gold = np.array([0.9, 0.92, 0.2, 0.6], dtype=np.float32)
            return np.column_stack([1 - gold, gold])

    rows = scored(["gold", "clay", "clay", "gold"], [1] * 4, model=Sure())
    found = reliability(rows, LABELS)
    expected = [[0.6, 1, 1], [0.8, 1, 1], [0.91, 0.5, 2]]
    np.testing.assert_allclose(found[["confidence", "accuracy", "rows"]], expected, rtol=1e-6)
    # One row is right or wrong; of two at 91 %, both may well be right, and seldom neither.
    assert found["low"].tolist() == [0, 0, 0.5]
    assert found["high"].tolist() == [1, 1, 1]


@pytest.mark.usefixtures("stage_folder")
def test_near_duplicates_are_the_rows_whose_nearest_training_row_is_very_much_alike():
    rows = [("a", 0.81), ("b", None), ("c", 0.79), ("d", 1.0), ("e", -1.0)]
    schema = split_schema("file")
    table = pa.Table.from_pylist(
        [
            {"image_file": name, "subset": "test", "nearest_train_cosine": cosine}
            for name, cosine in rows
        ],
        schema=schema,
    )
    write_batches(SPLIT, schema, table.to_batches())
    asked = np.array(["d", "a", "b", "c", "e"], dtype=object)
    assert near_duplicates(asked).tolist() == [True, True, False, False, False]


WIDTHS = np.arange(1.0, 8.0)
SUBSET_OF = dict(
    zip("abcdefg", ["val", "test", "train", "val", "train", "test", "val"], strict=True)
)


class WidthsAndFirstNumbers:
    """In place of probabilities, the widths and the first numbers of the embeddings."""

    labels = ["clay", "gold"]  # noqa: RUF012
    outputs = (PROBABILITIES,)

    def prepare(self, batches):
        artefacts = Artefacts.join([batch for batch in batches if len(batch)])
        yield Prepared(artefacts, {}, self.predict_proba)

    def __init__(self, embedding_length):
        self.embedding_length = embedding_length
        self.inputs = ["width", "embedding"] if embedding_length else ["width"]

    def predict_proba(self, artefacts, output=PROBABILITIES):
        first = np.zeros(len(artefacts))
        if "embedding" in artefacts:
            first = artefacts["embedding"][:, 0]
        return np.column_stack([artefacts["width"], first])


def write_table(length, mediums=("clay",) * 7, identity=None):
    """A table of seven artefacts in row groups of two."""
    schema = artefacts_schema("file", length)
    if identity:
        schema = schema.with_metadata(schema.metadata | {"embedding": json.dumps(identity)})
    columns = {name: pa.nulls(7, type_) for name, type_ in METADATA.items()}
    columns |= {"image_file": pa.array(list("abcdefg")), "width": pa.array(WIDTHS)}
    columns |= {"height": pa.array(WIDTHS), "medium": pa.array(mediums)}
    if length:
        embedding = np.repeat(-WIDTHS[:, None], length, axis=1).astype(np.float32)
        columns["embedding"] = fixed_size_list(embedding)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
    write_batches(ARTEFACTS, schema, [batch], row_group_rows=2)


def scored_rows_of(subset, model):
    rows = read_rows(subset, model, SUBSET_OF)
    return score(model, rows, read_inputs(subset, model, SUBSET_OF))[0][PROBABILITIES]


@pytest.mark.parametrize(("subset", "widths"), [("val", [1, 4, 7]), ("test", [2, 6])])
def test_the_rows_of_a_subset_are_scored_in_their_order(stage_folder, subset, widths):
    write_table(length=3)
    model = WidthsAndFirstNumbers(3)
    found = scored_rows_of(subset, model)
    assert found.probabilities.tolist() == [[width, -width] for width in widths]
    assert found.artefacts["width"].tolist() == widths
    assert found.image_files.tolist() == ["abcdefg"[width - 1] for width in widths]
    assert found.mediums.tolist() == ["clay"] * len(widths)
    assert found.artefacts["museum"].tolist() == [""] * len(widths)  # the table has none
    # Texts of fixed width would take the memory of the longest for each row.
    for texts in (found.artefacts["museum"], found.mediums, found.image_files):
        assert texts.dtype == object


def test_a_model_of_sizes_alone_is_given_no_embeddings(stage_folder):
    write_table(length=3)
    model = WidthsAndFirstNumbers(None)
    found = scored_rows_of("test", model)
    assert found.probabilities.tolist() == [[2, 0], [6, 0]]


def write_val(image_files, probabilities):
    schema = val_probabilities_schema("file", LABELS, [PROBABILITIES])
    columns = [pa.array(image_files), fixed_size_list(np.array(probabilities, np.float32))]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    write_batches(VAL_PROBABILITIES, schema, [batch])


def test_val_has_the_probabilities_that_train_wrote(stage_folder):
    write_table(length=3)
    write_val(["a", "d", "g"], [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    found = read_val(WidthsAndFirstNumbers(3), SUBSET_OF)[PROBABILITIES]
    np.testing.assert_allclose(found.probabilities[:, 0], [0.1, 0.2, 0.3], atol=1e-6)
    assert found.artefacts["width"].tolist() == [1, 4, 7]


def test_a_row_without_an_answer_is_named():
    class Silent(GoldIsWide):
        def predict_proba(self, artefacts, output=PROBABILITIES):
            found = super().predict_proba(artefacts)
            found[2] = np.nan
            return found

    with pytest.raises(PipelineError, match=r"no answer to 1 of these rows, the first is 2\.jpg"):
        score(Silent(), TEST, [TEST.artefacts])


def test_probabilities_of_other_rows_than_val_are_refused(stage_folder):
    write_table(length=3)
    write_val(["a", "g", "d"], [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    with pytest.raises(PipelineError, match="is of other rows than val: run `dvc repro`"):
        read_val(WidthsAndFirstNumbers(3), SUBSET_OF)


def test_a_model_of_embeddings_is_refused_for_a_table_without(stage_folder):
    write_table(length=None)
    with pytest.raises(PipelineError, match="trained on embeddings, and the table has none: run"):
        read_rows("test", WidthsAndFirstNumbers(3), SUBSET_OF)


def test_a_word_that_is_empty_is_refused(set_params):
    set_params(**{"evaluate.groups": ""})
    with pytest.raises(ParameterError, match=r"`evaluate\.groups` should be a word, not ''"):
        load_params(STAGE, Params)


ONE, OTHER = {"network": "one"}, {"network": "other"}


@pytest.mark.parametrize(
    ("of_model", "of_table", "said"),
    [(ONE, ONE, False), (None, ONE, False), (None, None, False), (ONE, None, True)],
)
def test_the_log_says_when_only_the_model_knows_what_made_its_embeddings(
    stage_folder, capsys, of_model, of_table, said
):
    write_table(length=3, identity=of_table)
    model = WidthsAndFirstNumbers(3)
    model.metadata = {"embedding": of_model}
    check_embedding(model)
    assert ("does not say what made its embeddings" in capsys.readouterr().out) == said


def test_embeddings_of_another_network_are_refused(stage_folder):
    write_table(length=3, identity=OTHER)
    model = WidthsAndFirstNumbers(3)
    model.metadata = {"embedding": ONE}
    with pytest.raises(
        PipelineError, match=r"\(network one\) than the table has \(network other\)"
    ):
        check_embedding(model)


def test_a_label_that_the_model_does_not_know_is_named(stage_folder):
    write_table(length=3, mediums=["clay", "jade", "clay", "clay", "clay", "iron", "clay"])
    with pytest.raises(PipelineError, match=r"not know the label iron of test .*know: 2\)"):
        read_rows("test", WidthsAndFirstNumbers(3), SUBSET_OF)


def test_a_subset_without_rows_is_refused(stage_folder):
    write_table(length=3)
    with pytest.raises(PipelineError, match="no rows are in test"):
        read_rows("test", WidthsAndFirstNumbers(3), dict.fromkeys("abcdefg", "train"))


def test_rows_that_were_set_aside_are_counted_once_and_their_rules_each():
    quarantine = pd.DataFrame({"row": [3, 3, 8], "rule": ["width", "height", "width"]})
    assert count_quarantined(quarantine) == {"rows": 2, "height": 1, "width": 2}
    assert count_quarantined(quarantine.head(0)) == {"rows": 0}


ACTUAL = ["bronze", "bronze", "clay", "clay"]
ANSWERS = np.array([[0.9, 0, 0.1], [0.3, 0, 0.7], [0, 1, 0], [0, 0.8, 0.2]], dtype=np.float32)
THREE = ["bronze", "clay", "gold"]


@pytest.fixture
def four_rows():
    return replace(scored(ACTUAL, [1] * 4), probabilities=ANSWERS)


def test_confusion_counts_hold_every_pair(four_rows):
    counts = confusion_counts(four_rows, THREE)
    assert list(counts.columns) == ["actual", "predicted", "count"]
    assert len(counts) == 9
    found = counts.set_index(["actual", "predicted"])["count"]
    assert found[("bronze", "bronze")] == 1
    assert found[("bronze", "gold")] == 1
    assert found[("clay", "clay")] == 2
    assert found.sum() == 4


def test_of_many_labels_the_confusions_are_those_that_occur(four_rows, monkeypatch):
    every = confusion_counts(four_rows, THREE)
    monkeypatch.setattr(plots, "MOST_PAIRED", 2)
    some = confusion_counts(four_rows, THREE)
    # The diagonal, and the one mistake.
    assert len(some) == 4
    kept = every[(every["count"] > 0) | (every["actual"] == every["predicted"])]
    pd.testing.assert_frame_equal(some, kept.reset_index(drop=True))


def test_per_class_metrics_divide_by_the_right_sums(four_rows, recwarn):
    table = per_class(four_rows, THREE).set_index("medium")
    assert table["rows"].to_dict() == {"bronze": 2, "clay": 2, "gold": 0}
    assert table.loc["bronze", ["precision", "recall", "f1"]].tolist() == [1, 0.5, 2 / 3]
    for medium, hits, either in (("bronze", 1, 2), ("clay", 2, 2)):
        ends = table.loc[medium, ["recall_low", "recall_high"]].tolist()
        assert ends == pytest.approx(wilson(np.array(hits), np.array(2)))
        ends = table.loc[medium, ["f1_low", "f1_high"]].tolist()
        assert ends == pytest.approx(f1_interval(np.array(hits), np.array(either)))
        assert ends[0] < table.loc[medium, "f1"] <= ends[1]
    # Nothing can be said about a label without rows, and no division warns of it.
    assert table.loc["gold"].drop("rows").isna().all()
    assert not list(recwarn)


@pytest.mark.usefixtures("stage_folder")
def test_predictions_are_kept_with_their_labels_and_source():
    write_predictions(
        "file", LABELS, "1234", {"val": {PROBABILITIES: VAL}, "test": {PROBABILITIES: TEST}}
    )
    table = pq.read_table(PREDICTIONS)
    assert table.schema.metadata == {
        b"source": b"file",
        b"labels": b'["clay", "gold"]',
        b"model": b"1234",
    }
    assert table["subset"].to_pylist() == ["val"] * 3 + ["test"] * 4
    assert table["medium"].to_pylist() == [*VAL.mediums, *TEST.mediums]
    assert table["museum"].to_pylist()[3:] == ["Met", "Met", "LACMA", ""]
    ids = table["museum_based_instance_id"].to_pylist()
    assert ids == [f"no. {i}" for count in (3, 4) for i in range(count)]
    expected = np.concatenate([VAL.probabilities, TEST.probabilities])
    np.testing.assert_allclose(matrix(table["probabilities"]), expected, atol=1e-6)


@pytest.mark.usefixtures("stage_folder")
def test_the_first_two_answers_stand_in_the_table_with_their_probabilities(four_rows):
    # Two that are equal: the answer is the one that comes first, as in the metrics.
    probabilities = np.vstack([ANSWERS[:3], np.float32([0.4, 0.2, 0.4])])
    rows = replace(four_rows, probabilities=probabilities)
    write_predictions("file", THREE, "1234", {"val": {PROBABILITIES: rows}})
    table = pq.read_table(PREDICTIONS).to_pydict()
    assert table["predicted"] == ["bronze", "gold", "clay", "bronze"]
    assert table["second"] == ["gold", "bronze", "bronze", "gold"]
    assert table["probability"] == np.float32([0.9, 0.7, 1, 0.4]).tolist()
    assert table["second_probability"] == np.float32([0.1, 0.3, 0, 0.4]).tolist()


@pytest.mark.usefixtures("stage_folder")
def test_an_answer_is_the_one_that_the_metrics_count_where_rounding_makes_two_equal():
    probabilities = np.tile(np.float32([0.4999998, 0.5000002]), (4, 1))
    rows = replace(TEST, probabilities=probabilities)
    write_predictions("file", LABELS, "1234", {"test": {PROBABILITIES: rows}})
    table = pq.read_table(PREDICTIONS).to_pydict()
    assert table["predicted"] == [LABELS[place] for place in rows.best] == ["gold"] * 4
    assert table["probability"] == table["second_probability"] == [0.5] * 4


@pytest.mark.usefixtures("stage_folder")
def test_predictions_are_rounded_to_six_decimals():
    rows = replace(TEST, probabilities=np.array([[1 / 3, 2 / 3]] * 4, dtype=np.float32))
    write_predictions("file", LABELS, "1234", {"test": {PROBABILITIES: rows}})
    found = matrix(pq.read_table(PREDICTIONS)["probabilities"])
    assert found[0].tolist() == [np.float32(0.333333), np.float32(0.666667)]
