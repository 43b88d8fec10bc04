"""Pieces of work that the tests of the cluster send to workers, and what runs by itself there."""

# Loaded before NumPy, as by a stage.
import stages  # noqa: F401, I001

import os
import sys
import time

from stages.common.errors import PipelineError


def square(number):
    return number * number


def slow_square(number):
    time.sleep(0.2)
    return number * number


def process(number):
    time.sleep(0.05)
    return os.getpid()


def die_once(item):
    """End the worker's process, but for the first time only."""
    number, path = item
    if number == 3 and not path.exists():
        path.write_text("")
        os._exit(1)
    return number * number


def die(number):
    os._exit(1)


def take_memory(megabytes):
    taken = bytearray(megabytes * 1_000_000)
    taken[::4096] = b"x" * len(taken[::4096])
    time.sleep(5)
    return len(taken)


def refuse(number):
    raise PipelineError(f"{number} is refused")


def models():
    """Fit the models whose sums are pieces, of few rows each, and write their numbers."""
    from test_models import fit_whole, made_up

    from stages.models import kernel_ridge, lda

    data = made_up()
    kernel_ridge.SPAN, lda.SPAN = 16, 16 * len(data.train.names)
    for kind, chosen in ("kernel_ridge", {"most_rows": 50}), ("lda", {}):
        found = fit_whole(kind, data.train, data.val, **chosen)
        for numbers in found.model.logits(data.val.values), found.parts_of_val():
            sys.stdout.buffer.write(numbers.tobytes())
