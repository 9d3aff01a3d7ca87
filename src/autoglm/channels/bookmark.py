"""Bookmarks: how far a reader of the log has come, kept on disk beside it."""

from collections.abc import Callable

import anyio
import msgspec
import structlog

from autoglm.core.errors import QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import KeyValue

_SAVE_S = 5.0

log = structlog.get_logger()


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    upto: int = 0
    """Everything up to this number is settled, but for:"""
    open: tuple[int, ...] = ()
    version: int = 1


class Bookmark:
    """Saved now and then: what is beyond it is looked at again after a restart, which must do nothing twice."""

    def __init__(self, keyvalue: KeyValue, key: str, cursor: Callable[[], Cursor]) -> None:
        """cursor: how far the reader has come now."""
        self._keyvalue = keyvalue
        self._key = key
        self._cursor = cursor
        self._saved: Cursor | None = None

    async def load(self) -> Cursor:
        entry = await self._keyvalue.get(self._key)
        return Cursor() if entry is None else msgspec.json.decode(entry.value, type=Cursor)

    async def save(self) -> None:
        """Left for the next time when the disk takes nothing."""
        cursor = self._cursor()
        if cursor == self._saved:
            return
        try:
            await self._keyvalue.put(self._key, msgspec.json.encode(cursor))
            self._saved = cursor
        except (StorageFull, QueueFull, StoreBroken) as error:
            log.warning("cursor_delayed", key=self._key, reason=str(error))

    async def save_often(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(_SAVE_S)
            await self.save()
