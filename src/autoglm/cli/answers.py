"""Waits for a person's answer to a question, and prints it."""

import json
from typing import TYPE_CHECKING

import click

from autoglm.cli.letters import shown

if TYPE_CHECKING:
    from autoglm.client import Client

_WAIT_S = 30.0


def print_answer(client: "Client", id: str, as_json: bool) -> None:
    """Returns at the answer; exits with 1 when none can come any more."""
    is_noticed = False
    while (question := client.question(id, wait_s=_WAIT_S))["state"] == "open":
        if question["acknowledged_by"] and not is_noticed:
            is_noticed = True
            click.echo(f"noticed by {question['acknowledged_by']}", err=True)
    if as_json:
        click.echo(json.dumps(question, ensure_ascii=False))
    elif question["answer"] is not None:
        answer = question["answer"]
        click.echo(shown(answer["choice"] or answer["text"]))
    match question["state"]:
        case "expired":
            raise click.ClickException(f"nobody answered the question {id} in time")
        case "failed":
            raise click.ClickException(f"the question {id} reached nobody: {question['error']}")
        case _:
            pass
