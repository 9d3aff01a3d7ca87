"""`autoglm console`: open the page in the browser, with the key and without showing it to other users."""

import html
import json
import os
import sys
import webbrowser
from pathlib import Path
from urllib.parse import quote

import click

from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.invocation import command
from autoglm.rendezvous import find_hub

DOOR = "open-console.html"


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Print the address with the key, and open nothing.")
@hub_options
@json_option
def console(only_print: bool, hub: HubChoice, as_json: bool) -> None:
    """Open the running hub's page in the browser, signed in.

    The key travels in a file that only you can read, not in the browser's command line, which others can see.

    \b
    Example:
      autoglm console
      autoglm console --print
    """
    with hub.client() as client:
        client.me()
    address = find_hub(hub.url, hub.key, hub.data_dir)
    page = page_url(address.url, address.key)
    if only_print:
        click.echo(json.dumps({"url": page}) if as_json else page)
        return
    try:
        door = write_door(hub.data_dir / DOOR, page)
    except OSError as error:
        raise click.ClickException(f"{hub.data_dir / DOOR} cannot be written: {error.strerror}") from None
    opened = _open(door)
    if as_json:
        click.echo(json.dumps({"url": address.url, "file": str(door), "opened": opened}))
    else:
        click.echo(f"{address.url}/")
        if not opened:
            click.echo(
                f"No browser was found here. Open {door.absolute()} in one, "
                f"or see: {command('console --print', hub.folder)}",
                err=True,
            )


def open_in_browser(url: str, key_file: Path) -> bool:
    """Open the page of the hub at `url` with the key in `key_file`; False when there is no browser.

    Never raises: a hub must not end because a browser is missing.
    """
    try:
        door = write_door(key_file.with_name(DOOR), page_url(url, key_file.read_text().strip()))
        opened = _open(door)
    except OSError as error:
        click.echo(f"the page could not be opened: {error}", err=True)
        return False
    if not opened:
        click.echo(f"no browser was found; open {door.absolute()} in one", err=True)
    return opened


def page_url(url: str, key: str) -> str:
    """The page takes the key out of the fragment, which browsers do not send to any server."""
    return f"{url}/#key={quote(key, safe='')}"


def write_door(path: Path, page: str) -> Path:
    """A page of one's own that leads on to `page`; mode 0600, written anew each time. Raises OSError.

    Source: Jupyter Server, `_open_browser` and its redirect file.
    """
    target = html.escape(page, quote=True)
    text = (
        '<!doctype html><html><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0; url={target}"><title>AutoGLM Hub</title></head>'
        f'<body><a href="{target}">AutoGLM Hub</a></body></html>\n'
    )
    draft = path.with_name(path.name + ".new")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.rename(path)
    return path


def _open(door: Path) -> bool:
    """False where no browser could show: webbrowser would start a text browser in this very terminal."""
    environ = os.environ  # noqa: TID251  # the desktop's conventions, not settings of ours
    if sys.platform == "linux" and not any(name in environ for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        return False
    try:
        return webbrowser.open(door.absolute().as_uri())
    except webbrowser.Error:
        return False
