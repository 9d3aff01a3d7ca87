"""Whatever is done to the chain is found, and said exactly."""

import hashlib
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from audited import ALICE, PRESS, Site, act_times
from autoglm.auth.audit.chain import Verification
from autoglm.auth.audit.entry import Personal, read_entry
from autoglm.auth.audit.heads import HeadKeys, KeptHeads, sign_head
from autoglm.auth.tokens.signing import SigningKey
from autoglm.core.ports import JournalEnd, JournalEntry


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    """Two runs: entry 1 starts, 2 to 9 are acts, 10 stops, 11 is its head; 12 to 17 the same with four acts."""
    site = Site(tmp_path)
    await act_times(site, 8)
    await act_times(site, 3)
    return site


def chained_anew(rows: list[JournalEntry], changed: JournalEntry, body: bytes) -> list[JournalEntry]:
    """What a forger without the key can make: all after the change fits again."""
    rows = list(rows)
    digest = b""
    for index in range(changed.seq - 1, len(rows)):
        row = rows[index]
        new = body if row.seq == changed.seq else row.body[:-66] + digest.hex().encode() + b'"}'
        digest = hashlib.sha256(new).digest()
        rows[index] = msgspec.structs.replace(row, body=new, digest=digest)
    return rows


def verify(site: Site, rows: list[JournalEntry]) -> list[tuple[int, str]]:
    verification = Verification(HeadKeys([site.key.public]))
    findings = verification.take(rows)
    return [(finding.seq, finding.problem) for finding in findings + verification.end()[1]]


async def test_a_chain_that_nobody_touched_verifies(site: Site) -> None:
    summary, findings = site.verify()
    assert findings == []
    assert (summary.entries, summary.last_seq, summary.heads, summary.signed_seq) == (17, 17, 2, 16)
    assert [entry.action for entry, _ in site.entries()[:3]] == ["audit:start", "act-0", "act-1"]


async def test_the_key_of_before_still_counts_when_it_is_given(site: Site) -> None:
    before, site.key = site.key, SigningKey.generate()
    await act_times(site, 1)
    assert site.problems()[0] == (11, "forged_head")
    assert site.verify(before)[1] == []
    kept = site.head_file.load()
    assert kept is not None
    assert kept.public_keys() == [before.public, site.key.public]


@pytest.mark.attack("audit: an entry is altered")
@pytest.mark.parametrize("seq", [1, 5, 17])
async def test_an_altered_entry_is_found(site: Site, seq: int) -> None:
    site.tamper(f"UPDATE journal SET body = replace(CAST(body AS TEXT), 'allowed', 'denied') WHERE seq = {seq}")
    assert site.problems() == [(seq, "altered")]


@pytest.mark.attack("audit: an entry is filed as something else")
@pytest.mark.parametrize("change", ["kind = 'policy'", "action = 'x'", "outcome = 'denied'", "at_ms = 1"])
async def test_what_is_found_by_is_what_is_said(site: Site, change: str) -> None:
    """Else a search would not show an entry whose bytes nobody touched."""
    site.tamper(f"UPDATE journal SET {change} WHERE seq = 5")
    assert site.problems() == [(5, "altered")]


@pytest.mark.attack("audit: what is personal is altered")
@pytest.mark.parametrize(
    "change",
    [
        "personal = replace(CAST(personal AS TEXT), 'alice', 'mallory'), who = 'user:mallory'",
        "who = 'user:mallory'",
        "who = NULL",
        "salt = zeroblob(16)",
        "salt = NULL",
        "personal = NULL",
        "salt = zeroblob(0), personal = CAST(salt || personal AS BLOB)",
    ],
)
async def test_what_is_personal_cannot_be_altered(site: Site, change: str) -> None:
    site.tamper(f"UPDATE journal SET {change} WHERE seq = 5")
    assert site.problems() == [(5, "personal_altered")]


@pytest.mark.attack("audit: personal fields are added to an entry that has none")
async def test_nothing_personal_is_added(site: Site) -> None:
    site.tamper("UPDATE journal SET who = 'user:mallory' WHERE seq = 1")
    assert site.problems() == [(1, "personal_altered")]


@pytest.mark.attack("audit: personal fields are removed without a record")
async def test_erasing_without_an_entry_that_says_so_is_found(site: Site) -> None:
    site.tamper("UPDATE journal SET who = NULL, salt = NULL, personal = NULL WHERE seq IN (3, 4, 5, 8)")
    assert site.problems() == [(3, "erased_unasked"), (8, "erased_unasked")]
    async with site.running() as (_, audit):
        audit.act("audit:erase", ALICE, kind="erase", erases=((4, 4), (7, 99)))
    assert site.problems() == [(seq, "erased_unasked") for seq in (3, 5, 7, 13)]  # of what comes behind, none may speak


async def test_erasing_leaves_a_chain_that_verifies(site: Site) -> None:
    async with site.running() as (store, audit):
        audit.decision(PRESS, "send:message", "user:alice", is_allowed=True)
        await audit.written()
        seq = store.journal.last().seq
        audit.act("audit:erase", ALICE, kind="erase", text="she asked for it", erases=((2, 6), (seq, seq)))
    summary, findings = site.verify()
    assert (findings, summary.erased) == ([], 6)
    assert [personal for _, personal in site.entries()[1:6]] == [Personal()] * 5
    entry, personal = site.entries()[seq]
    assert (entry.kind, entry.erased) == ("erase", ((2, 6), (seq, seq)))
    assert (personal.who, personal.text) == ("user:alice", "she asked for it")


@pytest.mark.attack("audit: entries are removed")
async def test_missing_entries_are_named(site: Site) -> None:
    site.tamper("DELETE FROM journal WHERE seq IN (3, 6, 7)")
    assert site.problems() == [(3, "missing"), (6, "missing")]
    assert site.verify()[1][1].text == "entries 6 to 7 are missing"
    site.tamper("DELETE FROM journal WHERE seq < 3")
    assert site.problems()[0] == (1, "missing")


@pytest.mark.attack("audit: entries are reordered")
async def test_reordered_entries_are_found(site: Site) -> None:
    site.tamper(
        "UPDATE journal SET seq = -1 WHERE seq = 4", "UPDATE journal SET seq = 4 WHERE seq = 6",
        "UPDATE journal SET seq = 6 WHERE seq = -1",
    )  # fmt: skip
    assert site.problems() == [(4, "reordered"), (6, "reordered")]


@pytest.mark.attack("audit: an entry is inserted")
async def test_an_inserted_entry_is_found(site: Site) -> None:
    """All behind it has to move, and then stands in a place that is not its own."""
    site.tamper(
        "UPDATE journal SET seq = seq + 1000 WHERE seq > 5", "UPDATE journal SET seq = seq - 999 WHERE seq > 1000",
        "INSERT INTO journal SELECT 6, digest, at_ms, kind, action, outcome, body, who, salt, personal "
        "FROM journal WHERE seq = 4",
    )  # fmt: skip
    assert sorted(site.problems()) == sorted([(seq, "reordered") for seq in range(6, 19)] + [(16, "rewritten")])


@pytest.mark.attack("audit: the chain is built anew after a change")
async def test_a_chain_that_was_built_anew_does_not_fit_the_heads(site: Site) -> None:
    rows = site.rows()
    body = rows[4].body.replace(b"act-3", b"act-9")
    rows = chained_anew(rows, rows[4], body)
    rows[4] = msgspec.structs.replace(rows[4], action="act-9")
    assert verify(site, rows) == [(10, "rewritten"), (16, "rewritten")]


async def test_a_replaced_entry_breaks_the_link_to_it(site: Site) -> None:
    rows = site.rows()
    body = rows[4].body.replace(b"act-3", b"act-9")
    rows[4] = msgspec.structs.replace(rows[4], action="act-9", body=body, digest=hashlib.sha256(body).digest())
    assert verify(site, rows) == [(6, "broken")]


@pytest.mark.attack("audit: a head is forged")
async def test_a_forged_head_is_found(site: Site) -> None:
    """By a key of the forger's, under the site's name and key id; and by one that bears its own."""
    rows = site.rows()
    entry = read_entry(rows[10].body)
    assert entry.head is not None
    end = JournalEnd(10, rows[9].digest)
    forged_by_other = sign_head("site:ward-3", end, entry.head.at_ms, SigningKey.generate())
    for kid in (forged_by_other.kid, site.key.kid):
        forged = msgspec.structs.replace(forged_by_other, kid=kid)
        body = rows[10].body.replace(msgspec.json.encode(entry.head), msgspec.json.encode(forged))
        assert body != rows[10].body
        assert verify(site, chained_anew(rows, rows[10], body)) == [(11, "forged_head"), (16, "rewritten")]


@pytest.mark.attack("audit: a head of another place in the chain is copied")
async def test_a_head_counts_only_where_it_belongs(site: Site) -> None:
    rows = site.rows()
    first, second = read_entry(rows[10].body).head, read_entry(rows[16].body).head
    body = rows[10].body.replace(msgspec.json.encode(first), msgspec.json.encode(second))
    assert verify(site, chained_anew(rows, rows[10], body))[0] == (11, "forged_head")
    body = rows[16].body.replace(msgspec.json.encode(second), msgspec.json.encode(first))
    copied = chained_anew(rows, rows[16], body)
    assert verify(site, copied) == []  # a true word about entry 10, and no word about those behind it
    verification = Verification(HeadKeys([site.key.public]))
    verification.take(copied)
    assert verification.end()[0].signed_seq == 10


@pytest.mark.attack("audit: the end is cut off")
async def test_a_chain_that_was_cut_short_is_found_by_the_head_outside(site: Site) -> None:
    site.tamper("DELETE FROM journal WHERE seq > 8")
    assert site.problems() == [(16, "truncated")]


@pytest.mark.attack("audit: the database is replaced by an older copy")
async def test_an_older_copy_of_the_database_is_found(site: Site, tmp_path: Path) -> None:
    """And stays so when the hub goes on working on it: what was lost is remembered, and said in the chain."""
    shutil.copy(tmp_path / "hub.db", tmp_path / "older.db")
    await act_times(site, 5)
    shutil.copy(tmp_path / "older.db", tmp_path / "hub.db")
    assert site.problems() == [(24, "truncated")]
    await act_times(site, 20)
    assert site.problems() == [(24, "rewritten")]
    start, personal = site.entries()[17]
    assert (start.action, start.outcome, start.reason) == ("audit:start", "failed", "rolled_back")
    assert personal.text.startswith("entry 24 ")
    await act_times(site, 1)
    assert site.problems() == [(24, "rewritten")]


@pytest.mark.attack("audit: the head outside is forged or removed")
async def test_the_head_outside_is_not_believed_blindly(site: Site) -> None:
    rows = site.rows()
    forged = sign_head("site:ward-3", JournalEnd(16, rows[15].digest), 1, SigningKey.generate())
    site.head_file.save(KeptHeads(newest=forged))
    assert site.problems() == [(16, "forged_head")]
    for content, reason in (
        (None, "heads_lost"),
        (b"{}", "heads_lost"),
        (b"{", "heads_unreadable"),
        (b" " * 70_000, "heads_unreadable"),
    ):
        site.head_file.path.unlink()
        if content is not None:
            site.head_file.path.write_bytes(content)
        await act_times(site, 1)
        starts = [entry for entry, _ in site.entries() if entry.kind == "start"]
        assert (starts[-1].outcome, starts[-1].reason) == ("failed", reason)


async def test_any_change_of_one_byte_is_found(site: Site) -> None:
    """In any column that is chained."""
    rows = site.rows()
    for _ in range(300):
        row = random.choice(rows)
        column = random.choice([name for name in ("body", "salt", "personal", "digest") if getattr(row, name)])
        content = bytearray(getattr(row, column))
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        changed = list(rows)
        changed[row.seq - 1] = msgspec.structs.replace(row, **{column: bytes(content)})
        assert verify(site, changed), (row.seq, column)
