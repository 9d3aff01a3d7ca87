"""What a channel must know after a restart as well: a bounded table in memory, and on disk one small value an entry."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import anyio
import msgspec
import structlog

from autoglm.core.errors import HubError
from autoglm.core.ports import Entry, KeyValue

_SAVE_S = 5.0
"""A disk that takes longer does not hold up whoever has sent something."""

Value = TypeVar("Value", bound=msgspec.Struct)
log = structlog.get_logger()


class Kept(Generic[Value]):
    """The newest values by name. To put one writes that one, however many there are.

    `put` and `drop` do not fail: what the disk does not take is warned of, and holds until the hub ends.
    """

    def __init__(self, keyvalue: KeyValue, prefix: str, kind: type[Value], *, most: int) -> None:
        """prefix: of this table's keys, which no other has. most: of more, those that were put first are forgotten."""
        self._keyvalue = keyvalue
        self._prefix = prefix
        self._kind = kind
        self._most = most
        self._values: dict[str, Value] = {}
        """By key, the newest last."""
        self._loading = anyio.Lock()
        self._is_loaded = False

    async def get(self, name: str) -> Value | None:
        """Raises StoreBroken, StorageFull where what is on disk cannot be read yet."""
        await self._load()
        return self._values.get(self._key(name))

    def __contains__(self, name: str) -> bool:
        """Of what is in memory so far."""
        return self._key(name) in self._values

    async def all(self) -> list[Value]:
        """Those that were put first come first. Raises as `get` does."""
        await self._load()
        return list(self._values.values())

    async def put(self, name: str, value: Value) -> None:
        """It is on disk when this returns, unless that was warned of."""
        key = self._key(name)
        self._values.pop(key, None)
        self._values[key] = value
        gone = []
        while len(self._values) > self._most:
            gone.append(next(iter(self._values)))
            del self._values[gone[-1]]
        with self._borne():
            await self._load()
            if self._values.get(key) is value:  # else it was dropped meanwhile
                await self._keyvalue.put(key, msgspec.json.encode(value))
            for old in gone:
                if old not in self._values:  # else it was put again meanwhile
                    await self._keyvalue.delete(old)

    async def drop(self, name: str) -> None:
        key = self._key(name)
        with self._borne():
            try:
                await self._load()
            finally:
                known = self._values.pop(key, None)
            if known is not None:
                await self._keyvalue.delete(key)

    async def _load(self) -> None:
        async with self._loading:
            if self._is_loaded:
                return
            entries = sorted(await self._keyvalue.list(self._prefix), key=lambda entry: entry.revision)
            found = {entry.key: value for entry in entries if (value := self._decoded(entry)) is not None}
            older = {key: value for key, value in found.items() if key not in self._values}
            self._values = older | self._values
            self._is_loaded = True

    def _decoded(self, entry: Entry) -> Value | None:
        try:
            return msgspec.json.decode(entry.value, type=self._kind)
        except msgspec.DecodeError as error:  # one that cannot be read must not stop the others
            log.warning("channel_note_unreadable", key=entry.key, reason=str(error))
            return None

    @contextmanager
    def _borne(self) -> Iterator[None]:
        """Also where the caller is cut off: what was sent, was sent."""
        try:
            with anyio.fail_after(_SAVE_S, shield=True):
                yield
        except (HubError, TimeoutError) as error:
            log.warning("channel_note_not_kept", table=self._prefix, reason=str(error) or "the disk takes too long")

    def _key(self, name: str) -> str:
        return self._prefix + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:40]
