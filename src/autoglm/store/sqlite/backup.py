"""Makes a backup of a data folder while a hub, this one or another process, goes on working in it."""

import hashlib
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO

import anyio.to_thread
import msgspec

from autoglm.core.clock import now_ms
from autoglm.core.errors import NotFound
from autoglm.store.sqlite.archive import (
    EXTRA_PREFIX,
    FORMAT,
    MANIFEST_NAME,
    Manifest,
    Member,
    Meter,
    Progress,
    check_extra_name,
)
from autoglm.store.sqlite.blobs import blob_name, list_blobs
from autoglm.store.sqlite.connection import open_reader, store_error
from autoglm.store.sqlite.folder import BLOBS_NAME, DATABASE_NAME, folder_error, sync_folder
from autoglm.store.sqlite.schema import schema_version
from autoglm.version import __version__

_STEP_PAGES = 1024


class BackupSummary(msgspec.Struct, frozen=True):
    path: Path
    size_bytes: int
    blobs: int
    extra_files: tuple[str, ...]
    """Those that were there."""
    damaged_blobs: tuple[str, ...]
    """Blobs whose bytes no longer have the sha256 of their name. They are in the backup as they are."""


async def backup_folder(
    data_dir: Path, target: Path, *, extra_files: Sequence[str] = (), progress: Progress | None = None
) -> BackupSummary:
    """Write all that the store in `data_dir` holds at this moment into the one file `target`.

    No lock is needed: a read transaction in WAL mode sees one moment while writers go on (their WAL grows meanwhile).
    `extra_files` are relative to `data_dir`; those that are missing are left out. Until it is complete the backup has
    another name beside `target`, whose folder must exist, and takes twice the size of the database there. A file that
    is there is replaced.
    Raises NotFound when there is no store, StorageFull, StoreBroken, ValueError for an extra file outside the folder.
    """
    return await anyio.to_thread.run_sync(partial(_backup, data_dir, target, tuple(extra_files), progress))


def _backup(data_dir: Path, target: Path, extra_files: tuple[str, ...], progress: Progress | None) -> BackupSummary:
    if unsafe := [name for name in extra_files if not check_extra_name(name)]:
        raise ValueError(f"extra files must lie below the data folder, beside the store's own: {unsafe}")
    if not (data_dir / DATABASE_NAME).exists():
        raise NotFound("store", str(data_dir))
    try:
        # Mode 0700, because the database is in here for a while.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
            return _write(data_dir, target, Path(work), extra_files, progress)
    except OSError as error:
        raise folder_error(error, target.parent) from error


def _write(
    data_dir: Path, target: Path, work: Path, extra_files: tuple[str, ...], progress: Progress | None
) -> BackupSummary:
    snapshot = work / DATABASE_NAME
    blobs_dir = data_dir / BLOBS_NAME
    meter = Meter(progress, 0)
    version = _snapshot(data_dir / DATABASE_NAME, snapshot, meter, _size_bytes(blobs_dir))
    # Listed after the snapshot, so that each blob it speaks of is there.
    blobs = list_blobs(blobs_dir)
    partial_target = work / "backup.tar"
    with tarfile.open(partial_target, "x:", format=tarfile.PAX_FORMAT) as tar:
        archive = _ArchiveWriter(tar, meter)
        archive.add(DATABASE_NAME, snapshot)
        snapshot.unlink()
        added = [sha256 for sha256 in blobs if archive.add_blob(blobs_dir, sha256)]
        found = tuple(name for name in extra_files if archive.add(EXTRA_PREFIX + name, data_dir / name))
        archive.close(version)
    partial_target.chmod(0o600)
    descriptor = os.open(partial_target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial_target.rename(target)
    sync_folder(target.parent)
    return BackupSummary(target, target.stat().st_size, len(added), found, tuple(archive.damaged))


def _size_bytes(blobs_dir: Path) -> int:
    size_bytes = 0
    for blob in blobs_dir.glob("??/*"):
        with suppress(FileNotFoundError):  # deleted meanwhile
            size_bytes += blob.stat().st_size
    return size_bytes


def _snapshot(source_path: Path, snapshot: Path, meter: Meter, further_bytes: int) -> int:
    """Copy the database as it is at this moment. Returns the version of its schema."""
    source = open_reader(source_path)
    try:
        copy = sqlite3.connect(snapshot, isolation_level=None)
        try:
            # The copy is made in steps. Within a transaction all steps see one snapshot; without it each write of
            # the hub would make the copy start anew.
            source.execute("BEGIN")
            version = schema_version(source)
            page_bytes = source.execute("PRAGMA page_size").fetchone()[0]
            copied = 0

            def count(status: int, remaining: int, total: int) -> None:
                nonlocal copied
                meter.total_bytes = 2 * total * page_bytes + further_bytes  # the copy, then the archive
                meter.add((total - remaining - copied) * page_bytes)
                copied = total - remaining

            source.backup(copy, pages=_STEP_PAGES, progress=count)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
            copy.execute("UPDATE meta SET value = 1 WHERE name = 'clean_shutdown'")
        except sqlite3.Error as error:
            is_damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
            raise store_error(error, source_path if is_damaged else snapshot) from error
        finally:
            copy.close()
    finally:
        source.close()
    return version


class _ArchiveWriter:
    def __init__(self, tar: tarfile.TarFile, meter: Meter) -> None:
        self._tar, self._meter = tar, meter
        self._members: list[Member] = []
        self.damaged: list[str] = []

    def add(self, name: str, path: Path) -> bool:
        """False when there is no such file (any more)."""
        try:
            content = path.open("rb")
        except FileNotFoundError:
            return False
        with content:
            size_bytes = os.fstat(content.fileno()).st_size
            reader = _HashingReader(content, size_bytes, self._meter)
            self._tar.addfile(_info(name, size_bytes), reader)  # type: ignore[arg-type]  # read() is all it uses
        self._members.append(Member(name, size_bytes, reader.hash.hexdigest()))
        return True

    def add_blob(self, blobs_dir: Path, sha256: str) -> bool:
        name = blob_name(sha256)
        is_there = self.add(f"{BLOBS_NAME}/{name}", blobs_dir / name)
        if is_there and self._members[-1].sha256 != sha256:
            self.damaged.append(sha256)
        return is_there

    def close(self, version: int) -> None:
        manifest = msgspec.json.encode(
            Manifest(
                format=FORMAT,
                hub_version=__version__,
                schema_version=version,
                created_at_ms=now_ms(),
                members=tuple(self._members),
            )
        )
        self._tar.addfile(_info(MANIFEST_NAME, len(manifest)), BytesIO(manifest))


class _HashingReader:
    """A file that is hashed while tarfile reads it; ends at the size its header was given."""

    def __init__(self, content: IO[bytes], size_bytes: int, meter: Meter) -> None:
        self._content, self._left, self._meter = content, size_bytes, meter
        self.hash = hashlib.sha256()

    def read(self, size_bytes: int) -> bytes:
        chunk = self._content.read(min(size_bytes, self._left))
        self._left -= len(chunk)
        self.hash.update(chunk)
        self._meter.add(len(chunk))
        return chunk


def _info(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size_bytes, 0o600, now_ms() // 1000
    return info
