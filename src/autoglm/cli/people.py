"""`autoglm people`: who has an account, and the links by which people get in."""

import json
import sys

import click

from autoglm.auth.people.roles import ROLES
from autoglm.cli.letters import shown
from autoglm.cli.options import HubChoice, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.client.client import Json
from autoglm.invocation import command

_role_option = click.option(
    "--role", "roles", multiple=True, type=click.Choice(ROLES), help="What it may do; repeatable."
)  # fmt: skip
_no_qr_option = click.option("--no-qr", is_flag=True, help="Print no QR code.")


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def people(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show who has an account, and in which roles.

    \b
    Example:
      autoglm people invite alice --role admin     prints a link: alice chooses her password there
      autoglm people reset alice                   she has forgotten it
      autoglm people change bob --disable
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.people()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        way = command("people invite NAME --role admin", hub.folder)
        click.echo(f"Nobody has an account; {way} invites somebody.")
        return
    rows = [
        (
            person["name"], " ".join(person["roles"]), "disabled" if person["is_disabled"] else "", _proofs(person),
            str(person["sessions"]),
        )
        for person in found
    ]  # fmt: skip
    click.echo(table(("name", "roles", "", "logs in by", "sessions"), rows))


@people.command()
@click.argument("name")
@_role_option
@_no_qr_option
@hub_options
@json_option
def invite(name: str, roles: tuple[str, ...], *, no_qr: bool, hub: HubChoice, as_json: bool) -> None:
    """Make a link by which somebody new chooses a password and is in; without --role as a member.

    The link counts once. Whoever opens it first is NAME: hand it over, or show its QR code.

    \b
    Example:
      autoglm people invite alice --role admin
      autoglm people invite bob --role operator --role auditor
    """
    with hub.client() as client:
        made, url = client.invite_person(name, roles or ("member",)), client.url
    _show_link(made, url, as_json=as_json, no_qr=no_qr)


@people.command()
@click.argument("name")
@_no_qr_option
@hub_options
@json_option
def reset(name: str, *, no_qr: bool, hub: HubChoice, as_json: bool) -> None:
    """Make a link by which NAME gets a new password; the old one counts until then.

    \b
    Example:
      autoglm people reset alice
    """
    with hub.client() as client:
        made, url = client.reset_person(name), client.url
    _show_link(made, url, as_json=as_json, no_qr=no_qr)


@people.command()
@hub_options
@json_option
def invitations(hub: HubChoice, as_json: bool) -> None:
    """Show the links that are open.

    \b
    Example:
      autoglm people invitations
    """
    with hub.client() as client:
        found = client.invitations()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo("No link is open.")
        return
    rows = [
        (
            one["handle"], one["name"], "new password" if one["is_reset"] else " ".join(one["roles"]),
            one["made_by"], local_time(one["ends_at"]),
        )
        for one in found
    ]  # fmt: skip
    click.echo(table(("handle", "for", "as", "made by", "until"), rows))


@people.command()
@click.argument("handle")
@hub_options
@json_option
def withdraw(handle: str, hub: HubChoice, as_json: bool) -> None:
    """Make the open link HANDLE void.

    \b
    Example:
      autoglm people withdraw 9f86d081884c7d65
    """
    with hub.client() as client:
        client.withdraw_invitation(handle)
    click.echo(json.dumps({"handle": handle}) if as_json else shown(f"{handle} opens nothing any more"))


@people.command()
@click.argument("name")
@_role_option
@click.option("--disable/--enable", "is_disabled", default=None, help="No way in, at once; or a way in again.")
@hub_options
@json_option
def change(
    name: str, roles: tuple[str, ...], *, is_disabled: bool | None, hub: HubChoice, as_json: bool
) -> None:  # fmt: skip
    """Give NAME other roles (those named are all that are left), or let nobody in under it.

    \b
    Example:
      autoglm people change bob --role member
      autoglm people change bob --disable
    """
    if not roles and is_disabled is None:
        raise click.UsageError("nothing to change; name a --role, --disable or --enable")
    with hub.client() as client:
        person = client.change_person(name, roles=roles or None, is_disabled=is_disabled)
    if as_json:
        click.echo(json.dumps(person, ensure_ascii=False))
        return
    state = "disabled" if person["is_disabled"] else "may log in"
    click.echo(shown(f"{person['name']}: {' '.join(person['roles'])}; {state}"))


@people.command()
@click.argument("name")
@hub_options
@json_option
def end(name: str, hub: HubChoice, as_json: bool) -> None:
    """Log NAME out everywhere; a login begins anew.

    \b
    Example:
      autoglm people end alice
    """
    with hub.client() as client:
        client.end_sessions(name)
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"{name} is logged out"))


@people.command()
@click.argument("name")
@hub_options
@json_option
def remove(name: str, hub: HubChoice, as_json: bool) -> None:
    """Remove the account NAME, and all that proves it. It cannot be brought back; --disable of `change` can.

    \b
    Example:
      autoglm people remove bob
    """
    with hub.client() as client:
        client.remove_person(name)
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"{name} is removed"))


def _proofs(person: Json) -> str:
    passkeys = person["passkeys"]
    words = ["password"] if person["has_password"] else []
    if passkeys:
        words.append("passkey" if passkeys == 1 else f"{passkeys} passkeys")
    return ", ".join(words) or "nothing yet"


def _show_link(made: Json, url: str, *, as_json: bool, no_qr: bool) -> None:
    link = f"{url}/#invite={made['token']}"
    if as_json:
        click.echo(json.dumps({**made["invitation"], "link": link}, ensure_ascii=False))
        return
    click.echo(link)
    invitation = made["invitation"]
    what = "a new password" if invitation["is_reset"] else f"{invitation['name']} as {' '.join(invitation['roles'])}"
    click.echo(shown(f"Counts once, until {local_time(invitation['ends_at'])}: {what}."), err=True)
    if not no_qr and sys.stderr.isatty():
        import segno

        segno.make(link, error="m").terminal(out=sys.stderr, compact=True)
