"""What every Blobs does."""

import hashlib
from collections.abc import AsyncIterator

import anyio
import pytest

from autoglm.core.errors import NotFound, PayloadTooLarge, RangeNotSatisfiable
from autoglm.core.ports import Blobs
from contracts.conftest import OpenStores

PICTURE = bytes(range(256)) * 10_000  # 2.4 MiB


async def chunks_of(content: bytes, size_bytes: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size_bytes):
        yield content[start : start + size_bytes]


async def read(blobs: Blobs, sha256: str, *, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(sha256, start=start, end=end)])


@pytest.mark.parametrize("content", [b"", b"x", PICTURE])
async def test_a_blob_is_named_by_its_hash_and_read_back(blobs: Blobs, content: bytes) -> None:
    sha256 = await blobs.put(chunks_of(content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert await read(blobs, sha256) == content
    assert await blobs.size(sha256) == len(content)


async def test_chunks_have_at_most_256_kib(blobs: Blobs) -> None:
    sha256 = await blobs.put(chunks_of(PICTURE, len(PICTURE)))
    sizes = [len(chunk) async for chunk in blobs.read(sha256)]
    assert max(sizes) == 256 * 1024
    assert 0 not in sizes


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, None), (300_000, 900_000), (2_559_999, None), (7, 10_000_000), (9, 9), (9, 3)]
)
async def test_a_range_is_read(blobs: Blobs, start: int, end: int | None) -> None:
    sha256 = await blobs.put(chunks_of(PICTURE))
    assert await read(blobs, sha256, start=start, end=end) == PICTURE[start:end]


@pytest.mark.parametrize("start", [-1, 2_560_000, 3_000_000])
async def test_a_range_outside_of_the_blob_is_refused_at_the_first_step(blobs: Blobs, start: int) -> None:
    sha256 = await blobs.put(chunks_of(PICTURE))
    with pytest.raises(RangeNotSatisfiable) as caught:
        await anext(blobs.read(sha256, start=start))
    assert caught.value.facts["size_bytes"] == len(PICTURE)


async def test_the_same_content_again_is_the_same_blob(blobs: Blobs) -> None:
    first = await blobs.put(chunks_of(PICTURE))
    assert await blobs.put(chunks_of(PICTURE, 77_777)) == first
    assert await read(blobs, first) == PICTURE


@pytest.mark.parametrize("name", ["0" * 64, "", "abc", "../" * 21 + "x", "/etc/passwd", "A" * 64, "0" * 63 + "\n"])
async def test_what_is_no_blob_is_not_found(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound):
        await anext(blobs.read(name))
    assert await blobs.size(name) is None
    assert not await blobs.delete(name)


async def test_a_deleted_blob_is_gone(blobs: Blobs) -> None:
    sha256 = await blobs.put(chunks_of(b"x"))
    assert await blobs.delete(sha256)
    assert not await blobs.delete(sha256)
    assert await blobs.size(sha256) is None


async def test_a_blob_that_is_too_large_is_not_kept(blobs: Blobs) -> None:
    assert await blobs.put(chunks_of(PICTURE[:1000]), max_bytes=1000)
    with pytest.raises(PayloadTooLarge) as caught:
        await blobs.put(chunks_of(PICTURE), max_bytes=len(PICTURE) - 1)
    assert caught.value.facts["limit_bytes"] == len(PICTURE) - 1
    assert await blobs.size(hashlib.sha256(PICTURE).hexdigest()) is None


async def test_an_error_of_the_source_comes_out_as_it_is(blobs: Blobs) -> None:
    async def break_off() -> AsyncIterator[bytes]:
        yield PICTURE
        raise ConnectionResetError("the sender left")

    with pytest.raises(ConnectionResetError):
        await blobs.put(break_off())
    assert await blobs.size(hashlib.sha256(PICTURE).hexdigest()) is None


async def test_a_cancelled_put_keeps_nothing(blobs: Blobs) -> None:
    async def stall() -> AsyncIterator[bytes]:
        yield PICTURE
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(blobs.put, stall())
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert await blobs.size(hashlib.sha256(PICTURE).hexdigest()) is None


async def test_blobs_are_there_after_opening_again(open_stores: OpenStores) -> None:
    async with open_stores() as first:
        sha256 = await first.blobs.put(chunks_of(PICTURE))
    async with open_stores() as second:
        assert await read(second.blobs, sha256) == PICTURE
