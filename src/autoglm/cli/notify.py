"""`autoglm notify`: tell of an event, and wait until somebody has noticed where asked to."""

import json
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.destinations import KINDS
from autoglm.cli.letters import shown
from autoglm.cli.options import Duration, HubChoice, hub_options, json_option
from autoglm.cli.send import Label, content_of
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.invocation import command

if TYPE_CHECKING:
    from autoglm.client import Client

_WAIT_S = 30.0


@click.command()
@click.argument("text", required=False)
@click.option("--title", help="A title.")
@click.option("--kind", type=click.Choice(KINDS), help="What it is; event when absent.")
@click.option("-l", "--label", "labels", multiple=True, type=Label(), help="A label; may be repeated.")
@click.option("-p", "--priority", type=click.IntRange(0, 9), help="9 is the most urgent; 5 when absent.")
@click.option("--resolved", is_flag=True, help="The alert with the same sender and labels is over.")
@click.option("--from", "from_", metavar="ADDRESS", help="Sender; the key's own address when absent.")
@click.option("--to", metavar="ADDRESS", help="Whom it concerns, for routes that go by that.")
@click.option("--expires-in", type=Duration(), help="After this time nobody is told any more: 90s, 10m, 2h, 1d.")
@click.option("--id", metavar="ID", help="Your own id: telling the same under it twice tells it once.")
@click.option("--wait", type=Duration(), help="Wait so long until somebody acknowledges: 90s, 10m, 2h.")
@hub_options
@json_option
def notify(
    *, text: str | None, title: str | None, kind: str | None, labels: tuple[tuple[str, str], ...],
    priority: int | None, resolved: bool, from_: str | None, to: str | None, expires_in: float | None, id: str | None,
    wait: float | None, hub: HubChoice, as_json: bool,
) -> None:  # fmt: skip
    """Tell of an event; the routes of the settings decide whom it reaches, by which channels, and what follows when
    nobody notices. It is on the hub's disk when the command ends. TEXT is read from standard input when it is absent
    or '-'.

    \b
    Example:
      autoglm notify "The press is down." --title "Press 7" --kind alert --label line=3 -p 9
      autoglm notify "It runs again." --kind alert --label line=3 --resolved
      autoglm notify "Who can come?" --wait 10m
    """
    with hub.client() as client:
        sent = client.notify(
            content_of(text), title=title, kind=kind, labels=dict(labels), priority=priority, to=to, from_=from_,
            state="resolved" if resolved else None, id=id,
            expires_at=None if expires_in is None else now_ms() + int(expires_in * 1000),
        )  # fmt: skip
        if wait is None:
            told = {"id": sent.id, "seq": sent.seq} | ({"warning": sent.warning} if sent.warning else {})
            click.echo(json.dumps(told) if as_json else f"accepted  {sent.id}  seq {sent.seq}")
            if sent.warning:
                click.echo(_why_nobody(sent.warning, hub), err=True)
            return
        click.echo(f"accepted  {sent.id}  seq {sent.seq}", err=True)
        if sent.warning:
            raise click.ClickException(_why_nobody(sent.warning, hub))
        account = _wait(client, sent.id, wait)
    if as_json:
        click.echo(json.dumps(account, ensure_ascii=False))
    elif account["acknowledged_by"]:
        click.echo(shown(f"acknowledged by {account['acknowledged_by']}"))
    if not account["acknowledged_by"]:
        raise click.ClickException(_nobody(account, wait))


def _why_nobody(warning: str, hub: HubChoice) -> str:
    """For an event of which nobody is told."""
    match warning:
        case "silenced":
            return f"nobody is told: a silence mutes it; {command('silences', hub.folder)} shows it"
        case "inhibited":
            return "nobody is told: an [[inhibit]] mutes it while another alert fires"
        case _:
            return "nobody is told: no [[route]] takes it; autoglm route test says why"


def _wait(client: "Client", id: str, wait_s: float) -> dict[str, Any]:
    deadline_s = monotonic_s() + wait_s
    while True:
        left_s = max(0.0, deadline_s - monotonic_s())
        account = client.event(id, wait_s=round(min(_WAIT_S, left_s), 3))
        if account["acknowledged_by"] or left_s == 0.0 or account["is_over"]:
            return account


def _nobody(account: dict[str, Any], wait_s: float) -> str:
    if not account["notices"]:
        return f"nobody was told within {wait_s:g} s"
    told = ", ".join(dict.fromkeys(one["notice"]["to"] for one in account["notices"]))
    if account["is_over"]:
        return f"nobody acknowledged, and nobody can any more: no message arrived (told: {told})"
    goes_on = "; the hub goes on" if account["is_open"] else ""
    return f"nobody acknowledged within {wait_s:g} s (told so far: {told}){goes_on}"
