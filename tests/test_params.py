"""params.yaml is checked before any work, with a sentence that names the key."""

import importlib
import subprocess
import sys
from itertools import pairwise
from typing import get_args

import pytest
from conftest import PROJECT
from pydantic import Field
from ruamel.yaml import YAML

from stages import train
from stages.common.params import ParameterError, Section, check_section, load_params
from stages.models import ensemble
from stages.train import MODELS

STAGES = ["download", "parse_embeddings_to_parquet", "split", "featurize", "train", "evaluate"]


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
    content = yaml.load(PROJECT / "params.yaml")
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


def test_params_yaml_as_it_stands_is_valid_for_every_source_and_model(folder):
    yaml = YAML()
    content = yaml.load(PROJECT / "params.yaml")
    for section, key in (("download", "source"), ("split", "strategy"), ("featurize", "embedding")):
        schema = importlib.import_module(f"stages.{section}").Params
        for option in get_args(schema.model_fields[key].annotation):
            content[section][key] = option
            yaml.dump(content, folder / "params.yaml")
            assert getattr(load_params(section, schema, choice=key), option) is not None
    assert len(MODELS) == 7
    for model in MODELS:
        content["train"]["model"] = model
        yaml.dump(content, folder / "params.yaml")
        _, section, found = train.read_params()
        assert section.endswith(f".{model}")
        check_section(section, found, MODELS[model].Params)
    content["train"]["model"] = "ensemble"
    yaml.dump(content, folder / "params.yaml")
    _, section, found = train.read_params()
    assert list(ensemble.check(section, found)) == ["kernel_ridge", "lda", "size_trees"]


def test_every_key_of_params_yaml_has_a_comment_above_it_or_where_a_model_has_it_too():
    lines = (PROJECT / "params.yaml").read_text(encoding="utf-8").splitlines()
    in_train = lines[lines.index("train:") :]
    explained = {
        line.split(":")[0].strip()
        for above, line in pairwise(in_train)
        if above.lstrip().startswith("#")
    }
    # Sections of a stage, a source, a strategy or a model are named, not commented.
    sections = {line for line in lines if line.endswith((":", "{}")) and line.strip() != "places:"}
    for number, (above, line) in enumerate(pairwise(lines)):
        is_key = ":" in line and not line.lstrip().startswith(("#", "-")) and line not in sections
        of_model = number > len(lines) - len(in_train) and line.split(":")[0].strip() in explained
        if is_key and not of_model and not line.startswith("        "):
            assert above.lstrip().startswith("#"), f"no comment above: {line}"


def test_only_the_chosen_subsection_is_read(folder):
    yaml = YAML()
    content = yaml.load(PROJECT / "params.yaml")
    content["download"]["file"]["sha256"] = "not a checksum"
    yaml.dump(content, folder / "params.yaml")
    schema = importlib.import_module("stages.download").Params
    assert load_params("download", schema, choice="source").file is None
