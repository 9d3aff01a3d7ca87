"""`autoglm send`: put a message into the hub, and wait for what comes of it where asked to."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.answers import print_answer
from autoglm.cli.letters import content_text, letter, shown
from autoglm.cli.options import Duration, HubChoice, hub_options, json_option
from autoglm.cli.pipe import is_terminal, piped_text
from autoglm.core.clock import now_ms

if TYPE_CHECKING:
    from autoglm.client import Client, Sent

_KINDS = ("chat", "event", "alert", "log", "task")


class Label(click.ParamType[tuple[str, str]]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        label, separator, text = str(value).partition("=")
        if not separator or not label:
            self.fail(f"{value!r} is no label such as line=3", param, ctx)
        return label, text


@click.command()
@click.argument("to")
@click.argument("text", required=False)
@click.option("--from", "from_", metavar="ADDRESS", help="Sender; the key's own address when absent.")
@click.option("--kind", type=click.Choice(_KINDS), help="What it is; chat when absent.")
@click.option("-p", "--priority", type=click.IntRange(0, 9), help="9 is the most urgent; 5 when absent.")
@click.option("-l", "--label", "labels", multiple=True, type=Label(), help="A label; may be repeated.")
@click.option("--reply-to", metavar="ID", help="The message that this one answers.")
@click.option("--thread", metavar="ID", help="The conversation that it belongs to.")
@click.option("--expires-in", type=Duration(), help="After this time it is not handed out any more: 90s, 10m, 2h, 1d.")
@click.option("--id", metavar="ID", help="Your own id: sending the same message twice under it stores it once.")
@click.option("--wait", is_flag=True, help="Wait for the answer or the acknowledgement, and print it.")
@click.option(
    "--choice", "choices", multiple=True, metavar="TEXT", help="An answer to choose from; may be repeated. With --wait."
)
@hub_options
@json_option
def send(
    *, to: str, text: str | None, from_: str | None, kind: str | None, priority: int | None,
    labels: tuple[tuple[str, str], ...], reply_to: str | None, thread: str | None, expires_in: float | None,
    id: str | None, wait: bool, choices: tuple[str, ...], hub: HubChoice, as_json: bool,
) -> None:  # fmt: skip
    """Send a message to an address: user:alice, group:ops, device:press-7, model:auto, or by a channel of the settings,
    channel:NAME/TARGET. It is on the hub's disk when the command ends, and is stored once even when the connection was
    lost on the way. TEXT is read from standard input when it is absent or '-'.

    \b
    Example:
      autoglm send user:alice "The press is down." --priority 9 --label line=3
      autoglm send model:auto "What is a quorum?" --wait
      autoglm send user:alice "Stop press 7?" --choice yes --choice no --wait --expires-in 10m
      journalctl -u press -n 20 | autoglm send group:ops - --kind log --expires-in 2h
    """
    content = content_of(text)
    if choices:
        if not wait:
            raise click.UsageError("--choice asks a question, whose answer this command waits for: add --wait")
        if named := [
            name for name, given in (("--kind", kind), ("--reply-to", reply_to), ("--thread", thread)) if given
        ]:
            raise click.UsageError(f"--choice asks a question, which has no {', '.join(named)}: leave that out")
        with hub.client() as client:
            asked = client.ask_person(
                to, content, choices=choices, expires_in_s=None if expires_in is None else max(1, int(expires_in)),
                priority=priority, labels=dict(labels), from_=from_, id=id,
            )  # fmt: skip
            click.echo(f"accepted  {asked.id}  seq {asked.seq}", err=True)
            print_answer(client, asked.id, as_json)
        return
    expires_at = None if expires_in is None else now_ms() + int(expires_in * 1000)
    with hub.client() as client:
        sent = client.send(
            to, content, id=id, from_=from_, kind=kind, priority=priority, labels=dict(labels), reply_to=reply_to,
            thread=thread, expires_at=expires_at,
        )  # fmt: skip
        if not wait:
            click.echo(
                json.dumps({"id": sent.id, "seq": sent.seq}) if as_json else f"accepted  {sent.id}  seq {sent.seq}"
            )
            return
        click.echo(f"accepted  {sent.id}  seq {sent.seq}", err=True)
        _wait(client, sent, from_, as_json)


def content_of(text: str | None) -> str:
    """The argument, or what is piped in. Raises UsageError where there is neither."""
    if text not in (None, "-"):
        return str(text)
    if text is None and is_terminal():
        raise click.UsageError("there is no TEXT; '-' reads it from standard input")
    content = piped_text().rstrip("\n")
    if not content:
        raise click.UsageError("there is no TEXT: standard input is empty")
    return content


def _wait(client: "Client", sent: "Sent", from_: str | None, as_json: bool) -> None:
    """Returns at the answer or the acknowledgement; exits with 1 when neither can come any more."""
    for event in client.follow(from_, after=sent.seq, on_drop=_tell_drop):
        data = event.data
        if event.kind == "message" and data.get("reply_to") == sent.id:
            if as_json:
                click.echo(json.dumps(data, ensure_ascii=False))
            else:
                click.echo(letter(data) if sys.stdout.isatty() else content_text(data["content"]))
            return
        if event.kind != "receipt" or data["message"] != sent.id:
            continue
        match data["state"]:
            case "acknowledged":
                click.echo(json.dumps(data) if as_json else shown(f"acknowledged by {data['by']}"))
                return
            case "failed" | "expired" | "cancelled":
                reason = f": {data['detail']}" if data.get("detail") else ""
                raise click.ClickException(f"the message {sent.id} {_ENDINGS[data['state']]}{reason}")
            case state:
                click.echo(f"{state} by {data['by']}" if data.get("by") else state, err=True)


_ENDINGS = {"failed": "failed", "expired": "expired before anybody took it", "cancelled": "was cancelled"}


def _tell_drop(error: Exception) -> None:
    click.echo(f"{error}; trying again", err=True)
