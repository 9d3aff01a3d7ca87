"""`autoglm backup`: save a data folder into one file, also while the hub works in it."""

import json
from functools import partial
from pathlib import Path

import click

from autoglm.cli.options import config_file_or_default, config_option, data_option, json_option
from autoglm.cli.screen import size


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
    from autoglm.cli.named_files import LeftOut, named_files
    from autoglm.cli.progress import Bar
    from autoglm.store import backup_folder

    if file.exists() and not force:
        raise click.ClickException(f"{file} is there already; --force writes over it")
    if not file.parent.is_dir():  # an unmounted disk, most likely: the backup would end up beside what it is to save
        raise click.ClickException(f"there is no folder {file.parent}; is the disk mounted? Else make it first")
    quiet_logs()
    extra, left_out = named_files(config_file_or_default(config_file, data_dir), data_dir)
    with Bar("backup") as bar:
        save = partial(backup_folder, data_dir, file, extra_files=extra, progress=partial(bar.show, str(file)))
        summary = anyio.run(save)
    left_out += [LeftOut(name, "", "it is gone") for name in extra if name not in summary.extra_files]
    for entry in left_out:
        click.echo(f"autoglm: {entry}", err=True)
    for sha256 in summary.damaged_blobs:
        click.echo(f"autoglm: this file in the store is damaged, and so is its copy: {sha256}", err=True)
    if as_json:
        saved = {
            "path": str(summary.path), "size_bytes": summary.size_bytes, "blobs": summary.blobs,
            "extra_files": summary.extra_files, "left_out": [entry.path for entry in left_out],
            "damaged_blobs": summary.damaged_blobs,
        }  # fmt: skip
        click.echo(json.dumps(saved, ensure_ascii=False))
        return
    click.echo(
        f"{summary.path}: {size(summary.size_bytes)}. It holds keys and messages; keep it where nobody else reads it."
    )
    click.echo(f"To bring it back: autoglm restore {summary.path} --data NEW-FOLDER")
