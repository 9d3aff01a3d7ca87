"""Dead letters: messages that could not be delivered. Somebody looks, edits, resends or drops them."""

from typing import NamedTuple

import anyio
import msgspec
import structlog

from autoglm.channels.delivery import Delivery
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope
from autoglm.core.errors import NotFound
from autoglm.core.ports import KeyValue

MAX_LETTERS = 10_000
MAX_BYTES = 256 << 20
"""While there are more, the oldest are dropped: their messages and receipts stay in the log."""
_PREFIX = "dead-letter/"

log = structlog.get_logger()


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    message: Envelope
    code: str
    """The vendor's own."""
    failure: str
    """permanent | too_large | throttled | transient | auth: the last but two after the time to give up."""
    reason: str
    reason_zh: str
    attempts: int
    time: int
    """When it was given up, in milliseconds of the Unix epoch."""
    version: int = 1


class Amount(NamedTuple):
    letters: int
    size_bytes: int
    """On disk."""


class DeadLetters:
    """The letters are on disk; in memory are their ids and sizes."""

    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue
        self._sizes: dict[str, int] | None = None
        """Bytes by id, the oldest first; None until it is needed."""
        self._total_bytes = 0
        self._lock = anyio.Lock()

    async def put(self, envelope: Envelope, delivery: Delivery, attempts: int) -> None:
        letter = DeadLetter(
            message=envelope, code=delivery.code, failure=delivery.failure or "permanent", reason=delivery.reason.en,
            reason_zh=delivery.reason.zh, attempts=attempts, time=now_ms(),
        )  # fmt: skip
        value = msgspec.json.encode(letter)
        async with self._lock:
            sizes = await self._known()
            await self._keyvalue.put(_PREFIX + envelope.id, value)
            self._forget(envelope.id)
            sizes[envelope.id] = len(value)
            self._total_bytes += len(value)
            while len(sizes) > 1 and (len(sizes) > MAX_LETTERS or self._total_bytes > MAX_BYTES):
                oldest = next(iter(sizes))
                log.warning("dead_letter_dropped", envelope_id=oldest, note="there are too many; newer ones are kept")
                await self._keyvalue.delete(_PREFIX + oldest)
                self._forget(oldest)

    @property
    def known(self) -> Amount | None:
        """How much there is; None until something was asked of them."""
        return None if self._sizes is None else Amount(len(self._sizes), self._total_bytes)

    async def count(self) -> int:
        async with self._lock:
            return len(await self._known())

    async def newest(self, limit: int) -> list[DeadLetter]:
        """The newest first."""
        async with self._lock:
            ids = list(await self._known())[: -limit - 1 : -1]
        entries = [await self._keyvalue.get(_PREFIX + id) for id in ids]
        return [_letter(entry.value) for entry in entries if entry is not None]

    async def get(self, id: str) -> DeadLetter:
        """Raises NotFound."""
        entry = await self._keyvalue.get(_PREFIX + id)
        if entry is None:
            raise NotFound("dead letter", id[:128])
        return _letter(entry.value)

    async def drop(self, id: str) -> None:
        """Raises NotFound."""
        async with self._lock:
            await self._known()
            if not await self._keyvalue.delete(_PREFIX + id):
                raise NotFound("dead letter", id[:128])
            self._forget(id)

    async def _known(self) -> dict[str, int]:
        if self._sizes is None:
            entries = await self._keyvalue.list(_PREFIX)
            found = sorted((_letter(entry.value).time, entry.key, len(entry.value)) for entry in entries)
            self._sizes = {key.removeprefix(_PREFIX): size for _, key, size in found}
            self._total_bytes = sum(self._sizes.values())
        return self._sizes

    def _forget(self, id: str) -> None:
        assert self._sizes is not None, "they were read"
        self._total_bytes -= self._sizes.pop(id, 0)


def _letter(value: bytes) -> DeadLetter:
    return msgspec.json.decode(value, type=DeadLetter)
