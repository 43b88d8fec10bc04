"""How fast the machine is, so that seconds of different days can be compared.

    python -m benchmarks.machine

prints it as JSON: the multiply-adds a second of a product of float32 matrices, in one thread and in
as many as NumPy's library of linear algebra chooses, and the turns a second of a plain Python loop.
The best of several tries counts. Nothing of the package `stages` is imported, which sets threads
and processor kernels: this is what the machine can do.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.harness import PYTHON, measure

SIDE = 3000  # of the matrices: their product takes some tenths of a second
TURNS = 2_000_000
TRIES = 5
# One library under two names, of which one is there, and one that not each Python has:
# requirements.in says why.
MAY_BE_MISSING = ("xgboost-cpu", "xgboost", "pysimdjson")


def rates() -> dict[str, float]:
    """Multiply-adds a second in one thread (`one`) and in all (`all`), turns a second (`loop`)."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    matrix = np.random.default_rng(1).standard_normal((SIDE, SIDE), dtype=np.float32)
    with threadpool_limits(1, user_api="blas"):
        one = SIDE**3 / best(lambda: matrix @ matrix)
    return {"one": one, "all": SIDE**3 / best(lambda: matrix @ matrix), "loop": TURNS / best(loop)}


def best(work: Callable[[], object]) -> float:
    """The least seconds of `TRIES`."""
    found = []
    for _ in range(TRIES):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def loop() -> int:
    total = 0
    for number in range(TURNS):
        total += number & 7
    return total


def measured_rates(folder: Path) -> dict[str, float]:
    """What `rates` gives in a process of its own, in the project in `folder`."""
    return dict(measure([*PYTHON, "benchmarks.machine"], folder, reads=True).found)


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of libraries; ends the process if one is missing that should be there."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if name not in MAY_BE_MISSING:
                sys.exit(f"{name} is missing: `make bench` installs it")
    return versions


def where(found: dict[str, float], versions: dict[str, str]) -> str:
    """When and on which machine a part was measured, in a paragraph."""
    facts = Path("/proc/cpuinfo")  # Linux
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or "an unknown processor"
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on "
        f"{platform.system()} ({platform.machine()}),\n{processor}, {os.cpu_count()} cores: "
        f"{found['one'] / 1e9:.0f} billion multiply-adds a second in one thread,\n"
        f"{found['all'] / 1e9:.0f} in all, {found['loop'] / 1e6:.0f} million turns of a Python "
        f"loop.\n{libraries}."
    )


if __name__ == "__main__":
    print(json.dumps(rates()))
