"""Pieces of work that the tests of the cluster send to workers."""

import os
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
