"""Verifies the chain, entry by entry, and says exactly what is wrong where."""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from autoglm.auth.audit.entry import Entry, Head, Loss, commits_to, read_entry, read_personal
from autoglm.auth.audit.heads import HeadKeys
from autoglm.core.ports import JournalEntry

Problem = Literal[
    "altered", "missing", "reordered", "broken", "forged_head", "rewritten", "truncated", "personal_altered",
    "erased_unasked",
]  # fmt: skip
_REMEMBERED = 65_536
"""Digests of the last entries: a head is written at most as many behind the entry that it is about as wait for a disk
(20,000)."""

Run = tuple[int, int]


class Finding(msgspec.Struct, frozen=True):
    seq: int
    """The first entry that it is about."""
    problem: Problem
    text: str


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A loss that somebody has acknowledged."""

    seq: int
    """Of the acknowledging entry."""
    found_ms: int
    kept_seq: int
    """What is lost came behind this entry."""
    lost: int
    """At least so many entries."""
    digest: str
    """Of the last of them."""
    acknowledged_ms: int
    who: str
    """Empty once it was erased, as is why."""
    why: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    entries: int
    last_seq: int
    digest: str
    """Of the last entry, in hexadecimal digits."""
    heads: int
    """Those in the chain that are right."""
    signed_seq: int
    """Up to which entry the newest head of these goes: those behind it are chained, but not signed yet."""
    erased: int
    restored: list[Restored]


class Verification:
    """Give it all entries, from the first on, to `take`, then call `end`.

    Who can write to the database can build a chain anew from any entry on, without a link that is broken; then the
    heads no longer fit (`rewritten`), which only the site can sign. What is behind the newest head is not protected
    from that yet, other than by a copy in a second place.
    """

    def __init__(self, keys: HeadKeys, known: Iterable[Head] = ()) -> None:
        """known: heads that were kept elsewhere. They are checked like those in the chain."""
        self._keys = keys
        self._known: dict[int, list[Head]] = {}
        self._early: list[Finding] = []
        for head in known:
            if (flaw := keys.flaw(head)) is not None:
                self._early.append(
                    Finding(head.seq, "forged_head", f"the head of entry {head.seq}, kept elsewhere: {flaw}")
                )
            else:
                self._known.setdefault(head.seq, []).append(head)
        self._seq = 0
        self._digest = bytes(32)
        self._recent: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._is_doubtful = False
        """Something is known to be wrong with the entry before, so that nothing follows from a link to it."""
        self._entries = self._heads = self._signed_seq = 0
        self._cleared: list[Run] = []
        self._named: list[Run] = []
        self._lost: list[tuple[Head, Finding]] = []
        self._restored: dict[tuple[int, str], Restored] = {}
        """By the seq and digest of what was lost."""

    def take(self, entries: Iterable[JournalEntry]) -> list[Finding]:
        findings, self._early = self._early, []
        for entry in entries:
            self._take(entry, findings)
        return findings

    def end(self) -> tuple[Summary, list[Finding]]:
        findings = self._early
        for seq in sorted(seq for seq in self._known if seq > self._seq):
            text = (
                f"the chain ends with entry {self._seq}, but the site signed it up to entry {seq}: "
                "its end was cut off, or all of it is an older copy"
            )
            self._lost += [(head, Finding(seq, "truncated", text)) for head in self._known[seq]]
        for head, finding in self._lost:
            if (head.seq, head.digest) not in self._restored and finding not in findings:
                findings.append(finding)
        erased = 0
        for first, last in self._cleared:
            erased += last - first + 1
            for run in _without((first, last), _merged(self._named)):
                findings.append(Finding(run[0], "erased_unasked", f"{_named(run)} lost what was personal, unasked"))
        summary = Summary(
            entries=self._entries, last_seq=self._seq, digest=self._digest.hex(), heads=self._heads,
            signed_seq=self._signed_seq, erased=erased,
            restored=list(self._restored.values()),
        )  # fmt: skip
        return summary, findings

    def _take(self, row: JournalEntry, findings: list[Finding]) -> None:
        self._entries += 1
        seq = row.seq
        is_behind_gap = seq != self._seq + 1
        if seq > self._seq + 1:
            gap = (self._seq + 1, seq - 1)
            findings.append(Finding(gap[0], "missing", f"{_named(gap)} {'is' if gap[0] == gap[1] else 'are'} missing"))
            self._recent.clear()
        elif is_behind_gap:
            findings.append(Finding(seq, "reordered", f"entry {seq} comes behind entry {self._seq}"))
        found = len(findings)
        entry = self._checked(row, findings)
        is_wrong = len(findings) > found
        is_linked = not (is_wrong or is_behind_gap or self._is_doubtful)
        if entry is not None and is_linked and entry.prev != self._digest.hex():
            text = f"entry {seq} does not follow from the one before: one of them was replaced"
            findings.append(Finding(seq, "broken", text))
        self._is_doubtful = is_wrong and hashlib.sha256(row.body).digest() == row.digest
        self._seq, self._digest = max(seq, self._seq), row.digest
        self._recent.append(row.digest)
        for head in self._known.get(seq, ()):
            if (finding := self._contradiction(head, row.digest, "kept elsewhere")) is not None:
                self._lost.append((head, finding))  # what is behind may say why
        if entry is not None and not is_wrong:
            self._follow(entry, row, findings)

    def _checked(self, row: JournalEntry, findings: list[Finding]) -> Entry | None:
        seq = row.seq
        if hashlib.sha256(row.body).digest() != row.digest:
            findings.append(Finding(seq, "altered", f"entry {seq} was altered: its digest is another"))
            return None
        try:
            entry = read_entry(row.body)
        except (msgspec.MsgspecError, ValueError) as error:
            findings.append(Finding(seq, "altered", f"entry {seq} cannot be read: {error}"))
            return None
        if entry.seq != seq:
            findings.append(Finding(seq, "reordered", f"entry {entry.seq} is in the place of entry {seq}"))
        elif (row.at_ms, row.kind, row.action, row.outcome) != (entry.at_ms, entry.kind, entry.action, entry.outcome):
            findings.append(Finding(seq, "altered", f"entry {seq} was altered: it is filed as something else"))
        else:
            self._check_personal(row, entry, findings)
        return entry

    def _check_personal(self, row: JournalEntry, entry: Entry, findings: list[Finding]) -> None:
        seq = row.seq
        if row.salt is None and row.personal is None and row.who is None:
            if entry.commitment:
                if self._cleared and self._cleared[-1][1] == seq - 1:
                    self._cleared[-1] = (self._cleared[-1][0], seq)
                else:
                    self._cleared.append((seq, seq))
            return
        try:
            is_right = (
                row.salt is not None
                and row.personal is not None
                and commits_to(entry, row.salt, row.personal)
                and (read_personal(row).who or None) == row.who
            )
        except msgspec.MsgspecError:
            is_right = False
        if not is_right:
            findings.append(Finding(seq, "personal_altered", f"what is personal in entry {seq} was altered"))

    def _follow(self, entry: Entry, row: JournalEntry, findings: list[Finding]) -> None:
        if entry.kind == "erase":
            self._named += [run for run in entry.erased if run[1] < entry.seq]
        elif entry.kind == "acknowledge" and entry.loss is not None:
            self._acknowledge(entry, entry.loss, row, findings)
        elif entry.kind == "head" and entry.head is not None:
            head = entry.head
            behind = entry.seq - head.seq
            if (flaw := self._keys.flaw(head)) is not None:
                findings.append(
                    Finding(entry.seq, "forged_head", f"the head in entry {entry.seq} is not right: {flaw}")
                )
            elif 0 < behind < len(self._recent):
                finding = self._contradiction(head, self._recent[-1 - behind], f"in entry {entry.seq}")
                if finding is None:
                    self._heads += 1
                    self._signed_seq = head.seq
                else:
                    findings.append(finding)
            elif behind <= 0 or behind >= _REMEMBERED:
                text = f"the head in entry {entry.seq} is about entry {head.seq}, where it does not belong"
                findings.append(Finding(entry.seq, "forged_head", text))

    def _acknowledge(self, entry: Entry, loss: Loss, row: JournalEntry, findings: list[Finding]) -> None:
        if (flaw := self._keys.flaw(loss)) is not None:
            text = f"the site did not say that the loss in entry {entry.seq} is known: {flaw}"
            findings.append(Finding(entry.seq, "forged_head", text))
            return
        personal = read_personal(row)
        self._restored[loss.seq, loss.digest] = Restored(
            seq=entry.seq, found_ms=loss.found_ms, kept_seq=loss.kept_seq, lost=max(1, loss.seq - loss.kept_seq),
            digest=loss.digest, acknowledged_ms=entry.at_ms, who=personal.who, why=personal.text,
        )  # fmt: skip

    def _contradiction(self, head: Head, digest: bytes, where: str) -> Finding | None:
        if head.digest == digest.hex():
            return None
        text = (
            f"entry {head.seq} is not the one that the site signed (head {where}): the chain was built anew from there "
            f"or from an entry before, behind entry {self._signed_seq}"
        )
        return Finding(head.seq, "rewritten", text)


def _named(run: Run) -> str:
    return f"entry {run[0]}" if run[0] == run[1] else f"entries {run[0]} to {run[1]}"


def _merged(runs: Sequence[Run]) -> list[Run]:
    merged: list[Run] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _without(run: Run, named: Sequence[Run]) -> list[Run]:
    """What of `run` is in none of `named`, which are sorted and apart."""
    rest: list[Run] = []
    first, last = run
    for begin, end in named:
        if end < first:
            continue
        if begin > last:
            break
        if begin > first:
            rest.append((first, begin - 1))
        first = end + 1
    if first <= last:
        rest.append((first, last))
    return rest
