"""Waits for a condition instead of a time: polls it until it holds or a deadline passes."""

import time
from collections.abc import Callable

import anyio


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0, *, every_s: float = 0.005) -> None:
    """Raises AssertionError when the condition does not hold in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {timeout_s} s"
        time.sleep(every_s)


async def until(condition: Callable[[], object], timeout_s: float = 20.0, *, every_s: float = 0.002) -> None:
    """The same for tests that run on the event loop."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {timeout_s} s"
        await anyio.sleep(every_s)
