"""`autoglm mcp`: the hub's tools for agents, over standard input and output."""

import importlib.util
import json

import anyio
import click

from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.cli.screen import table
from autoglm.core.errors import MissingExtra

EXTRA = "mcp"


@click.command()
@click.option("--list", "lists", is_flag=True, help="Show the tools, and end.")
@hub_options
@json_option
def mcp(lists: bool, hub: HubChoice, as_json: bool) -> None:
    """Serve a hub's tools to an agent, by the Model Context Protocol: send a message, notify, ask a person and wait for
    the answer, read an inbox, list the instances. It speaks on standard input and output until its input ends; agents
    start it themselves. Needs the extra 'mcp'.

    \b
    Example:
      autoglm mcp
      autoglm mcp --url https://hub.example.org --ca-file ca.pem
      autoglm mcp --list
    """
    if importlib.util.find_spec("mcp") is None:
        raise MissingExtra(EXTRA, "autoglm mcp")
    from autoglm.mcp.server import make_server

    server = make_server(hub.client)
    if not lists:
        server.run("stdio")
        return
    tools = anyio.run(server.list_tools)
    if as_json:
        click.echo(json.dumps([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]))
    else:
        click.echo(table(("tool", "what it does"), [(tool.name, _first_sentence(tool.description)) for tool in tools]))


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split()).split(". ")[0].rstrip(".")
