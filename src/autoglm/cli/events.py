"""`autoglm events`: the last events, and what became of one."""

import json

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.cli.timeline import timeline
from autoglm.invocation import command

_TEXT_SHOWN = 40


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@hub_options
@json_option
def events(ctx: click.Context, limit: int, hub: HubChoice, as_json: bool) -> None:
    """Show the last events, the newest first: whom each reached, and who has noticed. Needs a key with admin:alarms.

    \b
    Example:
      autoglm events
      autoglm events show ID
      autoglm events ack ID
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.events(limit=limit)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo(f"There was no event yet; {command('notify', hub.folder)} TEXT tells of one.")
        return
    rows = []
    for entry in found:
        event = entry["event"]
        text = " ".join(f"{event.get('title', '')} {event['content']}".split())
        text = text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}..."
        state = f"by {entry['acknowledged_by']}" if entry["acknowledged_by"] else "open" if entry["is_open"] else "-"
        rows.append((event["id"], local_time(event["timestamp"]), state, " ".join(entry["told"]) or "nobody", text))
    click.echo(table(("id", "time", "noticed", "told", "event"), rows))


@events.command()
@click.argument("id")
@hub_options
@json_option
def show(id: str, hub: HubChoice, as_json: bool) -> None:
    """Show what became of the event ID, step by step: each message, each attempt, each receipt.

    \b
    Example:
      autoglm events show press-7-alarm
    """
    with hub.client() as client:
        account = client.event(id)
    click.echo(json.dumps(account, ensure_ascii=False) if as_json else shown("\n".join(timeline(account))))


@events.command()
@click.argument("id")
@hub_options
@json_option
def ack(id: str, hub: HubChoice, as_json: bool) -> None:
    """Say that somebody has noticed the event ID: nobody is told any more.

    \b
    Example:
      autoglm events ack press-7-alarm
    """
    with hub.client() as client:
        account = client.acknowledge_event(id)
    words = f"{id} is acknowledged by {account['acknowledged_by']}"
    click.echo(json.dumps(account, ensure_ascii=False) if as_json else shown(words))
