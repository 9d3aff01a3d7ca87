"""The form of a backup: one tar file with the database, the blobs, a few files of the app, and a manifest at its end.

Uncompressed: most bytes are media that are compressed already, and a plain tar can be checked and unpacked at the
speed of the disk on the smallest machine; pipe it through zstd where space matters.
"""

import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import anyio.from_thread
import msgspec

from autoglm.core.errors import BackupBroken
from autoglm.store.sqlite.folder import (
    BLOBS_NAME,
    DATABASE_NAME,
    DATABASE_SIDE_FILES,
    LOCK_NAME,
    RESTORE_MARKER_NAME,
)

FORMAT = 1
MANIFEST_NAME = "manifest.json"
EXTRA_PREFIX = "files/"
COPY_BYTES = 1024 * 1024
_MANIFEST_LIMIT_BYTES = 256 * 1024 * 1024
_BLOB = re.compile(rf"{BLOBS_NAME}/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}")

Progress = Callable[[int, int], None]
"""Called from a worker thread with the bytes that are done and the bytes in all."""


class Member(msgspec.Struct, frozen=True):
    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last member of a backup: an archive that was cut short has none."""

    format: int
    hub_version: str
    schema_version: int
    created_at_ms: int
    members: tuple[Member, ...]


class Meter:
    """Counts bytes for a progress bar, and lets the thread that counts notice that its caller was cancelled."""

    def __init__(self, progress: Progress | None, total_bytes: int) -> None:
        self._progress = progress
        self.total_bytes = total_bytes
        self.done_bytes = 0

    def add(self, size_bytes: int) -> None:
        anyio.from_thread.check_cancelled()
        self.done_bytes += size_bytes
        if self._progress is not None:
            self._progress(min(self.done_bytes, self.total_bytes), self.total_bytes)


def check_extra_name(name: str) -> bool:
    """Whether `name` is a path below the data folder that does not touch the store's own files."""
    path = PurePosixPath(name)
    own = {DATABASE_NAME, *DATABASE_SIDE_FILES, BLOBS_NAME, LOCK_NAME, RESTORE_MARKER_NAME}
    return (
        bool(path.parts)
        and str(path) == name
        and not path.is_absolute()
        and ".." not in path.parts
        and path.parts[0] not in own
        and "\0" not in name
    )


def path_of_member(name: str) -> str | None:
    """Where a member belongs below the data folder; None for a name that no backup of ours has."""
    if name == DATABASE_NAME or _BLOB.fullmatch(name):
        return name
    extra = name.removeprefix(EXTRA_PREFIX)
    return extra if extra != name and check_extra_name(extra) else None


@contextmanager
def open_archive(path: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes]]]]:
    """Iterate over the members of a backup. Raises BackupBroken for whatever is no plain file with a name of ours."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield _members(tar, path)
    except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise BackupBroken(str(path), f"it is no complete backup of a hub ({error})") from error
    except OSError as error:
        raise BackupBroken(str(path), f"it cannot be read ({error.strerror or error})") from error


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    seen = set()
    for info in tar:
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise BackupBroken(str(path), f"its member {info.name[:80]!r} is no plain file; it was not made by a hub")
        if info.name != MANIFEST_NAME and path_of_member(info.name) is None:
            raise BackupBroken(str(path), f"its member {info.name[:80]!r} has an unsafe name; it was not made by a hub")
        if info.name in seen:
            raise BackupBroken(str(path), f"its member {info.name!r} is there twice; it was not made by a hub")
        seen.add(info.name)
        content = tar.extractfile(info)
        assert content is not None  # it is a plain file
        yield info, content


def read_manifest(content: IO[bytes], path: Path) -> Manifest:
    """Raises BackupBroken when it is none, or one of a newer format."""
    try:
        manifest = msgspec.json.decode(content.read(_MANIFEST_LIMIT_BYTES), type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupBroken(str(path), f"its manifest cannot be read ({error})") from error
    if manifest.format > FORMAT:
        raise BackupBroken(
            str(path),
            f"it has format {manifest.format}, made by autoglm-hub {manifest.hub_version}, and this program reads "
            f"formats up to {FORMAT}; install that version",
        )
    return manifest
