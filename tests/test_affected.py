"""Which stages a change affects: for each parameter, each script, and all other files."""

import pickle
import shutil
from contextlib import chdir
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from conftest import Project, params_of_tests
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.utils.serialize import parse_yaml
from ruamel.yaml import YAML

from stages.models.registry import NAMES

PARSE = "parse-embeddings-to-parquet"
ALL = ["download", PARSE, "split", "featurize", "train", "evaluate", "report"]
PARAMS = YAML(typ="safe").load(params_of_tests()[0])


def leaves(content: dict, prefix: str = "") -> dict[str, object]:
    """Each parameter with its value: {"train.seed": 1}. A list or an empty mapping is one."""
    found = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        found |= leaves(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


LEAVES = leaves(PARAMS)
# The section or key that a parameter begins with, and the stages that read it. The longest counts.
STAGES_OF_PARAMS = {
    "download": ["download"],
    "parse_embeddings_to_parquet": [PARSE],
    "split": ["split"],
    "split.strategy": [PARSE, "split", "report"],
    "featurize": ["featurize"],
    "train": ["train"],
    "evaluate": ["evaluate", "report"],
    "memory": [],  # where a stage runs, and not what it gives
}


def options(selector: str) -> tuple[str, ...]:
    """The values that a parameter may have, as the registry or its stage's schema says."""
    if selector == "train.model":
        return NAMES
    section, key = selector.split(".")
    schema = import_module(f"stages.{section}").Params
    return get_args(schema.model_fields[key].annotation)


# Parameters that choose one of several sections: the section of each value. Of these sections,
# a run reads the chosen one alone.
CHOICES = {
    selector: {
        value: f"{selector.split('.')[0]}.{value}"
        for value, content in PARAMS[selector.split(".")[0]].items()
        if isinstance(content, dict) and value in options(selector)
    }
    for selector in ("download.source", "split.strategy", "featurize.embedding", "train.model")
}
CHOICES["train.model"] |= {
    model: f"train.ensemble.{model}" for model in PARAMS["train"]["ensemble"]
}
VALUES = [(selector, value) for selector, values in CHOICES.items() for value in values]


def lies_in(name: str, section: str) -> bool:
    """Whether a parameter is a section or key, or one in it."""
    return name == section or name.startswith(f"{section}.")


def stages_of(name: str, chosen: dict[str, str]) -> list[str]:
    """The stages that read a parameter, with the values that are chosen of `CHOICES`."""
    for selector, values in CHOICES.items():
        sections = [section for section in values.values() if lies_in(name, section)]
        if sections and values[chosen[selector]] not in sections:
            return []
    prefixes = [prefix for prefix in STAGES_OF_PARAMS if lies_in(name, prefix)]
    assert prefixes, f"{name} is not in the table: which stages does it affect?"
    return STAGES_OF_PARAMS[max(prefixes, key=len)]


def another(name: str, value: object) -> object:
    """Another value for a parameter."""
    if name in CHOICES:
        return next(choice for choice in CHOICES[name] if choice != value)
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return value[:-1]
        case dict():
            return {"Year": "number"}
        case None:
            return 1
    pytest.fail(f"{name}: no other value for {value!r}")


@cache
def pickled(text: str, path: str, typ: str) -> bytes:
    return pickle.dumps(parse_yaml(text, path, typ))


def parse_once(text: str, path: str, typ: str = "safe") -> object:
    """What DVC's own function makes of a text of YAML; of the same text, it is a copy."""
    return pickle.loads(pickled(text, path, typ))


@pytest.fixture
def project(project, monkeypatch) -> Project:
    """The reproduced project, which DVC may look at in this process."""
    for name, value in project.environment().items():
        if name.startswith("DVC_"):
            monkeypatch.setenv(name, value)
    # Each look at the project reads dvc.yaml and dvc.lock again: it is what takes most of the time.
    for module in ("serialize._yaml", "strictyaml"):
        monkeypatch.setattr(f"dvc.utils.{module}.parse_yaml", parse_once)
    return project


def affected(project: Project) -> list[str]:
    """The stages that a `dvc repro` would start with: those whose own inputs have changed."""
    # In the folder, DVC calls a stage by its name alone.
    with chdir(project.folder), Repo() as repo:
        return sorted(repo.status(), key=ALL.index)


def affected_by_params(project: Project) -> list[str]:
    """The same where nothing but params.yaml may have changed, which takes less time to say."""
    with chdir(project.folder), Repo() as repo:
        return [
            stage.name
            for stage in sorted(repo.index.stages, key=lambda stage: ALL.index(stage.name))
            if any(dep.status() for dep in stage.deps if isinstance(dep, ParamsDependency))
        ]


@pytest.mark.slow
@pytest.mark.parametrize(("selector", "value"), VALUES, ids=[value for _, value in VALUES])
def test_a_parameter_affects_the_stages_that_read_it_with_what_is_chosen(project, selector, value):
    path = project.folder / "params.yaml"
    project.set_params(**{selector: value})
    with chdir(project.folder), Repo() as repo:
        # As after a run: the lock has the parameters of this choice.
        for stage in affected_by_params(project):
            repo.commit(stage, force=True)
    before = path.read_bytes()
    values = leaves(YAML(typ="safe").load(path))
    chosen = {name: values[name] for name in CHOICES}
    # Those that may depend on this choice; with the first one, all others too.
    asked = {
        name: stages_of(name, chosen)
        for name in LEAVES
        if (selector, value) == VALUES[0]
        or any(lies_in(name, section) for section in CHOICES[selector].values())
    }
    read = {name: stages for name, stages in asked.items() if stages}
    found = {}
    for name in read:
        project.set_params(**{name: another(name, values[name])})
        found[name] = affected_by_params(project)
        path.write_bytes(before)
    assert found == read
    project.set_params(**{name: another(name, values[name]) for name in asked.keys() - read.keys()})
    assert affected(project) == []


def test_no_choice_and_no_section_is_left_out_of_these_tests():
    for selector, values in CHOICES.items():
        assert set(options(selector)) == set(values)
    first = {selector: next(iter(values)) for selector, values in CHOICES.items()}
    read = {name.split(".")[0] for name in LEAVES if stages_of(name, first)}
    assert read == set(PARAMS) - {"memory"}


# Each script of a stage, and each that several share. `*` stands for a part of a name; the first
# line that fits counts.
STAGES_OF_FILES = {
    "stages/__init__.py": ALL,
    "stages/common/cluster.py": [],  # where work runs, and not what it gives
    "stages/common/engine.py": ALL[1:],
    "stages/common/large_arrays.py": ["split", "featurize", "train", "evaluate"],
    "stages/common/memory.py": ["split", "featurize", "train", "evaluate"],
    "stages/common/*.py": ALL,
    "stages/download.py": ["download"],
    "stages/evaluate.py": ["evaluate"],
    "stages/evaluation/*.py": ["evaluate"],
    "stages/features/block.py": ["featurize", "train", "evaluate"],
    # A baseline of `evaluate` looks at the sizes.
    "stages/features/kinds/sizes.py": ["featurize", "train", "evaluate"],
    "stages/features/making.py": ["featurize"],
    "stages/features/moments.py": ["split", "featurize", "train", "evaluate"],
    "stages/features/neighbours.py": ["split"],
    "stages/features/kinds/*.py": ["featurize", "train"],
    "stages/features/transformer.py": ["featurize", "train"],
    "stages/featurize.py": ["featurize"],
    "stages/model_file/checking.py": ["featurize", "train", "evaluate", "report"],
    "stages/model_file/graph.py": ["featurize", "train", "evaluate", "report"],
    "stages/model_file/interface.py": ["featurize", "train", "evaluate", "report"],
    "stages/model_file/making.py": ["evaluate", "report"],
    "stages/model_file/metadata.py": ["featurize", "train", "evaluate", "report"],
    "stages/model_file/scoring.py": ["evaluate", "report"],
    "stages/model_file/sharing.py": ["evaluate", "report"],
    "stages/model_file/words.py": ["evaluate", "report"],
    "stages/models/*.py": ["train"],
    "stages/parse_embeddings_to_parquet.py": [PARSE],
    "stages/parser/*.py": [PARSE],
    "stages/report.py": ["report"],
    "stages/reporting/*.py": ["report"],
    "stages/reporting/template.html": ["report"],
    "stages/sources/identity.py": ["download", PARSE],
    "stages/sources/raw.py": ["download", PARSE, "report"],
    "stages/sources/*": ["download"],
    "stages/split.py": ["split"],
    "stages/tables/artefacts.py": [PARSE, "split", "featurize", "train", "evaluate", "report"],
    "stages/tables/features.py": ["featurize", "train", "evaluate"],
    "stages/tables/parquet.py": ALL,
    "stages/tables/predictions.py": ["evaluate", "report"],
    "stages/tables/quarantine.py": [PARSE, "evaluate"],
    "stages/tables/results.py": ["evaluate", "report"],
    "stages/tables/split.py": ["split", "featurize", "evaluate", "report"],
    "stages/tables/val_probabilities.py": ["train", "evaluate"],
    "stages/tables/values.py": ALL,
    "stages/train.py": ["train"],
    # An upgraded library may give other results.
    "requirements.txt": ALL,
}
# What makes the results, beside the files above: it may not change without the others' notice.
RESULTS = ["data/*", "models/*", "reports/*", "dvc.lock", "dvc.yaml", "params.yaml", ".dvc/*"]


def tracked(project: Project) -> list[str]:
    return project.git("ls-files").stdout.splitlines()


def append_line(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("\n# One more line.\n")


@pytest.mark.slow
def test_every_script_affects_the_stages_that_import_it_and_no_other(project):
    declared = YAML(typ="safe").load(project.folder / "dvc.yaml")["stages"]
    expected, found, tried = {}, {}, set()
    for name in tracked(project):
        patterns = [pattern for pattern in STAGES_OF_FILES if fnmatch(name, pattern)]
        if name.startswith("stages/"):
            assert patterns, f"{name} is not in the table: which stages does it affect?"
        if not patterns:
            continue
        expected[name] = STAGES_OF_FILES[patterns[0]]
        if patterns[0] in tried:
            # DVC is asked about one file of a line; it takes a third of a second for each.
            found[name] = [stage for stage in ALL if name in declared[stage]["deps"]]
            continue
        tried.add(patterns[0])
        path = project.folder / name
        before = path.read_bytes()
        append_line(path)
        found[name] = affected(project)
        path.write_bytes(before)
    assert tried == set(STAGES_OF_FILES)
    assert found == expected
    # Undone, a change affects nothing.
    assert affected(project) == []


def test_no_other_file_affects_a_stage(project):
    changed = []
    for name in tracked(project):
        if not any(fnmatch(name, pattern) for pattern in [*STAGES_OF_FILES, *RESULTS]):
            append_line(project.folder / name)
            changed.append(name)
    assert {"README.md", "Makefile", "requirements-dev.txt", "tests/conftest.py"} < set(changed)
    assert affected(project) == []


def test_another_time_and_another_folder_rerun_nothing(project):
    before = project.results()
    for name in tracked(project):
        (project.folder / name).touch()
    shutil.rmtree(project.folder / ".dvc/tmp")
    moved = Project(project.folder.rename(project.folder.with_name("moved")))
    assert moved.repro() == []
    assert moved.results() == before


def test_a_comment_or_another_order_of_keys_affects_nothing(project):
    path = project.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("\ntrain:\n", "\ntrain:\n  # One more comment.\n")
    assert "One more comment" in text
    sections = ("\n" + text).split("\nevaluate:")
    path.write_text("evaluate:" + sections[1] + sections[0], encoding="utf-8")
    assert affected(project) == []


# What then runs is more, or less: the stages that read an output which has become another one.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # The model's file names its parameters, so that it is another one.
        ({"train.seed": 2}, ["train", "evaluate", "report"]),
        ({"train.model": "ensemble"}, ["train", "evaluate", "report"]),
        ({"evaluate.label": "technique"}, ["evaluate", "report"]),
        # An embedding has no more components than numbers, so that the features stay the same.
        ({"featurize.pca.components": 300}, ["featurize"]),
        # The parser checks the subsets only for the official split; its table stays the same.
        (
            {"split.strategy": "stratified"},
            [PARSE, "split", "featurize", "train", "evaluate", "report"],
        ),
        # Another file with the same rows; the model is scored on it.
        (
            {"parse_embeddings_to_parquet.compression": "gzip"},
            [PARSE, "split", "featurize", "evaluate", "report"],
        ),
        (
            {
                "download.synthetic.seed": 1,
                "split.stratified.seed": 7,
                # That of a member is a parameter of the ensemble, and of nothing else.
                "train.ensemble.lda.shrinkage": 0.5,
            },
            [],
        ),
    ],
    ids=str,
)
def test_a_changed_parameter_reruns_what_it_affects_until_an_output_stays_the_same(
    project, changed, expected
):
    project.set_params(**changed)
    # The report takes as long as all others: whether it would run, DVC says without a run.
    assert [*project.repro("evaluate"), *affected(project)] == expected


def test_a_changed_script_reruns_its_stage_and_no_later_one_when_the_output_is_the_same(project):
    append_line(project.folder / "stages/split.py")
    assert project.repro() == ["split"]


@pytest.mark.slow
def test_an_upgraded_library_reruns_all_stages_and_each_names_what_is_installed(project):
    path = project.folder / "requirements.txt"
    text = path.read_text(encoding="utf-8")
    assert "\npillow==" in text
    path.write_text(text.replace("\npillow==", "\npillow==1!"), encoding="utf-8")
    result = project.dvc("repro")
    assert result.stderr.count("note: pillow is ") == len(ALL)
    assert result.stdout.count("Running stage '") == len(ALL)


@pytest.mark.slow
def test_going_back_restores_from_the_cache_and_gives_the_same_reports(project):
    project.set_params(**{"featurize.embedding": "raw"})
    assert project.repro() == ["featurize", "train", "evaluate", "report"]
    assert "reports/metrics.json" in project.git("status", "--porcelain").stdout
    project.git("checkout", "--quiet", "params.yaml")
    # Its results are kept in Git and not in the cache, so `evaluate` runs again.
    assert project.repro() == ["evaluate"]
    assert project.git("status", "--porcelain").stdout == ""
