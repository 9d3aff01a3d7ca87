"""`autoglm inbox`: read the messages to an address, once or as they come."""

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.letters import letter
from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.core.errors import HubError

if TYPE_CHECKING:
    from autoglm.client import Client

_POLL_S = 30.0


@click.command()
@click.argument("address", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing messages as they come, until Ctrl-C.")
@click.option("--after", type=click.IntRange(min=0), help="Only messages behind this place in the log (their seq).")
@click.option("--reader", metavar="NAME", help="Let the hub remember the place: each message is printed once for NAME.")
@click.option("--ack", is_flag=True, help="Acknowledge each message once it is printed.")
@hub_options
@json_option
def inbox(
    *,
    address: str | None,
    follow: bool,
    after: int | None,
    reader: str | None,
    ack: bool,
    hub: HubChoice,
    as_json: bool,
) -> None:
    """Print the messages to ADDRESS, oldest first; to the key's own address when it is absent. With --json each is one
    line.

    \b
    Example:
      autoglm inbox user:alice --reader phone
      autoglm inbox device:press-7 --follow --ack --json
    """
    with hub.client(patience_s=math.inf if follow else None) as client:
        to = address or client.own_address()
        for message in _messages(client, to, follow, after, reader):
            click.echo(json.dumps(message, ensure_ascii=False) if as_json else letter(message))
            if ack:
                client.ack(message["id"], by=to)


def _messages(
    client: "Client", to: str, follow: bool, after: int | None, reader: str | None
) -> Iterator[dict[str, Any]]:
    if follow and reader is None:
        for event in client.follow(to, after=after or 0, on_drop=_tell_drop):
            if event.kind == "message":
                yield event.data
        return
    # A named reader confirms by asking on, so each page is asked for only when the one before it is printed.
    while True:
        page = client.inbox(to, after=after, reader=reader, wait_s=_POLL_S if follow else 0.0)
        yield from page.messages
        after = page.next
        if not page.messages and not follow:
            return


def _tell_drop(error: HubError) -> None:
    click.echo(f"{error}; trying again", err=True)
