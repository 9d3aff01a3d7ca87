"""How the work of a function grows with its input, by CPU time: what it takes in all differs between machines."""

import time
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
