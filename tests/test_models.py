"""Each model trains, is kept without pickle, and gives its probabilities back from the file."""

import json

import numpy as np
import pytest

from stages.common.model_file import model_kind
from stages.common.params import check_section
from stages.common.stage import PipelineError
from stages.common.tables import Features
from stages.models import logistic_regression, xgboost

MODELS = {
    "logistic_regression": (
        logistic_regression,
        {"C": 1.0, "max_iterations": 200, "tolerance": 1e-4},
    ),
    "xgboost": (
        xgboost,
        {
            "rounds": 30,
            "early_stopping_rounds": 3,
            "learning_rate": 0.5,
            "max_depth": 2,
            "min_child_weight": 1.0,
            "subsample": 0.8,
            "colsample_bynode": 0.8,
            "reg_lambda": 1.0,
            "max_bin": 16,
            "threads": 2,
        },
    ),
}


def features(classes=4, rows_each=30, length=5, seed=0, draw=1):
    """Rows around a centre for each class; `seed` places the centres, `draw` the rows."""
    centres = np.random.default_rng(seed).normal(0, 2, (classes, length))
    labels = np.repeat(np.arange(classes), rows_each)
    values = centres[labels] + np.random.default_rng(draw).normal(0, 1, (len(labels), length))
    return Features(
        image_files=np.array([f"{i}.jpg" for i in range(len(labels))]),
        mediums=np.array([f"medium {label}" for label in labels], dtype=object),
        values=values.astype(np.float32),
        names=[f"feature <{i}>" for i in range(length)],
        source="synthetic",
    )


def fit(kind, classes=4, seed=1, device="cpu", **changed):
    module, section = MODELS[kind]
    params = check_section(f"train.{kind}", section | changed, module.Params)
    train, val = features(classes, draw=1), features(classes, draw=2)
    return module.train(params, train, val, seed, device)


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


@pytest.mark.parametrize("classes", [2, 4])
def test_a_model_tells_classes_apart_and_its_probabilities_add_up(kind, classes):
    model, _ = fit(kind, classes)
    new = features(classes, draw=3)
    probabilities = model.predict_proba(new.values)
    assert probabilities.shape == (len(new.mediums), classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    predicted = np.array(model.labels)[probabilities.argmax(axis=1)]
    assert np.mean(predicted == new.mediums) > 0.8


def test_a_saved_model_gives_the_same_probabilities(kind, tmp_path):
    model, _ = fit(kind)
    model.save(tmp_path / "model.json")
    loaded = MODELS[kind][0].load(tmp_path / "model.json")
    values = features(draw=3).values
    np.testing.assert_array_equal(loaded.predict_proba(values), model.predict_proba(values))
    assert loaded.labels == model.labels
    assert loaded.feature_names == [f"feature <{i}>" for i in range(5)]


def test_a_model_file_is_json_that_names_its_kind(kind, tmp_path):
    fit(kind)[0].save(tmp_path / "model.json")
    json.loads((tmp_path / "model.json").read_text())
    assert model_kind(tmp_path / "model.json") == kind


def test_the_same_seed_gives_the_same_bytes(kind, tmp_path):
    for name in ("a.json", "b.json"):
        fit(kind)[0].save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_curve_ends_where_training_did(kind):
    _, curve = fit(kind)
    assert list(curve.columns) == ["iteration", "train_log_loss", "val_log_loss"]
    assert (curve[["train_log_loss", "val_log_loss"]] > 0).all().all()


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_gives_the_probabilities_of_scikit_learn(classes):
    from sklearn.linear_model import LogisticRegression

    model, _ = fit("logistic_regression", classes)
    train, new = features(classes, draw=1), features(classes, draw=3)
    estimator = LogisticRegression(C=1.0, max_iter=200).fit(train.values, train.mediums)
    np.testing.assert_allclose(
        model.predict_proba(new.values), estimator.predict_proba(new.values), atol=1e-5
    )


def test_logistic_regression_says_when_it_did_not_converge(capsys):
    fit("logistic_regression", max_iterations=1, tolerance=1e-12)
    assert "raise `train.logistic_regression.max_iterations`" in capsys.readouterr().out


def test_logistic_regression_uses_all_its_parameters(tmp_path):
    base, curve = fit("logistic_regression")
    for changed in ({"C": 0.01}, {"tolerance": 0.1}, {"max_iterations": 3}):
        other, _ = fit("logistic_regression", **changed)
        assert (other.coefficients != base.coefficients).any(), changed
    assert (
        curve["iteration"].item() > fit("logistic_regression", tolerance=0.1)[1]["iteration"].item()
    )


def test_probabilities_of_extreme_scores_are_finite():
    model = logistic_regression.Model(["a", "b"], ["x"], np.array([[0.0], [1.0]]), np.zeros(2))
    np.testing.assert_array_equal(model.predict_proba(np.array([[1e4], [-1e4]])), [[0, 1], [1, 0]])


def test_the_curve_has_the_log_loss_of_train_and_of_val(kind):
    from sklearn.metrics import log_loss

    model, curve = fit(kind)
    best = curve.loc[curve["val_log_loss"].idxmin()]
    for name, draw in (("train_log_loss", 1), ("val_log_loss", 2)):
        rows = features(draw=draw)
        probabilities = model.predict_proba(rows.values).astype(float)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        expected = log_loss(rows.mediums, probabilities)
        assert best[name] == pytest.approx(expected, rel=1e-4)


def test_logistic_regression_refuses_a_graphics_card():
    with pytest.raises(PipelineError, match=r"`train\.device` is cuda, but logistic_regression"):
        fit("logistic_regression", device="cuda")


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 0.1},
        {"max_depth": 1},
        {"min_child_weight": 20.0},
        {"subsample": 0.5},
        {"colsample_bynode": 0.2},
        {"reg_lambda": 100.0},
        {"max_bin": 3},
        {"rounds": 2},
        {"early_stopping_rounds": 1, "learning_rate": 1.0},
    ],
    ids=str,
)
def test_xgboost_uses_all_its_parameters(changed):
    values = features(draw=3).values
    base, other = fit("xgboost")[0], fit("xgboost", **changed)[0]
    assert (base.predict_proba(values) != other.predict_proba(values)).any()


@pytest.mark.parametrize("threads", [1, 2])
def test_xgboost_runs_on_the_threads_that_it_is_given(threads):
    model, _ = fit("xgboost", threads=threads)
    config = json.loads(model.booster.save_config())
    assert config["learner"]["generic_param"]["nthread"] == str(threads)


def test_xgboost_keeps_the_trees_up_to_its_best_round_on_val():
    model, curve = fit("xgboost")
    best = int(curve["val_log_loss"].idxmin()) + 1
    assert curve["iteration"].tolist() == list(range(1, len(curve) + 1))
    assert len(curve) == best + MODELS["xgboost"][1]["early_stopping_rounds"]
    assert model.booster.num_boosted_rounds() == best


def test_xgboost_draws_by_its_seed():
    values = features(draw=3).values
    first, other = (fit("xgboost", seed=seed)[0].predict_proba(values) for seed in (1, 2))
    assert (first != other).any()


def test_xgboost_without_cuda_says_what_to_install():
    with pytest.raises(PipelineError, match=r"has no CUDA|no NVIDIA graphics card"):
        fit("xgboost", device="cuda")
