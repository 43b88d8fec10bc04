"""Tables that are only unusual go through all models and kinds of features without a warning."""

import contextlib
import io
from functools import cache

import numpy as np
import pytest
from conftest import params_of_tests
from ruamel.yaml import YAML

from stages import featurize, train
from stages.common.errors import PipelineError
from stages.features import making
from stages.features.kinds.embedding import Pca
from stages.features.kinds.number import Number
from stages.features.transformer import Transformer
from stages.models.base import Settings
from stages.models.examples import Examples
from stages.models.registry import NAMES
from stages.tables.artefacts import Artefacts
from stages.tables.features import Features

ROWS, LENGTH, LABELS = 30, 6, 3
KINDS = ("raw", "standardize", "power", "pca")
# Small, so that all of them take little time.
FAST = {
    "xgboost": {"rounds": 2, "components": 4},
    "size_trees": {"rounds": 2},
    "mlp": {"networks": 1, "hidden": 4, "epochs": 2},
}


def plain():
    random = np.random.default_rng(0)
    mediums = np.array([f"medium {row % LABELS}" for row in range(ROWS)], dtype=object)
    centres = random.uniform(1, 5, (LABELS, LENGTH))[np.arange(ROWS) % LABELS]
    return {
        "embedding": random.normal(centres, 1).astype(np.float32),
        "width": random.integers(500, 4000, ROWS).astype(float),
        "height": random.integers(500, 4000, ROWS).astype(float),
        "medium": mediums,
    }


def table(name):
    found = plain()
    embedding = found["embedding"]
    if name == "all embeddings equal":
        embedding[:] = 1
    elif name == "a constant number":
        embedding[:, 2] = 3
    elif name == "the largest numbers":
        embedding *= np.float32(1e9) / np.abs(embedding).max()
    elif name == "the smallest numbers":
        embedding *= np.float32(1e-9) / np.abs(embedding).max()
    elif name == "differences of rounding":
        embedding[:] = 1e9 + 1e-3 * embedding
    elif name == "one size":
        found["width"][:] = found["height"][:] = 800
    elif name == "a label with one row":
        found["medium"][0] = "alone"
    elif name == "embeddings of one number":
        found["embedding"] = embedding[:, :1]
    return found


TABLES = (
    "all embeddings equal",
    "a constant number",
    "the largest numbers",
    "the smallest numbers",
    "differences of rounding",
    "one size",
    "a label with one row",
    "embeddings of one number",
)


@cache
def sections():
    """The parameters of each model, by its name, with the least work."""
    found = YAML(typ="safe").load(params_of_tests()[0])["train"]
    found |= found["ensemble"]
    for name, values in FAST.items():
        found[name] |= values
    return found


def features(rows, kind, train_rows):
    """The examples of train and of the others, as the stage `featurize` makes them."""
    artefacts = Artefacts(rows)
    params = featurize.Params(
        embedding=kind,
        pca=Pca(components=4, whitening=0.25, unit_length=True) if kind == "pca" else None,
        sizes=True,
        museum=False,
        columns={},
    )
    train = artefacts.take(train_rows)
    transformer = featurize.fit(train, params, train["embedding"] if kind != "none" else None)
    labels = sorted(set(rows["medium"]))
    names = transformer.feature_names

    def examples(some):
        own = artefacts.take(some)
        values = transformer.transform(own)
        return Examples.of(Features(own["medium"], own["medium"], values, names, "file"), labels)

    return examples(train_rows), examples(~train_rows)


def fit(model, train_rows, val_rows, class_weight="none", refit_on_val=True):
    """What the stage `train` fits, and the probabilities of val."""
    content = sections()[model]
    settings = Settings(f"train.{model}", 1, "cpu", class_weight, refit_on_val)
    checked = train.check_models(model, settings.section, content)
    with contextlib.redirect_stdout(io.StringIO()):
        found = train.fit_by(model, checked, train_rows, val_rows, settings)(
            np.arange(len(train_rows.names))
        )
    np.testing.assert_allclose(found.val_probabilities.sum(axis=1), 1, atol=1e-4)
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TABLES)
def test_an_unusual_table_gives_no_warning_with_any_model(name):
    rows = table(name)
    for kind in KINDS:
        if kind == "pca" and name in ("all embeddings equal", "differences of rounding"):
            with pytest.raises(PipelineError, match="are all alike"):
                features(rows, kind, np.arange(ROWS) < 20)
            continue
        both = features(rows, kind, np.arange(ROWS) < 20)
        for model in NAMES:
            if kind in ("raw", "pca") or model == "ensemble":
                fit(model, *both)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("refit_on_val", [True, False])
def test_val_of_one_row_gives_no_warning(class_weight, refit_on_val):
    both = features(plain(), "standardize", np.arange(ROWS) < ROWS - 1)
    for model in NAMES:
        fit(model, *both, class_weight, refit_on_val)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", NAMES)
def test_no_more_rows_than_labels_are_fitted_or_refused_with_what_to_do(model):
    rows = plain()
    rows["medium"] = np.array([f"{row % 15:02}" for row in range(ROWS)], dtype=object)
    both = features(rows, "standardize", np.arange(ROWS) < 15)
    if model in ("lda", "ensemble"):
        with pytest.raises(PipelineError) as error:
            fit(model, *both, refit_on_val=False)
        assert "lda` needs more rows than labels, and can learn from 15 rows of 15" in str(
            error.value
        )
        assert "`-S train.model=logistic_regression`" in str(error.value)
    else:
        fit(model, *both, refit_on_val=False)


@pytest.mark.filterwarnings("error")
def test_a_long_embedding_that_is_the_same_everywhere_tells_lda_nothing(monkeypatch):
    monkeypatch.setattr("stages.models.lda.MOST_EXACT", LENGTH - 1)
    both = features(table("all embeddings equal"), "raw", np.arange(ROWS) < 20)
    logits = fit("lda", *both).model.logits(both[1].values)
    assert (logits == logits[0]).all()


@pytest.mark.filterwarnings("error")
def test_a_number_far_beyond_those_of_train_is_refused_by_its_row():
    known = {"Year": np.array([1.0, 2.0, 3.0]), "image_file": np.array(["a", "b", "c"], object)}
    transformer = Transformer([Number.fit("Year", known["Year"])])
    assert np.isfinite(making.finite_features(transformer, Artefacts(known))).all()
    far = Artefacts(known | {"Year": np.array([1.0, 1e300, 2.0])})
    with pytest.raises(PipelineError, match="the feature `Year` of b is beyond all bounds"):
        making.finite_features(transformer, far)
