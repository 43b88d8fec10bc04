"""Threads and kernels are fixed before NumPy loads, whatever the shell has set."""

import json
import os
import platform
import subprocess
import sys

import pytest
from conftest import PROJECT

CODE = """
import stages
import json, os, numpy, scipy.linalg, threadpoolctl
pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
from numpy._core._multiarray_umath import __cpu_features__ as features
print(json.dumps([pools, features["X86_V4"], dict(os.environ)]))
"""


X86_64 = platform.machine() in ("x86_64", "AMD64")


@pytest.mark.skipif(not X86_64, reason="the kernels are those of x86-64")
@pytest.mark.parametrize(
    "shell",
    [{}, {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "2", "OMP_THREAD_LIMIT": "1"}],
    ids=["nothing set", "other values set"],
)
def test_linear_algebra_has_one_thread_and_one_kernel(shell):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENBLAS_", "OMP_", "NPY_"))
    }
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
