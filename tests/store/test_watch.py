"""Watchers that fall behind what is kept in memory go on from disk."""

import asyncio
from pathlib import Path

import pytest

from autoglm.store import StoreSettings, open_store
from autoglm.store.sqlite import keyvalue


@pytest.mark.parametrize("bound", ["_RECENT_CHANGES", "_RECENT_BYTES"])
async def test_watchers_keep_up_whatever_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(keyvalue, bound, 3)
    async with open_store(tmp_path, StoreSettings()) as store:

        async def write(name: int) -> None:
            for n in range(100):
                await store.keyvalue.put(f"k{name}", b"%d" % n)

        async def follow(prefix: str, keys: set[str]) -> None:
            newest: dict[str, bytes | None] = {}
            revision = 0
            async for change in store.keyvalue.watch(prefix):
                assert change.revision > revision
                revision = change.revision
                newest[change.key] = change.value
                if newest == dict.fromkeys(keys, b"99"):
                    return

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(follow("", {f"k{n}" for n in range(8)}))
            tasks.create_task(follow("k3", {"k3"}))
            for name in range(8):
                tasks.create_task(write(name))
        assert len(store._recent._changes) <= 3
