"""A model's file answers with the sizes or without them, and says when it is sure."""

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from test_model_file import LABELS, write_features
from test_models import artefacts, made_up, strangers

from answers.answerer import Answerer, Answers
from answers.training import Training
from stages import train
from stages.common.errors import PipelineError
from stages.evaluation.details import of_answers
from stages.evaluation.predictions import write_predictions
from stages.evaluation.rows import Scored
from stages.model_file.interface import MODEL, PROBABILITIES, PROBABILITIES_WITHOUT_SIZES
from stages.model_file.scoring import ModelFile
from stages.models.calibration import sure
from stages.tables.artefacts import Artefacts
from stages.tables.parquet import matrix
from stages.tables.predictions import PREDICTIONS
from stages.tables.val_probabilities import VAL_PROBABILITIES


@pytest.fixture
def train_on(set_params):
    """A function that runs the stage `train` and loads its model."""

    def run(data=None, **params):
        write_features(data or made_up(noise=3.0))
        params = {"ensemble.lda.features": "all"} | params
        set_params(**{f"train.{key}": value for key, value in params.items()})
        train.main()
        return ModelFile(MODEL)

    return run


def new_rows(**columns):
    return strangers()[0].with_columns(columns)


def only(data, *blocks):
    """The same rows with the features of some blocks."""
    kept = [block for block in data.transformer.blocks if block.name in blocks]
    names = [name for block in kept for name in block.feature_names]
    places = np.array([data.train.names.index(name) for name in names])
    return SimpleNamespace(
        train=data.train.with_features(places),
        val=data.val.with_features(places),
        transformer=type(data.transformer)(kept),
    )


def test_the_answer_without_sizes_is_that_of_a_model_that_never_saw_them(train_on):
    both, new = train_on(model="lda"), new_rows()
    said = both.predict_proba(new, PROBABILITIES_WITHOUT_SIZES)
    assert np.abs(said - both.predict_proba(new)).max() > 0.01
    of_val = matrix(pq.read_table(VAL_PROBABILITIES)[PROBABILITIES_WITHOUT_SIZES])
    model = train_on(only(made_up(noise=3.0), "embedding", "museum"), model="lda")
    assert model.inputs == ["embedding", "museum"]
    np.testing.assert_allclose(model.predict_proba(new), said, rtol=0, atol=1e-6)
    of_val_alone = matrix(pq.read_table(VAL_PROBABILITIES)[PROBABILITIES])
    np.testing.assert_allclose(of_val_alone, of_val, rtol=0, atol=1e-6)
    answers = both.metadata["answers"]
    assert model.metadata["answers"] == {PROBABILITIES: answers[PROBABILITIES_WITHOUT_SIZES]}


def test_sizes_that_are_missing_or_wrong_change_nothing_where_they_are_left_out(train_on):
    model = train_on(model="lda")
    expected = model.predict_proba(new_rows(), PROBABILITIES_WITHOUT_SIZES)
    for size in (np.nan, 0.0, -1.0, np.inf, 17.0):
        new = new_rows(width=np.full(len(expected), size))
        said = model.predict_proba(new, PROBABILITIES_WITHOUT_SIZES)
        np.testing.assert_array_equal(said, expected)
        assert np.isnan(model.predict_proba(new)).all() == (size != 17.0)
    session = onnxruntime.InferenceSession(MODEL)
    names = [PROBABILITIES_WITHOUT_SIZES, "medium_without_sizes"]
    found, mediums = session.run(names, new.columns)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert mediums.tolist() == [LABELS[place] for place in expected.argmax(axis=1)]


@pytest.mark.parametrize(
    ("blocks", "chosen"),
    [
        (("embedding", "sizes"), {"without_sizes": False}),
        (("embedding", "sizes"), {"ensemble.lda.features": "metadata"}),
        (("embedding",), {}),
        (("sizes",), {}),
    ],
    ids=["not asked for", "the model sees the sizes alone", "no sizes", "nothing else"],
)
def test_there_is_one_answer_where_nothing_can_be_left_out(train_on, blocks, chosen):
    model = train_on(only(made_up(noise=3.0), *blocks), model="lda", **chosen)
    assert model.outputs == list(model.metadata["answers"]) == [PROBABILITIES]


def test_the_shares_of_the_members_add_up_to_the_logarithms_of_the_probabilities(train_on):
    data, new = only(made_up(noise=3.0), "embedding", "sizes"), new_rows()
    model = train_on(data, **{"model": "ensemble", "ensemble.size_trees.rounds": 3})
    for output, names in (
        (PROBABILITIES, ["kernel_ridge", "lda", "size_trees"]),
        (PROBABILITIES_WITHOUT_SIZES, ["kernel_ridge", "lda"]),
    ):
        shares = model.members(new, output)
        assert list(shares) == names
        logs = np.log(model.predict_proba(new, output).astype(np.float64))
        total = np.sum(list(shares.values()), axis=0)
        apart = (total - total[:, :1]) - (logs - logs[:, :1])
        assert np.abs(apart).max() < 1e-3
    assert train_on(data, model="lda").members(new) == {}


def test_the_file_gives_the_features_that_its_model_sees(train_on):
    data = made_up(noise=3.0)
    found = train_on(data, model="lda").features(new_rows())
    np.testing.assert_array_equal(found, data.transformer.transform(new_rows()))


def rows_that_are(right):
    """Probabilities of two classes, from sure to unsure, and the classes."""
    first = np.linspace(0.99, 0.51, len(right)).round(6)
    return np.column_stack([first, 1 - first]), np.where(right, 0, 1)


def test_answers_are_sure_from_the_least_probability_on_that_reaches_the_accuracy():
    right = np.ones(100, dtype=bool)
    right[[10, 50, 60, *range(70, 100)]] = False
    probabilities, classes = rows_that_are(right)
    # Of the first 70 rows, 67 are right, and of the first 50, 49.
    found = sure(probabilities, classes, 0.95)
    assert (found.accuracy, found.share, found.threshold) == (0.95, 0.7, probabilities[69, 0])
    stricter = sure(probabilities, classes, 0.98)
    assert (stricter.share, stricter.threshold) == (0.5, probabilities[49, 0])


def test_rows_of_one_probability_are_sure_together_or_not_at_all():
    probabilities = np.tile([0.9, 0.1], (100, 1))
    assert sure(probabilities, np.arange(100) // 90, 0.95).threshold is None
    assert sure(probabilities, np.arange(100) // 95, 0.95).share == 1.0


def test_fewer_than_thirty_sure_rows_promise_nothing():
    assert sure(*rows_that_are(np.arange(60) < 30), 0.999).share == 0.5
    few = sure(*rows_that_are(np.arange(60) < 29), 0.999)
    assert (few.threshold, few.share) == (None, 0.0)


def scored(model):
    """New rows with each answer of a model, and their classes."""
    new, classes = strangers()
    names = np.array(LABELS, dtype=object)[classes]
    new = new.with_columns({"museum_based_instance_id": np.full(len(new), "", dtype=object)})
    rows = {
        output: Scored(names, names, new, model.predict_proba(new, output))
        for output in model.outputs
    }
    return rows, classes


def test_the_threshold_and_its_share_of_val_are_measured_on_test(train_on):
    model = train_on(made_up(), model="lda", sure_accuracy=0.9)
    answer = model.metadata["answers"][PROBABILITIES]["sure"]
    of_val = matrix(pq.read_table(VAL_PROBABILITIES)[PROBABILITIES])
    known = of_val.max(axis=1).astype(float).round(6) >= answer["threshold"]
    assert known.mean() == pytest.approx(answer["share"])
    assert (of_val.argmax(axis=1) == made_up().val.classes)[known].mean() >= 0.9
    test, classes = scored(model)
    found = of_answers(model, test)
    assert set(found) == {"test_sure", "test_without_sizes", "test_without_sizes_sure"}
    certain = test[PROBABILITIES].probabilities.max(axis=1) >= answer["threshold"]
    assert found["test_sure"]["rows"] == certain.sum()
    hits = (test[PROBABILITIES].best == classes)[certain]
    assert found["test_sure"]["accuracy"] == pytest.approx(hits.mean())
    without = test[PROBABILITIES_WITHOUT_SIZES].best == classes
    assert found["test_without_sizes"]["accuracy"] == pytest.approx(without.mean())


def test_a_model_that_is_never_sure_has_no_accuracy_of_sure_answers(train_on):
    model = train_on(model="lda", without_sizes=False, sure_accuracy=0.9999)
    assert model.threshold() is None
    assert of_answers(model, scored(model)[0]) == {"test_sure": {"rows": 0, "share": 0.0}}


def test_the_predictions_have_the_answer_without_sizes_beside_the_other(train_on):
    answers, _ = scored(train_on(model="lda"))
    write_predictions("file", LABELS, "", {"test": answers})
    table = pq.read_table(PREDICTIONS)
    said = answers[PROBABILITIES_WITHOUT_SIZES].probabilities
    labels = [LABELS[place] for place in said.argmax(axis=1)]
    assert table["predicted_without_sizes"].to_pylist() == labels
    found = table["probability_without_sizes"].to_numpy()
    np.testing.assert_allclose(found, said.max(axis=1), rtol=0, atol=1e-6)
    write_predictions("file", LABELS, "", {"test": {PROBABILITIES: answers[PROBABILITIES]}})
    table = pq.read_table(PREDICTIONS)
    assert table["predicted_without_sizes"].null_count == len(labels)


def test_rows_are_answered_with_or_without_their_sizes_as_asked(train_on):
    train_on(model="lda")
    answerer, new = Answerer(), new_rows()
    ignored = np.arange(len(new)) % 3 == 0
    found, model = answerer.answer(new, ignored), answerer.model
    said = [model.predict_proba(new, output) for output in model.outputs]
    expected = np.where(ignored[:, None], said[1], said[0])
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    assert found.with_sizes.tolist() == (~ignored).tolist()
    assert [label for label, _ in found.best(0, 3)] == [
        LABELS[place] for place in np.argsort(-expected[0])[:3]
    ]
    with_sizes, without = (model.threshold(output) or 2 for output in model.outputs)
    least = np.where(ignored, without, with_sizes)
    assert found.sure.tolist() == (expected.max(axis=1).round(6) >= least).tolist()


def test_labels_whose_probabilities_look_the_same_stand_in_the_models_order():
    said = np.array([[1e-9, 0.9999994, 3e-8, 2e-8]], dtype=np.float32)
    answers = Answers(list("abcd"), said, np.array([True]), np.array([True]))
    assert answers.best(0) == [("b", 0.999999), ("c", 0.0), ("d", 0.0), ("a", 0.0)]


def test_sizes_are_far_where_they_are_missing_or_twice_as_far_out_as_those_of_train(train_on):
    train_on(model="lda")
    answerer = Answerer()
    low, high = np.quantile(artefacts(noise=3.0)[0]["width"], [0.001, 0.999])
    assert answerer.ranges["width"] == pytest.approx((low, high), rel=0.1)
    low, high = answerer.ranges["width"]
    asked = np.array([low / 2.1, low / 1.9, high * 1.9, high * 2.1, np.nan, 0.0])
    rows = Artefacts({"width": asked, "height": np.full(len(asked), 900.0)})
    assert answerer.far(rows).tolist() == [True, False, False, True, True, True]


def test_a_model_that_needs_the_sizes_says_so(train_on):
    train_on(model="lda", without_sizes=False)
    with pytest.raises(PipelineError, match="cannot answer without the sizes: train with `train"):
        Answerer().answer(new_rows(), without_sizes=True)


def training_with(probabilities, right):
    """What is known of a run whose rows have these first answers, and none without the sizes."""
    names = [f"{place}.jpg" for place in range(len(right))]
    table = pa.table(
        {
            "image_file": names,
            "medium": ["Gold"] * len(right),
            "predicted": ["Gold" if one else "Iron" for one in right],
            "probability": pa.array(probabilities, pa.float32()),
            "predicted_without_sizes": pa.nulls(len(right), pa.string()),
            "probability_without_sizes": pa.nulls(len(right), pa.float32()),
        }
    )
    return Training(None, None, None, None, None, None, table)


def test_it_is_told_how_often_the_answers_were_right_that_were_about_as_probable():
    probabilities = np.linspace(0, 0.999, 1000)
    training = training_with(probabilities, probabilities < 0.75)
    known = training.right_when(0.7446)
    assert known.rows == 100
    assert (known.least, known.most) == pytest.approx((0.695, 0.795), abs=2e-3)
    assert known.right == pytest.approx(55, abs=1)
    assert known.low < 0.55 < known.high
    assert training.right_when(0.9).right == 0
    assert training.right_when(0.9, PROBABILITIES_WITHOUT_SIZES) is None
    assert training_with([0.5] * 3, [True] * 3).right_when(0.9).rows == 3


def test_of_few_rows_those_that_are_far_away_say_nothing():
    probabilities = np.linspace(0.3, 0.99, 50)
    known = training_with(probabilities, probabilities > 0.5).right_when(0.4)
    assert (known.rows, known.right) == (10, 0)
    assert known.most < 0.5


def test_the_order_of_rows_that_are_as_sure_decides_nothing():
    known = training_with([1.0] * 150 + [0.2] * 50, [True] * 100 + [False] * 100).right_when(1.0)
    assert (known.rows, known.right, known.least) == (150, 100, 1.0)


def test_a_row_does_not_say_of_itself_how_often_the_model_is_right():
    training = training_with([0.5, 0.5, 0.5], [True, False, True])
    known = training.right_when(0.5, image_file="1.jpg")
    assert (known.rows, known.right) == (2, 2)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"no model .*model\.onnx: `dvc repro` makes it"):
        Answerer(tmp_path / "model.onnx")


def test_a_model_of_an_earlier_pipeline_is_no_riddle(train_on):
    train_on(model="lda")
    model = onnx.load(MODEL)
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != "answers"}
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, MODEL)
    with pytest.raises(PipelineError, match=r"it lacks `answers`.*: run `dvc repro`"):
        Answerer()


def test_what_both_answers_have_in_common_is_in_the_file_once(train_on):
    data = only(made_up(), "embedding", "sizes")
    train_on(data, **{"model": "kernel_ridge", "ensemble.kernel_ridge.features": "all"})
    kept = [
        numpy_helper.to_array(constant)
        for constant in onnx.load(MODEL).graph.initializer
        if constant.data_type == onnx.TensorProto.INT8
    ]
    # The training rows in 8 bits: their embeddings, which both see, and their sizes.
    assert [part.shape for part in kept] == [(6, 240), (5, 240)]


def test_a_model_that_never_sees_the_sizes_is_fitted_once(train_on, capsys):
    model = train_on(**{"model": "lda", "ensemble.lda.features": "embedding"})
    assert "without the sizes" not in capsys.readouterr().out
    both = [model.predict_proba(new_rows(), output) for output in model.outputs]
    assert len(both) == 2
    np.testing.assert_array_equal(*both)
