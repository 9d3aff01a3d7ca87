"""Addresses from a file in the format of Prometheus's file-based service discovery, as JSON.

    [{"targets": ["10.0.0.1:8000", "gpu-2.plant:8000"], "labels": {"rack": "a"}}]

Labels are for Prometheus: they are checked for nothing and used for nothing here.
Source: Prometheus documentation, configuration, `file_sd_config`.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec

from autoglm.core.errors import DiscoveryFailed

MAX_FILE_BYTES = 4 << 20
_TARGET = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>\d{1,5}))?")


class Target(NamedTuple):
    """Where an engine listens. An IPv6 address has no brackets."""

    host: str
    port: int


class _Group(msgspec.Struct):
    targets: list[str]
    labels: dict[str, Any] = {}  # msgspec copies it


class TargetsFile:
    """Satisfies `discovery.Source`."""

    def __init__(self, path: Path, port: int) -> None:
        """port: of targets that name none."""
        self._path = path
        self._port = port
        self.place = str(path)

    async def look(self) -> list[Target]:
        """Read the file anew. It is small, and its time of change says too little: two changes can share a second.

        Raises DiscoveryFailed.
        """
        try:
            content = await anyio.to_thread.run_sync(self._read)
        except OSError as error:
            raise DiscoveryFailed(self.place, error.strerror or str(error)) from error
        if len(content) > MAX_FILE_BYTES:
            raise DiscoveryFailed(self.place, f"is over {MAX_FILE_BYTES >> 20} MiB")
        return parse_targets(content, self._port, self.place)

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


def parse_targets(content: bytes, port: int, place: str) -> list[Target]:
    """The targets in their order, each once. port: of targets that name none. Raises DiscoveryFailed.

    One bad target spoils the list: a half-read list would drain instances that are well.
    """
    try:
        groups = msgspec.json.decode(content, type=list[_Group])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryFailed(place, f"is no list of targets: {error}") from error
    return list(dict.fromkeys(_target(text, port, place) for group in groups for text in group.targets))


def _target(text: str, preset_port: int, place: str) -> Target:
    match = _TARGET.fullmatch(text)
    port = int(match["port"] or preset_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise DiscoveryFailed(place, f"{text[:80]!r} is no HOST:PORT")
    return Target(match["v6"] or match["host"], port)
