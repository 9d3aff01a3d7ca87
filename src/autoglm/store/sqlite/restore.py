"""Brings a backup back into a data folder, after all of it was checked."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import anyio.to_thread
import msgspec

from autoglm.core.clock import now_ms
from autoglm.core.errors import BackupBroken, StoreBroken
from autoglm.store.sqlite.archive import (
    COPY_BYTES,
    MANIFEST_NAME,
    Manifest,
    Member,
    Meter,
    Progress,
    open_archive,
    path_of_member,
    read_manifest,
)
from autoglm.store.sqlite.folder import (
    BLOBS_NAME,
    DATABASE_NAME,
    DATABASE_SIDE_FILES,
    LOCK_NAME,
    RESTORE_MARKER_NAME,
    folder_error,
    locked_folder,
    sync_folder,
)
from autoglm.store.sqlite.schema import SCHEMA_VERSION

_WORK_PREFIX = ".restore-"


class RestoreSummary(msgspec.Struct, frozen=True):
    manifest: Manifest
    replaced: Path | None
    """Where the files that were there before lie now; None when there were none."""


async def verify(archive: Path, *, progress: Progress | None = None) -> Manifest:
    """Read all of a backup and compare each byte with the manifest. Raises BackupBroken."""
    return await anyio.to_thread.run_sync(partial(_verify, archive, Meter(progress, _size_bytes(archive))))


async def restore(
    archive: Path, data_dir: Path, *, force: bool = False, progress: Progress | None = None
) -> RestoreSummary:
    """Put the backup into `data_dir`, which no hub may have open.

    Nothing in the folder changes before every member is checked and lies, synced, in a folder of its own in there
    (so a folder that is a mount point works too). Then the files move into place, the database last; a hub refuses
    to start on a folder in which this was cut short. With `force` the folder may hold things: each file that the
    backup brings anew, and all blobs, move into `replaced-<time>`, the rest stays.
    Raises BackupBroken, StoreBroken, StorageFull.
    """
    meter = Meter(progress, 2 * _size_bytes(archive))
    return await anyio.to_thread.run_sync(partial(_restore, archive, data_dir, force, meter))


def _size_bytes(archive: Path) -> int:
    try:
        return archive.stat().st_size
    except OSError as error:
        raise BackupBroken(str(archive), f"it cannot be read ({error.strerror})") from error


def _verify(archive: Path, meter: Meter) -> Manifest:
    with open_archive(archive) as members:
        found: list[Member] = []
        for info, content in members:
            if info.name == MANIFEST_NAME:
                manifest = read_manifest(content, archive)
                break
            found.append(Member(info.name, info.size, _copy(content, None, meter)))
        else:
            raise BackupBroken(str(archive), "its end is missing; copy it again from where it was made")
        if next(members, None) is not None:
            raise BackupBroken(str(archive), "something was added behind its manifest")
    if tuple(found) != manifest.members:
        wanted = {member.name: member for member in manifest.members}
        wrong = [m.name for m in found if wanted.pop(m.name, None) != m] + list(wanted)
        raise BackupBroken(
            str(archive), f"these members are not as the manifest says: {', '.join(wrong[:5])}; use another copy of it"
        )
    if DATABASE_NAME not in {member.name for member in found}:
        raise BackupBroken(str(archive), f"it has no {DATABASE_NAME}")
    if manifest.schema_version > SCHEMA_VERSION:
        raise BackupBroken(
            str(archive),
            f"its schema has version {manifest.schema_version}, and this autoglm-hub knows versions up to "
            f"{SCHEMA_VERSION}; install autoglm-hub {manifest.hub_version}",
        )
    return manifest


def _restore(archive: Path, data_dir: Path, force: bool, meter: Meter) -> RestoreSummary:
    manifest = _verify(archive, meter)
    with locked_folder(data_dir):
        if not force and (names := sorted(entry.name for entry in data_dir.iterdir() if entry.name != LOCK_NAME)):
            raise StoreBroken(
                str(data_dir),
                f"it is not empty ({', '.join(names[:5])}); give another folder, or use force (--force), "
                "which moves aside what the backup replaces",
            )
        try:
            for left_over in data_dir.glob(f"{_WORK_PREFIX}*"):
                shutil.rmtree(left_over)
            with tempfile.TemporaryDirectory(prefix=_WORK_PREFIX, dir=data_dir) as work:
                _extract(archive, manifest, Path(work), meter)
                replaced = _move_in(Path(work), data_dir)
        except OSError as error:
            raise folder_error(error, data_dir) from error
    return RestoreSummary(manifest, replaced)


def _extract(archive: Path, manifest: Manifest, work: Path, meter: Meter) -> None:
    wanted = {member.name: member.sha256 for member in manifest.members}
    with open_archive(archive) as members:
        for info, content in members:
            if info.name == MANIFEST_NAME:
                break
            place = path_of_member(info.name)
            assert place is not None  # open_archive lets no other name through
            path = work / place
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                sha256 = _copy(content, copy, meter)
                copy.flush()
                os.fsync(copy.fileno())
            if wanted.pop(info.name, None) != sha256:
                raise BackupBroken(str(archive), f"its member {info.name!r} changed while it was restored")
    for folder, _, _ in os.walk(work):
        sync_folder(Path(folder))


def _move_in(work: Path, data_dir: Path) -> Path | None:
    """Rename what is in `work` into the data folder, and what that replaces into a folder beside it."""
    marker = data_dir / RESTORE_MARKER_NAME
    marker.touch(mode=0o600)
    sync_folder(data_dir)
    # The database last: it is what makes the folder a store.
    incoming = sorted(_incoming(work, data_dir), key=lambda name: (name == DATABASE_NAME, name))
    aside = data_dir / f"replaced-{now_ms()}"
    replaced = _move(data_dir, aside, [*DATABASE_SIDE_FILES, *incoming])
    _move(work, data_dir, incoming)
    sync_folder(data_dir)
    marker.unlink()
    sync_folder(data_dir)
    return aside if replaced else None


def _incoming(work: Path, data_dir: Path, below: str = "") -> Iterator[str]:
    """The names that move as one, relative to both folders.

    A folder that both have is gone into, so that what else lies in it stays. Not so the blobs, which go with the
    database, nor where a link to a folder is in its place: nothing is written outside of `data_dir`.
    """
    for entry in os.scandir(work / below):
        name = f"{below}{entry.name}"
        there = data_dir / name
        if name != BLOBS_NAME and entry.is_dir() and there.is_dir() and not there.is_symlink():
            yield from _incoming(work, data_dir, f"{name}/")
        else:
            yield name


def _move(source: Path, target: Path, names: Iterable[str]) -> bool:
    """True when at least one of the names was there."""
    there = [name for name in names if os.path.lexists(source / name)]
    for name in there:
        (target / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (source / name).rename(target / name)
    for folder in {folder for name in there for folder in (target / name).parents if folder.is_relative_to(target)}:
        sync_folder(folder)
    return bool(there)


def _copy(content: IO[bytes], copy: IO[bytes] | None, meter: Meter) -> str:
    """Returns the sha256 of what `content` held."""
    digest = hashlib.sha256()
    while chunk := content.read(COPY_BYTES):
        digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
        meter.add(len(chunk))
    return digest.hexdigest()
