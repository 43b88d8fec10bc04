"""The stages of the pipeline, one script each, and the modules they share.

`python -m stages.<stage>` imports this file before anything else. It is the one
place where threads and processor kernels are fixed, which must happen before
NumPy loads: the last bits of a matrix product depend on both, and the same
input has to give the same bytes on the next machine.
"""

import os
import platform
from pathlib import Path

# One thread for linear algebra: with more, sums are split by the number of cores.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# XGBoost takes all cores, with the same trees; a limit from outside would take them away.
for _limit in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
    os.environ.pop(_limit, None)
os.environ["OMP_DYNAMIC"] = "false"
# Waiting threads sleep: spinning ones slow XGBoost many times over on a busy machine.
os.environ["OMP_WAIT_POLICY"] = "passive"


def has_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether an x86-64 processor has AVX2, as Linux tells; other systems are not asked."""
    try:
        with cpuinfo.open(encoding="utf-8") as file:
            first = file.read(8192)  # one core: they are alike
    except OSError:
        return True
    return "avx2" in first.split()


if platform.machine() in ("x86_64", "AMD64") and has_avx2():
    # The kernels for AVX2, which nearly all x86-64 processors of the last ten years
    # run, instead of those that OpenBLAS and NumPy pick for the processor at hand.
    os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    os.environ["OPENBLAS_L2_SIZE"] = "512"  # kilobytes; it steers how products are cut in blocks
    os.environ.pop("NPY_ENABLE_CPU_FEATURES", None)  # NumPy refuses to load with both
    os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"
