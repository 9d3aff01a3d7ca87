"""`autoglm config`: check, show and begin the settings file."""

import json
import os
from pathlib import Path
from typing import Any

import click

from autoglm.cli.options import (
    config_file_or_default,
    config_option,
    data_option,
    json_option,
    passphrase_prompt,
    with_mqtt,
)
from autoglm.cli.screen import table

_EXAMPLES = """
# A model by key: GLM. Put the key, and nothing else, into glm.key beside this file (chmod 600 glm.key).
# [[instance]]
# name = "glm"
# provider = "glm"
# models = ["glm-4.6"]
# api_key_file = "glm.key"
# base_url = "z.ai"           # only for keys of the international platform

# A server of your own: vLLM, Ollama, or anything else that speaks OpenAI's API.
# [[instance]]
# name = "workstation"
# provider = "vllm"
# base_url = "http://192.168.1.20:8000/v1"

# A model file of this machine (autoglm models list).
# [[instance]]
# name = "local"
# provider = "local"
# models = ["qwen2.5-coder-0.5b"]

# A key for a program.
# [[key]]
# name = "robot-1"
# value_file = "robot-1.key"
# scopes = ["model:use:*", "send:message:device:robot-1", "read:message:device:robot-1"]
# rate_per_minute = 60

# What a model costs; money in budgets and the choice of 'auto' go by it.
# [[model]]
# name = "glm-4.6"
# price_in = 2.0              # for a million tokens
# price_out = 8.0

# How much a key, a tenant or all together may use: tokens, requests or money.
# [[budget]]
# name = "robots"
# key = "*"                   # each key has one of its own
# per = "day"
# requests = 500
# timezone = "Asia/Shanghai"

# A channel: 'autoglm send channel:wecom/ops TEXT' goes to a WeCom group. Each kind has a page below docs/channels.
# [[channel]]
# name = "wecom"
# kind = "wecom-robot"
# [channel.robots.ops]
# key_file = "wecom-ops.key"

# A route: whom an event reaches ('autoglm notify'), and who is told when nobody notices; 'autoglm route test' tries it.
# [[route]]
# name = "alarms"
# match = { kinds = ["alert"], min_priority = 7 }
# to = ["channel:wecom/ops"]
# [[route.then]]
# after_s = 120
# to = ["user:shift-leader"]

# How somebody wants to be reached, beside the mailbox.
# [[person]]
# address = "user:shift-leader"
# quiet = { from = "22:00", to = "07:00", from_priority = 8 }
# [[person.reach]]
# by = "channel:wecom/ops"

# An intent of your own, for the choice of 'auto'; 10 examples or more are better than three.
# [[intent]]
# name = "handover"
# examples = ["Who takes over at six?", "note for the night shift", "交接班记录写好了吗"]
"""


@click.group()
def config() -> None:
    """Check and show the settings: defaults < autoglm.toml < AUTOGLM_* variables < options of the command line.

    \b
    Example:
      autoglm config check
      autoglm config show --changed
    """


@config.command()
@data_option
@config_option
@click.option("--mqtt", is_flag=True, help="As for autoglm up: check with its MQTT broker (mqtt_broker.enabled).")
@json_option
def check(data_dir: Path, config_file: Path | None, mqtt: bool, as_json: bool) -> None:
    """Say whether `autoglm up` would take the settings, and what is wrong with them.

    \b
    Example:
      autoglm config check --config ./autoglm.toml
    """
    from autoglm.core.errors import SettingsError
    from autoglm.settings import check_start, load_settings

    try:
        loaded = load_settings(
            config_file_or_default(config_file, data_dir),
            options=with_mqtt() if mqtt else None, data_dir=data_dir, ask_passphrase=passphrase_prompt(),
        )  # fmt: skip
        check_start(loaded.settings)
    except SettingsError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"ok": False, "problems": error.problems}, ensure_ascii=False))
        raise click.exceptions.Exit(1) from None
    if as_json:
        click.echo(json.dumps({"ok": True, "problems": [], "file": str(loaded.file) if loaded.file else None}))
    else:
        source = loaded.file or f"no file ({data_dir / 'autoglm.toml'} does not exist), defaults"
        click.echo(f"The settings are in order: {source}, {len(loaded.origins)} values set.")


@config.command()
@click.option("--changed", is_flag=True, help="Only what is no default.")
@data_option
@config_option
@json_option
def show(changed: bool, data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Show every setting, its value in force, and where that comes from. Secrets are masked.

    \b
    Example:
      autoglm config show --changed
    """
    from autoglm.settings import flat, load_settings

    file = config_file_or_default(config_file, data_dir)
    loaded = load_settings(file, data_dir=data_dir, ask_passphrase=passphrase_prompt())
    rows: list[dict[str, Any]] = [
        {"name": name, "value": value, "origin": loaded.origins.get(name, "default"), "help": text}
        for name, value, text in flat(loaded.settings)
        if not changed or name in loaded.origins
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    click.echo(table(("setting", "value", "from"), [(row["name"], row["value"], row["origin"]) for row in rows]))


@config.command()
@click.option("--print", "only_print", is_flag=True, help="Print it instead of writing it.")
@data_option
def init(only_print: bool, data_dir: Path) -> None:
    """Write DATA/autoglm.toml with every setting as a comment. A file that is there is left alone.

    \b
    Example:
      autoglm config init --print
    """
    text = _commented()
    if only_print:
        click.echo(text, nl=False)
        return
    path = data_dir / "autoglm.toml"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # 0600: it may come to hold keys.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        raise click.ClickException(f"{path} is there already and stays as it is") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    click.echo(f"{path} is written: every setting with its default, and examples, all as comments")


def _commented() -> str:
    """All settings that are one value, as comments, by table."""
    from autoglm.settings import Settings, flat, scalar_paths

    lines = ["# Settings of AutoGLM Hub. Remove the '#' before what you change; autoglm config check looks it over."]
    known = set(scalar_paths())
    current = ""
    for path, value, text in flat(Settings()):
        if path not in known:
            continue
        section, _, name = path.rpartition(".")
        if section != current:
            current = section
            lines += ["", f"# [{section}]"]
        lines.append(f"# {name} = {'' if value == '(none)' else value}".rstrip() + (f"   # {text}" if text else ""))
    return "\n".join(lines) + "\n" + _EXAMPLES
