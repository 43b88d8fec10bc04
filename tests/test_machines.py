"""Every stage and every model give the same bytes on machines of other kinds.

Machines with 1, 2, 4 and 8 cores are played by a library that answers for the system, the same
with all processes on one core is real, and a processor that has AVX2 and no AVX-512 is emulated.
"""

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT, Project, tiny_rows, write_csv_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the machines are played on Linux"),
]
X86_64 = platform.machine() == "x86_64"
CORES = (1, 2, 4, 8)


class Machine:
    """A way to start Python."""

    def __init__(self, settings: dict[str, str] | None = None, *before: str) -> None:
        self.settings, self.before = settings or {}, before

    def run(self, project: Project, *arguments: str) -> str:
        """What Python prints on it, in the folder of the project."""
        # These tests have imported the project's package, which limits threads for what they start.
        fixed = ("OMP_", "OPENBLAS_", "NPY_")
        kept = {k: v for k, v in project.environment().items() if not k.startswith(fixed)}
        result = subprocess.run(
            [*self.before, sys.executable, *arguments],
            cwd=project.folder,
            env=kept | self.settings,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def project(clone_project, tmp_path_factory):
    """The project on a table that is large enough to cut products in blocks."""
    project = clone_project()
    rows = tiny_rows(rows_each=60, length=64)
    table = write_csv_table(tmp_path_factory.mktemp("table") / "table.csv", rows)
    project.set_params(
        **{
            "download.source": "file",
            "download.file.path": str(table),
            "train.mlp.epochs": 5,
            "train.xgboost.rounds": 5,
        }
    )
    return project


def checksums(machine: Machine, project: Project) -> dict[str, str]:
    """The MD5 of each file that each run writes on a machine."""
    path = project.folder / "params.yaml"
    before = path.read_bytes()
    found = json.loads(machine.run(project, str(PROJECT / "tests/every_stage.py")))
    path.write_bytes(before)
    return {f"{run}: {name}": md5 for run, files in found.items() for name, md5 in files.items()}


@pytest.fixture(scope="module")
def expected(project):
    """What this machine gives."""
    found = checksums(Machine(), project)
    assert len(found) > 300
    for name in ("data/predictions.parquet", "models/model.onnx", "reports/metrics.json"):
        assert f"default: {name}" in found
    return found


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


ASK = """
import json, os, pyarrow, threadpoolctl, scipy.linalg
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as openmp
pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
print(json.dumps([os.cpu_count(), pyarrow.cpu_count(), openmp(), *pools]))
"""


@pytest.mark.parametrize("cores", CORES)
def test_all_libraries_see_the_cores_that_are_played(project, play_cores, cores):
    # Outside the project, whose package would limit the threads of linear algebra.
    seen = json.loads(Machine(play_cores(cores)).run(Project(project.folder.parent), "-c", ASK))
    assert set(seen) == {cores}


@pytest.mark.parametrize("cores", CORES)
def test_another_number_of_cores_gives_the_same_bytes(project, expected, play_cores, cores):
    assert differing(expected, checksums(Machine(play_cores(cores)), project)) == []


def test_one_core_for_all_threads_gives_the_same_bytes(project, expected):
    core = str(min(os.sched_getaffinity(0)))
    pinned = Machine(None, "taskset", "--cpu-list", core)
    if shutil.which("taskset") is None:
        pytest.skip("there is no taskset (util-linux), which pins processes to a core")
    assert differing(expected, checksums(pinned, project)) == []


FEATURES = """
from numpy._core._multiarray_umath import __cpu_features__ as features
print(int(features["AVX2"]), int(features["X86_V4"]))
"""


@pytest.mark.skipif(not X86_64, reason="the same bytes are promised on x86-64")
def test_a_processor_without_avx_512_gives_the_same_bytes(project, expected):
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("there is no qemu-x86_64 (qemu-user), which emulates another processor")
    haswell = Machine(None, emulator, "-cpu", "Haswell")
    assert haswell.run(Project(project.folder.parent), "-c", FEATURES) == "1 0"
    assert differing(expected, checksums(haswell, project)) == []
