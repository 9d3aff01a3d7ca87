"""`autoglm token`: what programs and devices prove with who they are."""

import json

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import Duration, HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.invocation import command


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def token(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show the keys that were issued, without their values, which nobody knows any more.

    \b
    Example:
      autoglm token issue robot-7 --scope 'model:use:*' --for 90d
      autoglm token
      autoglm token revoke robot-7
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.keys()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    rows = [
        (
            key["name"], key["address"], "-" if key["ends_at"] is None else local_time(key["ends_at"]),
            key["created_by"] or "-", " ".join(key["scopes"]),
        )
        for key in found
    ]  # fmt: skip
    click.echo(table(("name", "address", "ends", "issued by", "scopes"), rows))


@token.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, metavar="SCOPE", help="What it may do; may be repeated."
)
@click.option("--for", "for_s", type=Duration(), help="Ends after: 90s, 10m, 2h, 90d. Without it, it does not end.")
@click.option("--address", metavar="ADDRESS", help="Its own address; device:NAME when absent.")
@click.option("--tenant", metavar="NAME", help="On whose account its requests go; its own when absent.")
@click.option("--rate", type=click.IntRange(1, 10_000_000), metavar="N", help="At most N requests a minute.")
@hub_options
@json_option
def issue(
    name: str, scopes: tuple[str, ...], *, for_s: float | None, address: str | None, tenant: str | None,
    rate: int | None, hub: HubChoice, as_json: bool,
) -> None:  # fmt: skip
    """Issue a bearer key for a program that can do no better, such as OpenAI's clients. It is shown this once.

    A device that can keep a key of its own enrols instead: what it sends cannot be used by whoever copies it.

    \b
    Example:
      autoglm token issue robot-7 --scope 'model:use:*' --for 90d
      autoglm token issue bridge --scope send:message:device:bridge --scope read:message:device:bridge --rate 600
    """
    with hub.client() as client:
        issued = client.issue_key(
            name, scopes, ttl_s=None if for_s is None else max(1, round(for_s)), address=address, tenant=tenant,
            rate_per_minute=rate,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(issued, ensure_ascii=False))
        return
    ends_at = issued["known"]["ends_at"]
    click.echo(issued["key"])
    until = "does not end" if ends_at is None else f"ends {local_time(ends_at)}"
    revoking = command(f"token revoke {name}", hub.folder)
    click.echo(f"Keep it now, it is not shown again. It {until}; {revoking} ends it at once.", err=True)


@token.command()
@click.argument("name")
@hub_options
@json_option
def revoke(name: str, hub: HubChoice, as_json: bool) -> None:
    """Revoke the key NAME: it counts no more when this returns.

    \b
    Example:
      autoglm token revoke robot-7
    """
    with hub.client() as client:
        client.revoke_key(name)
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"the key {name} is revoked"))
