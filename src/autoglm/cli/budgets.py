"""`autoglm budgets`: what is used of the budgets of a running hub."""

import json
from typing import Any

import click

from autoglm.cli.options import HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def budgets(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show what is used of each budget, its limits, and when it begins anew. A key that is no admin's sees its own.

    \b
    Example:
      autoglm budgets
      autoglm budgets reset wards --subject ward-3
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.budgets()
    _show(found, as_json=as_json)


@budgets.command()
@click.argument("name")
@click.option("--subject", help="Only the budget of this key or tenant.")
@hub_options
@json_option
def reset(name: str, subject: str | None, hub: HubChoice, as_json: bool) -> None:
    """Let the budget NAME begin anew before its time: for everybody who has it, or for one key or tenant.

    \b
    Example:
      autoglm budgets reset wards --subject ward-3
    """
    with hub.client() as client:
        found = client.reset_budget(name, subject)
    _show(found, as_json=as_json)


def _show(found: list[Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo("Nothing has been counted in a budget yet; a [[budget]] in autoglm.toml makes one.")
        return
    rows = [
        (
            budget["budget"], _whose(budget), _use(budget["tokens"]), _use(budget["requests"]),
            f"{_use(budget['money'])} {budget['currency']}", budget["per"], local_time(budget["resets_at"]),
        )
        for budget in found
    ]  # fmt: skip
    click.echo(table(("name", "of", "tokens", "requests", "money", "per", "begins anew"), rows))


def _whose(budget: Any) -> str:
    kind = next((kind for kind in ("key", "tenant") if budget[kind] is not None), None)
    return "all" if kind is None else f"{kind} {budget[kind]}"


def _use(use: Any) -> str:
    return f"{use['used']:g}" if use["limit"] is None else f"{use['used']:g}/{use['limit']:g}"
