"""Looks at an audit from outside, for a command or a page: is it whole, and what does it say?"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from autoglm.auth.audit.chain import Finding, Summary, Verification
from autoglm.auth.audit.conflicts import CONFLICTS, ConflictList
from autoglm.auth.audit.entry import Head
from autoglm.auth.audit.heads import HeadKeys
from autoglm.core.ports import JournalEnd, JournalEntry, JournalFilter

_PAGE_ENTRIES = 2000
_MAX_FINDINGS = 10_000

Progress = Callable[[int, int], None]
"""Entries that were read, and those there are."""


class Reader(Protocol):
    """Reads a journal. Blocks."""

    def end(self) -> JournalEnd: ...

    def read(self, *, after: int = 0, limit: int = 1000) -> list[JournalEntry]: ...

    def find(
        self, wanted: JournalFilter, *, after: int = 0, before: int | None = None, limit: int = 100,
        newest_first: bool = False,
    ) -> list[JournalEntry]: ...  # fmt: skip


class Report(msgspec.Struct, frozen=True, kw_only=True):
    summary: Summary
    findings: list[Finding]
    """In the order of what they are about; at most 10,000, and more are not looked for."""
    is_complete: bool
    """False: there were too many."""

    @property
    def is_right(self) -> bool:
        return not self.findings


def verify(reader: Reader, keys: HeadKeys, known: Iterable[Head] = (), *, progress: Progress | None = None) -> Report:
    """All entries there are now. known: the heads that are kept outside. Raises StoreBroken."""
    total = reader.end().seq
    verification = Verification(keys, known)
    findings: list[Finding] = []
    position = 0
    while page := reader.read(after=position, limit=_PAGE_ENTRIES):
        findings += verification.take(page)
        position = page[-1].seq
        if progress is not None:
            progress(position, max(total, position))
        if len(findings) > _MAX_FINDINGS:
            break
    summary, last = verification.end()
    is_complete = len(findings) <= _MAX_FINDINGS
    if is_complete:
        findings += last
    findings = sorted(findings[:_MAX_FINDINGS], key=lambda finding: finding.seq)
    return Report(summary=summary, findings=findings, is_complete=is_complete)


def compare(reader: Reader, copy: Iterable[JournalEntry]) -> list[Finding]:
    """What a copy in a second place has, and the store has otherwise or no more; at most 10,000.

    What the copy lacks at its end is on its way there. Raises StoreBroken, and what reading the copy raises.
    """
    findings: list[Finding] = []
    own: dict[int, JournalEntry] = {}
    last = 0
    for row in copy:
        if row.seq not in own:
            own = {found.seq: found for found in reader.read(after=row.seq - 1, limit=_PAGE_ENTRIES)}
        found = own.get(row.seq)
        if found is None:
            text = f"the copy has entry {row.seq}, and the store has not"
            findings.append(Finding(row.seq, "truncated", text))
        elif found.digest != row.digest:
            text = f"the copy has another entry {row.seq} than the store"
            findings.append(Finding(row.seq, "rewritten", text))
        if row.seq > last + 1:
            text = f"the copy goes from entry {last} to entry {row.seq}"
            findings.append(Finding(last + 1, "missing", text))
        last = row.seq
        if len(findings) >= _MAX_FINDINGS:
            break
    return findings


def matching(
    reader: Reader, wanted: JournalFilter, *, after: int = 0, before: int | None = None
) -> Iterator[JournalEntry]:
    """All that fit, oldest first."""
    while page := reader.find(wanted, after=after, before=before, limit=_PAGE_ENTRIES):
        yield from page
        after = page[-1].seq


def known_conflicts(reader: Reader) -> ConflictList:
    conflicts = ConflictList()
    conflicts.take(matching(reader, CONFLICTS))
    return conflicts


def runs_of(seqs: Iterable[int], *, longest: int) -> Iterator[list[tuple[int, int]]]:
    """Rising numbers as runs, at most `longest` runs a list."""
    runs: list[tuple[int, int]] = []
    for seq in seqs:
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
            continue
        if len(runs) == longest:
            yield runs
            runs = []
        runs.append((seq, seq))
    if runs:
        yield runs
