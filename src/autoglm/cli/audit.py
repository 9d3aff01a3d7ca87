"""`autoglm audit`: the record of what was allowed and done on a data folder, read also while a hub works there."""

import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from autoglm.cli.audit_filters import Moment, filter_options
from autoglm.cli.letters import shown
from autoglm.cli.options import config_file_or_default, config_option, data_option, json_option
from autoglm.cli.screen import local_time, table
from autoglm.core.errors import StateBroken
from autoglm.core.ports import JournalEntry, JournalFilter

if TYPE_CHECKING:
    from autoglm.auth.audit.chain import Finding, Restored
    from autoglm.auth.audit.heads import HeadKeys, KeptHeads, Lost
    from autoglm.auth.audit.recorder import Audit
    from autoglm.store import Store

_MAX_RUNS = 500
"""Runs of entries that one entry of an erasure names."""


@click.group()
def audit() -> None:
    """The record of what was allowed and done here. Works on a data folder; a hub may go on working in it.

    \b
    Example:
      autoglm audit verify
      autoglm audit search --who user:alice --since 2h
      autoglm audit conflicts
    """


@audit.command()
@data_option
@click.option(
    "--copy", "copies", multiple=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of a second place to compare with; may be repeated.",
)  # fmt: skip
@click.option(
    "--public-key", "key_files", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with a public key of the site, instead of what lies in DATA; may be repeated.",
)  # fmt: skip
@json_option
def verify(data_dir: Path, copies: tuple[Path, ...], key_files: tuple[Path, ...], as_json: bool) -> None:
    """Check that nothing was changed, removed, added or moved. Ends with status 1 when something was.

    Whoever can write to DATA can replace the key there as well: give the public key from elsewhere to be safe from him.

    \b
    Example:
      autoglm audit verify
      autoglm audit verify --copy /mnt/usb/audit --public-key ward-3.pub
    """
    from autoglm.auth.audit.inspection import compare
    from autoglm.auth.audit.inspection import verify as verify_chain
    from autoglm.cli.audit_report import print_report, report_fields
    from autoglm.cli.progress import Bar
    from autoglm.store import open_journal

    kept = _kept_heads(data_dir)
    keys = _keys(data_dir, key_files, kept)
    differences: list[tuple[Path, Finding]] = []
    with open_journal(data_dir) as journal:
        with Bar("audit verify", unit="entries") as bar:
            report = verify_chain(journal, keys, kept.all(), progress=partial(bar.show, str(data_dir)))
        for copy in copies:
            differences += [(copy, finding) for finding in compare(journal, _lines_of(copy))]
            differences += [(copy, finding) for finding in _forks_of(copy, report.summary.restored)]
    if as_json:
        click.echo(json.dumps(report_fields(report, differences), ensure_ascii=False))
    else:
        print_report(report, differences)
    if not report.is_right or differences:
        raise click.exceptions.Exit(1)


@audit.command()
@data_option
@filter_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--before", type=click.IntRange(1), metavar="SEQ", help="Only entries before this one, to page back.")
@json_option
def search(data_dir: Path, limit: int, before: int | None, as_json: bool, **filters: Any) -> None:
    """Show the newest entries that fit, the oldest of them first. All that is asked for must hold.

    \b
    Example:
      autoglm audit search --outcome denied --since 2026-11-28
      autoglm audit search --kind act --text keys:issue
    """
    from autoglm.cli.audit_report import fields_of, row_of
    from autoglm.store import open_journal

    with open_journal(data_dir) as journal:
        found = journal.find(JournalFilter(**filters), before=before, limit=limit, newest_first=True)[::-1]
    if as_json:
        click.echo(json.dumps([fields_of(row) for row in found], ensure_ascii=False))
        return
    click.echo(table(("seq", "time", "kind", "outcome", "action", "resource", "who", "note"), [*map(row_of, found)]))
    if len(found) == limit:
        click.echo(f"There may be more: --before {found[0].seq}, or a larger --limit.", err=True)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@data_option
@filter_options
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
@click.option("--without-personal", is_flag=True, help="Leave out all that can be erased.")
@json_option
def export(
    file: Path, *, data_dir: Path, force: bool, without_personal: bool, as_json: bool, **filters: Any
) -> None:  # fmt: skip
    """Write the entries that fit into FILE, or to standard output for -, one line of JSON each, with the chained bytes.

    \b
    Example:
      autoglm audit export november.jsonl --since 2026-11-01 --until 2026-12-01
    """
    from autoglm.auth.audit.inspection import matching
    from autoglm.auth.audit.line import to_line
    from autoglm.store import open_journal

    count = 0
    with open_journal(data_dir) as journal, _output(file, force=force) as output:
        end = journal.end().seq
        for row in matching(journal, JournalFilter(**filters), before=end + 1):
            output.write(to_line(row, with_personal=not without_personal))
            count += 1
    if as_json:
        click.echo(json.dumps({"path": str(file), "entries": count}, ensure_ascii=False), err=str(file) == "-")
    else:
        click.echo(f"{count} entries written", err=True)


@audit.command()
@data_option
@click.option("--all", "with_settled", is_flag=True, help="Those that are settled as well.")
@json_option
def conflicts(data_dir: Path, with_settled: bool, as_json: bool) -> None:
    """List what was allowed while the site was cut off, and would not be allowed by what it learned since.

    \b
    Example:
      autoglm audit conflicts
      autoglm audit settle 1742 accept --why "she was on duty; the revocation came late"
    """
    import msgspec

    from autoglm.auth.audit.inspection import known_conflicts
    from autoglm.store import open_journal

    with open_journal(data_dir) as journal:
        found = known_conflicts(journal).all(with_settled=with_settled)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    rows = [
        (
            str(conflict.operation), conflict.kind, conflict.who or "(erased)", conflict.action, conflict.resource,
            "open" if conflict.settled is None else f"{conflict.settled.verdict}ed: {conflict.settled.why}",
            conflict.why,
        )
        for conflict in found
    ]  # fmt: skip
    click.echo(table(("operation", "kind", "who", "action", "resource", "state", "why"), rows))


@audit.command()
@click.argument("operation", type=click.IntRange(1))
@click.argument("verdict", type=click.Choice(["accept", "reject"]))
@click.option("--why", required=True, metavar="TEXT", help="Is written down with it.")
@data_option
@config_option
@json_option
def settle(
    operation: int, verdict: Any, *, why: str, data_dir: Path, config_file: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Settle the conflict about the entry OPERATION. Both stay in the record. No hub may work in the folder.

    \b
    Example:
      autoglm audit settle 1742 reject --why "the badge had been reported stolen"
    """
    import msgspec

    from autoglm.auth.audit.conflicts import Conflicts

    async def act(store: "Store", audit: "Audit") -> Any:
        return await Conflicts(store.journal, audit).settle(operation, verdict, _actor(), why)

    settled = _recorded(data_dir, config_file, act)
    click.echo(
        msgspec.json.encode(settled).decode() if as_json else shown(f"the conflict about {operation}: {verdict}ed")
    )


@audit.command()
@click.argument("address")
@click.option("--why", required=True, metavar="TEXT", help="Is written down with it.")
@click.option("--until", "until_ms", type=Moment(), help="Only what is older.")
@click.option("--mentioned", is_flag=True, help="Also where others' entries name ADDRESS.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
@json_option
def erase(
    address: str, why: str, *, until_ms: int | None, mentioned: bool, yes: bool, data_dir: Path,
    config_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Erase what is personal in the entries of ADDRESS, for good. What was done stays, and the record stays whole.

    Second places that can do so follow. Backups and what went to a syslog server do not. No hub may work in the folder.

    \b
    Example:
      autoglm audit erase user:alice --why "left on 2026-10-31, retention is over" --until 2026-11-01
    """
    from autoglm.auth.audit.inspection import matching, runs_of
    from autoglm.store import open_journal

    wanted = JournalFilter(text=address, until_ms=until_ms) if mentioned else JournalFilter(
        who=address, until_ms=until_ms
    )  # fmt: skip
    with open_journal(data_dir) as journal:
        seqs = [row.seq for row in matching(journal, wanted) if row.personal is not None]
    if not yes and seqs:
        click.confirm(f"Erase what is personal in {len(seqs)} entries for good?", abort=True, err=True)

    async def act(store: "Store", audit: "Audit") -> None:
        for runs in runs_of(seqs, longest=_MAX_RUNS):
            audit.act("audit:erase", _actor(), kind="erase", text=why, erases=tuple(runs))
            await audit.written()

    if seqs:
        _recorded(data_dir, config_file, act)
    click.echo(json.dumps({"entries": len(seqs)}) if as_json else f"{len(seqs)} entries")


@audit.command()
@click.option("--why", required=True, metavar="TEXT", help="Is written down with it.")
@click.option(
    "--copy", "copies", multiple=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of a second place that has more than the store; may be repeated.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
@json_option
def acknowledge(
    why: str, copies: tuple[Path, ...], *, yes: bool, data_dir: Path, config_file: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Say why entries are lost that the record had, as after a backup was restored.

    They stay lost, and verifying goes on telling of it; but the record counts as whole then. Whatever is lost later
    shows as before. The site signs it. No hub may work in the folder.

    \b
    Example:
      autoglm audit acknowledge --why "disk failed on 2026-11-03; Monday's backup restored"
    """
    from autoglm.auth.audit.losses import open_losses
    from autoglm.core.clock import now_ms

    if not why.strip():
        raise click.UsageError("--why is empty")

    async def act(store: "Store", audit: "Audit") -> "list[Lost]":
        losses = await open_losses(store.journal, audit.kept_heads, _ends_of(copies), now_ms=now_ms())
        for lost in losses:
            click.echo(
                f"Lost behind entry {lost.kept_seq}, found out {local_time(lost.found_ms)}: up to {lost.seq}", err=True
            )
        if losses and not yes:
            click.confirm("Is it known why, and are these all?", abort=True, err=True)
        for lost in losses:
            audit.acknowledge(lost, _actor(), why)
        await audit.written()
        return losses

    losses = _recorded(data_dir, config_file, act)
    if as_json:
        click.echo(json.dumps([{"seq": lost.seq, "kept_seq": lost.kept_seq} for lost in losses]))
    else:
        click.echo(f"{len(losses)} acknowledged" if losses else "nothing is lost of which that was not said before")


# --- reading --------------------------------------------------------------------------------------------


def _kept_heads(data_dir: Path) -> "KeptHeads":
    from autoglm.auth.audit.heads import HEAD_FILE_NAME, HeadFile, KeptHeads

    try:
        kept = HeadFile(data_dir / "trust" / HEAD_FILE_NAME).load()
    except StateBroken as error:
        raise click.ClickException(f"{error}; the hub begins a new one, and says so in the record") from None
    if kept is None:
        click.echo("autoglm: no head is kept outside of the store: that its end was cut off would not show", err=True)
    return kept or KeptHeads()


def _keys(data_dir: Path, key_files: tuple[Path, ...], kept: "KeptHeads") -> "HeadKeys":
    from autoglm.auth.audit.heads import HeadKeys
    from autoglm.auth.issuer import KEY_FILE
    from autoglm.auth.tokens.public_key import PublicKey
    from autoglm.auth.tokens.signing import SigningKey

    if key_files:
        return HeadKeys(PublicKey.from_text(path.read_text(errors="replace")[:4096].strip()) for path in key_files)
    own = data_dir / "trust" / KEY_FILE
    current = [SigningKey.from_pem(own.read_bytes()).public] if own.exists() else []
    return HeadKeys([*kept.public_keys(), *current])


def _lines_of(copy: Path) -> Iterator[JournalEntry]:
    from autoglm.auth.audit.file_place import read_files

    try:
        yield from read_files(copy)
    except (ValueError, OSError) as error:
        raise click.ClickException(f"the copy cannot be read: {error}") from error


def _forks_of(copy: Path, restored: "Sequence[Restored]") -> "list[Finding]":
    """Those that no acknowledged loss explains."""
    from autoglm.auth.audit.chain import Finding
    from autoglm.auth.audit.file_place import forks

    known = {entry.digest for entry in restored}
    text = "the copy has two chains from entry {} on: the store was replaced by an older copy, or rewritten"
    return [
        Finding(fork.seq, "rewritten", text.format(fork.seq))
        for fork in forks(copy)
        if fork.end is None or fork.end.digest.hex() not in known
    ]


def _ends_of(copies: tuple[Path, ...]) -> list[JournalEntry]:
    """Of all chains that they have or had."""
    from autoglm.auth.audit.file_place import forks, last_of

    try:
        ends = [end for copy in copies for end in (*(fork.end for fork in forks(copy)), last_of(copy))]
    except OSError as error:
        raise click.ClickException(f"the copy cannot be read: {error.strerror}") from error
    return [end for end in ends if end is not None]


@contextmanager
def _output(file: Path, *, force: bool) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(file, flags, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{file} is there already; --force writes over it") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
    with open(descriptor, "wb") as output:
        yield output


# --- acting ---------------------------------------------------------------------------------------------


class _Operator(NamedTuple):
    """Whoever works on the data folder itself: he has shown no key but that he may write there."""

    name: str
    address: str
    credential: str


def _actor() -> _Operator:
    name = getpass.getuser()
    return _Operator(name, f"local:{name}", "data-folder")


def _recorded(data_dir: Path, config_file: Path | None, act: "Callable[[Store, Audit], Awaitable[Any]]") -> Any:
    """Do it in a run of its own, which the site signs. Raises StoreBroken while a hub has the folder."""
    import anyio

    from autoglm.auth.trust import TrustParts, open_trust
    from autoglm.cli.logs import quiet_logs
    from autoglm.policy_fetch import http_fetch
    from autoglm.settings import load_settings
    from autoglm.store import open_store

    quiet_logs()
    settings = load_settings(config_file_or_default(config_file, data_dir)).settings

    async def run() -> Any:
        parts = TrustParts(settings.trust, settings.clock, settings.policy, settings.audit, settings.key)
        async with (
            open_store(data_dir, settings.store) as store,
            open_trust(data_dir, parts, store.keyvalue, store.journal, fetching=http_fetch) as trust,
        ):
            return await act(store, trust.audit)

    return anyio.run(run)
