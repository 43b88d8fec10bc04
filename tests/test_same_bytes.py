"""The same input gives the same bytes, whatever the folder and the shell's settings."""

import platform
import shutil
from pathlib import Path

import pytest
from conftest import PARAMS, Project, as_published

from stages.model_file.interface import ENSEMBLE

X86_64 = platform.machine() in ("x86_64", "AMD64")
# What a shell may have that steers threads, processor kernels, texts, times and new files.
SETTINGS = {
    "LC_ALL": "C",
    "MKL_NUM_THREADS": "2",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "NUMEXPR_NUM_THREADS": "2",
    "OMP_DYNAMIC": "true",
    "OMP_NUM_THREADS": "2",
    "OMP_THREAD_LIMIT": "1",
    "OMP_WAIT_POLICY": "active",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_L2_SIZE": "2048",
    "OPENBLAS_NUM_THREADS": "2",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "7",
    "PYTHONUTF8": "0",
    "TZ": "Asia/Tokyo",
}


class Machine(Project):
    """A clean clone whose commands see all of `SETTINGS`, or none."""

    def __init__(self, project: Project, settings: dict[str, str], umask: int) -> None:
        super().__init__(project.folder)
        self.settings, self.umask = settings, umask

    def environment(self) -> dict[str, str]:
        kept = {
            k: v for k, v in super().environment().items() if k not in (*SETTINGS, "MATPLOTLIBRC")
        }
        return kept | self.settings


def style_of_ones_own(folder: Path) -> dict[str, str]:
    """The setting of a user who has a style for figures, which is written to the folder."""
    (folder / "matplotlibrc").write_text("axes.linewidth: 9\nsavefig.facecolor: red\n")
    return {"MATPLOTLIBRC": str(folder)}


def machines(project: Project, first: Path, second: Path) -> tuple[Machine, Machine]:
    """Two clones in folders that are unlike, without any result."""
    second.mkdir()
    clones = (
        Machine(project.clone(first), {}, 0o022),
        Machine(
            project.clone(second / "a folder with blanks"),
            SETTINGS | style_of_ones_own(second),
            0o077,
        ),
    )
    for clone in clones:
        # What is missing is computed; what is in Git would be taken as it is.
        for name in filter(None, clone.git("ls-files", "dvc.lock", "reports").stdout.split("\n")):
            (clone.folder / name).unlink()
    return clones


@pytest.mark.slow
def test_two_clones_with_other_settings_give_the_same_bytes(reproduced, tmp_path):
    clones = machines(reproduced, tmp_path / "plain", tmp_path / "other")
    for clone in clones:
        clone.set_params(**{"train.model": ENSEMBLE})
        # tests/test_machines.py goes on, and does it with every model.
        assert clone.repro("train")[-1] == "train"
    first, second = (clone.results() for clone in clones)
    assert {"dvc.lock", "models/model.onnx"} < first.keys()
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@as_published
@pytest.mark.slow
@pytest.mark.skipif(not X86_64, reason="the committed bytes are promised on x86-64 only")
def test_the_committed_results_come_out_with_other_settings(clone_project, tmp_path, play_cores):
    project = clone_project()
    shutil.copy2(PARAMS, project.folder / "params.yaml")
    project.commit()
    committed = project.git("ls-files", "dvc.lock", "reports").stdout.splitlines()
    _, other = machines(project, tmp_path / "plain", tmp_path / "other")
    other.settings |= play_cores(4)
    assert len(other.repro()) == 7
    found = other.results()
    for name in committed:
        if not name.endswith(".gitignore"):
            assert found[name] == (project.folder / name).read_bytes(), name
    assert other.git("status", "--porcelain").stdout == ""
