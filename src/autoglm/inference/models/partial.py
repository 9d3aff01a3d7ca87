"""A model file in the making: hashed while it is written, and put in its place only when whole and right."""

import errno
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from autoglm.core.errors import ModelFileError, StorageFull
from autoglm.inference.models.folder import ModelFile, Sidecar, sync_folder
from autoglm.inference.models.gguf import GgufHeader, read_gguf
from autoglm.inference.models.progress import Reporter
from autoglm.inference.models.target import Target

CHUNK_BYTES = 1 << 20


class Partial:
    """`NAME.gguf.partial`. Its methods block: call them from a worker thread.

    Use it as a context manager, which closes the file and keeps it for a later resume.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = target.folder.partial(target.name)
        self._file = self._path.open("ab")
        self._hash = hashlib.sha256()
        self.size_bytes = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def restart(self) -> None:
        """Forget what an earlier try has written."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def rehash(self) -> None:
        """Read what an earlier try has written, to go on behind it."""
        self._hash = hashlib.sha256()
        with self._path.open("rb") as file:
            done_bytes = 0
            while chunk := file.read(CHUNK_BYTES):
                self._hash.update(chunk)
                done_bytes += len(chunk)
                self._target.reporter.report_from_worker("checking what is here already", done_bytes, self.size_bytes)

    def write(self, chunk: bytes) -> None:
        """Raises StorageFull."""
        try:
            self._file.write(chunk)
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    def place(self, *, wanted_sha256: str | None, origin: str, title: str | None, licence: str | None) -> ModelFile:
        """Check the hash and the header, make the file last, and give it its name.

        Raises ModelFileError; the file is gone then, as no resume can mend it.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        folder, name = self._target.folder, self._target.name
        sha256 = self._hash.hexdigest()
        try:
            if wanted_sha256 is not None and sha256 != wanted_sha256:
                raise wrong_hash(name, wanted=wanted_sha256, got=sha256)
            header = usable_header(self._path)
        except ModelFileError:
            self._path.unlink(missing_ok=True)
            raise
        sidecar = make_sidecar(header, sha256, self.size_bytes, origin=origin, title=title, licence=licence)
        self._path.replace(folder.file(name))
        sync_folder(folder.path)
        folder.write_sidecar(name, sidecar)
        return ModelFile(name=name, path=folder.file(name), **msgspec.structs.asdict(sidecar))


def make_sidecar(
    header: GgufHeader, sha256: str, size_bytes: int, *, origin: str, title: str | None, licence: str | None
) -> Sidecar:
    """What the catalogue says goes before what the file says of itself."""
    return Sidecar(
        sha256=sha256,
        size_bytes=size_bytes,
        origin=origin,
        licence=licence or header.licence,
        title=title or header.name,
        architecture=header.architecture,
        context_tokens=header.context_tokens,
    )


def usable_header(path: Path) -> GgufHeader:
    """Raises ModelFileError when the file is no GGUF, or only one piece of a model."""
    header = read_gguf(path)
    if header.pieces > 1:
        raise ModelFileError(
            f"{path.name} is one of {header.pieces} pieces; join them with llama-gguf-split --merge first"
        )
    return header


def hash_file(path: Path, reporter: Reporter, step: str) -> str:
    """The sha256 of a file. Blocks; for a worker thread."""
    digest, done_bytes = hashlib.sha256(), 0
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done_bytes += len(chunk)
            reporter.report_from_worker(step, done_bytes, size_bytes)
    return digest.hexdigest()


def wrong_hash(name: str, *, wanted: str, got: str) -> ModelFileError:
    return ModelFileError(
        f"the file for {name!r} is not the one that was wanted and was removed: sha256 {wanted} wanted, {got} got",
        wanted=wanted,
        got=got,
    )


def storage_error(error: OSError, path: Path) -> StorageFull | ModelFileError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(str(path))
    return ModelFileError(f"{path} cannot be used: {error.strerror or error}")
