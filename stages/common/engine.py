"""Where pieces of work run: in threads of this process, or on a cluster. The results are the same.

With `DASK_SCHEDULER_ADDRESS` set, pieces go to the workers of that Dask scheduler
(docs/cluster.md); without it, to a pool of threads here. What runs is the same code, and results
come in the order of the pieces, so that sums are added in one order and have the same bytes.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

from stages.common.threads import thread_pool

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
# Items that are taken in advance, or as many for each of the threads that are asked for: they keep
# the threads busy.
AHEAD = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_cluster() -> bool:
    """Whether pieces of work go to other processes."""
    return bool(os.environ.get(SCHEDULER))


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Generator[Result, None, None]:
    """The results of `function` for each item, in order.

    Few items are taken in advance, so that memory does not grow with their number. Here there are
    so many `threads`, or as many as `thread_pool` has. On a cluster function and items are pickled,
    so that the function has to be one of a module, or `functools.partial` of one. A generator that
    is closed begins no further items.

    Raises what the function raises, and PipelineError where a cluster cannot go on.
    """
    if on_cluster():
        # Dask is large, and an optional requirement.
        from stages.common.cluster import cluster_at

        cluster = cluster_at(os.environ[SCHEDULER])
        yield from _in_order(cluster.submitter(function), cluster.result, cluster.ahead, items)
        return
    ahead = AHEAD * (threads or 1)
    with thread_pool(threads) as pool:
        yield from _in_order(
            lambda item: pool.submit(function, item), Future.result, lambda: ahead, items
        )


def _in_order(
    submit: Callable[[Item], "Future[Result]"],
    result: Callable[["Future[Result]"], Result],
    ahead: Callable[[], int],
    items: Iterable[Item],
) -> Generator[Result, None, None]:
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) >= ahead():
                yield result(waiting.popleft())
        while waiting:
            yield result(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()
