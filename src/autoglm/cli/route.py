"""`autoglm route`: what the hub understands of requests, and why it sends them where it does."""

import json

import click

from autoglm.cli.decisions import decisions, explain, judge, replay
from autoglm.cli.destinations import test
from autoglm.cli.letters import shown
from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.cli.screen import table


@click.group()
def route() -> None:
    """What the hub understands of requests, and where it sends them; where an event would go.

    \b
    Example:
      autoglm route explain
      autoglm route test "The press is down." --kind alert --label line=3
      autoglm route intent "Translate this into French: good morning"
      autoglm route teach handover "Who takes over at six?" "交接班记录" "note for the night shift"
    """


for command in (explain, decisions, judge, replay, test):
    route.add_command(command)


@route.command()
@click.argument("text")
@hub_options
@json_option
def intent(text: str, hub: HubChoice, as_json: bool) -> None:
    """Show what a running hub understands of TEXT: intent, language and the rest that a choice goes by.

    \b
    Example:
      autoglm route intent "Why does this loop never end?"
    """
    with hub.client() as client:
        features = client.understand(text)
    if as_json:
        click.echo(json.dumps(features, ensure_ascii=False))
        return
    named = f"{features['intent']} ({features['confidence']:.2f}, {features['source']})" if features["intent"] else "-"
    marks = [name for name in ("has_code", "has_mathematics") if features[name]]
    rows = [
        ("intent", named), ("language", features["language"]), ("tokens", str(features["prompt_tokens"])),
        ("marks", " ".join(marks) or "-"),
    ]  # fmt: skip
    click.echo(table(("feature", "value"), rows))


@route.command()
@click.argument("name")
@click.argument("examples", nargs=-1, required=True, metavar="EXAMPLE...")
@hub_options
@json_option
def teach(name: str, examples: tuple[str, ...], hub: HubChoice, as_json: bool) -> None:
    """Teach a running hub the intent NAME by examples of what users write; a new one needs three.

    \b
    Example:
      autoglm route teach handover "Who takes over at six?" "交接班记录" "note for the night shift"
    """
    with hub.client() as client:
        known = client.teach_intent(name, examples)
    if as_json:
        click.echo(json.dumps(known, ensure_ascii=False))
    else:
        click.echo(shown(f"{known['name']} is known by {known['examples']} examples, {known['taught']} of them taught"))


@route.command()
@hub_options
@json_option
def intents(hub: HubChoice, as_json: bool) -> None:
    """List the intents that a running hub knows, and by how many examples.

    \b
    Example:
      autoglm route intents
    """
    with hub.client() as client:
        known = client.intents()
    if as_json:
        click.echo(json.dumps(known, ensure_ascii=False))
        return
    rows = [(entry["name"], str(entry["examples"]), str(entry["taught"])) for entry in known]
    click.echo(table(("name", "examples", "taught"), rows))


@route.command()
@click.argument("name")
@hub_options
@json_option
def forget(name: str, hub: HubChoice, as_json: bool) -> None:
    """Take back what was taught of the intent NAME; what the hub or the settings know of it stays.

    \b
    Example:
      autoglm route forget handover
    """
    with hub.client() as client:
        client.forget_intent(name)
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"{name} is forgotten"))
