"""The guide's recipes for features are done in a copy: what they name is all that changes."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, Project, tiny_rows, write_csv_table
from test_recipes import changed, files_named, recipe

pytestmark = pytest.mark.slow

LOGARITHM = PROJECT / "tests/recipes/logarithm.py"
MODEL, CARD, PAGE = "models/model.onnx", "models/model_card.md", "reports/index.html"


@pytest.fixture(scope="module")
def catalogue(reproduced, shared):
    """The reproduced project on a table that has a year, an amount and a culture."""

    def make(folder: Path) -> None:
        project = reproduced.copy(folder / "project")
        random = np.random.default_rng(0)
        rows = tiny_rows()
        for row in rows:
            medium = int(row["Medium"].split()[1])
            row["Year"] = int(1500 + 50 * medium + random.integers(0, 40))
            row["Weight"] = float(np.exp(medium + random.normal(0, 0.5)))
            row["Culture"] = ["Greek", "Roman"][medium % 2]
        rows[0]["Year"] = rows[1]["Culture"] = ""
        project.set_params(
            **{"download.file.path": str(write_csv_table(folder / "catalogue.csv", rows))}
        )
        project.repro("evaluate")
        project.commit()

    return Project(shared("catalogue", make) / "project")


def answers(project: Project, **columns: np.ndarray) -> np.ndarray:
    """The probabilities of the model's file for the first row, with these values in columns."""
    session = onnxruntime.InferenceSession(project.folder / MODEL)
    row = pq.read_table(project.folder / "data/artefacts.parquet").slice(0, 1)
    feed = {}
    for node in session.get_inputs():
        kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}.get(node.type, object)
        feed[node.name] = np.array(row[node.name].to_pylist(), dtype=kind)
    return session.run(["probabilities"], feed | columns)[0]


def test_a_column_becomes_a_feature_by_params_yaml_alone(catalogue, tmp_path):
    project = catalogue.copy(tmp_path / "project")
    project.set_params(
        **{
            "parse_embeddings_to_parquet.extra_columns": {"Year": "number", "Culture": "category"},
            "featurize.columns": {"Year": "number", "Culture": "category"},
        }
    )
    project.repro()
    assert changed(project) == files_named(recipe("Make a column a feature"))
    importance = pd.read_csv(project.folder / "reports/plots/importance.csv")
    assert importance["group"].tolist() == ["embedding", "sizes", "Year", "Culture"]
    for path in (CARD, PAGE):
        text = (project.folder / path).read_text(encoding="utf-8")
        assert "Year" in text
        assert "Culture" in text
    early, late, missing = (
        answers(project, Year=np.array([year])) for year in (1500.0, 1800.0, np.nan)
    )
    assert np.abs(early - late).max() > 1e-3
    assert np.isfinite(missing).all()
    roman, unknown = (
        answers(project, Culture=np.array([name], dtype=object)) for name in ("Roman", "Martian")
    )
    assert np.abs(roman - unknown).max() > 1e-3


def test_a_kind_of_feature_is_one_file(catalogue, tmp_path):
    project = catalogue.copy(tmp_path / "project")
    shutil.copy(LOGARITHM, project.folder / "stages/features/kinds/logarithm.py")
    project.run(sys.executable, "-m", "scripts.declare")
    project.set_params(
        **{
            "parse_embeddings_to_parquet.extra_columns": {"Weight": "number"},
            "featurize.columns": {"Weight": "logarithm"},
        }
    )
    project.repro()
    assert changed(project) == files_named(recipe("Add a kind of feature"), "logarithm")
    importance = pd.read_csv(project.folder / "reports/plots/importance.csv")
    assert importance["group"].tolist() == ["embedding", "sizes", "Weight"]
    assert "Amounts mislead." in (project.folder / CARD).read_text(encoding="utf-8")
    assert "its logarithm" in (project.folder / PAGE).read_text(encoding="utf-8")
    light, heavy = (answers(project, Weight=np.array([weight])) for weight in (1.0, 400.0))
    assert np.abs(light - heavy).max() > 1e-3
    features = pq.read_table(project.folder / "data/features/train.parquet")
    names = json.loads(features.schema.metadata[b"feature_names"])
    artefacts = pq.read_table(project.folder / "data/artefacts.parquet").to_pandas()
    weight = artefacts.set_index("image_file")["Weight"].loc[features["image_file"].to_pylist()]
    found = np.stack(features["features"].to_numpy())[:, names.index("log Weight")]
    np.testing.assert_allclose(found, np.log(weight), rtol=1e-6)
