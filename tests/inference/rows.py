"""A KeyValue in memory that fails or waits when the test says so."""

from collections.abc import AsyncIterator

import anyio

from autoglm.core.errors import HubError
from autoglm.core.ports import Change, Entry


class Rows:
    """Implements `core.ports.KeyValue`, but for watching."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.puts = 0
        self.trouble: HubError | None = None
        self.gate: anyio.Event | None = None
        """Writes wait for it."""

    async def get(self, key: str) -> Entry | None:
        return Entry(key=key, value=self.rows[key], revision=1) if key in self.rows else None

    async def put(self, key: str, value: bytes, *, expected_revision: int | None = None) -> int:
        self.puts += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.rows[key] = value
        return self.puts

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        return self.rows.pop(key, None) is not None

    async def list(self, prefix: str = "") -> list[Entry]:
        return [Entry(key=key, value=value, revision=1) for key, value in self.rows.items() if key.startswith(prefix)]

    def watch(self, prefix: str = "", *, after: int = 0) -> AsyncIterator[Change]:
        raise NotImplementedError
