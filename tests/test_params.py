"""params.yaml is checked before any work, with a sentence that names the key."""

import difflib
import importlib
import subprocess
import sys
from typing import get_args

import pytest
from conftest import (
    PARAMS,
    PROJECT,
    TESTS_PARAMS,
    as_published,
    complete,
    moved,
    params_of_tests,
    read_yaml,
)
from dvc.utils.hydra import apply_overrides
from pydantic import Field
from ruamel.yaml import YAML

from scripts.params import set_params
from stages import train
from stages.common.params import ParameterError, Section, check_section, load_params
from stages.models import ensemble
from stages.models.registry import MODELS

STAGES = ["download", "parse_embeddings_to_parquet", "split", "featurize", "train", "evaluate"]
# The key of a section that picks one of its sub-sections.
CHOICES = {"download": "source", "split": "strategy", "featurize": "embedding"}


class Inner(Section):
    depth: int = Field(ge=1)


class Outer(Section):
    rate: float
    inner: Inner
    items: list[Inner] = Field(default_factory=list, description="a list of sections")


def load(folder, text):
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return load_params("outer", Outer)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_right_section_is_read_with_its_types(folder):
    params = load(folder, "outer: {rate: 1e-4, inner: {depth: 3}}")
    assert params.rate == 0.0001
    assert params.inner.depth == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "outer: {rat: 1, inner: {depth: 1}}",
            "params.yaml: unknown key `outer.rat`, did you mean `rate`?",
        ),
        (
            "outer: {rate: 1, inner: {dept: 1}}",
            "params.yaml: unknown key `outer.inner.dept`, did you mean `depth`?",
        ),
        (
            "outer: {rate: 1, inner: {depth: 1}, items: [{dept: 1}]}",
            "params.yaml: unknown key `outer.items.0.dept`, did you mean `depth`?",
        ),
        ("outer: {rate: 1}", "params.yaml: `outer.inner` is missing"),
        (
            "outer: {rate: '1', inner: {depth: 1}}",
            "params.yaml: `outer.rate` should be a valid number, not '1'",
        ),
        (
            "outer: {rate: 1, inner: {depth: true}}",
            "params.yaml: `outer.inner.depth` should be a valid integer, not True",
        ),
        (
            "outer: {rate: 1, inner: {depth: 0}}",
            "params.yaml: `outer.inner.depth` should be greater than or equal to 1, not 0",
        ),
        ("outer: {rate: .nan, inner: {depth: 1}}", "`outer.rate` should be a finite number"),
        ("outer: {1: 2, rate: 1, inner: {depth: 1}}", "unknown key `outer.1`"),
        (
            "outer: {rate: 1, inner: deep}",
            "`outer.inner` should be a mapping of keys to values, not 'deep'",
        ),
        (
            "outer: {rate: 1, inner: {depth: 1}, items: 3}",
            "`outer.items` should be a list of sections, not 3",
        ),
        ("other: {}", "params.yaml has no section `outer`"),
        ("", "params.yaml has no sections"),
        ("outer: {rate: 1, rate: 2}", "params.yaml is not valid YAML"),
    ],
)
def test_a_wrong_section_is_refused_by_name(folder, text, sentence):
    with pytest.raises(ParameterError) as error:
        load(folder, text)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_outside_the_project_a_stage_says_where_to_start_it(folder):
    with pytest.raises(ParameterError, match=r"there is no params\.yaml in .*: start the stage in"):
        load_params("outer", Outer)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_refuses_an_unknown_key_before_any_work(folder, stage):
    yaml = YAML()
    content = yaml.load(params_of_tests()[0])
    content[stage]["sed"] = 1
    yaml.dump(content, folder / "params.yaml")
    result = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        f"[{stage}] error: params.yaml: unknown key `{stage}.sed`, did you mean `"
    )
    assert result.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("path", [PARAMS, TESTS_PARAMS], ids=["params.yaml", "tests/params.yaml"])
def test_parameters_as_they_stand_are_valid_for_every_choice_of_each_stage(folder, path):
    yaml = YAML()
    text = path.read_text(encoding="utf-8") if path == PARAMS else params_of_tests()[0]
    content = yaml.load(text)
    for stage in STAGES:
        if stage == "train":
            continue
        schema = importlib.import_module(f"stages.{stage}").Params
        key = CHOICES.get(stage)
        for option in get_args(schema.model_fields[key].annotation) if key else [None]:
            if key:
                content[stage][key] = option
            yaml.dump(content, folder / "params.yaml")
            params = load_params(stage, schema, choice=key)
            assert key is None or getattr(params, option) is not None
    # The choice that stands there is one of the others too.
    content = yaml.load(text)
    yaml.dump(content, folder / "params.yaml")
    train.read_params()
    for model in MODELS:
        content["train"]["model"] = model
        yaml.dump(content, folder / "params.yaml")
        _, section, found = train.read_params()
        assert section.endswith(f".{model}")
        check_section(section, found, MODELS[model].module.Params)
    content["train"]["model"] = "ensemble"
    yaml.dump(content, folder / "params.yaml")
    _, section, found = train.read_params()
    assert ensemble.check(section, found)


def test_the_parameters_of_the_tests_have_every_key():
    _, added = params_of_tests()
    # A model that a fork has added brings its own.
    lacking = set(added) - {f"train.{model}" for model in MODELS}
    assert not lacking, (
        f"tests/params.yaml lacks {', '.join(sorted(lacking))}: copy what is missing"
    )


def test_values_of_params_yaml_are_not_those_of_the_tests_and_what_is_new_there_is_added():
    ours = {
        "data": {"source": "made up", "names": {}, "places": [1]},
        "train": {"seed": 1, "mlp": {"C": 1.0}, "ensemble": {"lda": {"shrinkage": 0.3}}},
    }
    others = {
        "data": {"source": "file", "names": {"Depth": "number"}, "places": [], "rows": {"most": 3}},
        # The models of the blend are others, and one of them is new.
        "train": {
            "seed": 2,
            "lda": {"shrinkage": 0.4, "rank": 2},
            "ensemble": {"mlp": {"C": 2.0}, "new": {"depth": 3}},
        },
    }
    added = complete(ours, moved(others, ours["train"]["ensemble"]))
    assert sorted(added) == ["data.rows", "train.ensemble.lda.rank", "train.new"]
    assert ours == {
        "data": {"source": "made up", "names": {}, "places": [1], "rows": {"most": 3}},
        "train": {
            "seed": 1,
            "mlp": {"C": 1.0},
            "ensemble": {"lda": {"shrinkage": 0.3, "rank": 2}},
            "new": {"depth": 3},
        },
    }


def keys_of(section, below=()):
    """Each key of a section and of those in it, as a path, with its value and its line."""
    for key, value in section.items():
        path = (*below, key)
        yield path, value, section.lc.key(key)[0]
        if isinstance(value, dict):
            yield from keys_of(value, path)


def test_every_key_of_params_yaml_has_a_comment_above_it_or_where_a_model_has_it_too():
    text = PARAMS.read_text(encoding="utf-8")
    lines = text.splitlines()
    tests = read_yaml(TESTS_PARAMS)
    # Names that are the user's own, such as columns of the table, need none.
    free = {path for path, value, _ in keys_of(YAML().load(TESTS_PARAMS)) if value == {}}
    found = [
        (path, lines[line - 1].lstrip().startswith("#"))
        for path, value, line in keys_of(YAML().load(text))
        # Sections of a stage, a source, a strategy or a model are named, not commented.
        if not isinstance(value, dict) and path[:-1] not in free
    ]
    assert len(found) > 80
    assert tests.keys() <= {path[0] for path, _ in found}
    explained = {path[-1] for path, has_comment in found if path[0] == "train" and has_comment}
    for path, has_comment in found:
        assert has_comment or (path[0] == "train" and path[-1] in explained), (
            f"no comment above `{'.'.join(path)}`"
        )


def changed_lines(before, after):
    return [
        line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"
    ]


@as_published
@pytest.mark.parametrize("set_one", ["dvc", "scripts"])
def test_params_yaml_is_in_the_form_in_which_it_is_written_when_a_value_is_set(folder, set_one):
    path = folder / "params.yaml"
    before = PARAMS.read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    value = read_yaml(PARAMS)["train"]["seed"]
    if set_one == "dvc":  # as `dvc exp run -S` does it
        apply_overrides(str(path), [f"train.seed={value + 1}"])
    else:
        set_params(path, {"train.seed": value + 1})
    after = path.read_text(encoding="utf-8")
    assert changed_lines(before, after) == [f"-   seed: {value}", f"+   seed: {value + 1}"]


def test_only_the_chosen_subsection_is_read(folder):
    yaml = YAML()
    content = yaml.load(params_of_tests()[0])
    content["download"]["file"]["sha256"] = "not a checksum"
    yaml.dump(content, folder / "params.yaml")
    schema = importlib.import_module("stages.download").Params
    assert load_params("download", schema, choice="source").file is None
