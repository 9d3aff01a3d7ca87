"""What this machine offers the hub: cores, memory, disk, packages, ports."""

import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from autoglm.core.errors import did_you_mean, install_command
from autoglm.version import __version__

Level = Literal["ok", "note", "problem"]

_LOW_DISK_BYTES = 1 << 30
_LOW_MEMORY_BYTES = 2 << 30
# SQLite, "Write-Ahead Logging": all processes must be on the same host, so WAL does not work over these.
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "glusterfs", "9p"})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. `fix` is a command or a setting; empty where nothing is to be done."""

    name: str
    level: Level
    text: str
    fix: str = ""


def find_spec(package: str) -> bool:
    """True when the package can be imported; it is not imported."""
    return importlib.util.find_spec(package) is not None


def examine(
    data_dir: Path, models: list[str], *,
    host: str, port: int, page: Path, hub_url: str | None, silence: str = "", default_model: str | None = None,
    missing: Mapping[str, str] = {}, command: Callable[[str], str] = "autoglm {}".format,
) -> list[Finding]:  # fmt: skip
    """Look at this machine. `models` are the names of the model files here; `hub_url` is that of a hub that runs.

    silence: why a hub that holds the folder could not be asked.
    default_model: what the hub would serve by itself; None when instances are configured.
    missing: models of local instances that are not here, and the words for `command` that bring each.
    command: makes what can be typed here out of words such as 'models pull NAME'.
    """
    return [
        _hub(hub_url, silence),
        _python(),
        _machine(),
        _memory(command),
        *_disk(data_dir),
        _local_worker(),
        _models(models, default_model, missing, command),
        _port(host, port, command, is_ours=hub_url is not None or bool(silence)),
        _page(page),
    ]


def _hub(url: str | None, silence: str) -> Finding:
    if silence:
        text = f"version {__version__}, a hub holds this folder, but could not be asked: {silence}"
        return Finding(name="hub", level="note", text=text)
    return Finding(name="hub", level="ok", text=f"version {__version__}, {url or 'not running'}")


def _python() -> Finding:
    return Finding(name="python", level="ok", text=f"{platform.python_version()} at {sys.executable}")


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding(name="machine", level="ok", text=f"{platform.system()} {platform.machine()}, {cores} cores")


def _memory(command: Callable[[str], str]) -> Finding:
    available = available_memory_bytes()
    text = f"{available / 1e9:.1f} GB available"
    if available < _LOW_MEMORY_BYTES:
        return Finding(
            name="memory", level="note", text=f"{text}; the default model wants 1.2 GB",
            fix=f'{command("models pull smollm2-135m")} and models.default = "smollm2-135m"',
        )  # fmt: skip
    return Finding(name="memory", level="ok", text=text)


def available_memory_bytes() -> int:
    """What the kernel could give without swapping, within the bounds of a container; 0 when it does not tell.

    Source: proc(5), MemAvailable; the kernel's cgroup-v2 documentation, memory.max.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    cgroup = Path("/sys/fs/cgroup")
    try:
        room = int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no cgroup of our own, or its bound is the word `max`
        return available
    return max(0, min(available, room))


def _disk(data_dir: Path) -> list[Finding]:
    """The space, whether it may be written to, and whether it is a disk of this machine."""
    folder = next(parent for parent in (data_dir.absolute(), *data_dir.absolute().parents) if os.path.isdir(parent))
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {data_dir}"
    if not os.access(folder, os.W_OK | os.X_OK):
        fix = "choose a folder of your own with --data, or change who owns this one"
        return [Finding(name="disk", level="problem", text=f"{folder} cannot be written to", fix=fix)]
    findings = [Finding(name="disk", level="ok", text=text)]
    if free < _LOW_DISK_BYTES:
        findings = [
            Finding(name="disk", level="problem", text=text, fix="free some space, or choose another --data folder")
        ]
    kind = file_system(folder, _mounts())
    if kind in _NETWORK_FILE_SYSTEMS:
        findings.append(
            Finding(
                name="file system", level="problem", text=f"{folder} lies on a network file system ({kind})",
                fix="choose a --data folder on a disk of this machine: SQLite's WAL needs one",
            )
        )  # fmt: skip
    return findings


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text()
    except OSError:
        return ""


def file_system(folder: Path, mounts: str) -> str:
    """The kind of file system that `folder` lies on; '' when `mounts` does not tell. Source: fstab(5), proc(5)."""
    kind, longest = "", -1
    for line in mounts.splitlines():
        _, place, type_, *_ = [*line.split(" "), "", ""]
        # Blanks in paths are written as octal escapes.
        point = place.replace("\\040", " ")
        if len(point) >= longest and Path(point) in (folder, *folder.parents):
            kind, longest = type_, len(point)
    return kind


def _local_worker() -> Finding:
    if find_spec("xllamacpp"):
        return Finding(name="local models", level="ok", text="xllamacpp is installed")
    return Finding(name="local models", level="note", text="xllamacpp is not installed", fix=install_command("local"))


def _models(
    models: list[str], default_model: str | None, missing: Mapping[str, str], command: Callable[[str], str]
) -> Finding:
    here = ", ".join(models)
    if missing:
        fix = "; ".join(command(words) for words in missing.values())
        hints = {name: did_you_mean(name, models).strip().replace("Did", "did") for name in missing}
        wanted = ", ".join(f"{name} ({hint})" if hint else name for name, hint in hints.items())
        text = f"an [[instance]] shall serve it, but it is not here: {wanted}"
        return Finding(name="model files", level="problem", text=text, fix=fix)
    if default_model is None:
        return Finding(name="model files", level="ok", text=here or "none; the instances of autoglm.toml are used")
    fix = command(f"models pull {default_model}")
    if not models:
        return Finding(name="model files", level="note", text="none yet", fix=fix)
    if default_model not in models:
        text = f"{here}; the default model {default_model} is not here, so {models[0]} is served"
        return Finding(name="model files", level="note", text=text, fix=fix)
    return Finding(name="model files", level="ok", text=here)


def _port(host: str, port: int, command: Callable[[str], str], *, is_ours: bool) -> Finding:
    if is_ours or port == 0:
        return Finding(name="port", level="ok", text="the running hub has it" if is_ours else "a free one is taken")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            fix = "set gateway.port to one over 1023"
            return Finding(name="port", level="problem", text=f"{port} is reserved for root", fix=fix)
        except OSError as error:
            return Finding(
                name="port", level="problem", text=f"{host}:{port} cannot be used: {error.strerror}",
                fix=f"{command('up --port 0')} takes a free one",
            )  # fmt: skip
    return Finding(name="port", level="ok", text=f"{host}:{port} is free")


def _page(page: Path) -> Finding:
    if (page / "index.html").exists():
        return Finding(name="console", level="ok", text="the page is built")
    return Finding(
        name="console", level="note", text="the page is not built", fix="make console, in the project's folder"
    )
