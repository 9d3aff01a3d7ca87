"""Ends: each message has one, though several may want to write it: its channel, its time that is over, its sender.

Whoever writes one holds the message meanwhile, and looks first whether it has ended.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import anyio
import msgspec

from autoglm.channels.receipts import Receipt, subject_of_message
from autoglm.core.ports import Log

_MOST = 100_000
_ENDS = frozenset({"delivered", "failed", "expired", "cancelled"})
"""Of a message to a model: nothing is left to do for it."""

_receipt = msgspec.json.Decoder(Receipt).decode


class _Hold(NamedTuple):
    is_carried: bool
    over: anyio.Event


class Ends:
    """Shared by all who write ends. In memory: one hub has one mailbox and one outbox."""

    def __init__(self, store: Log) -> None:
        self._log = store
        self._holds: dict[str, _Hold] = {}
        """By the id of a message."""

    @asynccontextmanager
    async def carried(self, *ids: str) -> AsyncIterator[None]:
        """For a channel, which may take long: meanwhile nobody else writes how these end. Waits for who writes now."""
        while (other := self._other(ids)) is not None:
            await other.over.wait()
        with self._held(ids, _Hold(True, anyio.Event())):
            yield

    @asynccontextmanager
    async def written(self, *ids: str) -> AsyncIterator[bool]:
        """For as long as it takes to look and to append. False, without waiting: a channel has one of them."""
        while (other := self._other(ids)) is not None:
            if other.is_carried:
                yield False
                return
            await other.over.wait()
        with self._held(ids, _Hold(False, anyio.Event())):
            yield True

    async def has_ended(self, id: str) -> bool:
        """A message to a model. Ask while it is held."""
        return any(step.state in _ENDS for step in await self.steps(id))

    async def steps(self, id: str) -> list[Receipt]:
        """All that is written of it."""
        return [_receipt(record.body) for record in await self._log.read(subject_of_message(id), limit=_MOST)]

    def _other(self, ids: Sequence[str]) -> _Hold | None:
        return next((self._holds[id] for id in ids if id in self._holds), None)

    @contextmanager
    def _held(self, ids: Sequence[str], hold: _Hold) -> Iterator[None]:
        self._holds.update(dict.fromkeys(ids, hold))
        try:
            yield
        finally:
            for id in ids:
                del self._holds[id]
            hold.over.set()
