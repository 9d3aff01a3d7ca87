"""The data folder: where things lie in it, who may read it, and the lock that keeps a second hub out."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoglm.core.errors import StorageFull, StoreBroken

DATABASE_NAME = "hub.db"
DATABASE_SIDE_FILES = ("hub.db-wal", "hub.db-shm")
BLOBS_NAME = "blobs"
LOCK_NAME = "hub.lock"
RESTORE_MARKER_NAME = "restore.unfinished"
"""Lies in the folder while a restore moves files into place."""

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_PROBE_BYTES = 64 * 1024


@contextmanager
def locked_folder(data_dir: Path) -> Iterator[None]:
    """Create the folder where needed (mode 0700) and hold its exclusive lock.

    Raises StoreBroken, naming the process that holds it, when it is in use. The kernel drops the lock when the
    process ends, however it ends, so a lock file that was left behind is harmless.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        lock = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise folder_error(error, data_dir) from error
    try:
        try:
            _lock_exclusively(lock)
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            raise StoreBroken(
                str(data_dir), f"process {holder} has it open; stop that process, or use another folder (--data)"
            ) from error
        _write_pid(lock)
        yield
    finally:
        os.close(lock)


def _lock_exclusively(lock: int) -> None:
    """A command that looks for a running hub holds a shared lock for an instant: try for half a second."""
    for tries_left in range(10, -1, -1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if tries_left == 0:
                raise
            time.sleep(0.05)


def _write_pid(lock: int) -> None:
    """Best effort: on a full disk the lock still holds, only its owner cannot be named."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise


def create_private(path: Path) -> None:
    """Make sure that the file exists and that only its owner may read it.

    SQLite gives the -wal and -shm files the mode of the database.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive power loss (fsync(2): the entry needs one of its own)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has_space(folder: Path) -> bool:
    """Whether 64 KiB can be written; only a real write knows about quotas."""
    probe = folder / f".space-probe-{os.getpid()}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if os.write(descriptor, bytes(_PROBE_BYTES)) < _PROBE_BYTES:
                return False
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno not in NO_SPACE
    finally:
        probe.unlink(missing_ok=True)
    return True


def folder_error(error: OSError, path: Path) -> StorageFull | StoreBroken:
    """What an OSError under `path` means to a caller."""
    if error.errno in NO_SPACE:
        return StorageFull(str(path))
    return StoreBroken(str(path), f"{error.strerror or error}; check the path and who may write to it")
