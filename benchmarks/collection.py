"""What the embeddings of a collection cost on a cluster: by a formula, and by its queue, played.

The formula says: the tasks' seconds over the workers, or what the process that asks takes for all
of them, whichever is more. It leaves out that results are taken in order, so that one slow task
holds up those behind it, and that at the end workers wait for the last. The queue is played with
all of this, with the seconds of tasks that were measured.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks.harness import table

PHOTOGRAPHS = 50_000_000
MACHINES = (2, 4, 16, 64)
MACHINES_OF_A_RUN = 2  # where several runs embed a part of the collection each
CORES = 16  # of a machine; a worker is one
# What a machine of 16 cores costs an hour, at about the list price of large clouds in 2026, on
# demand: a plain assumption. Put your own in its place.
PRICE = 0.80  # US dollars
SEED = 0


def queue_seconds(
    task_seconds: Iterable[float], workers: int, window: int, overhead: float
) -> float:
    """When the last task has ended, of tasks that are handed out in their order.

    To hand one out and to take its result is `overhead` seconds, one after the other. A task is
    handed out once all but the `window` tasks before it have ended: results are taken in order, and
    so many may wait.
    """
    free = [0.0] * workers
    ended: deque[float] = deque()
    scheduler = all_ended = last = 0.0
    for seconds in task_seconds:
        if len(ended) == window:
            all_ended = max(all_ended, ended.popleft())
        scheduler = max(scheduler, all_ended) + overhead
        end = max(scheduler, heapq.heappop(free)) + seconds
        heapq.heappush(free, end)
        ended.append(end)
        last = max(last, end)
    return last


def formula_seconds(task_seconds: np.ndarray, workers: int, overhead: float) -> float:
    """What the tasks take where either the workers or the process that asks never wait."""
    return max(float(task_seconds.sum()) / workers, overhead * len(task_seconds))


def measured(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Hours of each number of machines, both ways, from what `benchmarks.workers` measured."""
    tasks = math.ceil(PHOTOGRAPHS / figures["photographs of a task"])
    drawn = np.random.default_rng(SEED).choice(figures["task seconds"], tasks)
    overhead = figures["overhead"]

    def queue(some: np.ndarray, machines: int) -> float:
        workers = machines * CORES
        window = figures["window of a worker"] * workers
        return queue_seconds(some.tolist(), workers, window, overhead) / 3600

    found = {}
    for machines in MACHINES:
        # The first part is as large as any.
        part = drawn[:: max(1, machines // MACHINES_OF_A_RUN)]
        found[str(machines)] = {
            "formula": formula_seconds(drawn, machines * CORES, overhead) / 3600,
            "queue": queue(drawn, machines),
            "runs": queue(part, min(machines, MACHINES_OF_A_RUN)),
        }
    each = ("bytes of a photograph", "bytes of an embedding")
    return {
        "hours": found,
        "tasks": tasks,
        "terabytes": {name: PHOTOGRAPHS * figures[name] / 1e12 for name in each},
    }


def text(found: Mapping[str, Any]) -> str:
    """The table of the page, and a sentence on what goes over the network."""
    head = ["machines of 16 cores", "hours, formula", "hours, queue played", "longer by"]
    head += [f"hours, a run for every {MACHINES_OF_A_RUN}", "dollars", "GB a second from the store"]
    read = found["terabytes"]["bytes of a photograph"]
    rows = []
    for machines, hours in found["hours"].items():
        more = hours["queue"] / hours["formula"] - 1
        rows.append(
            [
                machines,
                f"{hours['formula']:.2f}",
                f"{hours['queue']:.2f}",
                f"{100 * more:.1f} %",
                f"{hours['runs']:.2f}",
                f"{int(machines) * hours['runs'] * PRICE:,.0f}",
                f"{1000 * read / (3600 * hours['runs']):.2f}",
            ]
        )
    written = found["terabytes"]["bytes of an embedding"]
    return (
        f"{table(head, rows)}\n\n{PHOTOGRAPHS:,} photographs are {found['tasks']:,} tasks. They "
        f"read {read:.1f} TB of photographs, and send {written:.2f} TB of embeddings to the "
        f"machines that asked. A machine is assumed to cost {PRICE:.2f} dollars an hour. Dollars "
        "and the store are those of several runs."
    )
