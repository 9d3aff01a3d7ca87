"""Which browsers have a message already, where not all have it: on disk, so that no attempt reaches them again."""

import hashlib

import msgspec

from autoglm.channels.delivery import Delivery
from autoglm.core.ports import KeyValue

_PREFIX = "push/progress/"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Of one push of a message."""

    begun: int
    """Milliseconds of the Unix epoch."""
    ends: dict[str, Delivery] = {}
    """By the id of a subscription: those that are left alone from then on."""
    rounds: int = 0
    """Attempts after which some browser had it, and not all."""
    version: int = 1


class ProgressTable:
    """Of one channel. All methods raise StorageFull, QueueFull, StoreBroken."""

    def __init__(self, keyvalue: KeyValue, channel: str) -> None:
        self._keyvalue = keyvalue
        self._prefix = f"{_PREFIX}{channel}/"

    async def get(self, key: str) -> Progress | None:
        """key: as `Channel.send` has it."""
        entry = await self._keyvalue.get(self._name(key))
        return None if entry is None else msgspec.json.decode(entry.value, type=Progress)

    async def put(self, key: str, progress: Progress) -> None:
        await self._keyvalue.put(self._name(key), msgspec.json.encode(progress))

    async def drop(self, key: str) -> None:
        await self._keyvalue.delete(self._name(key))

    async def drop_begun_before(self, time_ms: int) -> int:
        """Of messages that were given up: nobody asks for them any more. Returns how many."""
        old = [
            entry.key
            for entry in await self._keyvalue.list(self._prefix)
            if msgspec.json.decode(entry.value, type=Progress).begun < time_ms
        ]
        for key in old:
            await self._keyvalue.delete(key)
        return len(old)

    def _name(self, key: str) -> str:
        return self._prefix + hashlib.sha256(key.encode()).hexdigest()[:40]
