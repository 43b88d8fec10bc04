"""The model's file says what it is and takes what it should, and its card tells the truth."""

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT
from onnx.reference import ReferenceEvaluator
from ruamel.yaml import YAML
from test_models import (
    ALONE,
    artefacts,
    file_of,
    fit,
    fit_blend,
    fit_on,
    fit_whole,
    made_up,
    members,
    metadata_of,
    strangers,
)

from stages import train
from stages.common.errors import PipelineError
from stages.common.params import ParameterError
from stages.evaluate import kernel_functions
from stages.evaluation.model_card import model_card
from stages.features.transformer import TRANSFORMER
from stages.featurize import Params as FeaturizeParams
from stages.featurize import fit as fit_transformer
from stages.model_file import scoring
from stages.model_file.graph import Graph
from stages.model_file.interface import (
    MEDIUM,
    MODEL,
    PROBABILITIES,
    PROBABILITIES_WITHOUT_SIZES,
    TRAINING_CURVE,
)
from stages.model_file.scoring import ModelFile, check_same_embedding
from stages.model_file.words import Words
from stages.models.base import CURVE_COLUMNS
from stages.models.calibration import cross_fitted, fit_temperature
from stages.models.file import model_bytes
from stages.models.kernel_ridge import TRIED
from stages.models.linear import Linear
from stages.models.registry import MODELS
from stages.tables.artefacts import Artefacts
from stages.tables.features import features_path, features_schema
from stages.tables.parquet import fixed_size_list, matrix, write_batches
from stages.tables.val_probabilities import VAL_PROBABILITIES

LABELS = ['"quoted", and a comma', "<b>gold</b> & silver", "faïence 陶", "it's\\slashed\n{0}"]


@pytest.fixture(scope="module")
def everything():
    """The bytes of an ensemble of all models, whose mediums have awkward names."""
    data = made_up()
    model, _ = fit("ensemble", **members(**dict.fromkeys(ALONE, "all")))
    metadata = metadata_of(data.transformer, LABELS)
    return model_bytes(data.transformer, {PROBABILITIES: (model, 1.5)}, metadata)


@pytest.fixture
def path(everything, tmp_path):
    (tmp_path / "model.onnx").write_bytes(everything)
    return tmp_path / "model.onnx"


def test_an_operator_may_have_several_outputs():
    graph = Graph()
    values = graph.input("values", np.float32, 4)
    count = graph.constant(np.array([2]))
    smallest, places = graph.add_all("TopK", values, count, outputs=2, axis=1, largest=0)
    graph.output("smallest", smallest, np.float32, 2)
    graph.output("places", places, np.int64, 2)
    content = graph.to_bytes({}, "")
    feed = {"values": np.array([[3, 1, 2, 0], [0, 5, 4, 9]], dtype=np.float32)}
    evaluator = ReferenceEvaluator(onnx.load_from_string(content), new_ops=scoring.OWN_OPERATORS)
    for run in (evaluator.run, onnxruntime.InferenceSession(content).run):
        found = run(["smallest", "places"], feed)
        assert [part.tolist() for part in found] == [[[0, 1], [0, 4]], [[3, 1], [0, 2]]]


def test_the_names_of_mediums_survive_whatever_is_in_them(path):
    model, (new, _) = ModelFile(path), strangers()
    assert model.labels == LABELS
    (mediums,) = onnxruntime.InferenceSession(path).run([MEDIUM], new.columns)
    found = model.predict_proba(new).argmax(axis=1)
    assert set(found) == {0, 1, 2, 3}
    assert mediums.tolist() == [LABELS[class_] for class_ in found]


def test_the_file_holds_standard_operators_alone(everything):
    model = onnx.load_from_string(everything)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}
    assert not model.functions


def test_the_file_names_its_inputs_outputs_and_any_number_of_rows(path):
    model = ModelFile(path)
    assert model.inputs == ["embedding", "width", "height", "museum"]
    assert model.embedding_length == 6
    session = onnxruntime.InferenceSession(path)
    shapes = {node.name: node.shape for node in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes == {
        "embedding": ["rows", 6],
        "width": ["rows"],
        "height": ["rows"],
        "museum": ["rows"],
        "probabilities": ["rows", 4],
        "medium": ["rows"],
    }


@pytest.mark.parametrize("rows", [1, 7, 239, 240])
def test_rows_that_are_scored_in_batches_have_the_same_probabilities(path, rows, monkeypatch):
    model, (new, _) = ModelFile(path), strangers()
    expected = model.predict_proba(new)
    monkeypatch.setattr(scoring, "BATCH_ROWS", rows)
    np.testing.assert_allclose(model.predict_proba(new), expected, rtol=0, atol=5e-6)


def test_no_rows_have_no_probabilities(path):
    none = strangers()[0].take(slice(0))
    found = ModelFile(path).predict_proba(none)
    assert found.shape == (0, 4)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("embedding", "found"), [(np.zeros((1, 5), dtype=np.float32), "length 5"), (None, "none")]
)
def test_embeddings_of_another_length_are_refused(path, embedding, found):
    columns = {"width": np.ones(1), "height": np.ones(1), "museum": np.array(["LACMA"])}
    other = Artefacts(columns | ({} if embedding is None else {"embedding": embedding}))
    with pytest.raises(
        PipelineError, match=f"takes embeddings of length 6, but the table has {found}$"
    ):
        ModelFile(path).predict_proba(other)


def test_a_model_of_sizes_alone_takes_a_table_without_embeddings(tmp_path):
    model, new = linear_file(tmp_path / "model.onnx", embedding="none", museum=False)
    without = Artefacts({name: new[name] for name in ("width", "height")})
    assert model.embedding_length is None
    np.testing.assert_array_equal(model.predict_proba(without), model.predict_proba(new))


BAD_SIZES = [0.0, -3.0, np.nan, np.inf, -np.inf]
BAD_NUMBERS = [np.nan, np.inf, -np.inf]


EMBEDDINGS = [
    *({"embedding": embedding} for embedding in ("raw", "standardize", "power", "pca")),
    {"embedding": "pca", "whitening": 0.25, "unit_length": True},
]


@pytest.mark.parametrize("chosen", EMBEDDINGS, ids=str)
def test_a_row_that_cannot_be_used_has_no_answer_and_harms_no_other(tmp_path, chosen, recwarn):
    path = tmp_path / "model.onnx"
    model, rows = linear_file(path, **chosen)
    good = model.predict_proba(rows)
    bad = {}
    for place, value in enumerate(BAD_SIZES):
        rows["width"][place], rows["height"][10 + place] = value, value
        bad |= {place: value, 10 + place: value}
    for place, value in enumerate(BAD_NUMBERS):
        rows["embedding"][20 + place, 3] = value
        bad[20 + place] = value
    usable = ~np.isin(np.arange(len(good)), list(bad))
    by_numpy = model.predict_proba(rows)
    by_runtime, mediums = onnxruntime.InferenceSession(path).run(None, rows.columns)
    for found in (by_numpy, by_runtime):
        assert np.isnan(found[~usable]).all()
        np.testing.assert_allclose(found[usable], good[usable], rtol=0, atol=1e-5)
    assert (mediums == "").tolist() == (~usable).tolist()
    assert set(mediums[usable]) <= set(LABELS)
    assert not list(recwarn)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("embedding", ["raw", "standardize", "power", "pca"])
def test_a_row_that_overflows_on_the_way_has_no_answer_either(tmp_path, embedding):
    path = tmp_path / "model.onnx"
    model, rows = linear_file(path, embedding=embedding)
    rows["embedding"][:2] = [[3e38], [-3e38]]
    by_numpy = model.predict_proba(rows)
    by_runtime, mediums = onnxruntime.InferenceSession(path).run(None, rows.columns)
    unanswered = mediums == ""
    assert unanswered[:2].any()
    assert not unanswered[2:].any()
    for found in (by_numpy, by_runtime):
        assert (np.isnan(found).all(axis=1) == unanswered).all()
        assert np.isfinite(found[~unanswered]).all()


def test_whatever_is_above_0_is_a_size(tmp_path):
    model, rows = linear_file(tmp_path / "model.onnx")
    rows["width"][:3], rows["height"][3:6] = (1, 0.5, 1e-9), (1, 0.5, 1e-9)
    assert np.isfinite(model.predict_proba(rows)).all()


def test_trees_give_no_answer_for_a_size_that_is_none_either(tmp_path):
    data = made_up()
    path = tmp_path / "model.onnx"
    trees = fit_blend(data.train, data.val, **members(xgboost="metadata")).model
    path.write_bytes(file_of(trees))
    rows, _ = artefacts()
    rows["width"][7] = np.nan
    probabilities, mediums = onnxruntime.InferenceSession(path).run(None, rows.columns)
    assert np.flatnonzero(np.isnan(probabilities).any(axis=1)).tolist() == [7]
    assert np.flatnonzero(mediums == "").tolist() == [7]


def another_model():
    graph = Graph()
    graph.output("y", graph.input("x", np.float32), np.float32, None)
    return graph


def with_labels(text):
    model = onnx.load_from_string(another_model().to_bytes({}, ""))
    onnx.helper.set_model_props(model, {"labels": text})
    return model.SerializeToString()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"labels\n",
        b'{"kind": "xgboost"}',
        another_model().to_bytes({}, ""),
        another_model().to_bytes({"classes": ["a"]}, ""),
        with_labels("gold, silver"),
    ],
    ids=["empty", "text", "json", "no metadata", "other metadata", "labels that are no JSON"],
)
def test_a_file_that_is_no_model_of_ours_is_refused(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(PipelineError, match=r"it is no model of this pipeline as it is now: run"):
        ModelFile(tmp_path / "model.onnx")


def test_half_a_file_is_refused(everything, tmp_path):
    (tmp_path / "model.onnx").write_bytes(everything[: len(everything) // 2])
    with pytest.raises(PipelineError, match=r"model.onnx cannot be used"):
        ModelFile(tmp_path / "model.onnx")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"there is no .*model\.onnx: "):
        ModelFile(tmp_path / "model.onnx")


def write_features(data, source="file"):
    """Write what `train` reads."""
    for subset in ("train", "val"):
        rows = getattr(data, subset)
        schema = features_schema(source, rows.names)
        columns = [
            pa.array([f"{subset}-{number}.jpg" for number in range(len(rows.classes))]),
            pa.array([LABELS[class_] for class_ in rows.classes]),
            fixed_size_list(rows.values),
        ]
        write_batches(
            features_path(subset), schema, [pa.RecordBatch.from_arrays(columns, schema=schema)]
        )
    data.transformer.save(TRANSFORMER)


@pytest.fixture
def train_on(set_params):
    """A function that runs the stage `train`, without a refit, and loads its model."""

    def run(data, **params):
        write_features(data)
        params = {"refit_on_val": False, "ensemble.lda.features": "all"} | params
        set_params(**{f"train.{key}": value for key, value in params.items()})
        train.main()
        return ModelFile(MODEL)

    return run


def test_the_metadata_says_what_was_fitted_on_what(train_on):
    data = made_up(noise=3.0)
    model = train_on(data, **{"model": "lda", "ensemble.lda.shrinkage": 0.25, "seed": 7})
    found = model.metadata
    assert set(found) == {
        "labels",
        "feature_names",
        "kinds",
        "embedding",
        "source",
        "model",
        "models",
        "parameters",
        "answers",
        "training_rows",
        "rows_used",
        "chosen",
        "val_rows",
        "calibrating_rows",
        "few_calibrating_rows",
    }
    assert found["labels"] == model.labels == LABELS
    assert found["feature_names"] == data.train.names
    assert found["source"] == "file"
    assert found["model"] == "lda"
    assert found["models"] == ["ensemble", *MODELS]
    assert found["parameters"] == {
        "model": "lda",
        "seed": 7,
        "device": "cpu",
        "class_weight": "none",
        "refit_on_val": False,
        "without_sizes": True,
        "sure_accuracy": 0.95,
        "lda": {"features": "all", "shrinkage": 0.25},
    }
    assert (found["training_rows"], found["rows_used"]) == (120, {"lda": 120})
    assert found["chosen"] == {}
    assert (found["val_rows"], found["calibrating_rows"]) == (120, 120)
    assert found["few_calibrating_rows"] is False
    curve = TRAINING_CURVE.read_text().splitlines()
    assert curve[0] == ",".join(CURVE_COLUMNS)
    assert len(curve) == 2


def read_val_probabilities():
    table = pq.read_table(VAL_PROBABILITIES)
    assert table.schema.metadata[b"labels"].decode() == json.dumps(LABELS, ensure_ascii=False)
    return table["image_file"].to_pylist(), matrix(table["probabilities"])


def test_what_is_said_of_val_is_cross_fitted(train_on):
    data = made_up(noise=3.0)
    model = train_on(data, model="lda")
    image_files, found = read_val_probabilities()
    assert image_files == [f"val-{number}.jpg" for number in range(120)]
    fitted = fit_whole("lda", data.train, data.val)
    expected = cross_fitted(fitted.without_fold, data.val.classes, np.ones(120))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    # Not rounded: the loss of what is very improbable would be another.
    assert (found == expected.astype(np.float32)).all()
    # The model itself has seen all of val when it decided how sure to be.
    answered = model.predict_proba(artefacts(draw=2, noise=3.0)[0])
    assert np.abs(found - answered).max() > 1e-3
    assert (found.argmax(axis=1) == answered.argmax(axis=1)).all()


def test_a_small_val_is_said_to_be_too_small(train_on, capsys):
    sentence = "too few to calibrate well: how sure the model is may be off"
    few = train_on(made_up(4, (30, 30, 30, 9)), model="lda")
    assert f"99 rows are {sentence}" in capsys.readouterr().out
    enough = train_on(made_up(4, (30, 30, 30, 10)), model="lda")
    assert sentence not in capsys.readouterr().out
    for model, said in ((few, True), (enough, False)):
        card = card_of(metadata=model.metadata)
        assert ("The probabilities rest on 99 rows, too few to calibrate" in card) == said


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_the_probabilities_are_calibrated_on_val(train_on, class_weight):
    data = made_up(4, (50, 20, 40, 10), 3.0)
    chosen = {"model": "lda", "class_weight": class_weight, "ensemble.lda.shrinkage": 0.1}
    found = train_on(data, **chosen).metadata["answers"][PROBABILITIES]["temperature"]
    model, _ = fit("lda", data=data, class_weight=class_weight, shrinkage=0.1)
    logits, classes = model.logits(data.val.values), data.val.classes
    expected = fit_temperature(logits, classes, data.val.row_weights(class_weight))
    assert found == pytest.approx(expected, rel=1e-6)
    other = {"none": "balanced", "balanced": "none"}[class_weight]
    weights = data.val.row_weights(other)
    assert found != pytest.approx(fit_temperature(logits, classes, weights), rel=1e-2)


@pytest.mark.parametrize("kind", ["lda", "xgboost"])
def test_a_refit_learns_from_val_too_and_says_of_val_what_it_said_before(train_on, kind):
    data, new = made_up(noise=3.0), strangers()[0]
    small = {"rounds": 20, "early_stopping_rounds": 2, "max_depth": 2, "learning_rate": 0.5}
    chosen = {f"xgboost.{key}": value for key, value in small.items()}
    once = train_on(data, model=kind, **chosen)
    said = read_val_probabilities()[1]
    twice = train_on(data, model=kind, refit_on_val=True, **chosen)
    assert (once.metadata["training_rows"], twice.metadata["training_rows"]) == (120, 240)
    assert twice.metadata["rows_used"] == {kind: 240}
    np.testing.assert_array_equal(read_val_probabilities()[1], said)
    assert twice.metadata["answers"] == once.metadata["answers"]
    section = once.metadata["parameters"][kind]
    first, _ = fit_on(kind, data.train, data.val, **section)
    both = data.train.join(data.val)
    again, _ = fit_on(kind, both, None, tuned=first.tuned, **section)
    path = MODEL.with_name("expected.onnx")
    temperature = once.metadata["answers"][PROBABILITIES]["temperature"]
    path.write_bytes(file_of(again, temperature=temperature, data=data))
    expected = ModelFile(path).predict_proba(new)
    np.testing.assert_allclose(twice.predict_proba(new), expected, rtol=0, atol=1e-6)
    assert np.abs(once.predict_proba(new) - expected).max() > 1e-3


def test_a_refit_with_functions_around_some_rows_learns_from_all(train_on, capsys):
    few = {"ensemble.kernel_ridge.most_rows": 130, "ensemble.kernel_ridge.centres": 40}
    model = train_on(made_up(noise=3.0), model="kernel_ridge", refit_on_val=True, **few)
    assert "solving for 240 rows, more than `most_rows`" in capsys.readouterr().out
    card = card_of(metadata=model.metadata)
    assert "Fitted on 240 rows of train and val." in card
    assert kernel_functions(model.metadata) == 40
    # The parameters say what was asked for, and this what it has become.
    assert model.metadata["parameters"]["kernel_ridge"]["gamma"] == "auto"
    chosen = model.metadata["chosen"]["kernel_ridge"]
    assert {name for name, value in chosen.items() if value in TRIED[name]} == {"gamma", "penalty"}


def test_one_medium_is_nothing_to_tell_apart(train_on):
    with pytest.raises(PipelineError, match="have one label only, so there is nothing to tell"):
        train_on(made_up(1, (30,)), model="lda")


def test_wrong_members_of_an_ensemble_are_refused_before_any_data_is_read(set_params):
    section = {"features": "all", "shrinkage": 2.0}
    set_params(**{"train.model": "ensemble", "train.ensemble": {"lda": section}})
    with pytest.raises(ParameterError, match=r"`train\.ensemble\.lda\.shrinkage`"):
        train.main()


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("xgbost", "unknown key `train.xgbost`, did you mean `xgboost`?"),
        ("ensembel", "unknown key `train.ensembel`, did you mean `ensemble`?"),
        ("sed", "unknown key `train.sed`, did you mean `seed`?"),
    ],
)
def test_a_misspelt_key_is_named_with_the_one_that_is_meant(set_params, key, sentence):
    set_params(**{f"train.{key}": {"features": "all"}})
    with pytest.raises(ParameterError, match=re.escape(sentence)):
        train.main()


def test_a_model_with_two_sections_is_refused(set_params):
    section = {"features": "all", "shrinkage": 0.1}
    set_params(**{"train.lda": section, "train.ensemble": {"lda": section}})
    with pytest.raises(ParameterError, match=r"lda has two: `train\.lda` and `train\.ensemble\.l"):
        train.main()


def test_the_card_says_what_was_measured_of_the_probabilities():
    assert "On test, the probabilities are off by more than chance explains." in card_of()
    test = METRICS["test"] | {"calibration_error": 0.03}
    card = card_of({**METRICS, "test": test})
    assert "On test, the probabilities are as right as chance can tell." in card


def test_a_model_without_a_section_is_named(set_params):
    set_params(**{"train.model": "lda", "train.ensemble": {}})
    with pytest.raises(ParameterError, match=r"is lda, and neither `train` nor `train\.ens"):
        train.main()


def kind(name, *inputs, limit=None):
    return {"name": name, "inputs": list(inputs), "limit": limit}


def column(name, type_="float64", example=1.5, length=None):
    words = f"the {name} that the {{group}} gives"
    return {"name": name, "type": type_, "words": words, "example": example, "length": length}


KINDS = [
    kind("embedding", column("embedding", "float32", None, 6), limit="Not for each {label}."),
    kind("sizes"),
    kind("Year {born}", column("Year {born}", example=1888.0), limit="{groups} count years."),
]
METADATA = {
    "labels": LABELS,
    "kinds": KINDS,
    "embedding": None,
    "feature_names": [f"embedding_{i}" for i in range(6)],
    "source": "synthetic",
    "model": "lda",
    "parameters": {"refit_on_val": False},
    "training_rows": 12345,
    "rows_used": {"lda": 12345},
    "chosen": {},
    "val_rows": 678,
    "calibrating_rows": 678,
    "few_calibrating_rows": False,
    "answers": {
        PROBABILITIES: {
            "members": [],
            "sure": {"accuracy": 0.9, "threshold": 0.7654, "share": 0.43},
        },
        PROBABILITIES_WITHOUT_SIZES: {"sure": {"accuracy": 0.9, "threshold": 0.8, "share": 0.4}},
    },
}
METRICS = {
    "test": {
        "accuracy": 0.61,
        "macro_f1": 0.62,
        "log_loss": 1.63,
        "balanced_accuracy": 0.64,
        "top3_accuracy": 0.65,
        "top5_accuracy": 0.66,
        "calibration_error": 0.067,
    },
    "baseline": {"majority": {"accuracy": 0.11}},
}
DETAILS = {
    "test_interval": {
        "accuracy": {"low": 0.51, "high": 0.71},
        "balanced_accuracy": {"low": 0.54, "high": 0.74},
        "macro_f1": {"low": 0.52, "high": 0.72},
        "top3_accuracy": {"low": 0.55, "high": 0.75},
        "top5_accuracy": {"low": 0.56, "high": 0.76},
        "log_loss": {"low": 1.53, "high": 1.73},
    },
    "test_if_calibrated": {"calibration_error": {"mean": 0.0234, "high": 0.03}},
    "test_sure": {
        "rows": 40,
        "share": 0.41,
        "accuracy": 0.92,
        "accuracy_low": 0.9,
        "accuracy_high": 0.94,
    },
    "test_without_sizes": {
        "rows": 99,
        "accuracy": 0.58,
        "accuracy_low": 0.5,
        "accuracy_high": 0.6,
    },
}
WORDS = Words("artist", "artists", "dealer", "dealers")


CURVE = pd.DataFrame({"val_log_loss": [0.9, 0.7, 0.71], "val_accuracy": [0.5, 0.6, 0.61]})


def card_of(metrics=METRICS, details=DETAILS, metadata=METADATA, words=WORDS):
    return model_card(metrics, details, metadata, CURVE, words)


def header_of(card):
    _, header, _ = card.split("---\n", 2)
    return YAML(typ="safe").load(header)


def test_the_card_begins_with_what_model_hubs_read():
    header = header_of(card_of())
    assert header["license"] == "mit"
    assert (PROJECT / "LICENSE").read_text().startswith("MIT License")
    assert header["library_name"] == "onnx"
    assert header["pipeline_tag"] == "tabular-classification"
    assert header["metrics"] == ["accuracy", "f1", "log_loss"]
    (model,) = header["model-index"]
    assert model["name"] == "artist-classifier"
    (result,) = model["results"]
    assert result["task"] == {"type": header["pipeline_tag"]}
    assert (result["dataset"]["type"], result["dataset"]["split"]) == ("synthetic", "test")
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert found == {"accuracy": 0.61, "f1": 0.62, "log_loss": 1.63}


@pytest.mark.parametrize("source", ["synthetic", "mame", "file"])
def test_the_tags_of_the_card_say_that_data_was_simulated(source):
    header = header_of(card_of(metadata=METADATA | {"source": source}))
    assert ("synthetic" in header["tags"]) == (source == "synthetic")


def test_the_header_of_the_card_stands_awkward_words():
    words = replace(WORDS, label='the: "maker" # one')
    name = header_of(card_of(words=words))["model-index"][0]["name"]
    assert name == 'the:-"maker"-#-one-classifier'


def test_the_card_calls_labels_and_groups_what_the_parameters_call_them():
    card = card_of()
    assert "\n# Artist classifier\n\nTells the artist of an artefact, one of 4, from" in card
    assert "For the photographs of another dealer they may be too sure." in card
    assert "\n- Not for each artist.\n- dealers count years.\n" in card
    assert "museum" not in card.replace("museum photographs", "")
    # What the model's outputs are called stays.
    assert "probabilities, medium = model.run(" in card


def test_the_card_says_what_made_the_embeddings_where_that_is_known():
    real = METADATA | {"embedding": ONE, "source": "file"}
    written = "made with: network MobileNetV1, weights course, pooling mean, resize 224."
    assert f"The embeddings were {written}" in card_of(metadata=real)
    synthetic = real | {"source": "synthetic"}
    assert f"The simulation imitates embeddings {written}" in card_of(metadata=synthetic)
    assert "made with" not in card_of()


ONE = {"network": "MobileNetV1", "weights": "course", "pooling": "mean", "resize": "224"}


def test_embeddings_of_another_network_are_refused_and_the_difference_is_named():
    other = ONE | {"weights": "keras"}
    with pytest.raises(PipelineError) as refused:
        check_same_embedding(ONE, other)
    assert str(refused.value) == (
        "the model takes embeddings of another kind (weights course) than the table has (weights "
        "keras)"
    )


@pytest.mark.parametrize(
    ("model", "table"),
    [(ONE, ONE), (None, ONE), (ONE, None), (None, None), (ONE | {"fit": "crop"}, ONE)],
)
def test_embeddings_are_accepted_where_they_are_the_same_or_nobody_knows(model, table):
    check_same_embedding(model, table)


def test_the_card_has_the_metrics():
    distinct = {"test_without_near_duplicates": {"rows": 4321, "accuracy": 0.57}}
    card = card_of(details=DETAILS | distinct)
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert rows == [
        "| metric | value | 95 % interval |",
        "| accuracy | 0.6100 | 0.5100 to 0.7100 |",
        "| balanced accuracy | 0.6400 | 0.5400 to 0.7400 |",
        "| macro F1 | 0.6200 | 0.5200 to 0.7200 |",
        "| top-3 accuracy | 0.6500 | 0.5500 to 0.7500 |",
        "| top-5 accuracy | 0.6600 | 0.5600 to 0.7600 |",
        "| log loss | 1.6300 | 1.5300 to 1.7300 |",
        "| calibration error | 0.0670 | chance alone: up to 0.0300 |",
        "| accuracy on the 4,321 rows without a near-duplicate in train | 0.5700 | |",
        "| accuracy of the sure answers, 41.0% of the rows | 0.9200 | 0.9000 to 0.9400 |",
        "| accuracy without width and height | 0.5800 | 0.5000 to 0.6000 |",
    ]
    assert "most frequent artist of train would have an accuracy of 0.1100" in card
    assert "would have a calibration error of 0.0234 on average, by chance" in card
    assert "near-duplicate" not in card_of()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("synthetic", "**Synthetic data.** The embeddings were simulated"),
        ("mame", "The MAMe dataset"),
        ("file", "A table of the user's own"),
    ],
)
def test_the_card_says_where_the_data_is_from(source, sentence):
    card = card_of(metadata=METADATA | {"source": source})
    assert sentence in card
    assert ("ynthetic" in card) == (source == "synthetic")


def test_the_card_says_on_which_rows_the_model_was_fitted_and_calibrated():
    decided = "The 678 rows of val decided how sure the model may be and, where it learns in steps"
    assert f"Fitted on 12,345 rows of train. {decided}, when to stop. Test was" in card_of()
    refitted = card_of(metadata=METADATA | {"parameters": {"refit_on_val": True}})
    assert f"Fitted on 12,345 rows of train and val. {decided}, when to stop, before" in refitted
    used = {"kernel_ridge": 9000, "lda": 12345, "mlp": 7}
    fewer = card_of(metadata=METADATA | {"rows_used": used})
    assert "of train (kernel_ridge on 9,000 of them, mlp on 7 of them). " in fewer


def blend(*members, **others):
    answers = {PROBABILITIES: METADATA["answers"][PROBABILITIES] | {"members": list(members)}}
    return METADATA | {"model": "ensemble", "answers": answers, **others}


def test_the_card_of_a_blend_says_which_rows_decided():
    rests = "rests on what members that had not seen them say of"
    card = card_of(metadata=blend("lda", calibrating_rows=6000))
    assert (
        f"{rests} 6,000 of these rows. The 678 rows of val decided from which probability" in card
    )
    both = blend("lda", calibrating_rows=12345, parameters={"refit_on_val": True})
    assert f"{rests} all of these rows, the 678 rows of val among them." in card_of(metadata=both)


def test_the_card_has_what_each_member_of_a_blend_adds_in_their_order():
    card = card_of(metadata=blend("lda", "kernel_ridge", "a_last_one"))
    assert [line for line in card.splitlines() if line.startswith("| `")] == [
        "| `lda` | 0.9000 |  | 0.5000 |",
        "| `kernel_ridge` | 0.7000 | 0.2000 | 0.6000 |",
        "| `a_last_one` | 0.7100 | -0.0100 | 0.6100 |",
    ]
    assert "`kernel_ridge` adds most: the log loss on val falls by 0.2000." in card
    assert "`a_last_one` adds nothing to what comes before, and may be taken out." in card
    assert "member" not in card_of()


def test_the_card_says_what_was_chosen_by_trying():
    tried = {"kernel_ridge": {"gamma": 0.5, "penalty": 0.003}}
    card = card_of(metadata=METADATA | {"chosen": tried})
    assert "\nChosen by what training rows have tried (`auto`): `kernel_ridge`: gamma 0.5, " in card
    assert "auto" not in card_of()


def test_the_card_names_every_label_and_the_columns_that_the_model_takes():
    labels = ["<b>gold</b>", "fired\nclay"]
    card = card_of(metadata=METADATA | {"labels": labels})
    assert card.endswith("## Labels\n\n- `<b>gold</b>`\n- `fired clay`\n")
    assert (
        "one of 2, from the embedding that the dealer gives and the Year {born} that the dealer "
        "gives." in card
    )
    assert "\nInputs: `embedding`, `Year {born}`. " in card
    year = KINDS[2]
    alone = card_of(metadata=METADATA | {"kinds": [year]})
    assert "from the Year {born} that the dealer gives." in alone
    assert "Not for each artist" not in alone


def test_the_card_shows_the_commands_before_the_code():
    card = card_of()
    predict = "python -m commands.predict /somewhere/photographs -o predictions.csv"
    for command in (predict, "python -m commands.explain IMAGE_FILE", "python -m commands.serve"):
        assert card.index(f"\n{command}\n") < card.index("import onnxruntime")
    assert "from a probability of 0.7654 on: on val, 43% of the answers are sure, and 90%" in card
    assert "`--ignore-sizes` answers without them." in card
    assert "`probabilities_without_sizes` and `medium_without_sizes` are the same without" in card


def test_the_card_does_not_promise_what_the_model_cannot_do():
    never = {"accuracy": 0.9, "threshold": None, "share": 0.0}
    answers = {PROBABILITIES: {"members": [], "sure": never}}
    metadata = METADATA | {"kinds": KINDS[2:], "answers": answers}
    details = {name: part for name, part in DETAILS.items() if name != "test_without_sizes"}
    card = card_of(metadata=metadata, details=details | {"test_sure": {"rows": 0, "share": 0.0}})
    assert "python -m commands.predict /somewhere/table.parquet -o predictions.csv" in card
    assert "commands.serve" not in card
    assert "No answer is called sure: on val, there is no probability" in card
    assert "sure answers," not in card
    assert "without" not in card.split("## Metrics on test")[1].split("## Limits")[0]
    assert "ignore-sizes" not in card
    assert "without_sizes" not in card


def test_the_code_of_the_card_stands_any_name_of_a_column():
    awkward = column('the "year"\\', "string", example='about "1900"\n')
    card = card_of(metadata=METADATA | {"kinds": [kind("year", awkward)]})
    (line,) = [line for line in block(card, "python").splitlines() if "np.array" in line]
    found = eval(f"{{{line.split('  # ')[0]}}}", {"np": np})
    assert {name: values.tolist() for name, values in found.items()} == {
        awkward["name"]: [awkward["example"]]
    }


def test_a_column_that_two_kinds_take_is_one_input():
    kinds = [kind("sizes", column("width")), kind("width", column("width"))]
    card = card_of(metadata=METADATA | {"kinds": kinds})
    assert "\nInputs: `width`. " in card
    assert card.count('"width": np.array') == 1


PCA = {"components": 3, "whitening": 0.0, "unit_length": False}


def linear_file(path, embedding="standardize", sizes=True, museum=True, **pca):
    """A file of a linear model with random weights, and artefacts to score."""
    rows, _ = artefacts()
    section = PCA | pca if embedding == "pca" else {}
    params = FeaturizeParams(
        **{"embedding": embedding, embedding: section}, sizes=sizes, museum=museum, columns={}
    )
    transformer = fit_transformer(rows, params, rows["embedding"])
    names = transformer.feature_names
    weights = np.random.default_rng(0).normal(size=(len(names), 4)).astype(np.float32)
    model = Linear(weights, np.zeros(4, dtype=np.float32))
    metadata = metadata_of(transformer, LABELS)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model_bytes(transformer, {PROBABILITIES: (model, 2.0)}, metadata))
    return ModelFile(path), rows


INPUTS = [
    {},
    {"museum": False},
    {"embedding": "raw"},
    {"embedding": "power"},
    {"embedding": "pca"},
    {"embedding": "pca", "whitening": 0.25, "unit_length": True},
    {"embedding": "none", "museum": False},
    {"embedding": "none", "sizes": False},
]


def block(card, language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)
    return found


@pytest.mark.parametrize("chosen", INPUTS, ids=str)
def test_the_python_of_the_card_gives_the_probabilities_of_the_model(chosen, tmp_path, monkeypatch):
    model, rows = linear_file(tmp_path / MODEL, **chosen)
    one = rows.take(slice(1)).with_columns(
        {
            "width": np.array([1200.0]),
            "height": np.array([900.0]),
            "museum": np.array([max(rows["museum"])]),
        }
    )
    monkeypatch.chdir(tmp_path)
    names = {"embedding": one["embedding"]}
    card = card_of(metadata=model.metadata)
    # Also where the features are others, such as principal components.
    assert ("float32 (rows, 6)" in card) == ("embedding" in model.inputs)
    exec(block(card, "python"), names)
    expected = model.predict_proba(one)
    np.testing.assert_allclose(names["probabilities"], expected, rtol=0, atol=1e-5)
    assert names["labels"] == LABELS
    assert names["medium"].tolist() == [LABELS[expected.argmax()]]


@pytest.mark.parametrize("chosen", INPUTS, ids=str)
def test_the_javascript_of_the_card_gives_each_input_its_type(chosen, tmp_path):
    path = tmp_path / "model.onnx"
    model, _ = linear_file(path, **chosen)
    code = block(card_of(metadata=model.metadata), "javascript")
    session = onnxruntime.InferenceSession(path)
    types = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "string"}
    expected = [(node.name, types[node.type]) for node in session.get_inputs()]
    assert re.findall(r'^  "(\w+)": new ort\.Tensor\("(\w+)"', code, re.MULTILINE) == expected
    outputs = ", ".join(node.name for node in session.get_outputs())
    assert f"const {{ {outputs} }} = await model.run({{" in code


def test_metadata_is_json_in_unicode(everything):
    props = onnx.load_from_string(everything).metadata_props
    (text,) = [prop.value for prop in props if prop.key == "labels"]
    assert json.loads(text) == LABELS
    assert "faïence 陶" in text
