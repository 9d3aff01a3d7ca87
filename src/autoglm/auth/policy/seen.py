"""What was the newest this hub has seen of each signed role, kept outside the cache, in the folder that is trusted.

The cache is hostile: whoever can write there can put an older policy back that is well signed. The marks here say that
it is older. They also say which set was taken last, by hash, so a kill between two files of an update leaves that one.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from autoglm.core.errors import PolicyRefused, SettingsError
from autoglm.core.private_file import write_private

_MAX_BYTES = 1 << 20


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    sha256: str


class Taken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole set: all that it takes to decide."""

    root: int
    timestamp: Mark
    snapshot: Mark
    targets: Mark


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The marks only rise, save that new keys of the authority begin anew (section 5.3.11 of TUF's specification)."""

    root: int
    timestamp: Mark | None = None
    snapshot: Mark | None = None
    targets: Mark | None = None
    snapshot_floor: int = 0
    """The snapshot's version in the newest timestamp."""
    versions: dict[str, int] = {}
    """By file, those in the newest snapshot: none may be lower in the next, or be missing."""
    taken: Taken | None = None


class SeenFile:
    """`trust/seen.json`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seen.json"
        self._lock = folder / "policy.lock"

    def read(self) -> Seen:
        """Raises PolicyRefused. A file that is gone is no first start: `create` makes it together with the root."""
        try:
            data = self._file.read_bytes()
            if len(data) > _MAX_BYTES:
                raise PolicyRefused(str(self._file), "it is too large")
            return msgspec.json.decode(data, type=Seen)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = f"the marks of what was seen cannot be read ({error}); begin anew with 'policy pull --root FILE'"
            raise PolicyRefused(str(self._file), reason) from error

    def write(self, seen: Seen) -> None:
        """On the disk when this returns. Raises SettingsError."""
        write_durably(self._file, msgspec.json.format(msgspec.json.encode(seen)))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time changes the marks and the cache; a second waits as long as the first takes."""
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write_durably(file: Path, data: bytes) -> None:
    """The old content or the new one is on the disk whatever happens; mode 0600. Raises SettingsError."""
    try:
        write_private(file, data)
    except OSError as error:
        raise SettingsError([f"{file} cannot be written: {error.strerror}"]) from error
