"""Messages that expire: noted in the log when they are sent, and taken up again when their time is over.

The messages themselves are not read any more by then, and the hub may have been down at that moment. So each has a note
under a subject of its own, which does not expire.
"""

import heapq
from collections.abc import Awaitable, Callable

import anyio
import msgspec
import structlog

from autoglm.core.clock import now_ms
from autoglm.core.errors import QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import KeyValue, Log, NewRecord

_SUBJECT = "expiring"
_CURSOR = "mailbox/expiry"
_SWEEP_S = 1.0
_AGAIN_MS = 1000
_SETTLED_A_NOTE = 1000  # expiries between two notes of the cursor; a restart looks at as many again
_SEQ_BITS = 53
_SEQ = (1 << _SEQ_BITS) - 1

log = structlog.get_logger()


class Expiry(msgspec.Struct, frozen=True):
    """A note that a message expires."""

    message: str
    at: int
    """Milliseconds of the Unix epoch."""


def expiry_note(id: str, at_ms: int) -> NewRecord:
    """The note, to be appended together with the message."""
    # A repeat that names another time is a repeat of the message all the same: the first time counts.
    body = msgspec.json.encode(Expiry(id, at_ms))
    return NewRecord(id=f"expiry {id}", digest=b"expiry", subjects=(_SUBJECT,), body=body)


class Expiries:
    """Knows what expires when. `run` in a task."""

    def __init__(self, log: Log, keyvalue: KeyValue) -> None:
        self._log = log
        self._keyvalue = keyvalue
        self._waiting: list[int] = []
        """A heap of `at << 53 | seq of the note`: one number each, for there may be millions."""
        self._settled = 0

    def add(self, at_ms: int, note_seq: int) -> None:
        heapq.heappush(self._waiting, at_ms << _SEQ_BITS | note_seq)

    async def run(self, expire: Callable[[str], Awaitable[bool]]) -> None:
        """Call `expire` with the id of each message whose time is over, until cancelled; once more where it says False.
        A disk that is full or fails makes it late.
        """
        await self._load()
        while True:
            await anyio.sleep(_SWEEP_S)
            try:
                while self._waiting and self._waiting[0] >> _SEQ_BITS <= now_ms():
                    entry = heapq.heappop(self._waiting)
                    try:
                        await self._settle(entry & _SEQ, expire)
                    except BaseException:
                        heapq.heappush(self._waiting, entry)
                        raise
            except (StorageFull, QueueFull, StoreBroken) as error:
                log.warning("expiry_delayed", reason=str(error))

    async def _load(self) -> None:
        entry = await self._keyvalue.get(_CURSOR)
        after = int(entry.value) if entry else 0
        while records := await self._log.read(_SUBJECT, after=after, limit=1000):
            after = records[-1].seq
            for record in records:
                self.add(msgspec.json.decode(record.body, type=Expiry).at, record.seq)

    async def _settle(self, seq: int, expire: Callable[[str], Awaitable[bool]]) -> None:
        notes = await self._log.read(_SUBJECT, after=seq - 1, limit=1)
        if notes and notes[0].seq == seq:  # else retention removed it
            is_settled = await expire(msgspec.json.decode(notes[0].body, type=Expiry).message)
            if not is_settled:
                self.add(now_ms() + _AGAIN_MS, seq)
                return
        self._settled += 1
        if self._settled % _SETTLED_A_NOTE == 0:
            oldest = min((waiting & _SEQ for waiting in self._waiting), default=seq + 1)
            await self._keyvalue.put(_CURSOR, str(oldest - 1).encode())
