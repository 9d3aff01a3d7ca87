"""`autoglm restore`: bring a backup back into a data folder."""

import json
from functools import partial
from pathlib import Path

import click

from autoglm.cli.options import data_option, json_option
from autoglm.cli.screen import local_time
from autoglm.invocation import command


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@click.option("--force", is_flag=True, help="Also into a folder that holds something; what is replaced is moved aside.")
@click.option("--check", is_flag=True, help="Only read the backup and check every byte of it.")
@json_option
def restore(file: Path, data_dir: Path, force: bool, check: bool, as_json: bool) -> None:
    """Bring the backup FILE back into the folder DATA, in which no hub may run. All of it is checked before anything
    there changes.

    \b
    Example:
      autoglm restore /mnt/usb/hub-monday.tar --data ./data
      autoglm restore /mnt/usb/hub-monday.tar --check
    """
    import anyio

    from autoglm.cli.logs import quiet_logs
    from autoglm.cli.progress import Bar
    from autoglm.store import restore as bring_back
    from autoglm.store import verify

    quiet_logs()
    replaced: Path | None = None
    with Bar("restore") as bar:
        if check:
            manifest = anyio.run(partial(verify, file, progress=partial(bar.show, f"checking {file}")))
        else:
            show = partial(bar.show, str(data_dir))
            summary = anyio.run(partial(bring_back, file, data_dir, force=force, progress=show))
            manifest, replaced = summary.manifest, summary.replaced
    if as_json:
        done = {
            "hub_version": manifest.hub_version, "created_at": manifest.created_at_ms, "members": len(manifest.members),
            "data": None if check else str(data_dir), "replaced": str(replaced) if replaced else None,
        }  # fmt: skip
        click.echo(json.dumps(done, ensure_ascii=False))
        return
    made = f"made on {local_time(manifest.created_at_ms)} by version {manifest.hub_version}"
    if check:
        click.echo(f"{file} is whole: {len(manifest.members)} files, {made}")
        return
    click.echo(f"{data_dir} holds the backup {made}; start it with: {command('up', data_dir)}")
    if replaced is not None:
        click.echo(f"What was there before lies in {replaced}")
