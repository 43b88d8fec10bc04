"""Threads and kernels are fixed before NumPy loads, whatever the shell has set."""

import json
import os
import platform
import subprocess
import sys

import pytest
from conftest import PROJECT

from stages import has_avx2

CODE = """
import stages
import json, os, numpy, scipy.linalg, threadpoolctl
pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
from numpy._core._multiarray_umath import __cpu_features__ as features
print(json.dumps([pools, features["X86_V4"], dict(os.environ)]))
"""


FIXED = ("OPENBLAS_", "OMP_", "NPY_")
X86_64 = platform.machine() in ("x86_64", "AMD64")


def test_a_processor_without_avx2_is_told_by_its_flags(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    for flags, expected in (("fma avx avx2 bmi1", True), ("fma avx avx512f", False)):
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t:\n")
        assert has_avx2(cpuinfo) == expected
    assert has_avx2(tmp_path / "none")


# A processor without AVX2 ends at the first of its instructions: it has its own kernels instead.
WITHOUT = """
import pathlib
pathlib.Path.open = lambda path, **options: open("cpuinfo")
import stages, os
print("OPENBLAS_CORETYPE" in os.environ, "NPY_DISABLE_CPU_FEATURES" in os.environ)
"""


@pytest.mark.skipif(not X86_64, reason="the kernels are those of x86-64")
@pytest.mark.parametrize("flags", ["avx", "avx avx2"])
def test_kernels_for_avx2_are_asked_for_where_there_is_avx2(tmp_path, flags):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FIXED)}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env=clean | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [str("avx2" in flags)] * 2


@pytest.mark.skipif(not X86_64, reason="the kernels are those of x86-64")
@pytest.mark.parametrize(
    "shell",
    [
        {},
        {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "2", "OMP_THREAD_LIMIT": "1"},
        {"NPY_ENABLE_CPU_FEATURES": "AVX2"},
    ],
    ids=["nothing set", "other values set", "kernels enabled"],
)
def test_linear_algebra_has_one_thread_and_one_kernel(shell):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FIXED)}
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=PROJECT,
        env=clean | shell,
        capture_output=True,
        text=True,
        check=True,
    )
    pools, has_avx512, environment = json.loads(result.stdout)
    assert pools
    assert {(pool["num_threads"], pool["architecture"]) for pool in pools} == {(1, "Haswell")}
    assert not has_avx512
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["OPENBLAS_L2_SIZE"] == "512"
    assert not {"OMP_NUM_THREADS", "OMP_THREAD_LIMIT"} & set(environment)


def test_xgboost_can_be_loaded_without_scikit_learn():
    code = """
import sys
from stages.common.stage import hidden
with hidden("sklearn"):
    import xgboost
assert "xgboost" in sys.modules and "sklearn" not in sys.modules
import sklearn.base
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)
