"""A full disk: writers are told, readers read on, and it heals by itself when there is space again."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from autoglm.core.errors import StorageFull
from autoglm.core.ports import NewRecord
from autoglm.store import Store, StoreSettings, open_store

DISK_BYTES = 48 * 1024 * 1024


class Disk(Protocol):
    folder: Path

    def fill(self, store: Store) -> None: ...
    def free(self, store: Store) -> None: ...


class SmallDisk:
    """A real small file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, store: Store, *, leave_bytes: int = 0) -> None:
        size_bytes = shutil.disk_usage(self.folder).free - leave_bytes
        with (self.folder / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, size_bytes)

    def free(self, store: Store) -> None:
        (self.folder / "ballast").unlink()


class SmallDatabase:
    """SQLite's own limit, where no file system can be mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, store: Store) -> None:
        store._db.execute("PRAGMA max_page_count = 1")  # it takes the number of pages there are

    def free(self, store: Store) -> None:
        store._db.execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(tmp_path)]
    if shutil.which("mount") is None:
        pytest.skip("a small file system cannot be mounted here: there is no mount(8)")
    said = subprocess.run(mount, check=False, capture_output=True, text=True)
    if said.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {said.stderr.strip()}")
    try:
        yield SmallDisk(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.fixture(params=["mounted", "limited"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "limited":
        return SmallDatabase(tmp_path)
    mounted: SmallDisk = request.getfixturevalue("small_disk")
    return mounted


@pytest.fixture
async def store(disk: Disk) -> AsyncIterator[Store]:
    async with open_store(disk.folder, StoreSettings(tail_max_records=1)) as opened:
        yield opened


def new(id: str, size_bytes: int = 10_000) -> NewRecord:
    return NewRecord(id=id, digest=b"d", subjects=("all",), body=bytes(size_bytes))


async def append_until_full(store: Store) -> list[str]:
    """Returns the ids that were acknowledged."""
    kept: list[str] = []
    for n in range(5000):
        try:
            await store.log.append(new(f"m{n}"))
        except StorageFull:
            return kept
        kept.append(f"m{n}")
    raise AssertionError("the disk was not full after 50 MB")


async def test_a_full_disk_refuses_writes_and_heals(store: Store, disk: Disk) -> None:
    await store.keyvalue.put("a", b"1")
    disk.fill(store)
    kept = await append_until_full(store)
    refused = await asyncio.gather(*(store.log.append(new(f"b{n}")) for n in range(20)), return_exceptions=True)
    assert {type(result) for result in refused} == {StorageFull}
    assert [record.id for record in await store.log.read("all", limit=5000)] == kept
    entry = await store.keyvalue.get("a")
    assert entry is not None
    disk.free(store)
    appended = await asyncio.gather(*(store.log.append(new(f"b{n}")) for n in range(20)))
    assert all(result.is_new for result in appended)
    await store.check_writable()
    assert [record.id for record in await store.log.read("all", limit=5000)] == kept + [f"b{n}" for n in range(20)]


@pytest.mark.parametrize("leave_bytes", [0, 40_000])
async def test_readiness_tells_of_a_full_disk(small_disk: SmallDisk, leave_bytes: int) -> None:
    """Also of one on which a row fits, but no message."""
    async with open_store(small_disk.folder, StoreSettings()) as store:
        await store.check_writable()
        small_disk.fill(store, leave_bytes=leave_bytes)
        with pytest.raises(StorageFull):
            await store.check_writable()
        small_disk.free(store)
        await store.check_writable()


async def test_a_store_that_is_closed_full_opens_again_with_all_that_was_acknowledged(disk: Disk) -> None:
    async with open_store(disk.folder, StoreSettings()) as first:
        disk.fill(first)
        kept = await append_until_full(first)
    if isinstance(disk, SmallDisk):
        disk.free(first)
    async with open_store(disk.folder, StoreSettings()) as second:
        assert [record.id for record in await second.log.read("all", limit=5000)] == kept
        assert (await second.log.append(new("after"))).is_new


async def test_a_blob_that_does_not_fit_is_not_kept(small_disk: SmallDisk) -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(DISK_BYTES // 500_000):
            yield bytes(1_000_000)

    async with open_store(small_disk.folder, StoreSettings()) as store:
        with pytest.raises(StorageFull):
            await store.blobs.put(large())
        assert [path for path in (small_disk.folder / "blobs").rglob("*") if path.is_file()] == []
        assert (await store.log.append(new("there is room again"))).is_new


async def test_a_checkpoint_without_room_fails_no_append(small_disk: SmallDisk) -> None:
    """The first checkpoint, due at 16 MiB, cannot move the write-ahead log into the database: there are 4 MiB left."""
    async with open_store(small_disk.folder, StoreSettings()) as store:
        small_disk.fill(store, leave_bytes=20 * 1024 * 1024)
        kept = await append_until_full(store)
        assert (small_disk.folder / "hub.db-wal").stat().st_size > 16 * 1024 * 1024
        assert (small_disk.folder / "hub.db").stat().st_size < 8 * 1024 * 1024
        small_disk.free(store)
        assert (await store.log.append(new("after"))).is_new
        assert [record.id for record in await store.log.read("all", limit=5000)] == [*kept, "after"]
