"""The files beside the store that a backup takes along: the settings, the admin key, and what the settings name."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import click

from autoglm.store import check_extra_name

_ALWAYS = ("autoglm.toml", "admin.key")
_FOLDERS = ("trust", "policy", "ca", "secrets")
"""Without them a restored hub would have another key, no policy, and so nobody revoked."""


class LeftOut(NamedTuple):
    """A file that the backup cannot hold."""

    path: str
    setting: str
    """What names it, such as `key[0].value_file`; empty for what every hub has."""
    reason: str

    def __str__(self) -> str:
        named_by = f" ({self.setting})" if self.setting else ""
        return f"not in the backup: {self.path!r}{named_by} because {self.reason}"


def named_files(config_file: Path | None, data_dir: Path) -> tuple[list[str], list[LeftOut]]:
    """Those that a backup can hold, relative to the data folder, and the others.

    The settings file is read as it stands: a backup must work with settings that no hub would start with, too.
    """
    root = Path(os.path.abspath(data_dir))
    wanted = [("", str(root / name)) for name in _ALWAYS if os.path.lexists(root / name)]
    wanted += [("", str(file)) for folder in _FOLDERS for file in _files_of(root / folder)]
    if config_file is not None:
        config = Path(os.path.abspath(config_file))
        if config != root / "autoglm.toml":
            wanted.append(("--config", str(config)))
        try:
            named = _file_settings(tomllib.loads(config.read_bytes().decode()))
        except (OSError, ValueError, RecursionError) as error:
            named = []
            click.echo(
                f"autoglm: {config_file} cannot be read, so the files it names are not in the backup: {error}", err=True
            )
        wanted += [(setting, _place(value, config.parent)) for setting, value in named]
    inside: list[str] = []
    left_out: list[LeftOut] = []
    for setting, path in wanted:
        reason = _name_problem(path, root) or _file_problem(Path(path), root)
        if reason:
            left_out.append(LeftOut(path, setting, reason))
        else:
            inside.append(Path(path).relative_to(root).as_posix())
    return list(dict.fromkeys(inside)), left_out


def _files_of(folder: Path) -> list[Path]:
    """All that are in it; drafts that a kill left behind are not."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".new", ".lock"))


def _place(value: str, folder: Path) -> str:
    """Where the hub would look for it. What is empty, or the home of nobody here, stays as it is."""
    try:
        return str(folder / Path(value).expanduser()) if value else ""
    except RuntimeError:
        return value


def _name_problem(name: str, root: Path) -> str:
    """Why a backup cannot hold a file of this name; empty when it can."""
    path = Path(name)
    if not name:
        return "the setting is empty"
    if "\0" in name:
        return "its name holds a NUL"
    if not path.is_absolute():
        return "there is no home folder of that name"
    if not Path(os.path.normpath(path)).is_relative_to(root):
        return f"it lies outside {root}; copy it yourself"
    if not path.is_relative_to(root) or ".." in path.parts:
        return "its path goes through '..'; write it without"
    return ""


def _file_problem(path: Path, root: Path) -> str:
    """Why a backup cannot hold the file in this place; empty when it can."""
    try:
        # Looked at before it is opened: to open a named pipe would wait for its other end.
        if not stat.S_ISREG(path.stat().st_mode):
            return "it is no regular file"
        path.open("rb").close()
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if check_extra_name(path.relative_to(root).as_posix()) else "that name belongs to the store"


def _file_settings(value: Any, where: str = "") -> list[tuple[str, str]]:
    """(name, value) of all settings whose name ends in `_file`."""
    found = []
    if isinstance(value, dict):
        for name, entry in value.items():
            path = f"{where}.{name}" if where else name
            if name.endswith("_file") and isinstance(entry, str):
                found.append((path, entry))
            else:
                found += _file_settings(entry, path)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            found += _file_settings(entry, f"{where}[{index}]")
    return found
