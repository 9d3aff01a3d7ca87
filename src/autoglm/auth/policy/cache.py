"""Signed files as they came, in the layout of a repository, so that the folder can be carried on to another hub.

Whatever is read here is checked as if a stranger had sent it.
"""

from collections.abc import Iterable
from pathlib import Path

from autoglm.auth.policy.seen import write_durably
from autoglm.auth.policy.sources import FolderSource
from autoglm.core.errors import NotFound, PolicyRefused, PolicyUnreachable, SettingsError


class Cache:
    """`DATA/policy/`. Files are named by version or hash, so that a newer set does not overwrite the one that holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source = FolderSource(folder)

    def metadata(self, name: str, limit_bytes: int) -> bytes | None:
        """None where there is none that can be read: it is fetched again then."""
        try:
            return self._source.metadata(name, limit_bytes)
        except (NotFound, PolicyRefused, PolicyUnreachable):
            return None

    def target(self, path: str, limit_bytes: int) -> bytes | None:
        try:
            return self._source.target(path, limit_bytes)
        except (NotFound, PolicyRefused, PolicyUnreachable):
            return None

    def keep_metadata(self, name: str, data: bytes) -> None:
        """On the disk when this returns. Raises SettingsError."""
        write_durably(self._made("metadata") / name, data)

    def keep_target(self, path: str, data: bytes) -> None:
        write_durably(self._made("targets") / path, data)

    def keep_only(self, metadata: Iterable[str], targets: Iterable[str]) -> None:
        """Remove what no longer belongs to the set that holds; the chain of roots stays."""
        for kind, wanted in (("metadata", set(metadata)), ("targets", set(targets))):
            for file in self._made(kind).iterdir():
                if file.name not in wanted and not file.name.endswith(".root.json") and not file.is_dir():
                    file.unlink(missing_ok=True)

    def _made(self, kind: str) -> Path:
        folder = self._folder / kind
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError([f"{folder} cannot be made: {error.strerror}"]) from error
        if folder.is_symlink():
            raise SettingsError([f"{folder} is a link to another place; remove it"])
        return folder
