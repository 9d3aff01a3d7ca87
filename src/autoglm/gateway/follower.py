"""Follows an address for one reader: messages to it, receipts for what it sent, the words of answers on their way."""

from collections import deque
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from autoglm.channels.deltas import Delta, Deltas
from autoglm.channels.mailbox import Mailbox
from autoglm.core.ports import Record
from autoglm.core.tasks import one_task_group

KEEP_ALIVE_S = 15.0
MAX_DELTAS = 1000
MAX_DELTA_CHARACTERS = 256 * 1024
Event = Record | Delta | None
"""None: nothing came for a while, so say that the connection lives."""
Deliver = Callable[[Event], Awaitable[None]]


class Follower:
    """`run` delivers until it is cancelled or `deliver` raises, one event at a time and at the reader's pace.

    Records wait in the log. Of deltas at most 1,000, and 256 Ki characters, wait for a slow reader; further ones are
    dropped, as the whole answer comes anyway. A delta never comes behind the answer that it is a part of.
    """

    __slots__ = (
        "_address",
        "_deliver",
        "_deltas",
        "_is_flushing",
        "_mailbox",
        "_size",
        "_tasks",
        "_waiting",
        "_writing",
    )

    def __init__(self, mailbox: Mailbox, deltas: Deltas, address: str, deliver: Deliver) -> None:
        self._mailbox = mailbox
        self._deltas = deltas
        self._address = address
        self._deliver = deliver
        self._waiting: deque[Delta] = deque()
        self._size = 0
        self._is_flushing = False
        self._writing = anyio.Lock()
        self._tasks: TaskGroup | None = None

    async def run(self, after: int) -> None:
        async with one_task_group() as self._tasks:
            with self._deltas.listening(self._address, self._listen):
                while True:
                    records = await self._mailbox.follow(self._address, after=after, timeout_s=KEEP_ALIVE_S)
                    # An answer is stored after its last delta was published, and the lock serves in the order of
                    # asking: the deltas go first.
                    async with self._writing:
                        for record in records:
                            await self._deliver(record)
                        if not records:
                            await self._deliver(None)
                    if records:
                        after = records[-1].seq

    def _listen(self, delta: Delta) -> None:
        if len(self._waiting) >= MAX_DELTAS or self._size + len(delta.text) > MAX_DELTA_CHARACTERS:
            return
        self._waiting.append(delta)
        self._size += len(delta.text)
        # A task of its own only while there are deltas: most who follow an address wait, and a task costs memory.
        if not self._is_flushing and self._tasks is not None:
            self._is_flushing = True
            self._tasks.start_soon(self._flush)

    async def _flush(self) -> None:
        async with self._writing:
            while self._waiting:
                delta = self._waiting.popleft()
                self._size -= len(delta.text)
                await self._deliver(delta)
            self._is_flushing = False
