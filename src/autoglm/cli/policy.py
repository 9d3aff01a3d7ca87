"""`autoglm policy`: who may do what, by signed snapshots. Here a site's side; policy_authority.py has the other."""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autoglm.cli import policy_authority
from autoglm.cli.letters import shown
from autoglm.cli.options import HubChoice, ca_file_option, data_option, is_for_subcommand, json_option
from autoglm.cli.screen import local_time, table
from autoglm.core.clock import now_ms
from autoglm.rendezvous import is_held

if TYPE_CHECKING:
    from autoglm.auth.policy.client import PolicyClient
    from autoglm.auth.policy.snapshot import Snapshot
    from autoglm.auth.policy.sources import Source


@dataclass(frozen=True)
class _Asker:
    address: str
    credential: str
    scopes: tuple[str, ...]


@click.group(invoke_without_command=True)
@click.pass_context
@data_option
@json_option
def policy(ctx: click.Context, data_dir: Path, as_json: bool) -> None:
    """Show the policy that a hub goes by. An authority writes, signs and publishes it; hubs pull it.

    \b
    Example:
      autoglm policy init ./authority --keys ./keys
      autoglm policy edit ./authority
      autoglm policy sign ./authority --key ./keys/policy.pem
      autoglm policy publish ./authority --key ./keys/online.pem
      autoglm policy pull ./authority --root ./authority/metadata/1.root.json
      autoglm policy explain user:alice send:message group:all
    """
    if is_for_subcommand(ctx):
        return
    client = _client(data_dir)
    snapshot = client.load() if client.is_initialised else None
    if as_json:
        click.echo(json.dumps(None if snapshot is None else _brief(snapshot)))
        return
    if snapshot is None:
        click.echo("This hub has no policy: scopes decide alone.")
        return
    click.echo(table(("policy", ""), [(name, str(value)) for name, value in _lines(snapshot)]))


@policy.command()
@click.argument("source")
@click.option(
    "--root", "root_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The authority's first root, from a hand that you trust. Wanted the first time; later it begins anew.",
)  # fmt: skip
@click.option("--key", envvar="AUTOGLM_KEY", help="Key for a hub that runs on DATA, where its admin.key is not there.")
@ca_file_option
@data_option
@json_option
def pull(
    source: str, root_file: Path | None, *, key: str | None, ca_file: Path | None, data_dir: Path, as_json: bool
) -> None:  # fmt: skip
    """Pull the newest policy from SOURCE: an https address, a folder, or a zip file on a stick.

    What is older than what this hub has seen, signed by too few, or ended, is refused, and the policy that held before
    goes on holding. A hub that runs on DATA is handed the policy, judges it by itself, and goes by it at once.

    \b
    Example:
      autoglm policy pull ./authority --root ./authority/metadata/1.root.json
      autoglm policy pull https://policy.example.org/site
      autoglm policy pull /media/stick/policy.zip --json
    """
    from autoglm.auth.policy.sources import source_of
    from autoglm.policy_fetch import http_fetch

    root = None if root_file is None else root_file.read_bytes()
    if root is None and not _client(data_dir).is_initialised:
        raise click.UsageError("this hub trusts no authority yet; name its first root with --root FILE")
    with http_fetch(ca_file) as fetch:
        if is_held(data_dir):
            _hand_over(source_of(source, fetch), root, HubChoice(None, key or None, data_dir, ca_file))
        else:
            _pull_alone(source_of(source, fetch), root, data_dir)
    snapshot = _client(data_dir).load()
    assert snapshot is not None
    if as_json:
        click.echo(json.dumps(_brief(snapshot)))
        return
    click.echo(f"policy {snapshot.version} holds; it is fresh until {local_time(snapshot.expires_ms)}")


def _hand_over(source: "Source", root: bytes | None, hub: HubChoice) -> None:
    """To the hub that runs: its clock and its marks have no second writer, and what it goes by changes at once."""
    from autoglm.auth.policy.client import ROOT_FILE, carried
    from autoglm.auth.trust import TRUST_FOLDER

    archive = carried(source, root or (hub.data_dir / TRUST_FOLDER / ROOT_FILE).read_bytes())
    with hub.client() as client:
        if root is not None:
            client.me()  # before anything changes: it answers, and knows the key
            _client(hub.data_dir).init(root)
        client.bring_policy(archive)


def _pull_alone(source: "Source", root: bytes | None, data_dir: Path) -> None:
    """Under the lock of the folder, so that no hub starts meanwhile."""
    from autoglm.auth.clock import ClockSettings, TrustedClock
    from autoglm.auth.policy.client import PolicyClient
    from autoglm.auth.trust import CLOCK_FILE, POLICY_FOLDER, TRUST_FOLDER
    from autoglm.store.sqlite.folder import locked_folder

    trust = data_dir / TRUST_FOLDER
    with locked_folder(data_dir):
        trust.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(TrustedClock.open(trust / CLOCK_FILE, ClockSettings())) as clock:
            client = PolicyClient(trust, data_dir / POLICY_FOLDER, clock.now_ms, clock.saw)
            if root is not None:
                client.init(root)
            client.pull(source)


@policy.command()
@click.argument("address")
@click.argument("action")
@click.argument("resource", default="")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE", help="What the key or token may do; may be repeated."
)
@click.option("--credential", default="", metavar="NAME", help="By what it is known: key:NAME, jkt:THUMBPRINT.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Of the message; kind=alert is an alarm.")
@click.option("--time-zone", default="UTC", show_default=True, help="The hub's, for the time of day.")
@data_option
@json_option
def explain(
    address: str, action: str, resource: str, *, scopes: tuple[str, ...], credential: str, labels: tuple[str, ...],
    time_zone: str, data_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    """Say whether ADDRESS may do ACTION on RESOURCE, and which policy, role or revocation decides it. Status 1 for no.

    \b
    Example:
      autoglm policy explain user:alice send:message group:all --scope send:message
      autoglm policy explain device:press-7 model:use glm-4 --credential key:press-7 --json
    """
    from autoglm.auth.policy.decider import Decider, compile_policy
    from autoglm.auth.policy.settings import PolicySettings

    client = _client(data_dir)
    decider = Decider(now_ms, time_zone=PolicySettings(time_zone=time_zone).time_zone)
    snapshot = client.load() if client.is_initialised else None
    decider.swap(None if snapshot is None else compile_policy(snapshot))
    verdict = decider.decide(_Asker(address, credential, scopes), action, resource, labels=frozenset(labels))
    if as_json:
        click.echo(json.dumps(verdict._asdict(), ensure_ascii=False))
    else:
        by = f" ({', '.join(verdict.policy_ids)})" if verdict.policy_ids else ""
        click.echo(shown(f"{'yes' if verdict.allowed else 'no'}: {verdict.detail}{by}"))
        click.echo(f"policy {verdict.version}, {verdict.stage}")
    click.get_current_context().exit(0 if verdict.allowed else 1)


def _client(data_dir: Path) -> "PolicyClient":
    from autoglm.auth.policy.client import PolicyClient

    return PolicyClient(data_dir / "trust", data_dir / "policy", now_ms)


def _brief(snapshot: "Snapshot") -> dict[str, object]:
    return {
        "version": snapshot.version, "issued_at": snapshot.issued_ms, "expires_at": snapshot.expires_ms,
        "roles": len(snapshot.roles), "grants": len(snapshot.grants), "revocations": len(snapshot.revocations),
        "pins": len(snapshot.pins), "cedar_bytes": len(snapshot.cedar.encode()),
    }  # fmt: skip


def _lines(snapshot: "Snapshot") -> list[tuple[str, object]]:
    times = {"issued_at": snapshot.issued_ms, "expires_at": snapshot.expires_ms}
    return [
        (name.replace("_", " "), local_time(times[name]) if name in times else value)
        for name, value in _brief(snapshot).items()
    ]


for _command in policy_authority.COMMANDS:
    policy.add_command(_command)
