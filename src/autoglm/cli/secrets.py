"""`autoglm secrets`: values that are encrypted on the disk, for settings that say `secret:NAME`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import config_file_or_default, config_option, data_option, json_option, passphrase_prompt

if TYPE_CHECKING:
    from autoglm.auth.vault import Opener

_ways = click.Choice(["key-file", "passphrase"])


@click.group()
def secrets() -> None:
    """Keep keys and passwords encrypted in DATA/secrets/secrets.json. A setting that takes a secret, or a file with
    one, then says secret:NAME.

    It is opened by a key file (DATA/secrets/secrets.key, or secrets.key_file on a stick or another disk), or by a
    passphrase: from secrets.passphrase_file, systemd's credential autoglm.passphrase, or asked for.

    \b
    Example:
      autoglm secrets set glm
      autoglm secrets list
      autoglm secrets rotate --to passphrase
    """


@secrets.command("set")
@click.argument("name")
@click.option("--by", type=_ways, default="key-file", help="What opens it; counts when the first secret is kept.")
@data_option
@config_option
@json_option
def set_(name: str, by: str, data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Keep a secret under NAME, in place of an older one. It is read from standard input, or asked for.

    \b
    Example:
      cat glm.key | autoglm secrets set glm
    """
    from autoglm.auth.vault import change_vault

    value: str
    if sys.stdin.isatty():
        value = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        value = sys.stdin.read(1 << 17).strip()
    opener, folder = _opener(data_dir, config_file)
    with change_vault(folder, opener, by_passphrase=by == "passphrase") as vault:
        vault.put(name, value)
    _tell({"name": name}, f"kept; a setting says: secret:{name}", as_json=as_json)


@secrets.command("list")
@data_option
@config_option
@json_option
def list_(data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """The names of the secrets. No command shows a value.

    \b
    Example:
      autoglm secrets list
    """
    from autoglm.auth.vault import open_vault

    opener, folder = _opener(data_dir, config_file)
    vault = open_vault(folder, opener)
    if as_json:
        click.echo(json.dumps({"names": vault.names, "opened_by": vault.is_opened_by}, ensure_ascii=False))
        return
    for name in vault.names:
        click.echo(name)
    click.echo(f"opened by: {', '.join(vault.is_opened_by)}", err=True)


@secrets.command()
@click.argument("name")
@data_option
@config_option
@json_option
def remove(name: str, data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Forget the secret NAME.

    \b
    Example:
      autoglm secrets remove glm
    """
    from autoglm.auth.vault import change_vault

    opener, folder = _opener(data_dir, config_file)
    with change_vault(folder, opener) as vault:
        vault.remove(name)
    _tell({"name": name}, f"the secret {name} is forgotten", as_json=as_json)


@secrets.command()
@click.option("--to", "ways", type=_ways, multiple=True, help="What opens it from now on; may be given twice.")
@click.option(
    "--new-passphrase-file", type=click.Path(path_type=Path, dir_okay=False),
    help="File with the new passphrase; without it, it is asked for.",
)  # fmt: skip
@data_option
@config_option
@json_option
def rotate(
    ways: tuple[str, ...], new_passphrase_file: Path | None, data_dir: Path, config_file: Path | None, as_json: bool
) -> None:
    """Encrypt all under a new key, and choose what opens it; without --to, a key file. A hub that runs goes on.

    A new key file takes the place of the old one. Copies and backups of the old files open as before: change the
    secrets themselves, too, when one was stolen.

    \b
    Example:
      autoglm secrets rotate --to passphrase
    """
    from autoglm.auth.sealing import read_passphrase
    from autoglm.auth.vault import change_vault

    opener, folder = _opener(data_dir, config_file)
    wanted = ways or ("key-file",)
    with change_vault(folder, opener) as vault:
        passphrase: str | None = None
        if "passphrase" in wanted:
            ask = _new_passphrase if new_passphrase_file is None else lambda: read_passphrase(new_passphrase_file)
            passphrase = ask()
        vault.rotate(key_file=opener.key_file if "key-file" in wanted else None, passphrase=passphrase)
        opened_by, names = vault.is_opened_by, vault.names
    _tell(
        {"opened_by": opened_by, "names": names},
        f"{len(names)} secrets are encrypted anew; opened by: {', '.join(opened_by)}",
        as_json=as_json,
    )


def _new_passphrase() -> str:
    value: str = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return value


def _opener(data_dir: Path, config_file: Path | None) -> "tuple[Opener, Path]":
    """(what opens it, the folder of secrets)."""
    from autoglm.settings import SECRETS_FOLDER, secrets_opener

    ask: Callable[[], str] | None = passphrase_prompt()
    file = config_file_or_default(config_file, data_dir)
    return secrets_opener(file, data_dir, ask), data_dir / SECRETS_FOLDER


def _tell(value: dict[str, object], words: str, *, as_json: bool) -> None:
    click.echo(json.dumps(value, ensure_ascii=False) if as_json else shown(words))
