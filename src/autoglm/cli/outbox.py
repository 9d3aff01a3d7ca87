"""`autoglm outbox`: what waits to go out by channels, and what could not be delivered."""

import json
from typing import Any

import click

from autoglm.cli.letters import content_text, shown
from autoglm.cli.options import HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.invocation import command

_TEXT_SHOWN = 60


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def outbox(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show what waits to go out, by channel and target, and why it waits. Needs a key with admin:channels.

    \b
    Example:
      autoglm outbox
      autoglm outbox dead
      autoglm outbox resend ID --to channel:mail/ops@example.org
      autoglm outbox retry wecom
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.outbox()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    lanes = [lane for lane in found["lanes"] if lane["waiting"] or lane["has_more"]]
    if lanes:
        rows = [(_name(lane), _count(lane), str(lane["running"]), _pause(lane)) for lane in lanes]
        click.echo(table(("lane", "waiting", "running", "why it waits"), rows))
    else:
        click.echo("Nothing waits to go out.")
    if found["dead_letters"]:
        words = command("outbox dead", hub.folder)
        click.echo(f"{found['dead_letters']} could not be delivered: {words}")


@outbox.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@hub_options
@json_option
def dead(limit: int, hub: HubChoice, as_json: bool) -> None:
    """Show the messages that could not be delivered, the newest first: where to, the vendor's code, and the reason.

    \b
    Example:
      autoglm outbox dead
    """
    with hub.client() as client:
        found = client.dead_letters(limit=limit)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo("Everything could be delivered.")
    for letter in found:
        message = letter["message"]
        text = " ".join(content_text(message["content"]).split())
        text = text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}..."
        attempts = f"{letter['attempts']} attempt{'' if letter['attempts'] == 1 else 's'}"
        click.echo(
            shown(f"{message['id']}  {local_time(letter['time'])}  {message['from']} -> {message['to']}  {text}")
        )
        click.echo(shown(f"    {letter['code']}: {letter['reason']} ({attempts})"))


@outbox.command()
@click.argument("id")
@click.option("--to", metavar="ADDRESS", help="Another address.")
@click.option("--text", help="Another text, in place of all that was in it.")
@hub_options
@json_option
def resend(id: str, to: str | None, text: str | None, hub: HubChoice, as_json: bool) -> None:
    """Send the dead letter ID again, as a new message: as it was, or edited. The letter is gone then.

    \b
    Example:
      autoglm outbox resend order-17 --text "Shorter."
    """
    with hub.client() as client:
        sent = client.resend(id, to=to, content=text)
    click.echo(json.dumps(sent) if as_json else shown(f"accepted  {sent['id']}  seq {sent['seq']}"))


@outbox.command()
@click.argument("id")
@hub_options
@json_option
def drop(id: str, hub: HubChoice, as_json: bool) -> None:
    """Forget the dead letter ID. The message and its receipts stay.

    \b
    Example:
      autoglm outbox drop order-17
    """
    with hub.client() as client:
        client.drop_dead_letter(id)
    click.echo(json.dumps({"id": id}) if as_json else shown(f"{id} is dropped"))


@outbox.command()
@click.argument("channel")
@hub_options
@json_option
def retry(channel: str, hub: HubChoice, as_json: bool) -> None:
    """Try now what waits for its next attempt on CHANNEL, within its vendor's limit: something was put right.

    \b
    Example:
      autoglm outbox retry wecom
    """
    with hub.client() as client:
        lanes = client.retry_channel(channel)
    if as_json:
        click.echo(json.dumps({"lanes": lanes}))
    else:
        click.echo(shown(f"{channel}: {lanes} lane{'' if lanes == 1 else 's'} tried now"))


def _name(lane: dict[str, Any]) -> str:
    return f"{lane['channel']}/{lane['target']}" if lane["target"] else str(lane["channel"])


def _count(lane: dict[str, Any]) -> str:
    return f"{lane['waiting']}{' and more' if lane['has_more'] else ''}"


def _pause(lane: dict[str, Any]) -> str:
    if not lane["code"]:
        return "in line" if not lane["paused_s"] else f"for {lane['paused_s']:.0f} s"
    until = f"; next try in {lane['next_try_s']:.0f} s" if lane["next_try_s"] else ""
    return f"{lane['code']}: {lane['reason']}{until}"
