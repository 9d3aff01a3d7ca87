"""Entries that the chain had, and has no more, of which nobody has said why yet: what a restored backup leaves."""

from collections.abc import Iterable

from autoglm.auth.audit.entry import read_entry
from autoglm.auth.audit.heads import KeptHeads, Lost
from autoglm.core.ports import Journal, JournalEntry, JournalFilter

_PAGE_ENTRIES = 1000


async def open_losses(
    journal: Journal, kept: KeptHeads, ends: Iterable[JournalEntry] = (), *, now_ms: int
) -> list[Lost]:
    """By the heads outside of the database, and by `ends`: the last entries of chains that second places have.

    Of an end nobody knows when it was lost: it was found out now. Raises StoreBroken.
    """
    starts = await _rolled_back(journal)
    known = await _acknowledged(journal)
    found: dict[tuple[int, str], Lost] = {}
    for head in kept.lost:
        seq, at_ms = starts.get(head.seq) or max(starts.values(), default=(journal.last().seq, now_ms))
        found[head.seq, head.digest] = Lost(head.seq, head.digest, min(seq, head.seq) - 1, at_ms)
    for end in ends:
        row = await _at(journal, end.seq)
        if row is None or row.digest != end.digest:
            kept_seq = min((seq for seq, _ in starts.values()), default=journal.last().seq + 1) - 1
            found[end.seq, end.digest.hex()] = Lost(end.seq, end.digest.hex(), min(kept_seq, end.seq - 1), now_ms)
    return [lost for key, lost in sorted(found.items()) if key not in known]


async def _rolled_back(journal: Journal) -> dict[int, tuple[int, int]]:
    """The seq and the time of the start that found it out, by the seq of the head that was lost."""
    found: dict[int, tuple[int, int]] = {}
    wanted, position = JournalFilter(kinds=("start",), outcomes=("failed",)), 0
    while page := await journal.find(wanted, after=position, limit=_PAGE_ENTRIES):
        entries = [read_entry(row.body) for row in page]
        found |= {entry.about: (entry.seq, entry.at_ms) for entry in entries if entry.reason == "rolled_back"}
        position = page[-1].seq
    return found


async def _acknowledged(journal: Journal) -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    wanted, position = JournalFilter(kinds=("acknowledge",)), 0
    while page := await journal.find(wanted, after=position, limit=_PAGE_ENTRIES):
        losses = [read_entry(row.body).loss for row in page]
        found |= {(loss.seq, loss.digest) for loss in losses if loss is not None}
        position = page[-1].seq
    return found


async def _at(journal: Journal, seq: int) -> JournalEntry | None:
    rows = await journal.read(after=seq - 1, limit=1)
    return rows[0] if rows and rows[0].seq == seq else None
