"""An event loop whose clock jumps to the next timer: hours of simulated traffic in seconds, the same in every run."""

import asyncio
import random
import selectors
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Clock(selectors.SelectSelector):
    """Where a selector would wait, it lets the time pass. Nothing comes from outside, so nothing is looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and no timer is left: it would wait for ever")
        if timeout > 0:
            self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """For asyncio and anyio alike. Threads and sockets do not work in it."""

    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)
        self._clock_resolution = 1e-6  # of a timer; what is left of a float's rounding must not delay one

    def time(self) -> float:
        return self.clock.now_s


@contextmanager
def _clock_of_the_hub(loop: VirtualLoop) -> Iterator[None]:
    """The hub's modules read the loop's clock. Whoever imports `monotonic_s` has a reference of his own."""
    patched = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("autoglm.") and getattr(module, "monotonic_s", None) is time.monotonic
    ]
    for module in patched:
        module.monotonic_s = loop.time  # type: ignore[attr-defined]  # it was found above
    try:
        yield
    finally:
        for module in patched:
            module.monotonic_s = time.monotonic  # type: ignore[attr-defined]  # as before


def run_virtually(main: Coroutine[Any, Any, Result], seed: int = 0) -> Result:
    """As `asyncio.run`, in virtual time. seed: of `random`, which the hub's jitter is drawn from."""
    random.seed(seed)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        with _clock_of_the_hub(loop):
            return runner.run(main)
