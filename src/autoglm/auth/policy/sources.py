"""Where policies are pulled from: a folder, a zip file on a stick, or a web server. None of them is trusted."""

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import quote

from autoglm.core.errors import NotFound, PolicyRefused, PolicyUnreachable

Fetch = Callable[[str, int], bytes]
"""(url, limit_bytes) -> the body. Raises NotFound for 403 and 404, PolicyUnreachable for whatever else went wrong.

It reads one byte over the limit at most, and takes no redirect to another scheme.
"""
_MAX_ZIP_BYTES = 64 << 20
_MAX_DIRECTORY_BYTES = 1 << 20
_END_BYTES = 22
_ZIP64_LOCATOR_BYTES = 20


class Source(Protocol):
    def metadata(self, name: str, limit_bytes: int) -> bytes:
        """The file `metadata/NAME`. Raises NotFound, PolicyRefused when it is longer, PolicyUnreachable."""
        ...

    def target(self, path: str, limit_bytes: int) -> bytes:
        """The file `targets/PATH`; raises the same."""
        ...


class FolderSource:
    """The layout that `repository.py` writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        return self._read("metadata", name, limit_bytes)

    def target(self, path: str, limit_bytes: int) -> bytes:
        return self._read("targets", path, limit_bytes)

    def _read(self, kind: str, name: str, limit_bytes: int) -> bytes:
        _check_path(name)
        file = self._folder / kind / name
        try:
            # Without waiting: a pipe that somebody left there would never end.
            with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as content:
                if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                    raise PolicyRefused(name, "it is no plain file")
                return _bounded(name, content.read(limit_bytes + 1), limit_bytes)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound("file", name) from error
        except OSError as error:
            raise PolicyUnreachable(str(file), error.strerror or "it cannot be read") from error


class ZipSource:
    """The same folder as one file. Nothing is unpacked: each entry is read up to the limit of what is asked for."""

    def __init__(self, file: Path | bytes) -> None:
        """file: the path of it, or its content."""
        self._file = file
        self._name = str(file) if isinstance(file, Path) else "the zip file"

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        return self._read("metadata", name, limit_bytes)

    def target(self, path: str, limit_bytes: int) -> bytes:
        return self._read("targets", path, limit_bytes)

    def _opened(self) -> BinaryIO:
        return self._file.open("rb") if isinstance(self._file, Path) else io.BytesIO(self._file)

    def _read(self, kind: str, name: str, limit_bytes: int) -> bytes:
        _check_path(name)
        try:
            self._check_directory()
            with self._opened() as file, zipfile.ZipFile(file) as archive, archive.open(f"{kind}/{name}") as content:
                return _bounded(name, content.read(limit_bytes + 1), limit_bytes)
        except KeyError as error:
            raise NotFound("file", name) from error
        except OSError as error:
            raise PolicyUnreachable(self._name, error.strerror or "it cannot be read") from error
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error) as error:
            raise PolicyRefused(self._name, f"it is no plain zip file: {error}") from error

    def _check_directory(self) -> None:
        """Before zipfile reads the list of entries into memory: its length is in the file's last 22 bytes."""
        with self._opened() as file:
            size_bytes = file.seek(0, 2)
            if not _END_BYTES <= size_bytes <= _MAX_ZIP_BYTES:
                raise ValueError(f"it has {size_bytes} bytes")
            file.seek(max(0, size_bytes - _END_BYTES - _ZIP64_LOCATOR_BYTES))
            tail = file.read()
        end = tail[-_END_BYTES:]
        if end[:4] != b"PK\5\6" or tail[:4] == b"PK\6\7":
            raise ValueError("it has a comment at its end, or is a zip64")
        if int.from_bytes(end[12:16], "little") > _MAX_DIRECTORY_BYTES:
            raise ValueError("its list of entries is too long")


class HttpSource:
    """metadata_url, targets_url: of folders. `fetch` is the caller's, who guards where it may reach."""

    def __init__(self, metadata_url: str, targets_url: str, fetch: Fetch) -> None:
        self._metadata_url = metadata_url.rstrip("/") + "/"
        self._targets_url = targets_url.rstrip("/") + "/"
        self._fetch = fetch

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        return self._read(self._metadata_url + quote(name, safe=""), name, limit_bytes)

    def target(self, path: str, limit_bytes: int) -> bytes:
        return self._read(self._targets_url + quote(path, safe="/"), path, limit_bytes)

    def _read(self, url: str, name: str, limit_bytes: int) -> bytes:
        return _bounded(name, self._fetch(url, limit_bytes), limit_bytes)


class Carrier:
    """Reads from another source, and keeps all that was read as a zip file: what a hub needs, and no more."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read: dict[str, bytes] = {}

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        data = self._read[f"metadata/{name}"] = self._source.metadata(name, limit_bytes)
        return data

    def target(self, path: str, limit_bytes: int) -> bytes:
        data = self._read[f"targets/{path}"] = self._source.target(path, limit_bytes)
        return data

    def archive(self) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in self._read.items():
                archive.writestr(name, data)
        return packed.getvalue()


def source_of(place: str, fetch: Fetch) -> Source:
    """place: an http(s) address of a folder with `metadata/` and `targets/`, or a folder or zip file here."""
    if place.startswith(("http://", "https://")):
        base = place.rstrip("/")
        return HttpSource(f"{base}/metadata", f"{base}/targets", fetch)
    path = Path(place)
    return ZipSource(path) if path.is_file() else FolderSource(path)


def _check_path(name: str) -> None:
    """Names come out of metadata: none leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise PolicyRefused(name[:80], "it is no name of a file here")


def _bounded(name: str, data: bytes, limit_bytes: int) -> bytes:
    if len(data) > limit_bytes:
        raise PolicyRefused(name, f"it is over {limit_bytes} bytes")
    return data
