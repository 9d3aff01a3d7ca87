"""Options that several commands share, and what their values mean."""

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoglm.invocation import default_data_dir

if TYPE_CHECKING:
    from autoglm.client import Client

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _absolute(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Made so where it is read: a local worker, for one, runs in another working directory than the hub."""
    return None if path is None else path.absolute()


data_option: Decorator = click.option(
    "--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), default=default_data_dir,
    envvar="AUTOGLM_DATA", show_default="~/.local/share/autoglm", callback=_absolute,
    help="Folder with the hub's data.",
)  # fmt: skip
config_option: Decorator = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), envvar="AUTOGLM_CONFIG",
    show_default="DATA/autoglm.toml, when there is one", callback=_absolute, help="Settings file.",
)  # fmt: skip
ca_file_option: Decorator = click.option(
    "--ca-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), envvar="AUTOGLM_CA_FILE",
    help="PEM file of authorities to trust for an https address.",
)  # fmt: skip
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def with_mqtt() -> dict[str, Any]:
    """What `--mqtt` says, as options for `load_settings`."""
    return {"mqtt_broker": {"enabled": True}}


def passphrase_prompt(words: str = "Passphrase of the secrets") -> Callable[[], str] | None:
    """Asks the person at the terminal; None where nobody could see it. Never an argument: others could read it."""
    if not sys.stderr.isatty():
        return None

    def ask() -> str:
        answer: str = click.prompt(words, hide_input=True, err=True)
        return answer

    return ask


def config_file_or_default(config_file: Path | None, data_dir: Path) -> Path | None:
    """The settings file to read: the one that was named, else DATA/autoglm.toml when it exists."""
    if config_file is not None:
        return config_file
    usual = data_dir / "autoglm.toml"
    return usual if usual.exists() else None


@dataclass(frozen=True)
class HubChoice:
    """Which hub a command talks to."""

    url: str | None
    key: str | None = field(repr=False)
    data_dir: Path
    ca_file: Path | None

    @property
    def folder(self) -> Path | None:
        """The data folder of the hub; None when it is one at an address, whose folder is not known here."""
        return None if self.url else self.data_dir

    def client(self, *, patience_s: float | None = None) -> "Client":
        """patience_s: how long a hub that answered before is waited for. The caller closes the client."""
        from autoglm.client import Client
        from autoglm.client.client import DEFAULT_PATIENCE_S

        patience_s = DEFAULT_PATIENCE_S if patience_s is None else patience_s
        return Client(self.url, self.key, self.data_dir, ca_file=self.ca_file, patience_s=patience_s)


_HUB_OPTIONS: tuple[Decorator, ...] = (
    click.option("--url", envvar="AUTOGLM_URL", help="Address of the hub; when absent, the one on --data."),
    click.option("--key", envvar="AUTOGLM_KEY", help="Key; others can see it here, but not in AUTOGLM_KEY."),
    data_option,
    ca_file_option,
)


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--url, --key, --data and --ca-file; the command gets them as one `hub: HubChoice`."""

    @functools.wraps(command)
    def with_hub(
        *args: Any, url: str | None, key: str | None, data_dir: Path, ca_file: Path | None, **options: Any
    ) -> Any:
        return command(*args, hub=HubChoice(url, key or None, data_dir, ca_file), **options)

    decorated: Callable[..., Any] = with_hub
    for option in reversed(_HUB_OPTIONS):
        decorated = option(decorated)
    return decorated


def is_for_subcommand(ctx: click.Context) -> bool:
    """True when a group was only named on the way to its subcommand, which has the same options.

    Raises UsageError for one that stands before the subcommand: it would not hold for it, and another hub be asked.
    """
    if ctx.invoked_subcommand is None:
        return False
    for param in ctx.command.params:
        if param.name and ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"write {param.opts[0]} behind '{ctx.invoked_subcommand}'", ctx)
    return True


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Duration(click.ParamType[float]):
    """`90`, `90s`, `10m`, `2h` or `1d`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no duration such as 90s, 10m, 2h or 1d", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]
