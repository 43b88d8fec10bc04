"""What a stage declares in dvc.yaml is what it imports, reads and writes: no less and no more."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from importlib import import_module
from pathlib import Path

import pytest
from conftest import PROJECT, Project
from ruamel.yaml import YAML

from scripts.declare import all_imports, declared
from stages.common.errors import ParameterError, PipelineError

DVC_YAML = YAML(typ="safe").load(PROJECT / "dvc.yaml")
STAGES = DVC_YAML["stages"]


def script_of(stage: str) -> str:
    return f"stages/{stage.replace('-', '_')}.py"


@pytest.mark.parametrize("stage", STAGES)
def test_declared_scripts_are_the_ones_that_are_imported(stage):
    scripts = [dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")]
    assert sorted(all_imports(script_of(stage))) == scripts


def test_the_script_that_declares_imports_has_nothing_to_add():
    text = (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
    assert declared(text) == text
    without = text.replace("      - stages/models/lda.py\n", "")
    assert without != text
    assert declared(without) == text


# The official split needs the table's subsets, and the parser guards what the others need.
OTHER_SECTIONS = {
    "parse-embeddings-to-parquet": {"split"},
    # It has no parameters of its own, and tells those of others.
    "report": {"evaluate", "featurize", "split"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_its_script_and_its_section_have_one_name(stage):
    name = stage.replace("-", "_")
    assert STAGES[stage]["cmd"] == f"python -m stages.{name}"
    assert (PROJECT / f"stages/{name}.py").is_file()
    sections = {param.split(".")[0] for param in STAGES[stage]["params"]}
    own = set() if stage == "report" else {name}
    assert sections - OTHER_SECTIONS.get(stage, set()) == own
    assert STAGES[stage]["desc"]
    assert f'STAGE = "{name}"' in (PROJECT / script_of(stage)).read_text(encoding="utf-8")


def resolve(text, params):
    """A text of dvc.yaml with the values of the parameters that it names as `${...}`.

    The section of a model that is `train.**.lda` stands in `train.ensemble` or in `train`.
    """
    text = re.sub(r"\$\{(.*?)\}", lambda match: str(lookup(params, match[1])), text)
    parent, _, name = text.partition(".**.")
    if name and name not in params[parent]:
        return f"{parent}.ensemble.{name}"
    return f"{parent}.{name}" if name else text


def outs_of(stage):
    """The files and folders that dvc.yaml says the stage writes."""
    return {out if isinstance(out, str) else next(iter(out)) for out in STAGES[stage]["outs"]}


class Sandbox:
    """A folder that holds what a stage declares and nothing else."""

    def __init__(self, folder: Path, stage: str, project: Project) -> None:
        self.folder, self.stage = folder, stage
        params = YAML(typ="safe").load(project.folder / "params.yaml")
        self.deps = [resolve(dep, params) for dep in STAGES[stage]["deps"]]
        self.params = [resolve(param, params) for param in STAGES[stage]["params"]]
        self.outs = outs_of(stage)
        for dep in self.deps:
            source, target = project.folder / dep, folder / dep
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        self.content = {}
        for param in self.params:
            *parents, last = param.split(".")
            section = self.content
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = lookup(params, param)
        self.write_params()

    def write_params(self) -> None:
        # In the order of the project's: it is that of the members of an ensemble.
        YAML().dump(self.content, self.folder / "params.yaml")

    def run(self) -> subprocess.CompletedProcess:
        """Run the stage; the last line that it prints names the modules that it imported."""
        code = (
            "import runpy, sys; "
            f"runpy.run_module('stages.{self.stage.replace('-', '_')}', run_name='__main__'); "
            "print(*sorted({name.split('.')[0] for name in sys.modules}))"
        )
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )

    def files(self) -> set[str]:
        return {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }


def lookup(content, key):
    for part in key.split("."):
        content = content[part]
    return content


VARIANTS = {
    "synthetic": {"download.source": "synthetic"},
    "xgboost": {"train.model": "xgboost"},
    "ensemble": {"train.model": "ensemble"},
}


@pytest.fixture(scope="module")
def variants(reproduced, shared):
    """The reproduced project with every source that needs no network, and every model."""

    def make(folder: Path) -> None:
        for name, chosen in VARIANTS.items():
            project = reproduced.copy(folder / name)
            project.set_params(**chosen)
            if name != "synthetic":
                project.repro("train")

    folder = shared("variants", make)
    return {
        "file and logistic_regression": reproduced,
        **{name: Project(folder / name) for name in VARIANTS},
    }


CASES = [
    *((stage, "file and logistic_regression") for stage in STAGES),
    *(
        pytest.param(stage, variant, marks=pytest.mark.slow)
        for stage, variant in (
            ("download", "synthetic"),
            ("train", "xgboost"),
            ("train", "ensemble"),
        )
    ),
]


HEAVY = {"matplotlib", "onnx", "onnxruntime", "pandas", "requests", "sklearn", "xgboost"}
USED = {
    "download": set(),
    "parse-embeddings-to-parquet": set(),
    "split": set(),
    "featurize": {"onnx"},
    "train": {"onnx", "pandas"},
    "evaluate": {"onnx", "pandas", "sklearn"},
    "report": {"matplotlib", "onnx", "pandas"},
}
ALSO_USED = {
    ("download", "synthetic"): {"pandas"},
    ("train", "file and logistic_regression"): {"sklearn"},
    ("train", "xgboost"): {"xgboost"},
    ("train", "ensemble"): {"xgboost"},
}


@pytest.mark.parametrize(("stage", "variant"), CASES)
def test_a_stage_runs_with_what_it_declares_and_writes_what_it_declares(
    variants, tmp_path, stage, variant
):
    sandbox = Sandbox(tmp_path, stage, variants[variant])
    before = sandbox.files()
    result = sandbox.run()
    assert result.returncode == 0, result.stderr
    written = sandbox.files() - before
    outs = {
        out for out in sandbox.outs if any(f == out or f.startswith(out + "/") for f in written)
    }
    assert outs == sandbox.outs
    assert all(any(f == o or f.startswith(o + "/") for o in outs) for f in written), written
    if variant != "synthetic":
        # The project has all parameters: what is not declared makes no difference.
        for file in written:
            made = variants[variant].folder / file
            assert (tmp_path / file).read_bytes() == made.read_bytes(), file
    *_, last, modules = result.stdout.splitlines()
    assert last.startswith(f"[{stage.replace('-', '_')}] ")
    assert last.endswith(" s")
    # Heavy libraries are imported only where they are used.
    assert set(modules.split()) & HEAVY == USED[stage] | ALSO_USED.get((stage, variant), set())


# Scripts are checked above. For `download` the simulated source, which reads the facts.
READS = [
    (stage, "synthetic" if stage == "download" else "file and logistic_regression", dep)
    for stage in STAGES
    for dep in STAGES[stage]["deps"]
    # Not requirements.txt, which is only compared with what is installed.
    if not dep.endswith((".py", ".txt"))
]


@pytest.mark.parametrize(("stage", "variant", "dep"), READS)
def test_a_stage_fails_without_any_one_of_the_files_that_it_declares_to_read(
    variants, tmp_path, stage, variant, dep
):
    sandbox = Sandbox(tmp_path, stage, variants[variant])
    target = tmp_path / dep
    (shutil.rmtree if target.is_dir() else Path.unlink)(target)
    if dep == "stages/sources/simulator_facts.csv":  # which the simulator reads from beside itself
        assert sandbox.run().returncode != 0
    else:
        with chdir(tmp_path), pytest.raises((OSError, PipelineError)):
            main_of(stage)()


def main_of(stage: str) -> Callable[[], str]:
    """The function that does a stage's work, in this process, which has imported it once."""
    return import_module(f"stages.{stage.replace('-', '_')}").main


PARAMS = [(stage, index) for stage in STAGES for index in range(len(STAGES[stage]["params"]))]


@pytest.mark.parametrize(("stage", "index"), PARAMS)
def test_a_stage_fails_without_any_one_of_the_parameters_it_declares(
    variants, tmp_path, stage, index
):
    sandbox = Sandbox(tmp_path, stage, variants["file and logistic_regression"])
    *parents, last = sandbox.params[index].split(".")
    section = lookup(sandbox.content, ".".join(parents)) if parents else sandbox.content
    del section[last]
    sandbox.write_params()
    with chdir(tmp_path), pytest.raises(ParameterError, match=r"params\.yaml"):
        main_of(stage)()
