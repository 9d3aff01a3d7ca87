"""`autoglm backup`: save a data folder into one file, also while the hub works in it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from autoglm.cli.options import config_file_or_default, config_option, data_option, json_option
from autoglm.cli.screen import size

_ALWAYS = ("autoglm.toml", "admin.key")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@config_option
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
@json_option
def backup(file: Path, data_dir: Path, config_file: Path | None, force: bool, as_json: bool) -> None:
    """Save messages, receipts, keys and settings into FILE, as they are at this moment; the hub may go on working.

    FILE gets mode 0600, for it holds secrets. Model files are not in it: autoglm models pull brings them back.

    \b
    Example:
      autoglm backup /mnt/usb/hub-monday.tar
    """
    import anyio

    from autoglm.cli.logs import quiet_logs
    from autoglm.cli.progress import Bar
    from autoglm.store import backup_folder

    if file.exists() and not force:
        raise click.ClickException(f"{file} is there already; --force writes over it")
    quiet_logs()
    inside, outside = _named_files(config_file_or_default(config_file, data_dir), data_dir)
    extra = tuple(dict.fromkeys([*_ALWAYS, *inside]))
    with Bar("backup") as bar:
        save = partial(backup_folder, data_dir, file, extra_files=extra, progress=partial(bar.show, str(file)))
        summary = anyio.run(save)
    for path in outside:
        click.echo(f"autoglm: not in the backup, as it lies outside {data_dir}: {path}", err=True)
    for sha256 in summary.damaged_blobs:
        click.echo(f"autoglm: this file in the store is damaged, and so is its copy: {sha256}", err=True)
    if as_json:
        saved = {
            "path": str(summary.path), "size_bytes": summary.size_bytes, "blobs": summary.blobs,
            "extra_files": summary.extra_files, "left_out": [str(path) for path in outside],
            "damaged_blobs": summary.damaged_blobs,
        }  # fmt: skip
        click.echo(json.dumps(saved, ensure_ascii=False))
        return
    click.echo(
        f"{summary.path}: {size(summary.size_bytes)}. It holds keys and messages; keep it where nobody else reads it."
    )
    click.echo(f"To bring it back: autoglm restore {summary.path} --data NEW-FOLDER")


def _named_files(config_file: Path | None, data_dir: Path) -> tuple[list[str], list[Path]]:
    """The files that the settings name (keys, certificates): those in the data folder, relative to it, and the others.

    The file is read as it stands: a backup must work with settings that no hub would start with, too.
    """
    import tomllib

    if config_file is None:
        return [], []
    try:
        tree = tomllib.loads(config_file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        click.echo(
            f"autoglm: {config_file} cannot be read, so the files it names are not in the backup: {error}", err=True
        )
        return [], []
    root = data_dir.absolute()
    inside: list[str] = []
    outside = [] if config_file.absolute() == root / "autoglm.toml" else [config_file]
    for name in _file_settings(tree):
        path = config_file.absolute().parent / Path(name)
        if path.is_relative_to(root) and ".." not in path.parts:
            inside.append(path.relative_to(root).as_posix())
        else:
            outside.append(path)
    return inside, outside


def _file_settings(value: Any) -> list[str]:
    """The values of all settings whose name ends in `_file`."""
    found = []
    if isinstance(value, dict):
        for name, entry in value.items():
            if name.endswith("_file") and isinstance(entry, str) and "\0" not in entry:
                found.append(entry)
            else:
                found += _file_settings(entry)
    elif isinstance(value, list):
        for entry in value:
            found += _file_settings(entry)
    return found
