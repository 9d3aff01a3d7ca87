"""`autoglm ca`: the site's own certificate authority."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import Decorator, data_option, json_option, passphrase_prompt
from autoglm.cli.screen import local_time, table

if TYPE_CHECKING:
    from autoglm.auth.authority import Authority, Certificate, Issued

_passphrase_option: Decorator = click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False),
    help="File with the passphrase of the authority's key; without it, it is asked for.",
)  # fmt: skip
_days_option: Decorator = click.option(
    "--days", type=click.IntRange(1, 397), default=397, show_default=True, help="How long it counts."
)
_out_option: Decorator = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the files; DATA/ca/issued when absent."
)


@click.group()
def ca() -> None:
    """The site's own certificate authority, for TLS without a public one. Phones and browsers trust it once they have
    its root; see docs/tls.md.

    \b
    Example:
      autoglm ca init
      autoglm ca issue hub.ward-3.lan 10.1.2.3
      autoglm ca show
    """


@ca.command()
@click.option("--name", default="AutoGLM Hub", show_default=True, help="What phones call it.")
@click.option(
    "--permit", "permits", multiple=True, metavar="DOMAIN|NETWORK",
    help="What it may name beside private names and addresses, and this machine's; may be repeated.",
)  # fmt: skip
@click.option("--any-name", is_flag=True, help="Without bounds: who steals its key can then pretend to be any site.")
@click.option(
    "--key", "kind", type=click.Choice(["p256", "ed25519"]), default="p256", show_default=True,
    help="Kind of key; browsers take p256 only.",
)  # fmt: skip
@click.option("--encrypt", is_flag=True, help="Encrypt its key under a passphrase; a hub then cannot renew by itself.")
@_passphrase_option
@data_option
@json_option
def init(
    *, name: str, permits: tuple[str, ...], any_name: bool, kind: Literal["p256", "ed25519"], encrypt: bool,
    passphrase_file: Path | None, data_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make the authority in DATA/ca. It counts for 10 years, and makes no authority below it.

    \b
    Example:
      autoglm ca init --name "Ward 3" --permit ward-3.example.org --permit 172.30.0.0/16
    """
    from autoglm.auth.authority import create
    from autoglm.auth.certificate_names import PRIVATE_RANGES, names_of_this_machine, parse_range
    from autoglm.auth.sealing import read_passphrase
    from autoglm.core.clock import now_ms

    passphrase = None
    if passphrase_file is not None:
        passphrase = read_passphrase(passphrase_file)
    elif encrypt:
        passphrase = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    ranges = [parse_range(text) for text in dict.fromkeys((*PRIVATE_RANGES, *names_of_this_machine(), *permits))]
    folder = data_dir / "ca"
    create(
        folder, name=name, permitted=None if any_name else ranges, now_ms=now_ms, kind=kind, passphrase=passphrase
    )  # fmt: skip
    _show(folder, as_json=as_json)


@ca.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--client", is_flag=True, help="For a device or a person: NAME is its address, such as device:press-7.")
@click.option(
    "--csr", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Request of a device that made its key itself (PEM); with --client.",
)  # fmt: skip
@_days_option
@_out_option
@_passphrase_option
@data_option
@json_option
def issue(
    *, names: tuple[str, ...], client: bool, csr: Path | None, days: int, out: Path | None,
    passphrase_file: Path | None, data_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    """Issue a certificate: for a server by its DNS names and addresses, or for a client.

    \b
    Example:
      autoglm ca issue hub.ward-3.lan 10.1.2.3 --out ./certificates
      autoglm ca issue --client device:press-7
    """
    if client and len(names) != 1:
        raise click.UsageError("a client has one address")
    if csr is not None and not client:
        raise click.UsageError("--csr goes with --client")
    authority = _open(data_dir, passphrase_file)
    if client:
        issued = authority.issue_client(names[0], days=days, csr_pem=None if csr is None else csr.read_bytes())
    else:
        issued = authority.issue_server(names, days=days)
    _write(issued, out or data_dir / "ca" / "issued", as_json=as_json)


@ca.command("list")
@data_option
@json_option
def list_(data_dir: Path, as_json: bool) -> None:
    """What was issued, and what of it is revoked.

    \b
    Example:
      autoglm ca list
    """
    from autoglm.auth.authority import read_index, read_root

    read_root(data_dir / "ca")
    index = read_index(data_dir / "ca")
    if as_json:
        click.echo(json.dumps([_tree(one) for one in index], ensure_ascii=False))
        return
    rows = [(one.serial[:12], one.kind, _until(one), " ".join(one.names)) for one in index]
    click.echo(table(("serial", "for", "ends", "names"), rows))


@ca.command()
@click.argument("serial")
@_passphrase_option
@data_option
@json_option
def revoke(serial: str, passphrase_file: Path | None, data_dir: Path, as_json: bool) -> None:
    """Revoke the certificate SERIAL (its beginning is enough). DATA/ca/crl.pem has it then. A hub refuses revoked
    devices; browsers ask nobody about servers, so replace a server's stolen key everywhere.

    \b
    Example:
      autoglm ca revoke 3fa94b2c17de
    """
    revoked = _open(data_dir, passphrase_file).revoke(serial)
    words = f"{revoked.serial} is revoked: {' '.join(revoked.names)}"
    click.echo(json.dumps(_tree(revoked), ensure_ascii=False) if as_json else shown(words))


@ca.command()
@click.argument("serial")
@_days_option
@_out_option
@_passphrase_option
@data_option
@json_option
def renew(  # noqa: PLR0917  # click passes them by name
    serial: str, days: int, out: Path | None, passphrase_file: Path | None, data_dir: Path, as_json: bool
) -> None:
    """Issue a certificate for the names of SERIAL again, with a new key; the old one goes on until its end.

    \b
    Example:
      autoglm ca renew 3fa94b2c17de
    """
    issued = _open(data_dir, passphrase_file).renew(serial, days=days)
    _write(issued, out or data_dir / "ca" / "issued", as_json=as_json)


@ca.command()
@data_option
@json_option
def show(data_dir: Path, as_json: bool) -> None:
    """Show the root: its file for phones and browsers, its fingerprint to compare there, and what it may name.

    \b
    Example:
      autoglm ca show
    """
    _show(data_dir / "ca", as_json=as_json)


def _show(folder: Path, *, as_json: bool) -> None:
    from cryptography.x509.oid import NameOID

    from autoglm.auth.authority import ROOT_FILE, fingerprint, permitted_ranges, read_root

    root = read_root(folder)
    ranges = permitted_ranges(root)
    name = str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    facts: dict[str, Any] = {
        "name": name, "root": str(folder / ROOT_FILE), "sha256": fingerprint(root),
        "not_after_ms": int(root.not_valid_after_utc.timestamp() * 1000),
        "permitted": None if ranges is None else [str(one) for one in ranges],
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    click.echo(shown(f"{name}: {facts['root']}"))
    click.echo(f"  ends      {local_time(facts['not_after_ms'])}")
    click.echo(f"  sha256    {facts['sha256']}")
    click.echo(f"  may name  {'everything' if ranges is None else ' '.join(facts['permitted'])}")


def _open(data_dir: Path, passphrase_file: Path | None) -> "Authority":
    from autoglm.auth.authority import open_authority
    from autoglm.auth.sealing import read_passphrase
    from autoglm.core.clock import now_ms

    ask: Callable[[], str] | None = passphrase_prompt("Passphrase of the authority's key")
    if passphrase_file is not None:
        ask = lambda: read_passphrase(passphrase_file)  # noqa: E731  # one of two ways to ask
    return open_authority(data_dir / "ca", now_ms=now_ms, passphrase=ask)


def _write(issued: "Issued", folder: Path, *, as_json: bool) -> None:
    from autoglm.core.private_file import write_private

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = folder / issued.certificate.serial[:12]
    certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    if issued.key_pem is not None:
        write_private(key, issued.key_pem)
    write_private(certificate, issued.certificate_pem, mode=0o644)
    files = {"certificate": str(certificate), "key": None if issued.key_pem is None else str(key)}
    if as_json:
        click.echo(json.dumps(_tree(issued.certificate) | files, ensure_ascii=False))
        return
    click.echo(shown(f"{certificate}   {' '.join(issued.certificate.names)}, ends {_until(issued.certificate)}"))
    if issued.key_pem is not None:
        click.echo(f"{key}   its key, for its owner alone")


def _tree(certificate: "Certificate") -> dict[str, Any]:
    return {name: getattr(certificate, name) for name in certificate.__struct_fields__}


def _until(certificate: "Certificate") -> str:
    if certificate.revoked_at_ms is not None:
        return f"revoked {local_time(certificate.revoked_at_ms)}"
    return local_time(certificate.not_after_ms)
