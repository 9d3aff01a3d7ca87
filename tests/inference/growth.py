"""How the work of a function grows with its input: what it takes in all differs between machines."""

import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def growth(work: Callable[[T], object], small: T, large: T) -> float:
    """How many times the CPU time of `small` the work takes for `large`; the least of five tries each, in turn."""
    tries = [(_cpu_s(work, small), _cpu_s(work, large)) for _ in range(5)]
    return min(large_s for _, large_s in tries) / min(small_s for small_s, _ in tries)


def _cpu_s(work: Callable[[T], object], value: T) -> float:
    began_s = time.thread_time()
    work(value)
    return time.thread_time() - began_s


def peak_bytes(work: Callable[[T], object], value: T) -> int:
    """The most memory that the work takes on top of its input."""
    tracemalloc.start()
    try:
        work(value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
