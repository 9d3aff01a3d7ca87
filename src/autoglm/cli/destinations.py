"""`autoglm route test`: where an event would go, and why."""

import json
from typing import Any

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.cli.send import Label, content_of

KINDS = ("event", "alert", "log")


@click.command()
@click.argument("text", required=False)
@click.option("--title", help="A title.")
@click.option("--kind", type=click.Choice(KINDS), help="What it is; event when absent.")
@click.option("-l", "--label", "labels", multiple=True, type=Label(), help="A label; may be repeated.")
@click.option("-p", "--priority", type=click.IntRange(0, 9), help="9 is the most urgent; 5 when absent.")
@click.option("--from", "from_", metavar="ADDRESS", help="Sender; the key's own address when absent.")
@click.option("--to", metavar="ADDRESS", help="Whom it concerns.")
@hub_options
@json_option
def test(
    *, text: str | None, title: str | None, kind: str | None, labels: tuple[tuple[str, str], ...],
    priority: int | None, from_: str | None, to: str | None, hub: HubChoice, as_json: bool,
) -> None:  # fmt: skip
    """Say where an event would go now, and why: the routes that were asked, the addresses, how it would read, and what
    would follow. Nothing is sent. Needs a key with admin:alarms.

    \b
    Example:
      autoglm route test "The press is down." --kind alert --label line=3 --priority 9
    """
    given = {
        "content": content_of(text), "title": title, "kind": kind, "labels": dict(labels) or None,
        "priority": priority, "from": from_, "to": to,
    }  # fmt: skip
    event = {name: value for name, value in given.items() if value is not None}
    with hub.client() as client:
        found = client.try_routes(event)
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else shown("\n".join(_lines(found))))


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    if found["silenced_by"]:
        lines.append(f"silenced: it goes nowhere, because of silence {found['silenced_by']}")
    if found["inhibited_by"]:
        lines.append(f"inhibited: it goes nowhere, because of [[inhibit]] {found['inhibited_by']!r}")
    for route in found["routes"]:
        lines.append(f"{'yes' if route['matches'] else 'no '}  {route['route']}: {route['reason']}")
        if route["matches"]:
            lines += [f"     {line}" for line in _destinations(route)]
    if not any(route["matches"] for route in found["routes"]):
        lines.append("It would be kept, and nobody told: no [[route]] matches.")
    return lines


def _destinations(route: dict[str, Any]) -> list[str]:
    at_once = f"after up to {route['group_wait_s']:g} s with others" if route["group_wait_s"] else "at once"
    lines = [f"{at_once} to {one['to']} ({one['reason']})" for one in route["to"]] or ["to nobody"]
    lines += [
        f"after {step['after_s']:g} s, unless {step['unless']}, to {', '.join(step['to'])}" for step in route["then"]
    ]
    if route["repeat_s"]:
        lines.append(f"again every {route['repeat_s']:g} s, until somebody acknowledges")
    if route["template_error"]:
        lines.append(f"its template does not work, so the text goes out without it: {route['template_error']}")
    text = [f"| {line}" for line in route["text"].split("\n")]
    return [*lines, *([f"| {route['title']}"] if route["title"] and route["title"] not in route["text"] else []), *text]
