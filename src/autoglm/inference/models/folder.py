"""The folder that holds the model files of this machine.

`NAME.gguf` is a model, `NAME.json` beside it says where it came from, `NAME.gguf.partial` is one that is being made.
`.parts/NAME/` keeps what an interrupted pull has fetched so far; `.locks/NAME` lets one pull at a time work on a name.
"""

import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from autoglm.core.errors import ModelFileError, NotFound, StorageFull, did_you_mean
from autoglm.inference.models.catalogue import pull_words
from autoglm.inference.models.progress import Reporter

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
_NAME = re.compile(NAME_PATTERN)
_SIDECAR_LIMIT_BYTES = 65_536
_SPARE_BYTES = 64 * 1024 * 1024  # stays free beside a model file, for logs and the store
_LOCK_POLL_S = 0.2


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What `NAME.json` holds. Unknown keys are ignored: a newer hub may have written more."""

    sha256: str
    size_bytes: int
    origin: str
    licence: str | None = None
    title: str | None = None
    architecture: str | None = None
    context_tokens: int | None = None


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A model file of this machine. What is None is not known: the file was not put there by a pull."""

    name: str
    path: Path
    size_bytes: int
    sha256: str | None = None
    licence: str | None = None
    origin: str | None = None
    title: str | None = None
    architecture: str | None = None
    context_tokens: int | None = None
    """The context the model was trained with."""


class ModelFolder:
    """Model files by name. The folder is made when the first model comes."""

    def __init__(self, path: Path, *, data_option: str = "") -> None:
        """data_option: what commands need that shall work on this folder, ' --data FOLDER'; for hints."""
        self.path = path
        self.data_option = data_option

    def list(self) -> list[ModelFile]:
        """The models here, by name. What has no proper name or is no regular file is left out."""
        try:
            entries = sorted(self.path.iterdir())
        except OSError:
            return []
        models = [self.get(entry.name.removesuffix(".gguf")) for entry in entries if entry.name.endswith(".gguf")]
        return [model for model in models if model is not None]

    def get(self, name: str) -> ModelFile | None:
        """None when there is no such model."""
        if _NAME.fullmatch(name) is None:
            return None
        path = self.file(name)
        try:
            size_bytes = path.stat().st_size
        except OSError:
            return None
        if not path.is_file():
            return None
        sidecar = self._sidecar(name)
        if sidecar is None or sidecar.size_bytes != size_bytes:  # no note, or one about another file
            return ModelFile(name=name, path=path, size_bytes=size_bytes)
        return ModelFile(name=name, path=path, **msgspec.structs.asdict(sidecar))

    def path_of(self, name: str) -> Path:
        """Raises ModelFileError, with the way out, when the model is not here."""
        model = self.get(name)
        if model is None:
            raise ModelFileError(self.absence(name))
        return model.path

    def absence(self, name: str) -> str:
        """What to say where the model is not here, with the way out."""
        known = [model.name for model in self.list()]
        way_out = f"run 'autoglm {pull_words(name)}{self.data_option}'."
        return f"there is no model {name!r} in {self.path}; {way_out}{did_you_mean(name, known)}"

    def remove(self, name: str) -> None:
        """Delete the model and what an unfinished pull of it left. Raises NotFound when there is neither."""
        check_name(name)
        leftovers = self.file(name), self.partial(name)
        is_here = any(path.is_file() or path.is_symlink() for path in leftovers) or self.parts(name).is_dir()
        if not is_here:
            raise NotFound("model file", name)
        for path in (*leftovers, self.sidecar_file(name)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.parts(name), ignore_errors=True)

    # --- what pulls need ---

    def file(self, name: str) -> Path:
        return self.path / f"{name}.gguf"

    def partial(self, name: str) -> Path:
        return self.path / f"{name}.gguf.partial"

    def sidecar_file(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def parts(self, name: str) -> Path:
        """The folder for what an interrupted pull of `name` may reuse."""
        return self.path / ".parts" / name

    def write_sidecar(self, name: str, sidecar: Sidecar) -> None:
        body = msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n"
        fresh = self.sidecar_file(name).with_suffix(".json.partial")
        with fresh.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.sidecar_file(name))
        sync_folder(self.path)

    def check_space(self, name: str, needed_bytes: int) -> None:
        """Raises StorageFull when `needed_bytes` more would leave less than 64 MiB free."""
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < needed_bytes + _SPARE_BYTES:
            figures = f"{(needed_bytes + _SPARE_BYTES) / 1e6:.0f} MB needed, {free_bytes / 1e6:.0f} MB free"
            raise StorageFull(f"{self.file(name)} ({figures})")

    @asynccontextmanager
    async def lock(self, name: str, reporter: Reporter) -> AsyncIterator[None]:
        """One pull of a name at a time, over all processes; others wait. The kernel unlocks when the holder dies."""
        locks = self.path / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        handle = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(handle):
                reporter.report(f"waiting for another pull of {name}", 0, 0)
                await anyio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)

    def _sidecar(self, name: str) -> Sidecar | None:
        try:
            with self.sidecar_file(name).open("rb") as file:
                return msgspec.json.decode(file.read(_SIDECAR_LIMIT_BYTES), type=Sidecar)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None


def check_name(name: str) -> str:
    """Raises ModelFileError when `name` cannot name a model file here."""
    if _NAME.fullmatch(name) is None:
        raise ModelFileError(f"{name[:80]!r} is no model name: 1 to 64 of a-z 0-9 . _ -, the first a letter or a digit")
    return name


def name_from(file_name: str) -> str:
    """A model name out of a file name: 'Qwen2 (Q4).GGUF' becomes 'qwen2-q4'. Raises ModelFileError if none is left."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", file_name.lower().removesuffix(".gguf")).strip("._-")[:64].strip("._-")
    if not plain:
        raise ModelFileError(f"no model name can be made of {file_name[:80]!r}; give one with --name")
    return plain


def sync_folder(path: Path) -> None:
    """Makes a rename inside the folder last through a power loss."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
