"""What a stage needs of the memory, roughly, and a sentence before the work where it is not free.

The formulas are those of the arrays that a stage holds at a time, with factors that were measured
on large tables: docs/reliability.md has them.
"""

import math
import os
from functools import cache
from pathlib import Path

from stages import address_limit, container_limits
from stages.common.engine import AHEAD
from stages.common.errors import ParameterError, PipelineError, shorten
from stages.common.params import PARAMS_FILE, load_optional
from stages.common.threads import MOST_THREADS

AUTO = "auto"
MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
# Beside the limit of a container, of version 2 and of version 1, lie what it uses, and what of that
# are copies of files, which the system gives back when asked.
CONTAINERS = {
    "memory.max": ("memory.current", ("inactive_file", "active_file")),
    "memory.limit_in_bytes": (
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
}
GROUP_ROWS = 4096  # rows of a row group, which are read at a time
SHUFFLED_ROWS = 50_000  # of test, which tell how much each kind of features matters
SCORED_ROWS = 1024  # rows that a model's file answers for at a time, in several threads


def of_split(rows: int, numbers: int, length: int) -> int:
    """Bytes for texts of all rows, and directions and sketches of so many `numbers`.

    Embeddings of `length` are read.
    """
    return 700 * rows + 4 * numbers + 16 * min(rows, GROUP_ROWS) * length


def of_featurize(rows: int, numbers: int, length: int, products: bool) -> int:
    """Bytes for texts of all rows and row groups in several threads.

    Where embeddings of `length` are fitted on the rows themselves, so many `numbers` are held; for
    others, in each thread the `products` of their columns.
    """
    group = 20 * min(rows, GROUP_ROWS) * length
    sums = MOST_THREADS * 24 * length**2 if products else 0
    return 500 * rows + MOST_THREADS * group + 12 * numbers + sums


def of_train(rows: int, numbers: int, labels: int, kernel_rows: int, centres: int) -> int:
    """Bytes for `numbers` of features, logits of `rows` of train and val, and a kernel matrix.

    That has `kernel_rows` rows, or is summed for so many `centres` in several threads.
    """
    kernel = 6 * kernel_rows**2
    sums = 8 * (AHEAD + MOST_THREADS + 2) * centres**2 + 12 * MOST_THREADS * GROUP_ROWS * centres
    # From 60,000 to 180,000 rows of 1,024 features, a blend takes 13 bytes more for each number,
    # and a model alone 8 to 13.
    return 16 * numbers + 40 * rows * labels + kernel + sums


def of_evaluate(rows: int, numbers: int, length: int, labels: int, functions: int) -> int:
    """Bytes for texts of `rows` of test, what each adds to the metrics, and scoring.

    So many `numbers` of features are held. The model may have so many radial basis `functions`; of
    `SHUFFLED_ROWS`, what it makes of embeddings of `length` is held.
    """
    scored = MOST_THREADS * min(rows, SCORED_ROWS)
    whole = rows * (500 + 130 * labels) + 32 * labels**2 + 4 * numbers
    some = min(rows, SHUFFLED_ROWS) * 12 * length
    return whole + some + scored * (80 * length + 25 * functions)


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raises PipelineError where `what` needs more bytes than are free, or than `memory` allows."""
    free, allowed = free_bytes(), allowed_bytes()
    if allowed is not None and needed > allowed:
        raise PipelineError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, and `memory` in {PARAMS_FILE} "
            f"allows {allowed / 1e9:g}: {remedy}, or raise it"
        )
    if free is not None and needed > free:
        raise PipelineError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            f"free: {remedy}"
        )


def free_for_stage() -> int | None:
    """Bytes that are free and that `memory` allows; None where nobody says."""
    known = [found for found in (free_bytes(), allowed_bytes()) if found is not None]
    return min(known, default=None)


@cache
def allowed_bytes() -> int | None:
    """Bytes that params.yaml allows a stage; None where it leaves that to what is free.

    It is read once: whoever edits the file meanwhile does not disturb a stage in the middle of it.
    The key is in no stage's section and declared by none, because it changes no result.

    Raises ParameterError for what is neither `auto` nor a number above 0.
    """
    found = load_optional("memory", AUTO)
    if found == AUTO:
        return None
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if not number or not 0 < found < math.inf:
        raise ParameterError(
            "params.yaml: `memory` should be auto or gigabytes, a number above 0, not "
            f"{shorten(repr(found))}"
        )
    return int(found * 1e9)


def free_bytes() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    found = []
    if (kilobytes := _entry(MEMINFO, "MemAvailable:")) is not None:
        found.append(1024 * kilobytes)
    for limit, most in container_limits():
        used, copies = CONTAINERS[limit.name]
        given_back = [_entry(limit.with_name("memory.stat"), copy) or 0 for copy in copies]
        found.append(most - int(_text(limit.with_name(used)).strip() or 0) + sum(given_back))
    if (addresses := address_limit()) is not None and (pages := _text(STATM).split()):
        found.append(addresses - int(pages[0]) * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(found)) if found else None


def _entry(path: Path, name: str) -> int | None:
    """The number that stands after a name, at the beginning of a line."""
    for line in _text(path).splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
