"""`autoglm devices`: devices that keep a key of their own."""

import json
import sys
from pathlib import Path

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import Duration, HubChoice, ca_file_option, hub_options, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.invocation import command


@click.group(invoke_without_command=True)
@click.pass_context
@hub_options
@json_option
def devices(ctx: click.Context, hub: HubChoice, as_json: bool) -> None:
    """Show the devices that have enrolled, and what each may do.

    \b
    Example:
      autoglm devices enrol press-7 --scope send:message:device:press-7
      autoglm devices join CODE --url http://hub:8600     on the device
      autoglm devices remove press-7
    """
    if is_for_subcommand(ctx):
        return
    with hub.client() as client:
        found = client.devices()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo(f"No device has enrolled; {command('devices enrol NAME --scope SCOPE', hub.folder)} invites one.")
        return
    rows = [
        (device["address"], local_time(device["enrolled_at"]), device["enrolled_by"], " ".join(device["scopes"]))
        for device in found
    ]
    click.echo(table(("device", "enrolled", "invited by", "scopes"), rows))


@devices.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="SCOPE", help="What it may do; repeatable.")
@click.option("--for", "for_s", type=Duration(), default=600.0, show_default="10m", help="How long the code counts.")
@click.option("--token-ttl", "token_ttl_s", type=Duration(), help="How long its tokens live: long where it is cut off.")
@click.option("--tenant", metavar="NAME", help="On whose account its requests go; its own when absent.")
@click.option("--rate", type=click.IntRange(1, 10_000_000), metavar="N", help="At most N requests a minute.")
@click.option("--no-qr", is_flag=True, help="Print no QR code.")
@hub_options
@json_option
def enrol(
    name: str, scopes: tuple[str, ...], *, for_s: float, token_ttl_s: float | None, tenant: str | None,
    rate: int | None, no_qr: bool, hub: HubChoice, as_json: bool,
) -> None:  # fmt: skip
    """Invite the device NAME: prints a code that counts once, as text and as a QR code.

    The device makes its own key, and the code gives it its name here. Whoever redeems the code first is the device.

    \b
    Example:
      autoglm devices enrol press-7 --scope send:message:device:press-7 --scope read:message:device:press-7
      autoglm devices enrol buoy-3 --scope send:message:device:buoy-3 --token-ttl 1d
    """
    with hub.client() as client:
        made = client.invite_device(
            name, scopes, ttl_s=round(for_s), token_ttl_s=None if token_ttl_s is None else round(token_ttl_s),
            tenant=tenant, rate_per_minute=rate,
        )  # fmt: skip
        url = client.url
    link = f"{url}/#enrol={made['code']}"
    if as_json:
        click.echo(json.dumps({**made, "link": link}, ensure_ascii=False))
        return
    click.echo(made["code"])
    click.echo(f"Counts once, until {local_time(made['ends_at'])}. On the device:", err=True)
    click.echo(f"  autoglm devices join {made['code']} --url {url}", err=True)
    if not no_qr and sys.stderr.isatty():
        import segno

        segno.make(link, error="m").terminal(out=sys.stderr, compact=True)


@devices.command()
@click.argument("code")
@click.option("--url", required=True, envvar="AUTOGLM_URL", help="Address of the hub.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path, dir_okay=False), default=Path("device.json"), show_default=True,
    help="Where the device's key and token are kept; whoever reads it is the device.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="The file may be there already: its key is given up for the new one.")
@ca_file_option
@json_option
def join(code: str, url: str, *, file: Path, force: bool, ca_file: Path | None, as_json: bool) -> None:
    """On the device: make a key, and redeem the CODE with it. The key never leaves the file.

    A file that is there may be the only key of a device, so it is not written over unless --force says so; even then
    it stays as it is until the hub has taken the new key.

    \b
    Example:
      autoglm devices join k5q2vyb7hj3mzt6wdn4rxcge2a --url http://hub:8600 --file press-7.json
    """
    from autoglm.client.device import Device

    if file.exists() and not force:
        raise click.UsageError(
            f"{file} is there already, and may be the key of a device; name another --file, or give --force"
        )
    device = Device.enrol(file, code, url=url, ca_file=ca_file, replace=force)
    if as_json:
        click.echo(json.dumps({"name": device.name, "url": device.url, "file": str(file)}, ensure_ascii=False))
    else:
        click.echo(shown(f"this is device:{device.name} at {device.url} now; its key is in {file}"))


@devices.command()
@click.argument("name")
@hub_options
@json_option
def remove(name: str, hub: HubChoice, as_json: bool) -> None:
    """Send the device NAME away: its key and all its tokens count no more when this returns.

    \b
    Example:
      autoglm devices remove press-7
    """
    with hub.client() as client:
        client.remove_device(name)
    click.echo(json.dumps({"name": name}, ensure_ascii=False) if as_json else shown(f"device:{name} is removed"))
