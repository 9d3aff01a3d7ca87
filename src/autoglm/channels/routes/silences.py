"""Silences: for a while, events like these go nowhere. Made by people, kept in the store."""

from typing import Annotated

import msgspec
from msgspec import Meta

from autoglm.channels.routes.event import Event, EventKind
from autoglm.channels.routes.matching import value_fits
from autoglm.core.clock import now_ms
from autoglm.core.envelope import AddressText, Label, Milliseconds
from autoglm.core.errors import InvalidField, NotFound
from autoglm.core.ids import uuid7
from autoglm.core.ports import KeyValue

_PREFIX = "silence/"
MAX_SILENCES = 1000


class NewSilence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    labels: Annotated[dict[Annotated[str, Meta(max_length=128)], Label], Meta(max_length=64)] = {}
    """As in a route's match."""
    kinds: Annotated[list[EventKind], Meta(max_length=3)] = []
    until: Milliseconds
    """Milliseconds of the Unix epoch."""
    comment: Annotated[str, Meta(max_length=1000)] = ""


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    labels: dict[str, str]
    kinds: tuple[EventKind, ...]
    until: int
    comment: str
    by: AddressText
    """Who made it."""
    version: int = 1

    def mutes(self, event: Event, now: int) -> bool:
        return (
            now < self.until
            and (not self.kinds or event.kind in self.kinds)
            and all(value_fits(wanted, event.labels.get(name, "")) for name, wanted in self.labels.items())
        )


class Silences:
    """Read from memory once they are loaded by `open`."""

    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue
        self._silences: dict[str, Silence] = {}

    async def open(self) -> None:
        for entry in await self._keyvalue.list(_PREFIX):
            silence = msgspec.json.decode(entry.value, type=Silence)
            self._silences[silence.id] = silence

    def all(self) -> list[Silence]:
        """Those in force and to come, by their end."""
        now = now_ms()
        return sorted((one for one in self._silences.values() if one.until > now), key=lambda one: (one.until, one.id))

    async def add(self, new: NewSilence, *, by: str) -> Silence:
        """Raises InvalidField: it must end in the future, and say what it is about."""
        if new.until <= now_ms():
            raise InvalidField("until", f"is in the past; this hub's clock says {now_ms()}")
        if not new.labels and not new.kinds:
            raise InvalidField("labels", "say which events: a silence of everything would hide everything")
        for id in [one.id for one in self._silences.values() if one.until <= now_ms()]:
            await self._forget(id)
        if len(self._silences) >= MAX_SILENCES:
            raise InvalidField("labels", f"there are {MAX_SILENCES} silences already; end one first")
        silence = Silence(
            id=uuid7(), labels=new.labels, kinds=tuple(new.kinds), until=new.until, comment=new.comment, by=by
        )  # fmt: skip
        await self._keyvalue.put(_PREFIX + silence.id, msgspec.json.encode(silence))
        self._silences[silence.id] = silence
        return silence

    async def end(self, id: str) -> None:
        """Raises NotFound."""
        if id not in self._silences:
            raise NotFound("silence", id[:128])
        await self._forget(id)

    async def _forget(self, id: str) -> None:
        await self._keyvalue.delete(_PREFIX + id)
        self._silences.pop(id, None)
