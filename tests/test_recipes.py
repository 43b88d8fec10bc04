"""The guide's recipe for a model is done in a copy: what it names is all that changes."""

import json
import re
import shutil
import sys

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, Project
from scipy.special import softmax

pytestmark = pytest.mark.slow

NAME = "nearest_neighbours"
SECTION = f"""
  # The nearest training rows vote.
  {NAME}:
    features: all
    # How many of them.
    neighbours: 5
    # Votes that each label has before any are counted.
    smoothing: 0.1
"""
# The library's shares of the neighbours' votes for the rows of test.
LIBRARY = """
import json
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
import stages
from stages.tables.features import read_features
train, test = read_features("train"), read_features("test")
estimator = KNeighborsClassifier(5).fit(train.values, np.array(train.mediums, dtype=str))
print(json.dumps(estimator.predict_proba(test.values).tolist()))
"""


def recipe(title: str) -> str:
    """The text of a section of the guide."""
    guide = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", guide, re.DOTALL | re.MULTILINE)[1]


def files_named(text: str, name: str = "") -> set[str]:
    """The files that a recipe says change: those in backquotes in its last paragraph.

    `name` is what the recipe calls NAME.
    """
    *_, last = text.strip().split("\n\n")
    assert last.startswith("What changes: ")
    return set(re.findall(r"`([^`]+)`", last.replace("NAME", name)))


def changed(project: Project) -> set[str]:
    """What Git sees as changed or new; of `reports/` the folder alone."""
    lines = project.git("status", "--porcelain", "--untracked-files=all").stdout.splitlines()
    paths = {line[3:] for line in lines}
    return {"reports/" if path.startswith("reports/") else path for path in paths}


def insert(project: Project, name: str, before: str, text: str) -> None:
    """Insert a text before a place in a file that has it once."""
    path = project.folder / name
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1, (name, before)
    path.write_text(content.replace(before, text + before), encoding="utf-8")


@pytest.fixture(scope="module")
def extended(reproduced, shared):
    """The reproduced project with one more model, added by the recipe."""

    def make(folder):
        project = reproduced.copy(folder / "project")
        source = PROJECT / f"tests/recipes/{NAME}.py"
        shutil.copy(source, project.folder / f"stages/models/{NAME}.py")
        registry = "stages/models/registry.py"
        insert(project, registry, "\n\n\n@dataclass", f"\nfrom stages.models import {NAME}")
        path = project.folder / registry
        line = f'MODELS = {{\n    "{NAME}": Model({NAME}, "the nearest training rows vote"),'
        path.write_text(path.read_text().replace("MODELS = {", line))
        insert(project, "params.yaml", "\nevaluate:\n", SECTION)
        project.run(sys.executable, "-m", "scripts.declare")

    return Project(shared("extended", make) / "project")


@pytest.fixture(scope="module")
def trained(extended, tmp_path_factory):
    """The extended project after a run with the new model."""
    project = extended.copy(tmp_path_factory.mktemp("trained") / "project")
    project.commit()
    project.dvc("exp", "run", "-S", f"train.model={NAME}", "-S", "train.refit_on_val=false")
    return project


def test_the_recipe_names_all_files_that_change(extended):
    assert changed(extended) == files_named(recipe("Add a model"), NAME)


def test_the_new_model_is_one_of_the_metadata_and_of_the_benchmark(trained):
    session = onnxruntime.InferenceSession(trained.folder / "models/model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["model"]) == NAME
    assert json.loads(metadata["models"])[0] == "ensemble"
    assert NAME in json.loads(metadata["models"])
    code = "from benchmarks import models; print(models.descriptions())"
    assert NAME in trained.run(sys.executable, "-c", code).stdout


def test_the_file_of_the_new_model_says_what_the_library_says(trained):
    folder = trained.folder
    votes = 5 * np.array(json.loads(trained.run(sys.executable, "-c", LIBRARY).stdout))
    session = onnxruntime.InferenceSession(folder / "models/model.onnx")
    answers = json.loads(session.get_modelmeta().custom_metadata_map["answers"])
    temperature = answers["probabilities"]["temperature"]
    expected = softmax(np.log(votes + 0.1) / temperature, axis=1)
    files = pq.read_table(folder / "data/features/test.parquet")["image_file"].to_pylist()
    # What `evaluate` wrote is NumPy's answer.
    predictions = pq.read_table(folder / "data/predictions.parquet").to_pandas()
    said = predictions.set_index("image_file")["probabilities"].loc[files]
    # They are rounded.
    np.testing.assert_allclose(np.stack(said), expected, rtol=0, atol=1e-4)
    artefacts = pq.read_table(folder / "data/artefacts.parquet").to_pandas()
    rows = artefacts.set_index("image_file").loc[files]
    feed = {
        "embedding": np.stack(rows["embedding"]).astype(np.float32),
        "width": rows["width"].to_numpy(np.float64),
        "height": rows["height"].to_numpy(np.float64),
    }
    (found,) = session.run(["probabilities"], feed)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_tests_of_all_models_test_the_new_one_too(extended):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    output = extended.run(*command, "tests/test_models.py", "-k", NAME).stdout
    assert int(re.search(r"(\d+) passed", output)[1]) >= 10
    declared = "imported or nothing_to_add"
    extended.run(*command, "tests/test_declared.py", "-k", declared)
    extended.run(*command, "tests/test_params.py", "-k", "valid_for_every_choice")
