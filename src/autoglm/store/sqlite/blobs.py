"""Blobs as files: `blobs/aa/aabb...`, named by their sha256, complete as soon as they have their name."""

import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread

from autoglm.core.errors import NotFound, PayloadTooLarge, RangeNotSatisfiable
from autoglm.store.sqlite.folder import folder_error, sync_folder

_CHUNK_BYTES = 256 * 1024
_WRITE_BYTES = 1024 * 1024
_PARTIAL_PREFIX = "partial-"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_THREADS = 8


class FileBlobs:
    """Implements `core.ports.Blobs`. `open` creates the folder and removes what a crash left half written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._limiter = anyio.CapacityLimiter(_THREADS)

    def open(self) -> None:
        """Blocks. Raises StorageFull, StoreBroken."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for left_over in self._folder.glob(f"{_PARTIAL_PREFIX}*"):
                left_over.unlink()
        except OSError as error:
            raise folder_error(error, self._folder) from error

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int | None = None) -> str:
        upload = _Upload(self._folder)
        waiting: list[bytes] = []
        waiting_bytes = size_bytes = 0
        try:
            async for chunk in chunks:
                size_bytes += len(chunk)
                if max_bytes is not None and size_bytes > max_bytes:
                    raise PayloadTooLarge(max_bytes)
                waiting.append(chunk)
                waiting_bytes += len(chunk)
                if waiting_bytes >= _WRITE_BYTES:  # fewer hops into a thread
                    await anyio.to_thread.run_sync(upload.write, waiting, limiter=self._limiter)
                    waiting, waiting_bytes = [], 0
            return await anyio.to_thread.run_sync(upload.finish, waiting, limiter=self._limiter)
        finally:
            upload.discard()

    async def read(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        path = self._path(sha256)
        try:
            descriptor = await anyio.to_thread.run_sync(os.open, path, os.O_RDONLY, limiter=self._limiter)
        except FileNotFoundError as error:
            raise NotFound("blob", sha256) from error
        except OSError as error:
            raise folder_error(error, path) from error
        try:
            size_bytes = os.fstat(descriptor).st_size
            if start < 0 or (start >= size_bytes and start > 0):
                raise RangeNotSatisfiable(start, size_bytes)
            position, stop = start, size_bytes if end is None else min(end, size_bytes)
            while position < stop:
                wanted = min(_CHUNK_BYTES, stop - position)
                try:
                    chunk = await anyio.to_thread.run_sync(
                        os.pread, descriptor, wanted, position, limiter=self._limiter
                    )
                except OSError as error:
                    raise folder_error(error, path) from error
                position += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    async def size(self, sha256: str) -> int | None:
        if _SHA256.fullmatch(sha256) is None:
            return None
        try:
            return (await anyio.to_thread.run_sync(os.stat, self._path(sha256), limiter=self._limiter)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise folder_error(error, self._path(sha256)) from error

    async def delete(self, sha256: str) -> bool:
        if _SHA256.fullmatch(sha256) is None:
            return False
        try:
            await anyio.to_thread.run_sync(os.unlink, self._path(sha256), limiter=self._limiter)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise folder_error(error, self._path(sha256)) from error
        return True

    def _path(self, sha256: str) -> Path:
        """Only 64 hexadecimal digits lead to a path, so no name leads out of the folder."""
        if _SHA256.fullmatch(sha256) is None:
            raise NotFound("blob", sha256[:80])
        return self._folder / blob_name(sha256)


class _Upload:
    """A file that is being written. Its methods but `discard` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hash = hashlib.sha256()
        self._descriptor: int | None = None
        self._path: Path | None = None

    def write(self, chunks: list[bytes]) -> None:
        try:
            if self._descriptor is None:
                self._descriptor, name = tempfile.mkstemp(prefix=_PARTIAL_PREFIX, dir=self._folder)  # mode 0600
                self._path = Path(name)
            for chunk in chunks:
                self._hash.update(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise folder_error(error, self._folder) from error

    def finish(self, chunks: list[bytes]) -> str:
        """Sync, then rename. A blob that is there already is replaced by the same bytes, which also mends it."""
        self.write(chunks)
        assert self._descriptor is not None
        assert self._path is not None
        sha256 = self._hash.hexdigest()
        target = self._folder / blob_name(sha256)
        try:
            os.fsync(self._descriptor)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            self._path.rename(target)
            self._path = None
            sync_folder(target.parent)
            sync_folder(self._folder)  # another upload may have made the parent and not synced it yet
        except OSError as error:
            raise folder_error(error, self._folder) from error
        return sha256

    def discard(self) -> None:
        """Close, and remove the file unless it has its name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def blob_name(sha256: str) -> str:
    """Where a blob lies below the folder."""
    return f"{sha256[:2]}/{sha256}"


def list_blobs(folder: Path) -> list[str]:
    """The sha256 of every blob in the folder, in order. Blocks."""
    return sorted(path.name for path in folder.glob("??/*") if _SHA256.fullmatch(path.name))
