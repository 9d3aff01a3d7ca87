"""`autoglm token`: what programs and devices prove with who they are."""

import json
import sys

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
      autoglm token inspect eyJhbGciOiJFZDI1NTE5...
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
@click.option("--reason", default="", help="Why, for others; not for a key.")
@hub_options
@json_option
def revoke(name: str, *, reason: str, hub: HubChoice, as_json: bool) -> None:
    """Revoke the key NAME, or what has an id: it counts no more when this returns.

    An id is jti:ID (one token), jkt:THUMBPRINT (a device's key), kid:THUMBPRINT (a key that signs tokens), or an
    address such as device:press-7 (whoever bears it). What was revoked so stays revoked until it is taken back.

    \b
    Example:
      autoglm token revoke robot-7
      autoglm token revoke device:press-7 --reason "lost on the ferry"
    """
    is_id = ":" in name
    with hub.client() as client:
        if is_id:
            client.revoke(name, reason=reason)
        else:
            client.revoke_key(name)
    what = name if is_id else f"the key {name}"
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"{what} is revoked"))


@token.command()
@hub_options
@json_option
def revoked(hub: HubChoice, as_json: bool) -> None:
    """Show what was revoked at this hub; keys that were revoked are gone, and not listed.

    \b
    Example:
      autoglm token revoked
    """
    with hub.client() as client:
        found = client.revocations()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    rows = [(one["id"], local_time(one["at"]), one["by"], one["reason"]) for one in found]
    click.echo(table(("id", "revoked", "by", "reason"), rows) if rows else "Nothing is revoked.")


@token.command()
@click.argument("id")
@hub_options
@json_option
def restore(id: str, *, hub: HubChoice, as_json: bool) -> None:
    """Take back the revocation of ID: what has not ended counts again.

    \b
    Example:
      autoglm token restore device:press-7
    """
    with hub.client() as client:
        client.take_back_revocation(id)
    click.echo(json.dumps({"id": id}, ensure_ascii=False) if as_json else shown(f"{id} is no longer revoked"))


@token.command()
@click.argument("text", metavar="TOKEN")
@json_option
def inspect(text: str, *, as_json: bool) -> None:
    """Show what a TOKEN says, without asking anybody whether it is true. "-" reads it from standard input.

    \b
    Example:
      autoglm token inspect eyJhbGciOiJFZDI1NTE5...
    """
    from autoglm.auth.tokens.compact import decode_base64url
    from autoglm.core.errors import TokenRefused

    token_text = read_token(text)
    parts = token_text.split(".")
    if len(parts) != 3:
        raise click.UsageError("this is no token: one has three parts with dots between them")
    try:
        header, claims = (json.loads(decode_base64url(part.encode())) for part in parts[:2])
    except (ValueError, TokenRefused, RecursionError):
        raise click.UsageError("this is no token: its parts are not JSON in base64url") from None
    click.echo(json.dumps({"header": header, "claims": claims}, ensure_ascii=False, indent=None if as_json else 2))
    click.echo("Nothing of this is verified; autoglm token verify asks the hub.", err=True)


@token.command()
@click.argument("text", metavar="TOKEN")
@hub_options
@json_option
def verify(text: str, *, hub: HubChoice, as_json: bool) -> None:
    """Ask the hub whether a TOKEN would count there, and for what. Exit status 1 when it would not.

    A proof by the key that it is bound to is needed as well; without it, it opens nothing. "-" reads it from standard
    input.

    \b
    Example:
      autoglm token verify eyJhbGciOiJFZDI1NTE5...
    """
    with hub.client() as client:
        found = client.verify_token(read_token(text))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif found["is_good"]:
        click.echo(shown(f"{found['subject']} until {local_time(found['ends_at'])}: {' '.join(found['scopes'])}"))
    else:
        click.echo(f"It does not count: {found['reason']}", err=True)
    if not found["is_good"]:
        raise SystemExit(1)


@token.command()
@click.argument("device")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Fewer than the device's own; repeatable.")
@click.option("--for", "for_s", type=Duration(), help="How long it lives; the device's usual time when absent.")
@hub_options
@json_option
def make(device: str, scopes: tuple[str, ...], *, for_s: float | None, hub: HubChoice, as_json: bool) -> None:
    """Make a token for a DEVICE that has enrolled: one with fewer scopes, or for a device that is out of reach.

    \b
    Example:
      autoglm token make press-7 --scope send:message:device:press-7 --for 10m
    """
    with hub.client() as client:
        made = client.issue_token(device, scopes=scopes, ttl_s=None if for_s is None else max(1, round(for_s)))
    click.echo(json.dumps(made, ensure_ascii=False) if as_json else made["token"])


@token.command()
@hub_options
@json_option
def rotate(hub: HubChoice, as_json: bool) -> None:
    """Have a new key sign this site's tokens from now on. Those that are out go on to count until they end.

    \b
    Example:
      autoglm token rotate
    """
    with hub.client() as client:
        kid = client.rotate_site_key()
    click.echo(json.dumps({"kid": kid}) if as_json else f"the key {kid} signs from now on")


def read_token(text: str) -> str:
    return sys.stdin.read(16_384).strip() if text == "-" else text.strip()
