"""What `autoglm audit` prints of what it has read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from autoglm.auth.audit.chain import Finding
from autoglm.auth.audit.inspection import Report
from autoglm.cli.letters import shown
from autoglm.cli.screen import local_time
from autoglm.core.ports import JournalEntry


def report_fields(report: Report, differences: Sequence[tuple[Path, Finding]]) -> dict[str, Any]:
    summary = report.summary
    rows = [(None, finding) for finding in report.findings]
    rows += [(str(copy), finding) for copy, finding in differences]  # type: ignore[misc]
    return {
        "ok": not rows, "entries": summary.entries, "last_seq": summary.last_seq, "digest": summary.digest,
        "heads": summary.heads, "signed_seq": summary.signed_seq, "erased": summary.erased,
        "restored": [msgspec.to_builtins(entry) for entry in summary.restored],
        "findings": [
            {"seq": finding.seq, "problem": finding.problem, "text": finding.text, "copy": copy}
            for copy, finding in rows
        ],
    }  # fmt: skip


def print_report(report: Report, differences: Sequence[tuple[Path, Finding]]) -> None:
    summary = report.summary
    for finding in report.findings:
        click.echo(shown(f"{finding.problem}: {finding.text}"))
    for copy, finding in differences:
        click.echo(shown(f"{copy}: {finding.text}"))
    for entry in summary.restored:
        click.echo(shown(
            f"restored: at least {entry.lost} entries behind entry {entry.kept_seq} are lost, found out "
            f"{local_time(entry.found_ms)}; acknowledged {local_time(entry.acknowledged_ms)} by "
            f"{entry.who or '(erased)'}: {entry.why or '(erased)'}"
        ))  # fmt: skip
    if not report.is_complete:
        click.echo("There are more findings; the rest was not looked at.")
    behind = summary.last_seq - summary.signed_seq
    click.echo(
        f"{summary.entries} entries, {summary.heads} signatures; the last {behind} are chained and not signed yet"
        + (f"; in {summary.erased} what was personal is erased" if summary.erased else "")
    )
    click.echo("The record is whole." if report.is_right and not differences else "The record is NOT whole.")


def fields_of(row: JournalEntry) -> dict[str, Any]:
    """Of an entry that nobody need have verified."""
    try:
        entry = json.loads(row.body)
        personal = None if row.personal is None else json.loads(row.personal)
    except ValueError:
        entry, personal = {"unreadable": True}, None
    return {"seq": row.seq, "hash": row.digest.hex(), "entry": entry, "personal": personal}


def row_of(row: JournalEntry) -> tuple[str, ...]:
    fields = fields_of(row)
    entry, personal = fields["entry"], fields["personal"] or {}
    is_erased = "commitment" in entry and fields["personal"] is None
    notes = [str(entry[name]) for name in ("reason",) if entry.get(name)]
    if entry.get("count", 1) != 1:
        notes.append(f"x{entry['count']}")
    if entry.get("about"):
        notes.append(f"about {entry['about']}")
    if entry.get("is_clock_trusted") is False:
        notes.append("time unsure")
    if personal.get("text"):
        notes.append(str(personal["text"]))
    return (
        str(row.seq), local_time(row.at_ms), row.kind, row.outcome, row.action, str(personal.get("resource", "")),
        "(erased)" if is_erased else str(personal.get("who", "")), "; ".join(notes),
    )  # fmt: skip
