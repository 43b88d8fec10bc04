"""Every stage and every model give the same bytes on machines of other kinds, and in other shells.

Machines with 1 and 4 cores are played by a library that answers for the system, the same
with all processes on one core is real, and a processor that has AVX2 and no AVX-512 is emulated.
The network for photographs is allowed to differ in the last digits.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, Project, tiny_rows, write_csv_table
from test_network import folder_of_photographs, small, small_network  # noqa: F401
from test_same_bytes import SETTINGS, style_of_ones_own

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the machines are played on Linux"),
]
X86_64 = platform.machine() == "x86_64"
CORES = (1, 4)


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
            umask=project.umask,
            capture_output=True,
            text=True,
        )
        if result.returncode == -signal.SIGSEGV and any("qemu" in part for part in self.before):
            pytest.skip("the emulator itself crashed, as QEMU 7.2 does where AVX2 sorts numbers")
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def unrun(clone_project, shared):
    """The project on a table that is large enough to cut products in blocks."""

    def make(folder: Path) -> None:
        project = clone_project(folder / "project")
        rows = tiny_rows(rows_each=60, length=64)
        project.set_params(
            **{
                "download.source": "file",
                "download.file.path": str(write_csv_table(folder / "table.csv", rows)),
                # Its products take an emulated processor half of all its time.
                "train.mlp.networks": 2,
                "train.mlp.epochs": 3,
                "train.xgboost.rounds": 5,
                "train.ensemble.size_trees.rounds": 5,
            }
        )

    return Project(shared("unrun", make) / "project")


@pytest.fixture
def project(unrun, tmp_path):
    return unrun.copy(tmp_path / "project")


def checksums(machine: Machine, project: Project) -> dict[str, str]:
    """The MD5 of each file that each run writes on a machine."""
    found = json.loads(machine.run(project, str(PROJECT / "tests/every_stage.py")))
    return {f"{run}: {name}": md5 for run, files in found.items() for name, md5 in files.items()}


@pytest.fixture(scope="module")
def expected(unrun, shared):
    """What this machine gives."""

    def make(folder: Path) -> None:
        found = checksums(Machine(), unrun.copy(folder / "project"))
        (folder / "expected.json").write_text(json.dumps(found), encoding="utf-8")

    found = json.loads((shared("expected", make) / "expected.json").read_text(encoding="utf-8"))
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


def test_another_folder_and_other_settings_give_the_same_bytes(unrun, expected, tmp_path):
    other = unrun.copy(tmp_path / "a folder with blanks")
    other.umask = 0o077
    settings = SETTINGS | style_of_ones_own(tmp_path)
    assert differing(expected, checksums(Machine(settings), other)) == []


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
    # QEMU 7.2 computes NumPy's argsort of nine or more whole numbers wrongly where AVX2 does it: if
    # nothing but the order of lines in reliability.csv differs, it is that.
    haswell = Machine(None, emulator, "-cpu", "Haswell")
    assert haswell.run(Project(project.folder.parent), "-c", FEATURES) == "1 0"
    assert differing(expected, checksums(haswell, project)) == []


EMBED = """
import platform, sys
from pathlib import Path
platform.machine = lambda: "played"  # /proc/cpuinfo tells of the real processor
import numpy as np
from photographs.pictures.embedder import Embedder
network, folder, output = map(Path, sys.argv[1:])
embedders = [Embedder(network, layers) for layers in ("last", "all")]
contents = [path.read_bytes() for path in sorted(folder.iterdir())]
np.savez(output, *[np.stack([e.embed(c).embedding for c in contents]) for e in embedders])
print("done")
"""
# Processors with AVX2 and FMA, and with neither.
OTHER_PROCESSORS = ("Haswell", "Nehalem")
# The most that a number, of 0 to 6, may differ: docs/photographs.md.
MOST_DIFFERENCE = 1e-4


@pytest.mark.skipif(not X86_64, reason="the processors are of this kind")
@pytest.mark.parametrize("name", OTHER_PROCESSORS)
def test_another_processor_gives_nearly_the_same_embeddings(
    name,
    small_network,  # noqa: F811
    folder_of_photographs,  # noqa: F811
    tmp_path,
):
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("there is no qemu-x86_64 (qemu-user), which emulates another processor")
    found = {}
    for machine, path in (
        (Machine(), tmp_path / "here.npz"),
        (Machine(None, emulator, "-cpu", name), tmp_path / "there.npz"),
    ):
        arguments = (str(small_network), str(folder_of_photographs), str(path))
        assert machine.run(Project(PROJECT), "-c", EMBED, *arguments) == "done"
        with np.load(path) as file:
            found[path.stem] = [file[key] for key in ("arr_0", "arr_1")]
    for here, there in zip(found["here"], found["there"], strict=True):
        assert here.shape == there.shape
        assert len(np.unique(here)) > 500
        assert np.abs(here - there).max() <= MOST_DIFFERENCE
