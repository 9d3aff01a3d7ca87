"""The data folder: one hub at a time, and private."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from autoglm.core.errors import StoreBroken
from autoglm.core.ports import NewRecord
from autoglm.store import StoreSettings, open_store

HOLDER = """
import sys
from pathlib import Path
from autoglm.store.sqlite.folder import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


async def one_chunk() -> AsyncIterator[bytes]:
    yield b"x"


async def open_and_close(folder: Path) -> None:
    async with open_store(folder, StoreSettings()):
        pass


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has the folder open."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


async def test_a_folder_in_use_is_refused_with_the_process_that_holds_it(
    tmp_path: Path, holder: "subprocess.Popen[bytes]"
) -> None:
    with pytest.raises(StoreBroken, match=f"process {holder.pid} has it open"):
        await open_and_close(tmp_path)
    holder.kill()
    await asyncio.to_thread(holder.wait)
    await open_and_close(tmp_path)


async def test_a_second_open_in_the_same_process_is_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()):
        with pytest.raises(StoreBroken, match=f"process {os.getpid()} has it open"):
            await open_and_close(tmp_path)
    await open_and_close(tmp_path)


async def test_nobody_else_may_read_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "site" / "data"
    folder.mkdir(parents=True, mode=0o755)
    (folder / "hub.db").touch(mode=0o644)
    async with open_store(folder, StoreSettings()) as store:
        await store.log.append(NewRecord(id="a", digest=b"", subjects=("x",), body=b""))
        await store.blobs.put(one_chunk())
        modes = {path.relative_to(folder).parts[0]: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert folder.stat().st_mode & 0o777 == 0o700
        assert set(modes) == {"hub.db", "hub.db-wal", "hub.db-shm", "hub.lock", "blobs"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_what_a_crash_left_of_an_upload_is_removed(tmp_path: Path) -> None:
    await open_and_close(tmp_path)
    left_over = tmp_path / "blobs" / "partial-abc"
    left_over.touch()
    await open_and_close(tmp_path)
    assert not left_over.exists()


@pytest.mark.parametrize("content", [b"this is no database" * 400, b"\0" * 5000])
async def test_a_damaged_database_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hub.db").write_bytes(content)
    with pytest.raises(StoreBroken, match=r"damaged .*autoglm restore"):
        await open_and_close(tmp_path)


async def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreBroken, match=r"(File exists|Not a directory); check the path"):
        await open_and_close(tmp_path / "file")


async def test_a_store_that_fails_to_open_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"this is no database" * 400)
    with pytest.raises(StoreBroken):
        await open_and_close(tmp_path)
    (tmp_path / "hub.db").unlink()
    await asyncio.wait_for(open_and_close(tmp_path), 10)


async def test_a_blob_that_cannot_be_looked_at_is_an_error_of_the_hubs_own(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        (tmp_path / "blobs" / "aa").write_bytes(b"no folder")
        with pytest.raises(StoreBroken, match="Not a directory"):
            await store.blobs.size("a" * 64)
