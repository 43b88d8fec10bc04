"""What a stage opens while it runs is what it declares in dvc.yaml: no file less, no file more."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML
from test_declared import STAGES, outs_of, resolve
from watchdog.events import FileOpenedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells which files are opened"
)


class Opened(FileSystemEventHandler):
    """Collects the files that any process opens, whatever library or language it does it with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[str] = set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileOpenedEvent):
            self.files.add(Path(os.fsdecode(event.src_path)).relative_to(self.folder).as_posix())


def traced(folder: Path, run: Callable[[], object]) -> set[str]:
    """Call `run`; return the files below `folder` that were opened meanwhile."""
    opened = Opened(folder)
    observer = Observer()
    observer.schedule(opened, str(folder), recursive=True)
    observer.start()
    try:
        run()
        # The events come in order: with this one, all have come.
        mark = folder / "mark"
        mark.touch()
        end = time.monotonic() + 20
        while mark.name not in opened.files:
            assert time.monotonic() < end, "no event has come for 20 seconds"
            time.sleep(0.01)
        mark.unlink()
    finally:
        observer.stop()
        observer.join()
    return opened.files - {mark.name}


def run_stage(project: Project, stage: str) -> None:
    """Run a stage without DVC, which would open all files itself."""
    # Python opens the source of a module, unless it has compiled it before.
    for folder in [*project.folder.rglob("__pycache__")]:
        shutil.rmtree(folder)
    result = subprocess.run(
        STAGES[stage]["cmd"].replace("python", sys.executable, 1).split(),
        cwd=project.folder,
        env=project.environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def declared(project: Project, stage: str) -> set[str]:
    """The files and folders that dvc.yaml says the stage reads and writes."""
    params = YAML(typ="safe").load(project.folder / "params.yaml")
    deps = [resolve(dep, params) for dep in STAGES[stage]["deps"]]
    return {*deps, *outs_of(stage), "params.yaml"}


def path_of(file: str, paths: set[str]) -> str:
    """The declared path that a file is or lies in; the file itself where there is none."""
    # The names under which a file or a folder is written before it takes its place.
    final = Path(*(re.sub(r"^\.(.+)\.\d+\.partial$", r"\1", part) for part in Path(file).parts))
    places = [final.as_posix(), *(parent.as_posix() for parent in final.parents)]
    return next((place for place in places if place in paths), file)


# Parameters that make a stage read what it does not read as the project stands in the tests.
VARIANTS = {
    "download": [{"download.source": "synthetic"}],
    "train": [{"train.model": model, "train.mlp.epochs": 1} for model in ("ensemble", "mlp")],
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_opens_the_files_that_it_declares_and_no_other(project, stage):
    opened = set()
    for variant in [{}, *VARIANTS.get(stage, [])]:
        project.set_params(**variant)
        paths = declared(project, stage)
        files = traced(project.folder, lambda: run_stage(project, stage))
        found = {path_of(file, paths) for file in files}
        assert found <= paths, f"opened and not declared: {sorted(found - paths)}"
        opened |= found
    assert opened == paths, f"declared and never opened: {sorted(paths - opened)}"


def test_a_file_that_is_opened_is_seen(project):
    script = "open('README.md').close(); import pyarrow; pyarrow.OSFile('LICENSE').close()"
    seen = traced(
        project.folder,
        lambda: subprocess.run([sys.executable, "-c", script], cwd=project.folder, check=True),
    )
    assert seen == {"README.md", "LICENSE"}
