"""`autoglm groups`: one address for many."""

import json

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import table
from autoglm.invocation import command


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def groups(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show the groups and their members. A message to group:NAME reaches those who are members at that moment.

    \b
    Example:
      autoglm groups
      autoglm groups set ops user:alice user:bob device:press-7
      autoglm groups remove ops
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.groups()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo(f"There is no group yet; {command('groups set NAME MEMBER...', hub.folder)} makes one.")
        return
    rows = [(group["name"], str(len(group["members"])), " ".join(group["members"])) for group in found]
    click.echo(table(("name", "size", "members"), rows))


@groups.command("set")
@click.argument("name")
@click.argument("members", nargs=-1, required=True, metavar="MEMBER...")
@hub_options
@json_option
def set_members(name: str, members: tuple[str, ...], hub: HubChoice, as_json: bool) -> None:
    """Make the group NAME of these users and devices, or give it these in place of those it has.

    \b
    Example:
      autoglm groups set ops user:alice user:bob device:press-7
    """
    with hub.client() as client:
        group = client.set_group(name, members)
    if as_json:
        click.echo(json.dumps(group, ensure_ascii=False))
    else:
        click.echo(shown(f"group:{group['name']} reaches {', '.join(group['members'])}"))


@groups.command()
@click.argument("name")
@hub_options
@json_option
def remove(name: str, hub: HubChoice, as_json: bool) -> None:
    """Remove the group NAME. Messages that it got stay with those who were its members.

    \b
    Example:
      autoglm groups remove ops
    """
    with hub.client() as client:
        client.remove_group(name)
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"group:{name} is removed"))
