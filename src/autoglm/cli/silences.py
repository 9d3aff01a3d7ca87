"""`autoglm silences`: what is silent for a while."""

import json

import click

from autoglm.cli.destinations import KINDS
from autoglm.cli.letters import shown
from autoglm.cli.options import Duration, HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.cli.send import Label
from autoglm.core.clock import now_ms


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def silences(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show the silences in force: events like these go nowhere until then.

    \b
    Example:
      autoglm silences
      autoglm silences add --label line=3 --for 2h --comment "Maintenance"
      autoglm silences end ID
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.silences()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo("Nothing is silenced.")
        return
    rows = [
        (
            one["id"], local_time(one["until"]), one["by"],
            " ".join([*one["kinds"], *(f"{name}={value}" for name, value in one["labels"].items())]), one["comment"],
        )
        for one in found
    ]  # fmt: skip
    click.echo(table(("id", "until", "by", "events", "comment"), rows))


@silences.command()
@click.option("-l", "--label", "labels", multiple=True, type=Label(), help="A label, * for anything; may be repeated.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these; may be repeated.")
@click.option("--for", "for_s", type=Duration(), required=True, help="How long: 90s, 10m, 2h, 1d.")
@click.option("--comment", default="", help="Why, for others.")
@hub_options
@json_option
def add(
    labels: tuple[tuple[str, str], ...], kinds: tuple[str, ...], for_s: float, comment: str, *, hub: HubChoice,
    as_json: bool,
) -> None:  # fmt: skip
    """Silence events with these labels or of these kinds for a while.

    \b
    Example:
      autoglm silences add --label line=3 --for 2h --comment "Maintenance"
    """
    if not labels and not kinds:
        raise click.UsageError("say which events, by --label or --kind")
    with hub.client() as client:
        made = client.silence(
            labels=dict(labels), kinds=kinds, until=now_ms() + int(for_s * 1000), comment=comment
        )  # fmt: skip
    words = f"{made['id']} is in force until {local_time(made['until'])}"
    click.echo(json.dumps(made, ensure_ascii=False) if as_json else shown(words))


@silences.command()
@click.argument("id")
@hub_options
@json_option
def end(id: str, hub: HubChoice, as_json: bool) -> None:
    """End the silence ID before its time.

    \b
    Example:
      autoglm silences end 019a0000-0000-7000-8000-000000000000
    """
    with hub.client() as client:
        client.end_silence(id)
    click.echo(json.dumps({"id": id}) if as_json else shown(f"{id} has ended"))
