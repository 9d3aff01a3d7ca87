"""`autoglm route explain | decisions | judge | replay`: what the hub chose for `auto`, why, and how good it was."""

import json
import math
from typing import Any

import click

from autoglm.cli.explanation import explanation, judgement_that_counts, what_if
from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.cli.screen import local_time, table

_NOTHING_YET = "nothing has been decided yet: ask with --model auto first"


@click.command()
@click.argument("id", required=False)
@hub_options
@json_option
def explain(id: str | None, hub: HubChoice, as_json: bool) -> None:
    """Say why a request went where it went: what was understood, who could have answered, and what came out.

    ID is in the answer's header x-autoglm-decision, and in `autoglm ask --json`; without one, the last decision.

    \b
    Example:
      autoglm route explain
      autoglm route explain 019a5b7e-93f4-7c11-8a55-0d6ecdd8f3c1
    """
    with hub.client() as client:
        if id is None:
            last = client.decisions(limit=1)
            if not last:
                raise click.ClickException(_NOTHING_YET)
            id = last[0]["decision"]["id"]
        account = client.decision(id)
    click.echo(json.dumps(account, ensure_ascii=False) if as_json else explanation(account))


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@hub_options
@json_option
def decisions(limit: int, hub: HubChoice, as_json: bool) -> None:
    """List the last decisions, the newest first.

    \b
    Example:
      autoglm route decisions --limit 5
    """
    with hub.client() as client:
        accounts = client.decisions(limit=limit)
    if as_json:
        click.echo(json.dumps(accounts, ensure_ascii=False))
        return
    if not accounts:
        click.echo(_NOTHING_YET)
        return
    click.echo(
        table(
            ("time", "id", "intent", "prefer", "model", "chance", "took", "judged"),
            [_row(account) for account in accounts],
        )
    )


def _row(account: dict[str, Any]) -> tuple[str, ...]:
    decision, outcome = account["decision"], account["outcome"] or {}
    chosen = decision["candidates"][decision["chosen"]]
    return (
        local_time(decision["time_ms"]), decision["id"], decision["features"]["intent"] or "-", decision["prefer"],
        outcome.get("moved_to") or chosen["arm"]["model"], f"{100 * chosen['propensity']:.0f}%",
        f"{outcome['took_s']:.2f} s" if outcome else "-", _judged(account["feedback"]),
    )  # fmt: skip


def _judged(feedback: list[dict[str, Any]]) -> str:
    """The judgement that counts, and how many there are: `1.00 (of 3)`."""
    counts = judgement_that_counts(feedback)
    if counts is None:
        return "-"
    return f"{counts['quality']:.2f}" + (f" (of {len(feedback)})" if len(feedback) > 1 else "")


@click.command()
@click.argument("id")
@click.argument("quality")
@hub_options
@json_option
def judge(id: str, quality: str, hub: HubChoice, as_json: bool) -> None:
    """Say how good the answer to a decision was: up, down, or a number from 0 to 1. The hub learns from it.

    \b
    Example:
      autoglm route judge 019a5b7e-93f4-7c11-8a55-0d6ecdd8f3c1 up
    """
    judgement: dict[str, Any] = {"thumb": quality} if quality in ("up", "down") else {"quality": _share(quality)}
    with hub.client() as client:
        noted = client.feedback(id, **judgement)
    click.echo(json.dumps(noted) if as_json else f"noted: {noted['quality']:g}, by a {noted['source']}")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:  # false for NaN, too
        raise click.BadParameter("must be up, down, or a number from 0 to 1", param_hint="QUALITY")
    return share


@click.command()
@click.option(
    "--policy", required=True,
    help="fast, balanced, best, cheap, random, order (that of the settings), or always:MODEL.",
)  # fmt: skip
@click.option(
    "--limit",
    type=click.IntRange(1, 20_000),
    default=5000,
    show_default=True,
    help="By at most so many of the newest events: decisions, their outcomes and judgements.",
)
@hub_options
@json_option
def replay(policy: str, limit: int, hub: HubChoice, as_json: bool) -> None:
    """Say what another policy would have brought, by the decisions of the past: an estimate and its interval.

    \b
    Example:
      autoglm route replay --policy cheap
      autoglm route replay --policy always:glm-4.6
    """
    with hub.client() as client:
        answer = client.replay(policy, limit=limit)
    if not as_json and not answer["decisions"]:
        raise click.ClickException(_NOTHING_YET)
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else what_if(answer))
