"""Looking at an audit from outside: pages, copies, and bounds."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audited import Site, act_times
from autoglm.auth.audit.heads import HeadKeys
from autoglm.auth.audit.inspection import compare, matching, runs_of, verify
from autoglm.core.ports import JournalFilter
from autoglm.store import open_journal


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Seven entries, read in pages of two."""
    monkeypatch.setattr("autoglm.auth.audit.inspection._PAGE_ENTRIES", 2)
    site = Site(tmp_path)
    await act_times(site, 4)
    return site


async def test_all_pages_are_verified_and_progress_is_told(site: Site) -> None:
    told: list[tuple[int, int]] = []
    with open_journal(site.folder) as journal:
        report = verify(
            journal, HeadKeys([site.key.public]), progress=lambda done, total: told.append((done, total))
        )  # fmt: skip
        assert [row.seq for row in matching(journal, JournalFilter())] == [1, 2, 3, 4, 5, 6, 7]
    assert (report.is_right, report.summary.entries) == (True, 7)
    assert told == [(2, 7), (4, 7), (6, 7), (7, 7)]


async def test_findings_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.auth.audit.inspection._MAX_FINDINGS", 3)
    site.tamper("UPDATE journal SET digest = zeroblob(32)")
    with open_journal(site.folder) as journal:
        report = verify(journal, HeadKeys([]))
    assert (len(report.findings), report.is_complete, report.is_right) == (3, False, False)
    assert report.summary.entries == 4


async def test_a_copy_is_compared_entry_by_entry(site: Site) -> None:
    rows = site.rows()
    changed = [*rows[:2], msgspec.structs.replace(rows[2], digest=bytes(32)), *rows[3:]]
    more = [*rows, msgspec.structs.replace(rows[6], seq=8)]
    with open_journal(site.folder) as journal:
        assert compare(journal, rows) == []
        assert compare(journal, rows[:4]) == []  # the rest is on its way
        assert [(found.seq, found.problem) for found in compare(journal, changed)] == [(3, "rewritten")]
        assert [(found.seq, found.problem) for found in compare(journal, more)] == [(8, "truncated")]
        gap = compare(journal, [*rows[:2], *rows[4:]])
    assert [(found.seq, found.problem) for found in gap] == [(3, "missing")]


@given(st.sets(st.integers(1, 60)), st.integers(1, 5))
def test_runs_are_what_was_given(seqs: set[int], longest: int) -> None:
    pages = list(runs_of(sorted(seqs), longest=longest))
    assert all(1 <= len(page) <= longest for page in pages)
    assert sorted(seqs) == [seq for page in pages for first, last in page for seq in range(first, last + 1)]
