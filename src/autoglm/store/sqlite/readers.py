"""The connections that read: a few, each lent to one worker thread at a time."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from autoglm.core.errors import StoreBroken
from autoglm.store.sqlite.connection import open_reader, store_error

Answer = TypeVar("Answer")


class Readers:
    """At most `count` reads run at once; further ones wait for their turn. Connections open on first use."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._count = count
        self._limiter = anyio.CapacityLimiter(count)
        self._idle: list[sqlite3.Connection] = []
        self._is_open = True

    async def run(self, query: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Call `query` with a connection in a worker thread. Raises StoreBroken, StorageFull."""
        return await anyio.to_thread.run_sync(self._run, query, limiter=self._limiter)

    def _run(self, query: Callable[[sqlite3.Connection], Answer]) -> Answer:
        if not self._is_open:
            raise StoreBroken(str(self._path), "it is closed")
        # The limiter sees to it that no more connections are out than there may be.
        db = self._idle.pop() if self._idle else open_reader(self._path)
        try:
            return query(db)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        finally:
            self._idle.append(db)

    async def aclose(self) -> None:
        """Wait for the reads that run, then close. Later reads raise StoreBroken."""
        self._is_open = False
        borrowers = [object() for _ in range(self._count)]
        for borrower in borrowers:
            await self._limiter.acquire_on_behalf_of(borrower)
        for borrower in borrowers:
            self._limiter.release_on_behalf_of(borrower)
        while self._idle:
            self._idle.pop().close()
