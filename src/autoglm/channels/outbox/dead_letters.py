"""Dead letters: messages that could not be delivered. Somebody looks, edits, resends or drops them."""

import msgspec

from autoglm.channels.delivery import Delivery
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope
from autoglm.core.errors import NotFound
from autoglm.core.ports import KeyValue

_PREFIX = "dead-letter/"


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


class DeadLetters:
    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue

    async def put(self, envelope: Envelope, delivery: Delivery, attempts: int) -> None:
        letter = DeadLetter(
            message=envelope, code=delivery.code, failure=delivery.failure or "permanent", reason=delivery.reason.en,
            reason_zh=delivery.reason.zh, attempts=attempts, time=now_ms(),
        )  # fmt: skip
        await self._keyvalue.put(_PREFIX + envelope.id, msgspec.json.encode(letter))

    async def all(self) -> list[DeadLetter]:
        """The newest first."""
        entries = await self._keyvalue.list(_PREFIX)
        letters = [msgspec.json.decode(entry.value, type=DeadLetter) for entry in entries]
        return sorted(letters, key=lambda letter: (letter.time, letter.message.id), reverse=True)

    async def get(self, id: str) -> DeadLetter:
        """Raises NotFound."""
        entry = await self._keyvalue.get(_PREFIX + id)
        if entry is None:
            raise NotFound("dead letter", id[:128])
        return msgspec.json.decode(entry.value, type=DeadLetter)

    async def drop(self, id: str) -> None:
        """Raises NotFound."""
        if not await self._keyvalue.delete(_PREFIX + id):
            raise NotFound("dead letter", id[:128])
