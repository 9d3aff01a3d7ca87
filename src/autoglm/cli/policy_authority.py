"""The authority's commands of `autoglm policy`: write a policy, try it, sign it, publish it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.letters import shown
from autoglm.cli.options import Duration, json_option
from autoglm.cli.screen import local_time, table
from autoglm.core.clock import now_ms
from autoglm.core.errors import PolicyRefused, SettingsError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from autoglm.auth.policy.draft import Draft
    from autoglm.auth.policy.repository import Repository

DRAFT = ("policies.cedar", "roles.json", "revocations.json", "pins.json", "tests.toml")
_ROLES = ("root", "targets", "snapshot", "timestamp")
_UNJUDGED = {
    "erased": "whose they were is erased, or was not exported",
    "no_scope_recorded": "the scope or role by which they were asked for is not recorded",
    "other_cause": "they were refused for a revocation, an old policy or an untrusted clock",
    "time_unsure": "they are sums of equal ones, of which the draft refuses some",
}

_folder_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_key_option = click.option(
    "--key", "keys", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True, required=True,
    help="File of a private key; may be repeated.",
)  # fmt: skip
_passphrase_option = click.option(
    "--passphrase-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the passphrase of the keys; asked for when it is absent and wanted.",
)  # fmt: skip
_zone_option = click.option(
    "--time-zone", default="UTC", show_default=True, metavar="ZONE", help="Of the hubs, for the time of day in tests."
)


@click.command()
@_folder_argument
@click.option("--keys", "keys_dir", type=click.Path(path_type=Path, file_okay=False), help="Make new keys there.")
@click.option("--root", "root_files", type=click.Path(path_type=Path, exists=True), multiple=True,
              help="Public key of a holder of the root; may be repeated.")  # fmt: skip
@click.option(
    "--threshold", type=click.IntRange(1, 20), help="How many holders a new root takes; most of them at first."
)
@click.option("--policy", "policy_files", type=click.Path(path_type=Path, exists=True), multiple=True,
              help="Public key of who signs policies; may be repeated.")  # fmt: skip
@click.option("--online", "online_files", type=click.Path(path_type=Path, exists=True), multiple=True,
              help="Public key that says what is current.")  # fmt: skip
@_passphrase_option
@json_option
def init(
    folder: Path, *, keys_dir: Path | None, root_files: tuple[Path, ...], threshold: int | None,
    policy_files: tuple[Path, ...], online_files: tuple[Path, ...], passphrase_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Begin an authority in FOLDER: who holds its keys, and a first draft of a policy.

    With --keys, three keys for the root, of which two are wanted, one for policies and one that is online are made.
    Carry the root's to three people, and none of them stays here. Otherwise name public keys that were made elsewhere.

    \b
    Example:
      autoglm policy init ./authority --keys ./keys
      autoglm policy init ./a --root a.pub --root b.pub --threshold 2 --policy p.pub --online o.pub
    """
    from autoglm.auth.policy.repository import Holders
    from autoglm.auth.policy.signing_key import make_key, public_file, read_public

    repository = _repository(folder)
    if repository.is_created:
        raise SettingsError([f"{folder} holds an authority already; 'policy rotate' changes its keys"])
    if keys_dir is not None:
        keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        passphrase = None if passphrase_file is None else _passphrase_in(passphrase_file)
        for name in ("root-1", "root-2", "root-3", "policy", "online"):
            # Whoever publishes every hour cannot type: the key that is online has none.
            make_key(keys_dir / f"{name}.pem", None if name == "online" else passphrase)
        made = {name: public_file(keys_dir / f"{name}.pem") for name in ("policy", "online")}
        root_files += tuple(public_file(keys_dir / f"root-{number}.pem") for number in (1, 2, 3))
        policy_files, online_files = policy_files or (made["policy"],), online_files or (made["online"],)
    if not (root_files and policy_files and online_files):
        raise click.UsageError("name public keys with --root, --policy and --online, or have them made with --keys DIR")
    online = Holders([read_public(file) for file in online_files])
    repository.create(
        {
            "root": Holders([read_public(file) for file in root_files], threshold or len(root_files) // 2 + 1),
            "targets": Holders([read_public(file) for file in policy_files]), "snapshot": online, "timestamp": online,
        }
    )  # fmt: skip
    _draft(folder).begin()
    if as_json:
        click.echo(json.dumps(_holders(repository)))
        return
    click.echo(f"{folder} waits for the signatures of its root: autoglm policy sign {folder} --key FILE")


@click.command()
@_folder_argument
@click.argument("file", type=click.Choice(DRAFT), default=DRAFT[0])
@_zone_option
@json_option
def edit(folder: Path, file: str, time_zone: str, as_json: bool) -> None:
    """Open FILE of the draft in your editor ($VISUAL, $EDITOR), on a copy: it is taken when the whole draft is right.

    \b
    Example:
      autoglm policy edit ./authority
      autoglm policy edit ./authority roles.json
    """
    draft = _draft(folder)
    before = draft.path(file).read_text(encoding="utf-8") if draft.path(file).exists() else ""
    text: str | None = before
    while True:
        text = click.edit(text, extension=Path(file).suffix)
        if text is None or text == before:
            _told({"changed": False}, "nothing was changed", as_json=as_json)
            return
        draft.write(file, text.encode())
        flaws = draft.flaws(time_zone)
        if not flaws:
            _told({"changed": True}, f"{draft.path(file)} is changed; sign it next", as_json=as_json)
            return
        draft.write(file, before.encode())
        for flaw in flaws:
            click.echo(shown(flaw), err=True)
        if as_json or not sys.stdin.isatty() or not click.confirm("Edit again?", err=True):
            raise PolicyRefused(file, "it was not taken, and is as it was")


@click.command()
@_folder_argument
@_zone_option
@json_option
def check(folder: Path, time_zone: str, as_json: bool) -> None:
    """Check the draft: its form, its Cedar against the schema, and the sentences of tests.toml. Status 1 when wrong.

    \b
    Example:
      autoglm policy check ./authority
      autoglm policy check ./authority --time-zone Asia/Shanghai --json
    """
    flaws = _draft(folder).flaws(time_zone)
    if as_json:
        click.echo(json.dumps(flaws, ensure_ascii=False))
    else:
        click.echo(shown("\n".join(flaws)) if flaws else "the draft is right")
    click.get_current_context().exit(1 if flaws else 0)


@click.command("test")
@_folder_argument
@_zone_option
@json_option
def test_(folder: Path, time_zone: str, as_json: bool) -> None:
    """Say of each sentence in tests.toml whether the draft makes it hold, and what decides it. Status 1 when one fails.

    \b
    Example:
      autoglm policy test ./authority
    """
    found = _draft(folder).outcomes(time_zone)
    if as_json:
        rows = [{"says": o.sentence.text, "holds": o.holds, **o.verdict._asdict()} for o in found]
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        lines = [("holds" if o.holds else "FAILS", o.sentence.text, _why(o.verdict)) for o in found]
        click.echo(table(("", "sentence", "decided by"), lines))
    click.get_current_context().exit(0 if all(outcome.holds for outcome in found) else 1)


@click.command()
@_folder_argument
@_key_option
@_passphrase_option
@_zone_option
@json_option
def sign(
    folder: Path, keys: tuple[Path, ...], *, passphrase_file: Path | None, time_zone: str, as_json: bool
) -> None:  # fmt: skip
    """Sign what waits: a root that its holders change, and the draft where it is not what is published.

    Each holder does so on his own machine, in a copy of FOLDER. A draft that is wrong is not signed.

    \b
    Example:
      autoglm policy sign ./authority --key ./keys/root-1.pem --key ./keys/root-2.pem
      autoglm policy sign ./authority --key ./keys/policy.pem --passphrase-file ./passphrase
    """
    repository, draft = _repository(folder), _draft(folder)
    files = draft.files()
    if files != repository.published():
        if flaws := draft.flaws(time_zone):
            raise SettingsError(flaws)
        repository.stage(files)
    done = [entry for signer in _signers(keys, passphrase_file) for entry in repository.sign(signer)]
    missing = {role: count for role, count in repository.missing().items() if count}
    waits = ", ".join(f"{role} waits for {count} more" for role, count in missing.items())
    words = f"signed {', '.join(dict.fromkeys(done))}; {waits or 'it can be published'}"
    _told({"signed": list(dict.fromkeys(done)), "missing": missing}, words, as_json=as_json)


@click.command()
@_folder_argument
@_key_option
@_passphrase_option
@click.option("--fresh-for", "fresh_s", type=Duration(), default="1d", show_default=True,
              help="How long hubs take it for current without hearing more.")  # fmt: skip
@json_option
def publish(
    folder: Path, keys: tuple[Path, ...], *, passphrase_file: Path | None, fresh_s: float, as_json: bool
) -> None:  # fmt: skip
    """Publish what is signed, and say that it is current. With nothing new it renews that alone; run it on a timer.

    FOLDER/metadata and FOLDER/targets are what a web server offers, or a stick carries.

    \b
    Example:
      autoglm policy publish ./authority --key ./keys/online.pem
      autoglm policy publish ./authority --key ./keys/online.pem --fresh-for 7d --json
    """
    found = _repository(folder, fresh_s).publish(_signers(keys, passphrase_file))
    words = f"policy {found['targets']} is published, and fresh until {local_time(now_ms() + int(fresh_s * 1000))}"
    _told(found, words, as_json=as_json)


@click.command()
@_folder_argument
@click.argument("role", type=click.Choice(_ROLES))
@click.option("--add", "added", type=click.Path(path_type=Path, exists=True), multiple=True, help="Public key to add.")
@click.option("--remove", "removed", multiple=True, metavar="ID", help="Id of a key to take away, or its beginning.")
@click.option("--threshold", type=click.IntRange(1, 20), help="How many of them are wanted from now on.")
@json_option
def rotate(
    folder: Path, role: Any, *, added: tuple[Path, ...], removed: tuple[str, ...], threshold: int | None, as_json: bool
) -> None:  # fmt: skip
    """Change who holds ROLE (targets are the policies), or without options renew the root. Its holders sign it next.

    \b
    Example:
      autoglm policy rotate ./authority targets --add ./new.pem.pub --remove 3f2a90
      autoglm policy rotate ./authority root --threshold 3
    """
    from autoglm.auth.policy.signing_key import read_public

    repository = _repository(folder)
    held = repository.holders()[role][0]
    ids = [_only(prefix, [keyid for keyid in held if keyid.startswith(prefix)]) for prefix in removed]
    version = repository.change(role, add=[read_public(file) for file in added], remove=ids, threshold=threshold or 0)
    _told(_holders(repository), f"root {version} waits for the signatures of its holders", as_json=as_json)


@click.command("dry-run")
@_folder_argument
@click.argument("past", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Show at most so many.")
@_zone_option
@json_option
def dry_run(folder: Path, past: Path, *, limit: int, time_zone: str, as_json: bool) -> None:
    """Say which decisions of the PAST (what `autoglm audit export` writes) the draft would turn around.

    Equal ones are one line with their count. What cannot be judged is counted apart, with the reason.

    \b
    Example:
      autoglm audit export ./past.jsonl --kind decision
      autoglm policy dry-run ./authority ./past.jsonl
    """
    from autoglm.auth.policy.dry_run import DryRun
    from autoglm.auth.policy.past import read_decisions

    run = DryRun(_draft(folder).compiled(), time_zone)
    run.take(read_decisions(past))
    found = run.changes
    turned = sum(change.count for change in found)
    if as_json:
        rows = [
            {
                "count": change.count, "at": change.first_ms, "last_at": change.last_ms, "address": change.past.address,
                "action": change.past.action, "resource": change.past.resource, "about": change.past.about,
                "was_allowed": change.past.allowed, "policy_versions": sorted(change.policy_versions),
                **change.verdict._asdict(),
            }
            for change in found[:limit]
        ]  # fmt: skip
        told = {"judged": run.judged, "changes": turned, "first": rows, "unjudged": run.unjudged}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    click.echo(f"{turned} of {run.judged} decisions would change")
    if found:
        lines = [
            (str(c.count), local_time(c.first_ms), c.past.address, c.past.action, c.past.about or c.past.resource,
             "yes -> no" if c.past.allowed else "no -> yes", _why(c.verdict))
            for c in found[:limit]
        ]  # fmt: skip
        click.echo(table(("count", "first at", "who", "action", "on", "", "decided by"), lines))
    for why, count in run.unjudged.items():
        click.echo(f"{count} could not be judged: {_UNJUDGED[why]}")


COMMANDS = (init, edit, check, test_, sign, publish, rotate, dry_run)


def _repository(folder: Path, fresh_s: float | None = None) -> "Repository":
    from autoglm.auth.policy.repository import Lifetimes, Repository

    return Repository(folder, now_ms, Lifetimes() if fresh_s is None else Lifetimes(timestamp_s=int(fresh_s)))


def _draft(folder: Path) -> "Draft":
    from autoglm.auth.policy.draft import Draft

    return Draft(folder / "draft")


def _holders(repository: "Repository") -> dict[str, object]:
    return {role: {"keys": ids, "threshold": count} for role, (ids, count) in repository.holders().items()}


def _signers(keys: tuple[Path, ...], passphrase_file: Path | None) -> "list[CryptoSigner]":
    return [_signer(key, passphrase_file) for key in keys]


def _signer(key: Path, passphrase_file: Path | None) -> "CryptoSigner":
    from autoglm.auth.policy.signing_key import has_passphrase, read_signer

    if not has_passphrase(key):
        return read_signer(key, None)
    if passphrase_file is not None:
        return read_signer(key, _passphrase_in(passphrase_file))
    if not sys.stdin.isatty():
        raise SettingsError([f"{key} has a passphrase; give --passphrase-file"])
    return read_signer(key, click.prompt(f"Passphrase of {key}", hide_input=True, err=True).encode())


def _passphrase_in(file: Path) -> bytes:
    """Its first line. Raises SettingsError for an empty one."""
    line = file.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise SettingsError([f"{file} has no passphrase in its first line"])
    return line


def _only(prefix: str, found: list[str]) -> str:
    if len(found) != 1:
        raise SettingsError([f"{len(found)} keys of this role begin with {prefix!r}"])
    return found[0]


def _why(verdict: Any) -> str:
    return f"{verdict.detail} ({', '.join(verdict.policy_ids)})" if verdict.policy_ids else str(verdict.detail)


def _told(value: object, words: str, *, as_json: bool) -> None:
    click.echo(json.dumps(value, ensure_ascii=False) if as_json else shown(words))
