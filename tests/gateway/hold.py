"""Holds a hub in the middle of something until a test has done something else meanwhile."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")

_TIMEOUT_S = 20.0


class Hold:
    """For one: whoever comes later goes by."""

    def __init__(self) -> None:
        self._is_reached, self._is_open = threading.Event(), threading.Event()

    async def pause(self) -> None:
        """On the hub's loop, where it shall wait."""
        if not self._is_reached.is_set():
            self._is_reached.set()
            await anyio.to_thread.run_sync(self._is_open.wait)

    @contextmanager
    def during(self, act: Callable[[], T]) -> Iterator[Future[T]]:
        """`act`, in a thread: the block runs while it is held, and it is over when the block is left."""
        with ThreadPoolExecutor(1) as thread:
            acting = thread.submit(act)
            try:
                assert self._is_reached.wait(_TIMEOUT_S), "nobody came by"
                yield acting
            finally:
                self._is_open.set()
