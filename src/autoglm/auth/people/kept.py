"""Entries of one kind that are read from memory and kept in the store."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from autoglm.core.ports import KeyValue

Entry = TypeVar("Entry", bound=msgspec.Struct)


class Kept(Generic[Entry]):
    """`open` before use. What is written is on disk on return; what is dropped counts no more from the first moment on.

    An entry whose end could not be written (a full disk) is void, still found by `everything`, and dropped again by
    `finish`, lest it be back after a restart.
    """

    def __init__(self, keyvalue: KeyValue, prefix: str, kind: type[Entry]) -> None:
        self._keyvalue, self._prefix, self._kind = keyvalue, prefix, kind
        self._by_digest: dict[str, Entry] = {}
        self._void: set[str] = set()

    async def open(self) -> None:
        for entry in await self._keyvalue.list(self._prefix):
            self._by_digest[entry.key.removeprefix(self._prefix)] = msgspec.json.decode(entry.value, type=self._kind)

    def __len__(self) -> int:
        return len(self._by_digest)

    def __contains__(self, digest: str) -> bool:
        return self.get(digest) is not None

    def get(self, digest: str) -> Entry | None:
        return None if digest in self._void else self._by_digest.get(digest)

    def items(self) -> Iterator[tuple[str, Entry]]:
        """May be changed meanwhile."""
        return ((digest, entry) for digest, entry in self.everything() if digest not in self._void)

    def everything(self) -> list[tuple[str, Entry]]:
        """Also what is void, and still on the disk."""
        return list(self._by_digest.items())

    async def put(self, digest: str, entry: Entry) -> None:
        """In memory at once: whoever asks meanwhile sees the newer one. What could not be written is as it was."""
        before = self._by_digest.get(digest)
        self._by_digest[digest] = entry
        try:
            await self._keyvalue.put(self._prefix + digest, msgspec.json.encode(entry))
        except BaseException:
            if before is None:
                self._by_digest.pop(digest, None)
            elif digest in self._by_digest:
                self._by_digest[digest] = before
            raise

    async def finish(self) -> None:
        """Raises StorageFull."""
        for digest in tuple(self._void):
            await self.drop(digest)

    async def drop(self, digest: str) -> bool:
        """True for the one of several at once who dropped it. Raises StorageFull: then it is void, and not gone."""
        if digest not in self._by_digest:
            return False
        self._void.add(digest)
        was_there = await self._keyvalue.delete(self._prefix + digest)
        self._by_digest.pop(digest, None)
        self._void.discard(digest)
        return was_there
