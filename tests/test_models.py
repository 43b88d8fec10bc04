"""Each model learns, is one with its ONNX file, and is what the training library says it is."""

import os
import tracemalloc
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.optimize
import xgboost
from conftest import PROJECT
from onnx.reference import ReferenceEvaluator
from ruamel.yaml import YAML
from scipy.special import log_softmax, softmax
from sklearn.decomposition import PCA

from stages.common.errors import PipelineError
from stages.common.params import ParameterError, check_section
from stages.featurize import Params as FeaturizeParams
from stages.featurize import fit as fit_transformer
from stages.model_file import scoring
from stages.model_file.graph import Graph
from stages.model_file.interface import MEDIUM, PROBABILITIES
from stages.model_file.scoring import ModelFile
from stages.models import (
    base,
    calibration,
    cholesky,
    ensemble,
    examples,
    held_out,
    kernel,
    kernel_ridge,
    lda,
    stack,
)
from stages.models.base import CURVE_COLUMNS, Settings, curve_point, fit_one, places_of
from stages.models.calibration import (
    best_steps,
    cross_fitted,
    fit_temperature,
    fit_weights,
    folds_of,
    own_parts,
)
from stages.models.ensemble import Blend, Ensemble, Member
from stages.models.examples import Examples
from stages.models.file import model_bytes
from stages.models.held_out import scored_rows, stratified_order
from stages.models.kernel import Kernel, feature_scales
from stages.models.kernel_ridge import TRIED, solve
from stages.models.linear import Linear
from stages.models.registry import MODELS
from stages.models.stack import Opinion, blended, cross_fitted_stack, fit_corrections, fit_stack
from stages.models.xgboost import along, exact_gradients, principal_axes
from stages.tables.artefacts import Artefacts
from stages.tables.features import Features

PARAMS = {
    "kernel_ridge": {
        "gamma": 0.6,
        "metadata_weight": 2.0,
        "penalty": 0.05,
        "most_rows": 1000,
        "centres": 60,
    },
    "lda": {"shrinkage": 0.3},
    "logistic_regression": {"C": 1.0, "max_iterations": 200, "tolerance": 1e-4},
    "mlp": {
        "networks": 2,
        "hidden": 8,
        "alpha": 0.1,
        "learning_rate": 0.05,
        "batch_rows": 40,
        "epochs": 8,
        "patience": 3,
    },
    "xgboost": {
        "components": 6,
        "rounds": 30,
        "early_stopping_rounds": 3,
        "learning_rate": 0.5,
        "max_depth": 2,
        "min_child_weight": 1.0,
        "subsample": 0.8,
        "colsample_bynode": 0.8,
        "max_bin": 16,
    },
}


PARAMS = {kind: {"features": "all", **params} for kind, params in PARAMS.items()}
OWN_TESTS = list(PARAMS)
# Another model of the registry has the parameters of params.yaml. A module is tested once.
_train = YAML(typ="safe").load(PROJECT / "params.yaml")["train"]
_tested = {MODELS[kind].module for kind in PARAMS}
for _name, _model in MODELS.items():
    if _model.module not in _tested:
        PARAMS[_name] = (_train | _train["ensemble"])[_name] | {"features": "all"}
ALONE = list(PARAMS)


def members(**features):
    """A section `train.ensemble`: members with the features that each takes."""
    return {name: PARAMS[name] | {"features": chosen} for name, chosen in features.items()}


PARAMS["ensemble"] = members(kernel_ridge="all", lda="embedding", xgboost="metadata")


def artefacts(classes=4, rows_each=30, draw=1, noise=1.2):
    """Artefacts around a centre for each class, and their classes; `draw` picks the rows."""
    random = np.random.default_rng(draw)
    known = np.repeat(np.arange(classes), rows_each)
    centres = np.random.default_rng(0).uniform(0, 5, (classes, 6))
    embedding = np.clip(random.normal(centres[known], noise), 0, 6).astype(np.float32)
    columns = {
        "embedding": embedding,
        "width": np.round(np.exp(random.normal(6 + 0.3 * known, 0.4))),
        "height": np.round(np.exp(random.normal(7 - 0.2 * known, 0.4))),
    }
    lacma = random.random(len(known)) < 0.2 + 0.2 * known
    columns["museum"] = np.where(lacma, "LACMA", "Musée <Met>").astype(object)
    return Artefacts(columns), known


def strangers(classes=4):
    """New artefacts, one in ten of a museum that no training row has."""
    new, known = artefacts(classes, rows_each=60, draw=3)
    new["museum"][::10] = "Louvre"
    return new, known


@cache
def made_up(classes=4, rows_each=30, noise=1.2):
    """A transformer, and the rows that models learn from."""
    train, train_classes = artefacts(classes, rows_each, 1, noise)
    val, val_classes = artefacts(classes, rows_each, 2, noise)
    chosen = {"embedding": "standardize", "sizes": True, "museum": True, "columns": {}}
    transformer = fit_transformer(train, FeaturizeParams(**chosen), train["embedding"])
    labels = [f"medium {class_}" for class_ in range(classes)]
    names = transformer.feature_names
    return SimpleNamespace(
        transformer=transformer,
        labels=labels,
        train=Examples(transformer.transform(train), train_classes, names, labels),
        val=Examples(transformer.transform(val), val_classes, names, labels),
    )


def settings_of(kind, seed=1, device="cpu", class_weight="none", refit_on_val=False):
    return Settings(f"train.{kind}", seed, device, class_weight, refit_on_val)


def checked(kind, **changed):
    """The parameters of a model, some of them changed."""
    return check_section(f"train.{kind}", PARAMS[kind] | changed, MODELS[kind].module.Params)


def fit_whole(kind, train, val, tuned=None, seed=1, class_weight="none", **changed):
    """All that `fit` of a model gives."""
    settings = settings_of(kind, seed, class_weight=class_weight)
    return MODELS[kind].module.fit(checked(kind, **changed), train, val, settings, tuned)


def ensemble_of(train, val, members_=None, **chosen):
    params = ensemble.check("train.ensemble", members_ or PARAMS["ensemble"])
    return Ensemble(params, train, val, settings_of("ensemble", **chosen))


SETTINGS = {"seed", "device", "class_weight", "refit_on_val"}


def fit_blend(train, val, **chosen):
    """What an ensemble of all features gives; `chosen` are settings and the sections of members."""
    settings = {key: value for key, value in chosen.items() if key in SETTINGS}
    sections = {key: value for key, value in chosen.items() if key not in SETTINGS}
    return ensemble_of(train, val, sections, **settings).fit(np.arange(len(train.names)))


def fit_on(kind, train, val, **chosen):
    if kind == "ensemble":
        found = fit_blend(train, val, **chosen)
    else:
        found = fit_whole(kind, train, val, **chosen)
    return found.model, found.curve


def fit(kind, classes=4, data=None, **chosen):
    data = data or made_up(classes)
    return fit_on(kind, data.train, data.val, **chosen)


fitted = cache(fit)


def file_of(model, classes=4, temperature=1.0, data=None):
    data = data or made_up(classes)
    answers = {PROBABILITIES: (model, temperature)}
    return model_bytes(data.transformer, answers, metadata_of(data.transformer, data.labels))


def metadata_of(transformer, labels, outputs=(PROBABILITIES,), **said):
    """What a model's file says of itself, some of it otherwise."""
    sure = {"accuracy": 0.95, "threshold": 0.8, "share": 0.5}
    return {
        "labels": labels,
        "feature_names": transformer.feature_names,
        "kinds": transformer.describe(),
        "embedding": None,
        "source": "file",
        "model": "lda",
        "parameters": {"refit_on_val": False},
        "answers": {name: {"members": [], "temperature": 1.5, "sure": sure} for name in outputs},
        "training_rows": 120,
        "rows_used": {"lda": 120},
        "chosen": {},
        "val_rows": 120,
        "calibrating_rows": 120,
        "few_calibrating_rows": False,
    } | said


def loss(model, rows):
    return examples.log_loss(model.logits(rows.values), rows.classes)


@pytest.fixture(params=PARAMS)
def kind(request):
    return request.param


@pytest.fixture(params=[2, 4])
def classes(request):
    return request.param


@pytest.fixture
def load(tmp_path):
    """A function that writes the ONNX file of a model and loads it."""

    def load(model, classes=4, temperature=1.0, data=None):
        path = tmp_path / "model.onnx"
        path.write_bytes(file_of(model, classes, temperature, data))
        return ModelFile(path)

    return load


def test_a_model_tells_classes_apart_on_new_rows(kind, classes):
    new, known = artefacts(classes, rows_each=60, draw=3)
    logits = fitted(kind, classes)[0].logits(made_up(classes).transformer.transform(new))
    assert logits.shape == (len(known), classes)
    assert np.mean(logits.argmax(axis=1) == known) > 0.85


def test_the_file_gives_the_probabilities_and_the_medium_of_the_fitted_model(
    kind, classes, load, tmp_path
):
    data, (new, _) = made_up(classes), strangers(classes)
    model = fitted(kind, classes)[0]
    expected = softmax(model.logits(data.transformer.transform(new)) / 1.7, axis=1)
    found = load(model, classes, temperature=1.7).predict_proba(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # What others get, by ONNX Runtime, is what is measured here, by NumPy.
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    probabilities, mediums = session.run([PROBABILITIES, MEDIUM], new.columns)
    np.testing.assert_allclose(probabilities, found, rtol=0, atol=1e-5)
    assert mediums.tolist() == np.array(data.labels)[expected.argmax(axis=1)].tolist()


def test_what_is_made_of_each_kind_alone_gives_the_same_answers(kind, classes, load):
    new, _ = strangers(classes)
    model = load(fitted(kind, classes)[0], classes)
    order = np.random.default_rng(0).permutation(len(new))
    (prepared,) = model.prepare([new])
    assert not {*prepared.columns.columns} & {*new.columns}
    for output in model.outputs:
        expected = model.predict_proba(new, output)
        np.testing.assert_array_equal(prepared.predict_proba(output), expected)
    for group in model.metadata["kinds"]:
        names = [value["name"] for value in group["inputs"]]
        expected = model.predict_proba(new.with_columns({n: new[n][order] for n in names}))
        found = prepared.shuffled(group["name"], order).predict_proba()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_blocks_of_rows_give_the_same_answers_whatever_the_batches_are(monkeypatch, load):
    monkeypatch.setattr(scoring, "BATCH_ROWS", 8)
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 16)
    new, _ = strangers()
    model = load(fitted("ensemble")[0])
    expected = model.predict_proba(new)
    for size in (3, 8, 50, len(new)):
        batches = [new.take(slice(start, start + size)) for start in range(0, len(new), size)]
        blocks = list(model.prepare([*batches, new.take(slice(0))]))
        assert {len(block) for block in blocks[:-1]} == {16}
        found = np.concatenate([block.predict_proba() for block in blocks])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def logistic_regression_of_scikit_learn(model, data, values, class_weight):
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression(max_iter=200, class_weight=class_weight)
    return estimator.fit(data.train.values, data.train.classes).predict_proba(values)


def lda_of_scikit_learn(model, data, values, class_weight):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    count = len(data.labels)
    priors = np.full(count, 1 / count) if class_weight else None
    estimator = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=priors)
    return estimator.fit(data.train.values, data.train.classes).predict_proba(values)


def mlp_of_scikit_learn(model, data, values, class_weight):
    from sklearn.neural_network import MLPClassifier
    from sklearn.utils.class_weight import compute_sample_weight

    opinions = []
    for seed in (1, 2):
        estimator = MLPClassifier(
            (8,), alpha=0.1, learning_rate_init=0.05, batch_size=40, random_state=seed
        )
        weights = compute_sample_weight(class_weight, data.train.classes)
        for _ in range(model.tuned):
            estimator.partial_fit(
                data.train.values,
                data.train.classes,
                classes=range(len(data.labels)),
                sample_weight=weights,
            )
        opinions.append(np.log(estimator.predict_proba(values)))
    return softmax(np.mean(opinions, axis=0), axis=1)


def xgboost_of_its_library(model, data, values, class_weight):
    return model.booster.predict(xgboost.DMatrix(values))


LIBRARIES = {
    "logistic_regression": logistic_regression_of_scikit_learn,
    "lda": lda_of_scikit_learn,
    "mlp": mlp_of_scikit_learn,
    "xgboost": xgboost_of_its_library,
}


@pytest.mark.parametrize("rows_each", [(30, 30, 30, 30), (50, 20, 40, 10), (30, 30), (40, 15)])
@pytest.mark.parametrize("kind", LIBRARIES)
def test_the_file_gives_the_probabilities_of_the_training_library(kind, rows_each, load):
    data, (new, _) = made_up(len(rows_each), rows_each, 1.8), strangers(len(rows_each))
    weight = None if len(set(rows_each)) == 1 else "balanced"
    model, _ = fit(kind, data=data, class_weight=weight or "none")
    expected = LIBRARIES[kind](model, data, data.transformer.transform(new), weight)
    found = load(model, data=data).predict_proba(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def wide_examples(rows_each, features=60, seed=0):
    """Rows with features that hang together, around a centre for each class."""
    random = np.random.default_rng(seed)
    known = np.repeat(np.arange(len(rows_each)), rows_each)
    centres = np.random.default_rng(1).standard_normal((len(rows_each), features))
    mixed = np.random.default_rng(2).standard_normal((features, features)) / 8
    values = centres[known] + random.standard_normal((len(known), features)) @ mixed
    names = [f"embedding_{place}" for place in range(features)]
    labels = [f"medium {place}" for place in range(len(rows_each))]
    return Examples(values.astype(np.float32), known, names, labels)


@pytest.mark.parametrize("most_exact", [4096, 0])
def test_lda_takes_few_rows_at_a_time_whatever_the_threads(most_exact, monkeypatch):
    train = wide_examples((12, 8, 20))
    monkeypatch.setattr(lda, "MOST_EXACT", most_exact)

    def logits():
        return fit_whole("lda", train, None).model.logits(train.values)

    whole = logits()
    monkeypatch.setattr(lda, "SPAN", 7 * len(train.names))
    in_spans, deviations, taken = logits(), lda.Within.deviations, set()

    def noted(within, rows):
        taken.add(len(rows[0]))
        return deviations(within, rows)

    monkeypatch.setattr(lda.Within, "deviations", noted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    np.testing.assert_array_equal(logits(), in_spans)
    assert taken == {7, 40 % 7}
    np.testing.assert_allclose(in_spans, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("rows_each", [(12, 8, 20), (15, 9), (90, 40, 70)])
def test_lda_of_many_features_iterates_to_the_direct_solution(rows_each, class_weight, monkeypatch):
    train, val = wide_examples(rows_each), wide_examples(rows_each, seed=3)
    direct = fit_whole("lda", train, val, class_weight=class_weight).model
    monkeypatch.setattr(lda, "MOST_EXACT", len(train.names) - 1)
    iterated = fit_whole("lda", train, val, class_weight=class_weight).model
    expected, found = (
        model.logits(val.values) - model.logits(val.values)[:, :1] for model in (direct, iterated)
    )
    assert np.abs(expected).max() > 10
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_lda_of_up_to_so_many_features_is_solved_directly(monkeypatch):
    train = wide_examples((12, 8, 20))
    expected = fit_whole("lda", train, None).model.logits(train.values)
    monkeypatch.setattr(lda, "MOST_EXACT", len(train.names))
    monkeypatch.setattr(lda, "iterated", None)
    np.testing.assert_array_equal(
        fit_whole("lda", train, None).model.logits(train.values), expected
    )


def test_lda_of_two_labels_is_exact_also_of_numbers_far_from_0():
    train = wide_examples((40, 30))
    far = replace(train, values=train.values + 1000)
    model, other = (fit_whole("lda", rows, None).model for rows in (train, far))
    expected, found = model.logits(train.values), other.logits(far.values)
    np.testing.assert_allclose(
        found[:, 1] - found[:, 0], expected[:, 1] - expected[:, 0], rtol=0, atol=0.5
    )


def test_lda_that_does_not_converge_says_what_to_change(monkeypatch):
    monkeypatch.setattr(lda, "MOST_EXACT", 0)
    monkeypatch.setattr(lda, "MOST_ITERATIONS", 3)
    with pytest.raises(
        PipelineError,
        match=r"`train\.lda\.shrinkage` is 0\.001, too little for 60 features of 40 rows: raise it",
    ):
        fit_whole("lda", wide_examples((12, 8, 20)), None, shrinkage=0.001)


@pytest.mark.parametrize("separate", [0, 1])
def test_the_file_stands_scores_that_are_far_apart(load, separate):
    data = made_up(2)
    slope = np.zeros((len(data.train.names), 2), dtype=np.float32)
    slope[0, separate] = 1e5
    found = load(Linear(slope, np.zeros(2, dtype=np.float32)), 2).predict_proba(strangers(2)[0])
    assert set(np.unique(found)) == {0, 1}


def test_a_member_that_has_no_weight_leaves_the_blend_as_it_is_however_sure_it_is(load):
    data = made_up(2)
    slope = np.zeros((len(data.train.names), 2), dtype=np.float32)
    slope[0, 1] = 1e5
    lda = fitted("lda", 2)[0]
    sure = Linear(slope, np.zeros(2, dtype=np.float32))
    nothing = np.zeros((2, 2), dtype=np.float32)
    plain, none = Opinion(1.0, 1.0, nothing), Opinion(1.0, 0.0, nothing)
    blend = Blend([Member("lda", lda, plain), Member("sure", sure, none)])
    new = strangers(2)[0]
    expected = load(lda, 2).predict_proba(new)
    np.testing.assert_allclose(load(blend, 2).predict_proba(new), expected, rtol=0, atol=1e-6)


def test_the_same_seed_gives_the_same_bytes(kind):
    assert file_of(fit(kind)[0]) == file_of(fitted(kind)[0])


@pytest.mark.parametrize("drawing", ["mlp", "xgboost", "ensemble", "kernel_ridge"])
def test_another_seed_gives_another_model_where_something_is_drawn(drawing):
    smaller = {"most_rows": 60, "centres": 40} if drawing == "kernel_ridge" else {}
    files = [file_of(fit(drawing, seed=seed, **smaller)[0]) for seed in (1, 2)]
    assert files[0] != files[1]


@pytest.mark.parametrize("direct", ["lda", "logistic_regression"])
def test_the_seed_changes_nothing_where_nothing_is_drawn(direct):
    assert file_of(fit(direct, seed=2)[0]) == file_of(fitted(direct)[0])


CHANGES = {
    "kernel_ridge": [
        {"gamma": 0.3},
        {"metadata_weight": 1.0},
        {"penalty": 0.5},
        {"most_rows": 60, "centres": 40},
    ],
    "lda": [{"shrinkage": 0.0}],
    "logistic_regression": [{"C": 0.01}, {"tolerance": 0.1}, {"max_iterations": 3}],
    "mlp": [
        {"networks": 1},
        {"hidden": 7},
        {"alpha": 10.0},
        {"learning_rate": 0.01},
        {"batch_rows": 16},
        {"epochs": 2},
    ],
    "xgboost": [
        {"components": 3},
        {"rounds": 2},
        {"learning_rate": 0.1},
        {"max_depth": 1},
        {"min_child_weight": 20.0},
        {"subsample": 0.5},
        {"colsample_bynode": 0.2},
        {"max_bin": 3},
    ],
    "ensemble": [
        members(kernel_ridge="all", lda="embedding"),
        members(kernel_ridge="all", lda="all", xgboost="metadata"),
        PARAMS["ensemble"] | {"lda": {"features": "embedding", "shrinkage": 0.9}},
    ],
}
# Parameters that have tests of their own.
APART = {"features", "patience", "early_stopping_rounds"}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        pytest.param(kind, changed, id=f"{kind}-{number}-{'-'.join(changed)}")
        for kind, changes in CHANGES.items()
        for number, changed in enumerate(changes)
    ],
)
def test_each_parameter_makes_a_difference(kind, changed):
    values = made_up().val.values
    first, other = fitted(kind)[0].logits(values), fit(kind, **changed)[0].logits(values)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("kind", OWN_TESTS)
def test_no_parameter_is_left_out_of_these_tests(kind):
    tried = {key for changed in CHANGES[kind] for key in changed}
    assert tried | APART >= set(MODELS[kind].module.Params.model_fields)


def test_logistic_regression_says_when_it_did_not_converge(capsys):
    fit("logistic_regression", max_iterations=1, tolerance=1e-12)
    assert "raise `train.logistic_regression.max_iterations`" in capsys.readouterr().out


def test_the_curve_of_logistic_regression_tells_where_the_solver_stopped():
    def stop(**chosen):
        return fit("logistic_regression", **chosen)[1]["iteration"].item()

    assert stop(max_iterations=3) == 3
    assert stop(tolerance=0.1) < stop()


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_xgboost_grows_the_same_trees_with_one_thread_and_with_two(class_weight, monkeypatch):
    if os.cpu_count() == 1:
        pytest.skip("XGBoost takes no more threads than there are cores")
    # So many classes that gradients are of all magnitudes: sums of few are exact in any order.
    rows = wide_examples((250,) * 20)

    def trees(threads):
        def limited(params, *rest, **more):
            return plain(params | {"nthread": threads}, *rest, **more)

        monkeypatch.setattr(xgboost, "train", limited)
        chosen = {"class_weight": class_weight, "max_depth": 5, "min_child_weight": 0.1}
        model, _ = fit_on("xgboost", rows, None, tuned=20, **chosen)
        return bytes(model.booster.save_raw())

    plain = xgboost.train
    assert trees(1) == trees(2)
    # With XGBoost's own gradients they are others.
    monkeypatch.setattr(MODELS["xgboost"].module, "exact_gradients", lambda *_: None)
    assert trees(1) != trees(2)


@pytest.mark.parametrize("weights", [None, np.array([0.25, 1.0, 40.0])])
def test_gradients_are_those_of_the_log_loss_and_add_up_exactly(weights):
    classes, logits = np.array([0, 2, 1]), np.random.default_rng(0).normal(size=(3, 4), scale=3)
    found = exact_gradients(classes, weights)(logits.astype(np.float32), None)
    probabilities = softmax(logits, axis=1)
    scale = np.ones((3, 1)) if weights is None else weights[:, None]
    first = (probabilities - np.eye(4)[classes]) * scale
    second = 2 * probabilities * (1 - probabilities) * scale
    for part, expected in zip(found, (first, second), strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-7)
        assert (part * 2.0**24 % 1 == 0).all()


def test_components_are_the_same_however_many_rows_are_in_64_bits(monkeypatch):
    rows = wide_examples((30, 20))
    axes = principal_axes(rows, 5)
    whole = along(axes, rows.values)
    assert whole.shape == (50, 5)
    assert whole.dtype == np.float32
    monkeypatch.setattr(MODELS["xgboost"].module, "SPAN", 7)
    np.testing.assert_array_equal(along(axes, rows.values), whole)


def test_rows_are_copied_only_where_some_features_are_left_out():
    rows = wide_examples((3, 2))
    assert np.shares_memory(rows.with_features(np.arange(60)).values, rows.values)
    some = rows.with_features(np.array([2, 0]))
    np.testing.assert_array_equal(some.values, rows.values[:, [2, 0]])
    assert some.names == ["embedding_2", "embedding_0"]
    assert np.shares_memory(rows.first(3).values, rows.values)
    assert rows.first(3).classes.tolist() == [0, 0, 0]


def test_xgboost_sees_the_principal_components_of_a_longer_embedding(load):
    data, (new, _) = made_up(), strangers()
    model, _ = fit("xgboost", components=3)
    pca = PCA(3, svd_solver="covariance_eigh").fit(data.train.values[:, :6])
    values = data.transformer.transform(new)
    seen = np.column_stack([values[:, :6] @ pca.components_.T, values[:, 6:]])
    expected = model.booster.predict(xgboost.DMatrix(seen))
    np.testing.assert_allclose(softmax(model.logits(values), axis=1), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(load(model).predict_proba(new), expected, rtol=0, atol=1e-5)


def test_xgboost_sees_an_embedding_that_is_no_longer_as_it_is():
    data = made_up()
    model, _ = fit("xgboost", components=6)
    expected = model.booster.predict(xgboost.DMatrix(data.val.values))
    found = softmax(model.logits(data.val.values), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cores", [1, 4])
def test_the_factor_of_a_matrix_is_right_and_the_same_with_any_number_of_cores(cores, monkeypatch):
    monkeypatch.setattr(cholesky, "TILE", 16)  # the last one is smaller, and nothing divides it
    values = np.random.default_rng(0).normal(size=(75, 80)).astype(np.float32)
    matrix = values @ values.T + 30 * np.eye(75, dtype=np.float32)
    found = []
    for count in (2, cores):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        factor = np.where(np.tri(75), matrix, np.nan).astype(np.float32)
        for tile in cholesky.tiles_of(0, 75):
            factor[tile, tile] = matrix[tile, tile]
        cholesky.factorize(factor)
        found.append((np.tril(factor), cholesky.inverse_diagonal(factor)))
    np.testing.assert_array_equal(*(factor for factor, _ in found))
    np.testing.assert_array_equal(*(diagonal for _, diagonal in found))
    factor, diagonal = found[0]
    np.testing.assert_allclose(factor @ factor.T, matrix, rtol=0, atol=1e-3)
    np.testing.assert_allclose(diagonal, np.diag(np.linalg.inv(matrix)), rtol=1e-4)


def test_a_matrix_that_has_no_factor_is_refused():
    with pytest.raises(np.linalg.LinAlgError):
        cholesky.factorize(np.array([[1, 2], [2, 1]], dtype=np.float32))


def test_balanced_classes_weigh_the_same_in_sum():
    rows = Examples(np.zeros((5, 1)), np.array([0, 1, 1, 1, 1]), ["x"], ["a", "b"])
    assert rows.row_weights("balanced").tolist() == [2.5, 0.625, 0.625, 0.625, 0.625]
    assert rows.row_weights("none").tolist() == [1, 1, 1, 1, 1]


def test_balanced_class_weights_help_a_rare_class(kind):
    data = made_up(3, (80, 80, 8), 4.0)
    new, known = artefacts(3, 100, draw=3, noise=4.0)
    values = data.transformer.transform(new)
    recalls = []
    for class_weight in ("none", "balanced"):
        model, _ = fit(kind, data=data, class_weight=class_weight)
        predicted = model.logits(values).argmax(axis=1)
        recalls.append(np.mean(predicted[known == 2] == 2))
    assert recalls[1] > recalls[0] + 0.05


@pytest.mark.parametrize("kind", ALONE)
def test_what_val_has_decided_gives_the_same_model_again_without_val(kind):
    model, _ = fitted(kind)
    again, curve = fit_on(kind, made_up().train, None, tuned=model.tuned)
    assert again.tuned == model.tuned
    assert file_of(again) == file_of(model)
    assert curve is None


@pytest.mark.parametrize("kind", ALONE)
def test_a_refit_learns_from_the_rows_that_it_is_given(kind):
    data = made_up()
    model, _ = fitted(kind)
    both = data.train.join(data.val)
    again, _ = fit_on(kind, both, None, tuned=model.tuned)
    assert again.tuned == model.tuned
    assert loss(again, data.val) < loss(model, data.val)


def test_the_curve_has_the_metrics_of_the_model_at_its_best(kind):
    from sklearn.metrics import accuracy_score, log_loss

    temperature = 1.0
    if kind == "ensemble":
        found = fit_blend(made_up().train, made_up().val)
        model, curve, temperature = found.model, found.curve, found.temperature
    else:
        model, curve = fitted(kind)
    assert tuple(curve.columns) == tuple(CURVE_COLUMNS)
    best = curve.iloc[-1] if kind == "ensemble" else curve.loc[curve["val_log_loss"].idxmin()]
    for name in ("train", "val"):
        rows = getattr(made_up(), name)
        logits = model.logits(rows.values).astype(float) / temperature
        expected = log_loss(rows.classes, softmax(logits, axis=1))
        assert best[f"{name}_log_loss"] == pytest.approx(expected, rel=1e-4)
        found = accuracy_score(rows.classes, logits.argmax(axis=1))
        assert best[f"{name}_accuracy"] == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("patience", [1, 4])
@pytest.mark.parametrize(
    ("kind", "key", "chosen"),
    [
        ("mlp", "patience", {"epochs": 40, "learning_rate": 0.1}),
        ("xgboost", "early_stopping_rounds", {"rounds": 40}),
    ],
)
def test_training_stops_early_and_keeps_the_best_iteration(kind, key, chosen, patience):
    data = made_up(noise=3.0)
    model, curve = fit(kind, data=data, **chosen, **{key: patience})
    best = int(curve["val_log_loss"].idxmin()) + 1
    assert curve["iteration"].tolist() == list(range(1, len(curve) + 1))
    assert len(curve) == best + patience < 40
    assert model.tuned == best
    assert loss(model, data.val) == pytest.approx(curve["val_log_loss"].min(), rel=1e-5)


def test_the_curve_is_measured_on_evenly_spaced_training_rows(monkeypatch):
    monkeypatch.setattr(base, "MOST_TRAIN_ROWS", 3)
    rows = Examples(np.arange(9, dtype=np.float32)[:, None], np.arange(9) % 2, ["x"], ["a", "b"])
    seen = []

    class Model:
        def logits(self, values):
            seen.append(values[:, 0].tolist())
            return np.zeros((len(values), 2))

    val = rows.take(np.arange(1, 9))
    settings = settings_of("lda")
    point = curve_point(7, Model(), rows, settings, val, np.zeros((8, 2)))
    assert seen == [[0, 4, 8]]
    assert point["train_accuracy"].item() == 1
    assert point["val_accuracy"].item() == 0.5
    assert point["val_log_loss"].item() == pytest.approx(np.log(2))


def test_the_curve_weighs_rows_as_the_fit_does():
    rows = Examples(np.zeros((5, 1)), np.array([0, 1, 1, 1, 1]), ["x"], ["a", "b"])
    always_b = SimpleNamespace(logits=lambda values: np.tile([0.0, 1.0], (len(values), 1)))
    for class_weight, expected in (("none", 0.8), ("balanced", 0.5)):
        settings = settings_of("lda", class_weight=class_weight)
        point = curve_point(1, always_b, rows, settings, rows, always_b.logits(rows.values))
        for subset in ("train", "val"):
            assert point[f"{subset}_accuracy"].item() == pytest.approx(expected)
            wrong, right = np.log(1 + np.e), np.log(1 + 1 / np.e)
            mean = expected * right + (1 - expected) * wrong
            assert point[f"{subset}_log_loss"].item() == pytest.approx(mean)


STEPS = {
    "mlp": {"epochs": 25, "patience": 25, "learning_rate": 0.02},
    "xgboost": {"rounds": 25, "early_stopping_rounds": 25},
}


def val_logits_by_step(kind, data, class_weight="none"):
    """Logits of val after each of 25 steps of training, each from a fit of its own."""
    return np.array(
        [
            fit_on(kind, data.train, None, class_weight=class_weight, tuned=steps, **STEPS[kind])[
                0
            ].logits(data.val.values)
            for steps in range(1, 26)
        ]
    )


@pytest.mark.parametrize("kind", STEPS)
def test_with_balanced_classes_it_stops_by_weighted_rows_of_val(kind):
    data = made_up(3, (80, 80, 8), 4.0)
    found = fit_whole(kind, data.train, data.val, class_weight="balanced", **STEPS[kind])
    losses = {
        class_weight: [
            examples.log_loss(logits, data.val.classes, data.val.row_weights(class_weight))
            for logits in val_logits_by_step(kind, data, "balanced")
        ]
        for class_weight in ("none", "balanced")
    }
    assert found.model.tuned == 1 + int(np.argmin(losses["balanced"]))
    assert np.argmin(losses["balanced"]) != np.argmin(losses["none"])
    assert found.curve["val_log_loss"].to_numpy() == pytest.approx(losses["balanced"], rel=1e-4)


def squared_exponential(rows, others, gamma):
    differences = rows[:, None, :].astype(float) - others[None, :, :]
    return np.exp(-gamma * (differences**2).sum(axis=2))


def test_centres_are_the_scaled_rows_to_the_nearest_of_255_steps(recwarn):
    rows = made_up().train.values.copy()
    rows[:, 1] = 0
    scales = feature_scales(made_up().train.names, 3.0)
    assert scales.tolist() == [1] * 6 + [3] * 7
    around = Kernel.around(rows, scales, 0.6)
    step = np.abs(rows * scales).max(axis=0) / 127
    assert around.steps.dtype == np.int8
    assert (np.abs(around.centres() - rows * scales) <= step / 2 + 1e-6).all()
    assert (around.centres()[:, 1] == 0).all()
    assert not list(recwarn)  # such as of a division by the step of a feature that is always 0


def test_the_kernel_is_the_exponential_of_squared_distances(monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK_ROWS", 7)
    data = made_up()
    around = Kernel.around(data.train.values, feature_scales(data.train.names, 3.0), 0.6)
    gamma = 0.6 / data.train.values.shape[1]
    expected = squared_exponential(data.val.values * around.scales, around.centres(), gamma)
    weights = np.random.default_rng(0).normal(size=(len(data.train.classes), 5)).astype(np.float32)
    np.testing.assert_allclose(
        around.times(data.val.values, weights), expected @ weights, rtol=0, atol=1e-4
    )


def test_no_kernel_is_above_1_where_rounding_would_make_it_so():
    rows = np.random.default_rng(0).normal(300, 1, (200, 13)).astype(np.float32)
    around = Kernel.around(rows, np.ones(13, dtype=np.float32), 13.0)
    found = around.between(around.centres(), around.centres())
    assert found.max() == 1
    assert around.times(rows, np.eye(200, dtype=np.float32)).max() <= 1


def test_no_kernel_of_the_file_is_above_1_either():
    # So far out that the squared length of the difference is lost in the rounding.
    rows = np.random.default_rng(0).normal(300, 1, (200, 13)).astype(np.float32)
    around = Kernel.around(rows, np.ones(13, dtype=np.float32), 13.0)
    graph = Graph()
    features = graph.input("features", np.float32, 13)
    graph.output("kernel", around.add_to(graph, features), np.float32, 200)
    feed = {"features": around.centres()}
    for run in (
        onnxruntime.InferenceSession(graph.to_bytes({}, "")).run,
        ReferenceEvaluator(onnx.load_from_string(graph.to_bytes({}, ""))).run,
    ):
        (found,) = run(None, feed)
        assert found.max() == 1
        assert found.min() >= 0


@pytest.fixture(params=["equal", "unequal"])
def ridge(request):
    """Rows of a small ridge regression, how much each counts, and what it is by its formulas."""
    rows = made_up(4, 10, 2.5).train
    rows = rows.take(np.random.default_rng(0).permutation(len(rows.classes)))
    weights = np.ones(40)
    if request.param == "unequal":
        weights = np.random.default_rng(1).uniform(0.3, 3, 40)
    around = Kernel.around(rows.values, feature_scales(rows.names, 2.0), 0.6)
    matrix = squared_exponential(around.centres(), around.centres(), around.gamma)

    def says(learned, asked):
        """Logits of rows with these places by what others have taught."""
        means = np.average(np.eye(4)[rows.classes[learned]], axis=0, weights=weights[learned])
        penalties = np.diag(0.2 / weights[learned])
        coefficients = np.linalg.solve(
            matrix[np.ix_(learned, learned)] + penalties, np.eye(4)[rows.classes[learned]] - means
        )
        return 10 * (matrix[np.ix_(asked, learned)] @ coefficients + means)

    return SimpleNamespace(
        rows=rows, weights=weights, params=checked("kernel_ridge", penalty=0.2), says=says
    )


def test_kernel_ridge_is_a_plain_solution(ridge, monkeypatch):
    monkeypatch.setattr(cholesky, "TILE", 6)
    model, _ = solve(ridge.params, ridge.rows, ridge.weights, 0)
    centres = model.kernel.centres() / model.kernel.scales
    every = np.arange(40)
    np.testing.assert_allclose(model.logits(centres), ridge.says(every, every), rtol=0, atol=2e-3)


@pytest.mark.parametrize("left_out", [40, 7])
def test_the_leave_one_out_logits_are_those_of_leaving_each_row_out(ridge, left_out):
    _, logits = solve(ridge.params, ridge.rows, ridge.weights, left_out)
    assert logits.shape == (left_out, 4)
    for place, found in zip(range(40 - left_out, 40), logits, strict=True):
        kept = np.delete(np.arange(40), place)
        np.testing.assert_allclose(found, ridge.says(kept, [place])[0], rtol=0, atol=2e-3)


def test_each_scored_row_has_the_logits_of_a_model_without_it(ridge):
    scored = np.random.default_rng(2).permutation(40)[:25]
    ridge.weights[:] = 1
    found = kernel_ridge.fit_held_out(ridge.params, ridge.rows, scored, settings_of("kernel_ridge"))
    assert found.rows == 40
    for place, logits in zip(scored, found.logits, strict=True):
        expected = ridge.says(np.delete(np.arange(40), place), [place])[0]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=0.1)


def around_some(ridge, count):
    """What a plain solution around `count` of the rows says, and the parameters for it."""
    rows, settings = ridge.rows, settings_of("kernel_ridge")
    params = ridge.params.model_copy(update={"most_rows": 39, "centres": count})
    centres = stratified_order(rows.classes, settings.seed)[-count:]
    kernel = Kernel.around(rows.values[centres], feature_scales(rows.names, 2.0), 0.6)
    scaled = (rows.values * kernel.scales).astype(float)
    functions = squared_exponential(scaled, kernel.centres(), kernel.gamma)
    own = squared_exponential(kernel.centres(), kernel.centres(), kernel.gamma)

    def says(learned, asked):
        weights, targets = ridge.weights[learned], np.eye(4)[rows.classes[learned]]
        means = np.average(targets, axis=0, weights=weights)
        weighed = functions[learned].T * weights
        coefficients = np.linalg.solve(
            weighed @ functions[learned] + 0.2 * own, weighed @ (targets - means)
        )
        return 10 * (functions[asked] @ coefficients + means)

    return params, centres, says


@pytest.mark.parametrize("span", [7, 1000])
def test_functions_around_some_rows_are_fitted_on_all_rows(ridge, span, monkeypatch):
    monkeypatch.setattr(kernel_ridge, "SPAN", span)
    params, centres, says = around_some(ridge, 12)
    every = np.arange(40)
    model, left_out = kernel_ridge.solve_around(
        params, ridge.rows.take(centres), ridge.rows, ridge.weights, every[:9]
    )
    assert len(model.weights) == 12
    found = model.logits(ridge.rows.values)
    np.testing.assert_allclose(found, says(every, every), rtol=0, atol=5e-3)
    for place, logits in zip(every, left_out, strict=False):
        expected = says(np.delete(every, place), [place])[0]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=5e-3)


def test_functions_around_all_rows_are_the_full_solution(ridge):
    params, centres, _ = around_some(ridge, 40)
    model, left_out = kernel_ridge.solve_around(
        params, ridge.rows.take(centres), ridge.rows, ridge.weights, np.arange(40)
    )
    whole, whole_left_out = solve(ridge.params, ridge.rows, ridge.weights, 40)
    values = ridge.rows.values
    np.testing.assert_allclose(model.logits(values), whole.logits(values), rtol=0, atol=0.05)
    np.testing.assert_allclose(left_out, whole_left_out, rtol=0, atol=0.1)


def test_centres_that_are_alike_are_one(ridge):
    """Their matrix has no inverse, and rounding would decide."""
    params, centres, _ = around_some(ridge, 12)
    args = (ridge.rows, ridge.weights, np.arange(5))
    model, _ = kernel_ridge.solve_around(params, ridge.rows.take(centres), *args)
    twice, _ = kernel_ridge.solve_around(params, ridge.rows.take(np.tile(centres, 2)), *args)
    values = ridge.rows.values
    np.testing.assert_allclose(twice.logits(values), model.logits(values), rtol=0, atol=0.01)


def test_the_kernel_matrix_is_in_the_memory_once(monkeypatch):
    monkeypatch.setattr(cholesky, "TILE", 50)
    rows = made_up(4, 250).train
    tracemalloc.start()
    solve(checked("kernel_ridge"), rows, np.ones(1000), 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 4 * 1000**2  # four bytes a number


@pytest.mark.parametrize("most", [6000, 50])
def test_kernel_ridge_is_weighed_by_what_it_says_of_rows_without_them(most, monkeypatch):
    monkeypatch.setattr(held_out, "MOST_SCORED_ROWS", most)
    data = made_up(4, (50, 20, 40, 10), 1.8)
    model, _ = fit("kernel_ridge", data=data, class_weight="balanced")
    rows = data.train.take(stratified_order(data.train.classes, 1))
    weights = rows.row_weights("balanced")
    alone, logits = solve(checked("kernel_ridge"), rows, weights, min(most, 120))
    last = slice(-len(logits), None)
    (opinion,) = fit_stack([logits], rows.classes[last], weights[last])
    expected = opinion.of(alone.logits(data.val.values))
    np.testing.assert_allclose(model.logits(data.val.values), expected, rtol=0, atol=1e-3)


def test_kernel_ridge_has_a_function_around_each_row_or_around_some(capsys):
    model = fit("kernel_ridge", most_rows=119, centres=20)[0].model
    assert model.kernel.steps.shape[0] == len(model.weights) == 20
    said = "solving for 120 rows, more than `most_rows`, with functions around 20 of them\n"
    assert f"[train] kernel_ridge: {said}" in capsys.readouterr().out
    assert len(fit("kernel_ridge", most_rows=120, centres=20)[0].model.weights) == 120
    assert "[train] kernel_ridge: solving for 120 rows\n" in capsys.readouterr().out


def test_the_log_says_when_rows_that_judge_have_functions_of_their_own(capsys):
    rows, settings = made_up().train, settings_of("kernel_ridge")
    params = checked("kernel_ridge", most_rows=50, centres=20)
    kernel_ridge.fit_held_out(params, rows, np.arange(100), settings)
    assert "judge" not in capsys.readouterr().out
    kernel_ridge.fit_held_out(params, rows, np.arange(107), settings)
    said = "[train] kernel_ridge: 7 of the rows that judge it have functions of their own, so that"
    assert said in capsys.readouterr().out


def test_no_function_is_around_a_row_that_is_scored_where_others_suffice(monkeypatch):
    solve_around, centres = kernel_ridge.solve_around, []

    def watched(params, found, *others):
        centres.append(found.values)
        return solve_around(params, found, *others)

    monkeypatch.setattr(kernel_ridge, "solve_around", watched)
    rows, settings = made_up().train, settings_of("kernel_ridge")
    params = checked("kernel_ridge", most_rows=50, centres=20)
    # Those that would be the centres: the last in the order.
    scored = stratified_order(rows.classes, settings.seed)[-30:]
    kernel_ridge.fit_held_out(params, rows, scored, settings)
    assert centres[0].shape[0] == 20
    near = np.abs(centres[0][:, None] - rows.values[scored]).max(axis=2)
    assert near.min() > 0


def test_kernel_ridge_keeps_the_rows_of_rare_classes():
    data = made_up(4, (40, 20, 10, 1))
    model = fit("kernel_ridge", data=data, most_rows=60, centres=20)[0].model
    rare = data.train.values[-1] * model.kernel.scales
    distances = np.abs(model.kernel.centres() - rare).max(axis=1)
    assert distances.min() < model.kernel.step.max()
    assert model.weights.shape == (20, 4)


@pytest.mark.parametrize(
    ("key", "too_low", "least", "most", "too_high"),
    [
        ("gamma", 0, 1e-9, 1e6, 1e6 + 1),
        ("metadata_weight", 0, 1e-9, 1e3, 1e3 + 1),
        ("penalty", 0, 1e-9, 1e6, 1e6 + 1),
        ("most_rows", 1, 2, 40_000, 40_001),
        ("centres", 1, 2, 40_000, 40_001),
    ],
)
def test_parameters_of_kernel_ridge_have_bounds(key, too_low, least, most, too_high):
    def check(value):
        section = PARAMS["kernel_ridge"] | {key: value}
        return check_section("train.kernel_ridge", section, kernel_ridge.Params)

    assert [getattr(check(value), key) for value in (least, most)] == [least, most]
    for value in (too_low, too_high, "much", True):
        with pytest.raises(ParameterError, match=rf"`train\.kernel_ridge\.{key}` should be "):
            check(value)


def test_a_penalty_that_is_too_small_is_refused():
    with pytest.raises(
        PipelineError, match="the `penalty` of kernel ridge regression is too small"
    ):
        fit("kernel_ridge", penalty=1e-9, gamma=1e-4)


def test_the_rows_of_kernel_ridge_are_in_proportion_wherever_it_is_cut():
    classes = np.repeat([0, 1, 2, 3], [40, 20, 10, 1])
    order = stratified_order(classes, seed=1)
    assert sorted(order) == list(range(71))
    assert sorted(classes[order[-4:]]) == [0, 1, 2, 3]
    for rows in (18, 36, 54):
        share = np.array([40, 20, 10]) * rows / 71
        assert (np.abs(np.bincount(classes[order[-rows:]])[:3] - share) < 2).all()
    assert (stratified_order(classes, seed=1) == order).all()
    assert (stratified_order(classes, seed=2) != order).any()


def blend(**features):
    """An ensemble of members with the features that each takes, and its curve."""
    return fit("ensemble", data=made_up(noise=3.0), **members(**features))


@pytest.mark.parametrize(
    ("features", "own"),
    [("metadata", slice(6, None)), ("embedding", slice(None, 6)), ("all", slice(None))],
)
def test_a_member_uses_the_features_that_it_is_given_and_no_others(features, own):
    model, _ = blend(lda=features)
    values = made_up(noise=3.0).val.values
    changed, random = values.copy(), np.random.default_rng(0).normal(size=values.shape)
    changed[:, own] = random[:, own]
    assert (np.abs(model.logits(changed) - model.logits(values)).max(axis=1) > 1e-6).all()
    others = random.astype(np.float32)
    others[:, own] = values[:, own]
    np.testing.assert_array_equal(model.logits(others), model.logits(values))


def test_principal_components_are_features_of_the_embedding():
    names = ["pca_0", "pca_1", "log_width", "museum=embedding_0"]
    every = np.arange(4)
    assert places_of("embedding", names, every).tolist() == [0, 1]
    assert places_of("metadata", names, every).tolist() == [2, 3]
    assert places_of("all", names, every).tolist() == [0, 1, 2, 3]
    assert places_of("all", names, every[1:3]).tolist() == [1, 2]


PARTS = {"kernel_ridge": slice(None), "lda": slice(None, 6), "xgboost": slice(6, None)}


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_an_ensemble_is_the_stack_of_its_members_fitted_alone(class_weight, monkeypatch):
    data = made_up(3, (80, 80, 8), 4.0)
    monkeypatch.setattr(ensemble, "scored_rows", lambda *_: np.arange(168))
    found = fit_blend(data.train, data.val, class_weight=class_weight)
    settings = settings_of("ensemble", class_weight=class_weight)
    alone, weights = [], data.train.row_weights(class_weight)
    for name, part in PARTS.items():
        columns = np.arange(len(data.train.names))[part]
        own = data.train.with_features(columns)
        module, params = MODELS[name].module, checked(name)
        fitted_ = held_out.fit_held_out(module, params, own, np.arange(168), settings)
        alone.append((fitted_.logits, fitted_.model.logits(data.val.values[:, columns])))
    seen, of_val = zip(*alone, strict=True)
    opinions = fit_stack(seen, data.train.classes, weights)
    expected = blended(opinions, of_val)
    np.testing.assert_allclose(found.model.logits(data.val.values), expected, rtol=0, atol=1e-3)
    assert found.curve["iteration"].tolist() == [1, 2, 3]
    _, temperature = cross_fitted_stack(seen, data.train.classes, weights)
    assert found.temperature == pytest.approx(temperature, rel=1e-3)


def test_a_blend_is_no_worse_on_val_than_the_best_of_its_members():
    data = made_up(noise=3.0)
    chosen = {"kernel_ridge": "metadata", "logistic_regression": "metadata", "lda": "embedding"}
    model, _ = blend(**chosen, xgboost="metadata")
    assert all(member.opinion.weight >= 0 for member in model.members)
    opinions = [member.model.logits(data.val.values) for member in model.members]
    alone = [
        examples.log_loss(logits / fit_temperature(logits, data.val.classes), data.val.classes)
        for logits in opinions
    ]
    assert loss(model, data.val) < min(alone)


def test_a_member_without_features_is_left_out_and_said_so(capsys):
    data = made_up()
    sizes = np.arange(6, len(data.train.names))
    train, val = (rows.with_features(sizes) for rows in (data.train, data.val))
    model, _ = fit_on("ensemble", train, val, **members(lda="embedding", xgboost="metadata"))
    line = "[train] lda is left out of the ensemble: its features are left out\n"
    assert line in capsys.readouterr().out
    alone, _ = fit_on("ensemble", train, val, **members(xgboost="metadata"))
    np.testing.assert_array_equal(model.logits(val.values), alone.logits(val.values))


def test_an_ensemble_without_any_features_is_refused():
    data = made_up()
    sizes = np.arange(6, len(data.train.names))
    train, val = (rows.with_features(sizes) for rows in (data.train, data.val))
    with pytest.raises(PipelineError, match="no member of the ensemble has any features"):
        fit_on("ensemble", train, val, **members(lda="embedding", kernel_ridge="embedding"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"forest": {"features": "all"}}, r"`train\.ensemble\.forest` is no model: there are kern"),
        ({"ensemble": {"features": "all"}}, r"`train\.ensemble\.ensemble` is no model"),
        ({"lda": {"features": "all"}}, r"`train\.ensemble\.lda\.shrinkage` is missing"),
        ({"lda": {"features": "all", "shrinkage": 2.0}}, r"`train\.ensemble\.lda\.shrinkage`"),
        (
            {"lda": {"features": "all", "shrinkage": 0.5, "shrinking": 1}},
            r"unknown key `train\.ensemble\.lda\.shrinking`, did you mean `shrinkage`",
        ),
        ({"lda": {"features": "sizes", "shrinkage": 0.5}}, r"`train\.ensemble\.lda\.features`"),
        ({"lda": None}, r"`train\.ensemble\.lda` should be a mapping"),
        ({}, r"`train\.ensemble` should hold the sections of its members"),
        (None, r"`train\.ensemble` should hold the sections of its members"),
    ],
    ids=str,
)
def test_wrong_members_are_refused_by_the_name_of_their_key(content, problem):
    with pytest.raises(ParameterError, match=problem):
        ensemble.check("train.ensemble", content)


def fit_on_cuda(kind):
    data = made_up()
    if kind == "ensemble":
        return fit_blend(data.train, data.val, device="cuda")
    settings = settings_of(kind, device="cuda")
    every = np.arange(len(data.train.names))
    return fit_one(MODELS[kind].module, checked(kind), data.train, data.val, settings, every)


CPU_ONLY = [kind for kind in ALONE if not hasattr(MODELS[kind].module, "check_cuda")]


@pytest.mark.parametrize("kind", CPU_ONLY)
def test_a_model_that_cannot_use_a_graphics_card_says_so(kind):
    with pytest.raises(PipelineError, match=rf"`train\.device` is cuda, but {kind} runs on the c"):
        fit_on_cuda(kind)


@pytest.mark.parametrize("kind", ["xgboost", "ensemble"])
def test_without_cuda_the_sentence_says_where_to_look(kind, monkeypatch):
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": False})
    with pytest.raises(PipelineError, match="the installed XGBoost has no CUDA: the README says"):
        fit_on_cuda(kind)


def test_without_a_graphics_card_xgboost_does_not_go_on_on_the_cpu(monkeypatch):
    plain = xgboost.train
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": True})
    monkeypatch.setattr(
        xgboost,
        "train",
        lambda params, *others: plain(params | {"device": "cpu"}, *others),
    )
    with pytest.raises(PipelineError, match="there is no NVIDIA graphics card here"):
        fit_on_cuda("xgboost")


def all_outcomes(logits):
    """Each row once for each class, with the probability of that class as its weight."""
    rows, count = logits.shape
    return np.tile(np.arange(count), rows), softmax(logits, axis=1).ravel()


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_the_temperature_is_the_number_that_logits_were_scaled_by(temperature):
    logits = np.random.default_rng(0).normal(0, 2, (4000, 3))
    classes, weights = all_outcomes(logits)
    found = fit_temperature(np.repeat(logits * temperature, 3, axis=0), classes, weights)
    assert found == pytest.approx(temperature, rel=1e-2)


def test_the_weights_of_a_pool_are_those_that_made_its_outcomes():
    random = np.random.default_rng(0)
    opinions = [log_softmax(random.normal(0, 2, (4000, 3)), axis=1) for _ in range(3)]
    classes, weights = all_outcomes(0.3 * opinions[0] + 1.5 * opinions[2])
    found = fit_weights([np.repeat(part, 3, axis=0) for part in opinions], classes, weights)
    assert found == pytest.approx([0.3, 0, 1.5], abs=0.05)


@pytest.mark.parametrize("rows", [1, 5, 25])
def test_a_few_rows_that_are_all_right_do_not_make_a_model_sure_of_everything(rows):
    classes = np.arange(rows) % 3
    logits = 2.0 * np.eye(3)[classes]
    temperature = fit_temperature(logits, classes)
    assert 0.3 < temperature < 1
    # Had it been right by luck: the loss of a wrong answer stays within bounds.
    assert examples.log_loss(logits / temperature, (classes + 1) % 3) < 7
    weights = fit_weights([log_softmax(logits, axis=1)] * 2, classes)
    assert 1 < weights.sum() < 3.5


def test_without_rows_logits_stay_as_they_are_and_opinions_weigh_the_same():
    none, classes = np.empty((0, 3)), np.empty(0, dtype=int)
    assert fit_temperature(none, classes) == pytest.approx(1, abs=1e-3)
    assert fit_weights([none] * 4, classes).tolist() == [0.25] * 4


def test_few_rows_move_the_temperature_as_far_as_a_normal_prior_lets_them():
    # Ten rows that are right by a margin of 1. The derivatives of their log loss and of the prior,
    # whose standard deviation is one half, add up to 0.
    temperature = fit_temperature(np.tile([1.0, 0.0], (10, 1)), np.zeros(10, dtype=int))
    margin = 1 / temperature
    pull = 10 * margin / (1 + np.exp(margin))
    assert np.log(temperature) / 0.5**2 == pytest.approx(-pull, rel=1e-3)


def test_the_best_step_is_that_of_the_weighted_rows_of_the_other_folds():
    # The first five rows are right at the first step, the others, by less, at the second.
    logits = np.zeros((2, 10, 2))
    logits[0, :5, 0], logits[1, 5:, 0] = 2, 1
    classes = np.zeros(10, dtype=int)
    assert best_steps(logits, classes, np.ones(10)) == [0] * 5
    assert best_steps(logits, classes, np.repeat([1.0, 4.0], 5)) == [1] * 5


def test_where_no_other_row_decides_training_goes_to_its_last_step():
    logits = np.array([[[0, 0]], [[2, 0]], [[1, 0]]])
    assert best_steps(logits, np.zeros(1, dtype=int), np.ones(1)) == [2, 1, 1, 1, 1]


def test_the_folds_of_val_have_each_row_once_and_their_share_of_each_class():
    classes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 25, 10]))
    folds = np.array(list(folds_of(classes)))
    assert folds.shape == (5, 85)
    assert (folds.sum(axis=0) == 1).all()
    for fold in folds:
        assert np.bincount(classes[fold]).tolist() == [10, 5, 2]


def test_rows_are_put_together_from_the_part_of_their_fold():
    classes = np.arange(10) % 2
    parts = np.arange(5)[:, None, None] * np.ones((5, 10, 2))
    found = own_parts(parts, classes)
    for number, fold in enumerate(folds_of(classes)):
        assert (found[fold] == number).all()


CROSS_FITTED = {**STEPS, "lda": PARAMS["lda"]}


@pytest.fixture
def same_folds(monkeypatch):
    """Folds that do not go by classes: they stay the same when classes change."""

    def folds(classes):
        return iter([np.arange(len(classes)) % 5 == number for number in range(5)])

    for module in (calibration, held_out, stack):
        monkeypatch.setattr(module, "folds_of", folds)


@pytest.mark.parametrize("kind", CROSS_FITTED)
def test_no_row_of_val_has_a_part_in_what_is_said_of_it(kind, same_folds):
    data = made_up(noise=3.0)
    second_fold = np.arange(len(data.val.classes)) % 5 == 2

    def said(val):
        found = fit_whole(kind, data.train, val, **CROSS_FITTED[kind])
        weights = np.ones(len(val.classes))
        return cross_fitted(found.without_fold, val.classes, weights)

    first = said(data.val)
    assert first.sum(axis=1) == pytest.approx(np.ones(len(first)))
    # The rows of one fold have wrong classes: nothing changes for them, and something for others.
    wrong = np.where(second_fold, (data.val.classes + 1) % 4, data.val.classes)
    second = said(replace(data.val, classes=wrong))
    np.testing.assert_allclose(second[second_fold], first[second_fold], rtol=0, atol=1e-6)
    assert np.abs(second[~second_fold] - first[~second_fold]).max() > 1e-4


@pytest.mark.parametrize(
    ("kind", "rows"), [("mlp", (3, (80, 80, 8), 4.0)), ("xgboost", (4, 30, 3.0))]
)
def test_without_a_fold_the_step_is_the_best_for_the_other_folds(kind, rows):
    data = made_up(*rows)
    found = fit_whole(kind, data.train, data.val, **STEPS[kind])
    logits = val_logits_by_step(kind, data)
    losses = np.array([examples.row_losses(step, data.val.classes) for step in logits])
    best = [losses[:, ~fold].mean(axis=1).argmin() for fold in folds_of(data.val.classes)]
    assert len(set(best)) > 1
    for part, step in zip(found.without_fold, best, strict=True):
        np.testing.assert_allclose(part, logits[step], rtol=0, atol=1e-4)


def test_one_row_of_val_decides_nothing_for_itself():
    data = made_up()
    one = data.val.take(np.array([0]))
    for kind in ("mlp", "xgboost", "lda"):
        found = fit_whole(kind, data.train, one)
        cross = cross_fitted(found.without_fold, one.classes, np.ones(1))
        assert np.isfinite(cross).all()


def test_a_model_tells_how_many_rows_it_learned_from():
    data = made_up()
    both = data.train.join(data.val)
    assert fit_whole("lda", data.train, data.val).rows == {"lda": 120}
    around = fit_whole("kernel_ridge", data.train, data.val, most_rows=50)
    assert around.rows == {"kernel_ridge": 120}
    assert fit_whole("xgboost", both, None, tuned=2).rows == {"xgboost": 240}
    blend = members(kernel_ridge="all", lda="embedding")
    blend["kernel_ridge"] = blend["kernel_ridge"] | {"most_rows": 50}
    found = fit_blend(data.train, data.val, **blend)
    assert found.rows == {"kernel_ridge": 120, "lda": 120}
    assert found.calibrating_rows == 120
    again = fit_blend(data.train, data.val, refit_on_val=True, **blend)
    assert again.rows == {"kernel_ridge": 240, "lda": 240}
    assert again.calibrating_rows == 240


def test_an_opinion_that_is_worse_than_none_has_no_weight():
    random = np.random.default_rng(0)
    opinions = [log_softmax(random.normal(0, 2, (400, 3)), axis=1) for _ in range(2)]
    classes, weights = all_outcomes(opinions[0] - 0.5 * opinions[1])
    right, wrong = fit_weights([np.repeat(part, 3, axis=0) for part in opinions], classes, weights)
    assert right > 0.5
    assert wrong == 0


@pytest.fixture
def seen(monkeypatch):
    """The functions that are minimised, in their order."""
    seen = []
    minimize = scipy.optimize.minimize

    def watched(function, *arguments, **options):
        seen.append(function)
        return minimize(function, *arguments, **options)

    monkeypatch.setattr(scipy.optimize, "minimize", watched)
    return seen


@pytest.mark.parametrize("weighed", [False, True])
def test_the_gradient_of_the_weights_is_that_of_finite_differences(weighed, seen):
    random = np.random.default_rng(0)
    opinions = [log_softmax(random.normal(0, 2, (60, 3)), axis=1) for _ in range(3)]
    classes = random.integers(0, 3, 60)
    row_weights = random.uniform(0.2, 3, 60) if weighed else None
    fit_weights(opinions, classes, row_weights)
    place = np.array([0.4, 0.9, 0.1])
    value, gradient = seen[0](place)
    total = sum(w * opinion for w, opinion in zip(place, opinions, strict=True))
    losses = examples.row_losses(total, classes) * (1 if row_weights is None else row_weights)
    prior = ((place - 1 / 3) ** 2).sum() / (2 * calibration.WEIGHT_SPREAD**2)
    assert value == pytest.approx(losses.sum() + prior)
    expected = scipy.optimize.approx_fprime(place, lambda weights: seen[0](weights)[0])
    assert gradient == pytest.approx(expected, rel=1e-4)


def test_classes_are_places_among_the_labels():
    mediums = np.array(["gold", "clay", "gold"], dtype=object)
    rows = Features(np.array(["a", "b", "c"]), mediums, np.zeros((3, 1)), ["x"], "synthetic")
    assert Examples.of(rows, ["bronze", "clay", "gold"]).classes.tolist() == [2, 1, 2]


def test_kernel_ridge_needs_two_centres_for_each_label():
    with pytest.raises(PipelineError, match=r"centres` is 7, fewer than two for each of the 4"):
        fit("kernel_ridge", most_rows=50, centres=7)
    assert len(fit("kernel_ridge", most_rows=50, centres=8)[0].model.weights) == 8


def test_an_ensemble_of_which_none_can_use_a_graphics_card_refuses_it():
    with pytest.raises(PipelineError, match="but no member of the ensemble can use it"):
        fit("ensemble", device="cuda", **members(lda="all"))


def test_a_model_is_fitted_without_each_fold_to_score_it():
    # The only row of the last class stays, as a model has to know all classes.
    rows = made_up(4, (20, 20, 20, 1), 2.5).train
    backwards = np.arange(61)[::-1]
    module, params = MODELS["lda"].module, checked("lda")
    found = held_out.fit_held_out(module, params, rows, backwards, settings_of("lda"))
    assert found.rows == 61
    for fold in folds_of(rows.classes):
        kept = rows.take(np.flatnonzero(~fold | (rows.classes == 3)))
        expected = fit_whole("lda", kept, None).model.logits(rows.values[fold])
        np.testing.assert_array_equal(found.logits[::-1][fold], expected)
    whole = fit_whole("lda", rows, None).model
    np.testing.assert_array_equal(found.model.logits(rows.values), whole.logits(rows.values))


def test_of_many_rows_those_that_are_scored_are_left_out_all_at_once(monkeypatch, capsys):
    monkeypatch.setattr(held_out, "MANY_ROWS", 60)
    rows = made_up(4, (20, 20, 20, 1), 2.5).train
    scored = np.array([55, 3, 21, 40])
    module, params = MODELS["lda"].module, checked("lda")
    found = held_out.fit_held_out(module, params, rows, scored, settings_of("lda"))
    assert "lda: the 4 rows that judge it are left out all at once" in capsys.readouterr().out
    assert found.rows == 61
    kept = rows.take(np.delete(np.arange(61), scored))
    expected = fit_whole("lda", kept, None).model.logits(rows.values[scored])
    np.testing.assert_array_equal(found.logits, expected)


def test_no_row_decides_what_is_said_of_it_when_its_fold_is_left_out(same_folds):
    rows, every = made_up(noise=3.0).train, np.arange(120)

    def said(classes):
        params, settings = checked("xgboost", **STEPS["xgboost"]), settings_of("xgboost")
        changed, module = replace(rows, classes=classes), MODELS["xgboost"].module
        return held_out.fit_held_out(module, params, changed, every, settings).logits

    first = said(rows.classes)
    # Five rows that are in one fold, and in one of the parts of it that decide when to stop.
    wrong = (every % 5 == 2) & (every // 5 % 5 == 1)
    second = said(np.where(wrong, (rows.classes + 1) % 4, rows.classes))
    np.testing.assert_allclose(second[wrong], first[wrong], rtol=0, atol=1e-6)
    assert np.abs(second - first)[every % 5 != 2].max() > 1e-3


def test_the_model_of_all_rows_stops_where_the_median_of_the_folds_did():
    stops, given = [3, 9, 4, 7, 5], []

    def fit_(params, train, val, settings, tuned=None):
        if val is None:
            given.append((len(train.classes), tuned))
            return SimpleNamespace(model=None)
        model = SimpleNamespace(tuned=stops.pop())
        parts = np.zeros((5, len(val.classes), 4))
        return SimpleNamespace(model=model, parts_of_val=lambda: parts)

    module, rows = SimpleNamespace(fit=fit_), made_up().train
    held_out.fit_held_out(module, None, rows, np.arange(120), settings_of("lda"))
    assert given == [(120, 5)]


def test_without_rows_a_stack_is_the_plain_mean_of_its_members():
    none, classes = np.empty((0, 3)), np.empty(0, dtype=int)
    logits = list(np.random.default_rng(0).normal(0, 2, (4, 5, 3)))
    found = blended(fit_stack([none] * 4, classes, np.empty(0)), logits)
    expected = np.mean([log_softmax(part, axis=1) for part in logits], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("weighed", [False, True])
def test_the_gradient_of_the_corrections_is_that_of_finite_differences(weighed, seen):
    random = np.random.default_rng(0)
    logits, probabilities = random.normal(0, 1, (60, 3)), random.dirichlet(np.ones(6), 60)
    classes = random.integers(0, 3, 60)
    row_weights = random.uniform(0.2, 3, 60) if weighed else np.ones(60)
    found = fit_corrections(logits, probabilities, classes, row_weights)
    place = random.normal(0, 1, 18)
    value, gradient = seen[0](place)
    losses = examples.row_losses(logits + probabilities @ place.reshape(6, 3), classes)
    prior = (place**2).sum() / (2 * stack.CORRECTION_SPREAD**2)
    assert value == pytest.approx(row_weights @ losses + prior)
    expected = scipy.optimize.approx_fprime(place, lambda values: seen[0](values)[0])
    assert gradient == pytest.approx(expected, rel=1e-3)
    assert np.abs(seen[0](found.ravel())[1]).max() < 0.1
    assert np.abs(seen[0](np.zeros(18))[1]).max() > 1


def test_among_very_many_labels_nothing_is_corrected(monkeypatch):
    random = np.random.default_rng(0)
    logits, probabilities = random.normal(0, 1, (60, 3)), random.dirichlet(np.ones(6), 60)
    rows = logits, probabilities, random.integers(0, 3, 60), np.ones(60)
    assert fit_corrections(*rows).any()
    monkeypatch.setattr(stack, "MOST_CORRECTED", 2)
    assert not fit_corrections(*rows).any()


def test_a_correction_learns_which_classes_a_model_takes_for_each_other():
    random, classes = np.random.default_rng(0), np.arange(300) % 3
    mistaken = np.array([0, 2, 1])[classes]
    logits = 3 * np.eye(3)[mistaken] + random.normal(0, 0.5, (300, 3))
    (opinion,) = fit_stack([logits], classes, np.ones(300))
    plain = replace(opinion, correction=np.zeros((3, 3), dtype=np.float32))
    assert examples.accuracy(plain.of(logits), classes) < 0.4
    assert examples.accuracy(opinion.of(logits), classes) > 0.95


def test_a_row_has_no_part_in_its_blend_beyond_the_temperature(same_folds):
    random, classes = np.random.default_rng(0), np.arange(100) % 3
    logits = [2 * np.eye(3)[classes] + random.normal(0, 2, (100, 3)) for _ in range(2)]
    wrong = np.where(np.arange(100) == 7, (classes + 1) % 3, classes)
    first, second = (cross_fitted_stack(logits, own, np.ones(100))[0] for own in (classes, wrong))
    factors = second / first
    assert np.ptp(factors[7]) < 1e-9
    assert factors[7] == pytest.approx(np.ones(3), abs=0.05)
    # In the folds of other rows, more than that changes.
    assert np.ptp(factors[8]) > 1e-3


def test_what_is_said_of_the_scored_rows_is_calibrated_by_all_of_them():
    random, classes = np.random.default_rng(0), np.arange(100) % 3
    logits = [2 * np.eye(3)[classes] + random.normal(0, 2, (100, 3)) for _ in range(2)]
    found, temperature = cross_fitted_stack(logits, classes, np.ones(100))
    for fold in folds_of(classes):
        rows = np.flatnonzero(~fold)
        opinions = fit_stack([part[rows] for part in logits], classes[rows], np.ones(len(rows)))
        plain = blended(opinions, [part[fold] for part in logits])
        divisor = (plain / found[fold]).mean()
        np.testing.assert_allclose(plain, found[fold] * divisor, rtol=1e-9)
        assert divisor == pytest.approx(temperature, rel=0.2)
        assert divisor != temperature


@pytest.fixture
def every_row_scored(monkeypatch):
    monkeypatch.setattr(ensemble, "scored_rows", lambda rows, *_: np.arange(len(rows.classes)))


@pytest.mark.parametrize("refit_on_val", [False, True])
def test_a_row_of_val_has_no_part_in_what_the_ensemble_says_of_it(
    refit_on_val, same_folds, every_row_scored
):
    data = made_up(noise=3.0)
    wrong = np.where(np.arange(120) == 7, (data.val.classes + 1) % 4, data.val.classes)
    # How many rounds are tried, all rows decide.
    blend = PARAMS["ensemble"] | {"xgboost": PARAMS["ensemble"]["xgboost"] | STEPS["xgboost"]}
    first, second = (
        fit_blend(data.train, val, refit_on_val=refit_on_val, **blend).val_probabilities
        for val in (data.val, replace(data.val, classes=wrong))
    )
    if not refit_on_val:
        np.testing.assert_array_equal(second, first)
        return
    # No member had seen the row, and no opinion was fitted on it. It has a small part in what the
    # members say of other rows, on which opinions and the temperature were fitted.
    changes = np.abs(second - first).max(axis=1)
    assert changes[7] < 0.01
    assert changes.max() > 0.05


def test_what_is_said_of_val_is_in_the_order_of_its_rows():
    data = made_up()
    shuffled = data.val.take(np.random.default_rng(0).permutation(120))
    found = fit_blend(data.train, shuffled, refit_on_val=True, **members(lda="all"))
    assert np.mean(found.val_probabilities.argmax(axis=1) == shuffled.classes) > 0.85


def test_all_of_val_and_as_many_of_train_as_there_is_room_for_judge_the_members(monkeypatch):
    train, val = np.repeat([0, 1, 2, 3], [20, 10, 9, 1]), np.repeat([0, 1, 2], [8, 6, 6])
    classes = np.concatenate([train, val])
    rows = Examples(np.zeros((60, 1)), classes, ["x"], ["a", "b", "c", "d"])
    # But for the only row of a class: without it, nothing can be said of the class.
    assert sorted(scored_rows(rows, 40, 1)) == [*range(39), *range(40, 60)]
    monkeypatch.setattr(held_out, "MOST_SCORED_ROWS", 40)
    found = scored_rows(rows, 40, 1)
    assert sorted(found[found >= 40]) == list(range(40, 60))
    assert np.abs(np.bincount(classes[found[found < 40]]) - [10, 5, 4.5]).max() <= 1
    monkeypatch.setattr(held_out, "MOST_SCORED_ROWS", 10)
    assert sorted(scored_rows(rows, 40, 1)) == list(range(40, 60))


def test_the_scored_rows_of_train_stand_for_all_of_them_beside_those_of_val():
    of_val = np.array([False, True, False, True, True])
    found = ensemble.as_many_as(of_val, 14, np.array([1, 1, 2, 2, 1]))
    np.testing.assert_allclose(found, np.array([7, 1, 14, 2, 1]) * 7 / 25)


THREE = members(kernel_ridge="embedding", lda="embedding", xgboost="metadata")


def test_what_two_answers_have_in_common_is_fitted_once(monkeypatch, capsys):
    data, fits = made_up(noise=3.0), []

    def counted(module, params, rows, scored, settings):
        fits.append((settings.name, len(rows.names)))
        return held_out.fit_held_out(module, params, rows, scored, settings)

    monkeypatch.setattr(ensemble, "fit_held_out", counted)
    blends = ensemble_of(data.train, data.val, THREE)
    first = blends.fit(np.arange(13))
    assert {member.name for member in first.model.members} == set(THREE)
    assert "left out" not in capsys.readouterr().out
    second = blends.fit(np.arange(6))
    assert sorted(fits) == [
        ("kernel_ridge", 6),
        ("lda", 6),
        ("xgboost", 7),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert "[train] xgboost is left out of the ensemble: its features are left out" in lines
    assert [member.name for member in second.model.members] == ["kernel_ridge", "lda"]
    alone = ensemble_of(data.train, data.val, THREE).fit(np.arange(6))
    values = data.val.values
    np.testing.assert_array_equal(second.model.logits(values), alone.model.logits(values))


@pytest.mark.parametrize("informative", [True, False])
def test_members_that_see_the_metadata_stay_where_these_tell_something(informative, capsys):
    data = made_up(noise=3.0)
    if not informative:
        random = np.random.default_rng(0)
        for rows in (data.train, data.val):
            values = rows.values.copy()
            values[:, 6:] = values[random.permutation(120), 6:]
            data = SimpleNamespace(**vars(data))
            setattr(data, "train" if rows is data.train else "val", replace(rows, values=values))
    found = fit_blend(data.train, data.val)
    names = [member.name for member in found.model.members]
    assert names == (["kernel_ridge", "lda", "xgboost"] if informative else ["lda"])
    line = (
        "[train] kernel_ridge, xgboost left out of the ensemble: what is not in the embedding "
        "tells no more than how frequent each label is\n"
    )
    assert (line in capsys.readouterr().out) != informative


@pytest.mark.parametrize("refit_on_val", [False, True])
def test_the_ensemble_learns_from_val_if_it_is_asked_to_and_not_otherwise(refit_on_val):
    data = made_up(noise=3.0)
    other = data.val.take(np.arange(0, 120, 2))
    files = [
        file_of(found.model, temperature=found.temperature)
        for found in (
            fit_blend(data.train, val, refit_on_val=refit_on_val) for val in (data.val, other)
        )
    ]
    assert (files[0] != files[1]) == refit_on_val


AUTO = {"gamma": "auto", "metadata_weight": "auto", "penalty": "auto"}


@pytest.fixture
def judge(monkeypatch):
    """Makes the leave-one-out logits the more wrong, the farther parameters are from these."""
    tried = []

    def solve_(params, rows, row_weights, left_out):
        values = params.model_dump()
        tried.append(values | {"rows": len(rows.classes)})
        distance = sum(abs(np.log(values[name] / best)) for name, best in BEST.items())
        wrong = np.arange(left_out) < 4 * distance
        return None, 3 * np.eye(4)[(rows.classes + wrong) % 4]

    monkeypatch.setattr(kernel_ridge, "solve", solve_)
    return tried


BEST = {"gamma": 2.0, "metadata_weight": 16.0, "penalty": 0.003}


def choose_on(rows, **changed):
    params = checked("kernel_ridge", **{**AUTO, **changed})
    return kernel_ridge.chosen(params, rows, settings_of("kernel_ridge"))


def test_auto_becomes_the_value_with_the_least_leave_one_out_loss(judge, monkeypatch, capsys):
    monkeypatch.setattr(kernel_ridge, "MOST_CHOOSING_ROWS", 50)
    found = choose_on(made_up().train)
    assert {name: getattr(found, name) for name in BEST} == BEST
    assert len(judge) == 1 + sum(len(values) - 1 for values in TRIED.values())
    assert {values["rows"] for values in judge} == {50}
    line = "gamma 2, metadata_weight 16, penalty 0.003, of what 50 rows have tried"
    assert f"[train] kernel_ridge: {line}\n" in capsys.readouterr().out


def test_numbers_stay_what_they_are_when_others_are_auto(judge):
    found = choose_on(made_up().train, gamma=0.7)
    assert (found.gamma, found.metadata_weight, found.penalty) == (0.7, 16.0, 0.003)
    assert {values["gamma"] for values in judge} == {0.7}
    judge.clear()
    params = checked("kernel_ridge")
    assert kernel_ridge.chosen(params, made_up().train, settings_of("kernel_ridge")) == params
    assert not judge


@pytest.mark.parametrize("columns", [slice(None, 6), slice(6, None)])
def test_no_weight_of_the_metadata_is_tried_where_there_is_nothing_to_weigh(columns, judge, capsys):
    own = made_up().train.with_features(np.arange(13)[columns])
    found = choose_on(own)
    assert (found.gamma, found.penalty) == (2.0, 0.003)
    assert {values["metadata_weight"] for values in judge} == {TRIED["metadata_weight"][0]}
    assert "metadata_weight" not in capsys.readouterr().out


def test_what_auto_has_become_is_told_and_val_has_no_part_in_it():
    data = made_up(noise=3.0)
    section = {"kernel_ridge": PARAMS["kernel_ridge"] | AUTO | {"gamma": 0.7}}
    expected = choose_on(data.train, gamma=0.7)
    told = {name: getattr(expected, name) for name in ("metadata_weight", "penalty")}
    for val in (data.val, data.val.take(np.arange(7))):
        found = fit_blend(data.train, val, refit_on_val=True, **section)
        assert found.chosen == {"kernel_ridge": told}
    scales = found.model.members[0].model.model.kernel.scales
    assert scales[-1] == pytest.approx(told["metadata_weight"])
    assert fit_blend(data.train, data.val, **members(lda="all")).chosen == {}


def test_no_kernel_is_so_small_that_products_get_slow():
    # Of numbers that leave the range of 32 bits, products are many times as slow.
    rows = np.array([[0.0], [1.0], [10.0], [1000.0]], dtype=np.float32)
    around = Kernel.around(rows, np.ones(1, dtype=np.float32), 1.0)
    graph = Graph()
    features = graph.input("features", np.float32, 1)
    graph.output("kernel", around.add_to(graph, features), np.float32, 4)
    session = onnxruntime.InferenceSession(graph.to_bytes({}, ""))
    found = around.between(around.centres(), around.centres())
    (of_file,) = session.run(None, {"features": around.centres()})
    for kernels in (found, of_file):
        assert 1e-14 < kernels.min() < 1e-12
    np.testing.assert_allclose(of_file, found, rtol=1e-5)
