"""A server for tests on a loop and a thread of its own, so that a test may block."""

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import Self


class ThreadedServer(ABC):
    """`with` listens. Derive from it what is served."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError(f"{type(self).__name__} did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Cut all connections and stop listening. Stopping twice is stopping."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(started))
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        self._stopped = asyncio.Event()
        await self._serve_until(self._stopped, started)

    @abstractmethod
    async def _serve_until(self, stopped: asyncio.Event, started: threading.Event) -> None:
        """Sets `started` once it listens; ends what it has open when `stopped` is set."""
