"""`autoglm pool`: the instances of a running hub."""

import json
import time
from typing import Any

import click

from autoglm.cli.options import HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.invocation import command

_LOOK_AGAIN_S = 0.5


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def pool(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show the instances: their state, how many requests run and wait there, and their last error.

    \b
    Example:
      autoglm pool
      autoglm pool resume glm-a
      autoglm pool drain glm-a --wait
      autoglm pool stop small
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        instances = client.pool()
    if as_json:
        click.echo(json.dumps(instances, ensure_ascii=False))
        return
    if not instances:
        pull = command("models pull qwen2.5-coder-0.5b", hub.folder)
        click.echo(f"There is no instance: {pull}, or add an [[instance]] to autoglm.toml.")
        return
    rows = [
        (
            instance["name"], instance["provider"], instance["state"], local_time(instance["since"]),
            f"{instance['running']}/{instance['slots']}", str(instance["waiting"]), _engine(instance.get("engine")),
            " ".join(instance["models"]), instance["error"],
        )
        for instance in instances
    ]  # fmt: skip
    click.echo(table(("name", "provider", "state", "since", "running", "waiting", "engine", "models", "error"), rows))


def _engine(reading: dict[str, Any] | None) -> str:
    """`12+3 40%`: running, waiting and use of the KV cache, of all clients; empty when the engine does not tell."""
    if reading is None:
        return ""
    cache = "" if reading["cache_use"] is None else f" {reading['cache_use']:.0%}"
    return f"{reading['running']}+{reading['waiting']}{cache}"


@pool.command()
@click.argument("name")
@hub_options
@json_option
def resume(name: str, hub: HubChoice, as_json: bool) -> None:
    """Tell the hub that what blocked an instance is gone: the key is renewed, the bill is paid.

    \b
    Example:
      autoglm pool resume glm-a
    """
    with hub.client() as client:
        state = client.resume(name)
    click.echo(json.dumps(state) if as_json else f"{state['name']} is {state['state']}")


@pool.command()
@click.argument("name")
@click.option("--wait", "waits", is_flag=True, help="Return once nothing runs there any more.")
@hub_options
@json_option
def drain(name: str, waits: bool, hub: HubChoice, as_json: bool) -> None:
    """Take an instance out: what runs there ends, and nothing new begins, until `pool resume`.

    \b
    Example:
      autoglm pool drain glm-a --wait
    """
    with hub.client() as client:
        state = client.drain(name)
        while waits and state["state"] != "drained":
            time.sleep(_LOOK_AGAIN_S)
            state = client.drain(name)
    running = f": {state['running']} still run there" if state["running"] else ""
    click.echo(json.dumps(state) if as_json else f"{state['name']} is {state['state']}{running}")


@pool.command()
@click.argument("name")
@hub_options
@json_option
def start(name: str, hub: HubChoice, as_json: bool) -> None:
    """Start a worker of a local instance now: after a stop, or before anybody asks for it.

    \b
    Example:
      autoglm pool start small
    """
    with hub.client() as client:
        state = client.start(name)
    now = "starts" if state["state"] == "idle" else f"is {state['state']}"  # the start itself takes seconds
    click.echo(json.dumps(state) if as_json else f"{state['name']} {now}")


@pool.command()
@click.argument("name")
@hub_options
@json_option
def stop(name: str, hub: HubChoice, as_json: bool) -> None:
    """Stop the workers of a local instance, once the requests that run there have ended, and start none for it.

    \b
    Example:
      autoglm pool stop small
    """
    with hub.client() as client:
        state = client.stop(name)
    click.echo(json.dumps(state) if as_json else f"{state['name']} is {state['state']}")
