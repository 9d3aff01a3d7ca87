"""`autoglm audit`: verifies, searches, exports, settles and erases on a data folder."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from audited import ALICE, PRESS, Site, act_times, shipping
from autoglm.auth.audit.file_place import FilePlace
from autoglm.auth.audit.line import from_line
from autoglm.auth.audit.rejudge import Conflict, rejudge
from autoglm.auth.audit.settings import FilePlaceSettings
from autoglm.auth.tokens.signing import SigningKey
from autoglm.store import StoreSettings, open_store
from cli.terminal import autoglm


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Entry 1 starts; 2 Alice's act; 3 the press sends; 4 and 5 its refusals; 6 stops, 7 is the head."""
    site = Site(tmp_path / "data")

    async def work() -> None:
        async with site.running() as (_, audit):
            audit.act("keys:issue", ALICE, resource="robot-7", text="for the night shift")
            site.clock.ms += 3_600_000
            audit.decision(PRESS, "send:message", "user:alice", is_allowed=True)
            for _ in range(3):
                audit.decision(PRESS, "admin", "keys", is_allowed=False, reason="no_scope")

    (tmp_path / "data" / "trust").mkdir(parents=True)
    (tmp_path / "data" / "trust" / "site.key").write_bytes(site.key.pem())
    asyncio.run(work())
    return site


def test_a_record_that_is_whole(site: Site) -> None:
    done = autoglm("audit", "verify", data=site.folder)
    assert done.out == (
        "7 entries, 1 signatures; the last 1 are chained and not signed yet\nThe record is whole.\n"
    )  # fmt: skip
    assert done.status == 0
    fields = json.loads(autoglm("audit", "verify", "--json", data=site.folder).out)
    assert (fields["ok"], fields["last_seq"], fields["signed_seq"], fields["findings"]) == (True, 7, 6, [])
    assert fields["digest"] == site.rows()[-1].digest.hex()


@pytest.mark.attack("audit: an entry is altered, seen by the command")
def test_a_record_that_was_changed_is_told_and_ends_with_status_1(site: Site) -> None:
    site.tamper("UPDATE journal SET outcome = 'denied' WHERE seq = 2", "DELETE FROM journal WHERE seq = 4")
    done = autoglm("audit", "verify", data=site.folder)
    assert done.out.splitlines()[:2] == [
        "altered: entry 2 was altered: it is filed as something else", "missing: entry 4 is missing"
    ]  # fmt: skip
    assert done.out.endswith("The record is NOT whole.\n")
    assert done.status == 1
    fields = json.loads(autoglm("audit", "verify", "--json", data=site.folder).out)
    assert [(finding["seq"], finding["problem"]) for finding in fields["findings"]] == [(2, "altered"), (4, "missing")]


def test_heads_verify_after_the_site_has_another_key(site: Site) -> None:
    site.key = SigningKey.generate()
    (site.folder / "trust" / "site.key").write_bytes(site.key.pem())
    assert autoglm("audit", "verify", data=site.folder).status == 0
    asyncio.run(act_times(site, 1))
    done = autoglm("audit", "verify", data=site.folder)
    assert (done.status, "2 signatures" in done.out) == (0, True)


@pytest.mark.attack("audit: the site's key in the data folder is replaced")
def test_a_public_key_from_elsewhere_is_not_fooled(site: Site, tmp_path: Path) -> None:
    (tmp_path / "site.pub").write_text(site.key.public.x + "\n")
    given = ("audit", "verify", "--public-key", tmp_path / "site.pub")
    assert autoglm(*given, data=site.folder).status == 0
    site.tamper("DELETE FROM journal")
    site.head_file.path.unlink()
    site.key = SigningKey.generate()
    (site.folder / "trust" / "site.key").write_bytes(site.key.pem())
    asyncio.run(act_times(site, 1))
    assert autoglm("audit", "verify", data=site.folder).status == 0
    done = autoglm(*given, data=site.folder)
    assert (done.status, "forged_head" in done.out) == (1, True)


@pytest.mark.attack("audit: an older copy of the store, seen by comparing with a second place")
def test_a_copy_in_a_second_place_is_compared(site: Site, tmp_path: Path) -> None:
    copy = tmp_path / "copy"

    async def work(acts: int) -> None:
        async with shipping(site, FilePlace(FilePlaceSettings(folder=copy))) as (_, audit, _):
            for _ in range(acts):
                audit.act("act", ALICE)

    asyncio.run(work(1))
    assert autoglm("audit", "verify", "--copy", copy, data=site.folder).status == 0
    shutil.copy(site.folder / "hub.db", tmp_path / "older.db")
    asyncio.run(work(5))
    shutil.copy(tmp_path / "older.db", site.folder / "hub.db")
    site.head_file.path.unlink()
    assert autoglm("audit", "verify", data=site.folder).status == 0
    done = autoglm("audit", "verify", "--copy", copy, data=site.folder)
    assert (done.status, "has entry 13, and the store has not" in done.out) == (1, True)
    asyncio.run(work(9))
    done = autoglm("audit", "verify", "--copy", copy, data=site.folder)
    assert (done.status, "two chains from entry" in done.out) == (1, True)


def test_searching_shows_who_did_what(site: Site) -> None:
    done = autoglm("audit", "search", "--who", "device:press-7", data=site.folder)
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["seq", "time", "kind", "outcome", "action", "resource", "who", "note"]
    assert [[row[0], *row[3:]] for row in rows[1:]] == [  # without the date and the time
        ["3", "decision", "allowed", "send:message", "user:alice", "device:press-7"],
        ["4", "decision", "denied", "admin", "keys", "device:press-7", "no_scope"],
        ["5", "decision", "denied", "admin", "keys", "device:press-7", "no_scope;", "x2"],
    ]


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        ((), [1, 2, 3, 4, 5, 6, 7]),
        (("--limit", "2"), [6, 7]),
        (("--limit", "2", "--before", "6"), [4, 5]),
        (("--kind", "act", "--kind", "stop"), [2, 6]),
        (("--outcome", "denied"), [4, 5]),
        (("--action", "send:message"), [3]),
        (("--text", "NIGHT shift"), [2]),
        (("--since", "2023-11-14T22:30:00+00:00"), [3, 4, 5, 6, 7]),
        (("--until", "2023-11-14T22:30:00+00:00"), [1, 2]),
        (("--since", "1h"), []),
        (("--outcome", "denied", "--who", "user:alice"), []),
    ],
)
def test_searching_by(site: Site, options: tuple[str, ...], seqs: list[int]) -> None:
    done = autoglm("audit", "search", "--json", *options, data=site.folder)
    assert [row["seq"] for row in json.loads(done.out)] == seqs


def test_exporting_gives_lines_that_verify(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    done = autoglm("audit", "export", file, data=site.folder)
    assert (done.status, done.err) == (0, "7 entries written\n")
    assert [from_line(line) for line in file.read_bytes().splitlines()] == site.rows()
    assert file.stat().st_mode & 0o777 == 0o600
    again = autoglm("audit", "export", file, data=site.folder)
    assert (again.status, "--force writes over it" in again.err) == (1, True)
    forced = autoglm("audit", "export", file, "--force", "--outcome", "denied", "--json", data=site.folder)
    assert json.loads(forced.out) == {"path": str(file), "entries": 2}
    assert len(file.read_bytes().splitlines()) == 2
    bare = autoglm("audit", "export", "-", "--without-personal", "--kind", "act", data=site.folder).out
    assert "alice" not in bare
    assert from_line(bare.encode()).body == site.rows()[1].body


def test_conflicts_are_listed_and_settled(site: Site) -> None:
    async def judge() -> None:
        async with site.running() as (store, audit):
            await rejudge(
                audit, store.journal, store.keyvalue,
                lambda operation: Conflict("revoked_since", "it was stolen") if operation.name == "press-7" else None,
            )  # fmt: skip

    asyncio.run(judge())
    [_, row] = autoglm("audit", "conflicts", data=site.folder).out.splitlines()
    assert row.split() == [
        "3", "revoked_since", "device:press-7", "send:message", "user:alice", "open", "it", "was", "stolen"
    ]  # fmt: skip
    settled = autoglm("audit", "settle", "3", "accept", "--why", "seen on camera", data=site.folder)
    assert (settled.status, settled.out) == (0, "the conflict about 3: accepted\n")
    assert json.loads(autoglm("audit", "conflicts", "--json", data=site.folder).out) == []
    [conflict] = json.loads(autoglm("audit", "conflicts", "--all", "--json", data=site.folder).out)
    assert conflict["settled"]["who"].startswith("local:")
    again = autoglm("audit", "settle", "3", "reject", "--why", "no", data=site.folder)
    assert (again.status, "was settled already: accept" in again.err) == (1, True)
    assert autoglm("audit", "settle", "2", "reject", "--why", "no", data=site.folder).err == (
        "autoglm: there is no conflict '2' here\n"
    )
    assert autoglm("audit", "verify", data=site.folder).status == 0


def test_a_person_is_erased_and_the_record_is_whole(site: Site) -> None:
    refused = autoglm("audit", "erase", "user:alice", "--why", "she left", data=site.folder, stdin="n\n")
    assert refused.status == 130
    assert site.problems() == []
    done = autoglm("audit", "erase", "user:alice", "--why", "she left", "--yes", data=site.folder)
    assert (done.status, done.out) == (0, "1 entries\n")
    more = autoglm("audit", "erase", "user:alice", "--mentioned", "--why", "she left", "--yes", data=site.folder)
    assert more.out == "1 entries\n"
    texts = [row.personal for row in site.rows() if row.kind != "erase" and row.personal]
    assert not any(b"user:alice" in text for text in texts)
    verified = autoglm("audit", "verify", data=site.folder)
    assert (verified.status, "in 2 what was personal is erased" in verified.out) == (0, True)
    shown = autoglm("audit", "search", "--kind", "act", data=site.folder).out
    assert "(erased)" in shown
    assert "she left" in autoglm("audit", "search", "--kind", "erase", data=site.folder).out


def test_what_reads_works_beside_a_hub_and_what_writes_says_who_is_there(site: Site) -> None:
    async def beside() -> None:
        async with open_store(site.folder, StoreSettings()):
            done = await asyncio.to_thread(autoglm, "audit", "verify", data=site.folder)
            assert done.status == 0
            done = await asyncio.to_thread(autoglm, "audit", "settle", "3", "accept", "--why", "x", data=site.folder)
            assert (done.status, "has it open" in done.err) == (1, True)

    asyncio.run(beside())


def test_what_is_wrong_is_told(tmp_path: Path, site: Site) -> None:
    nowhere = autoglm("audit", "verify", data=tmp_path / "nowhere")
    assert (nowhere.status, "there is no store" in nowhere.err) == (1, True)
    wrong = autoglm("audit", "search", "--since", "yesterday-ish", data=site.folder)
    assert (wrong.status, "is no time such as" in wrong.err) == (2, True)
    site.head_file.path.write_bytes(b"{")
    damaged = autoglm("audit", "verify", data=site.folder)
    assert (damaged.status, "cannot be used" in damaged.err) == (1, True)


def test_control_characters_of_strangers_do_not_reach_the_terminal(site: Site) -> None:
    async def work() -> None:
        async with site.running() as (_, audit):
            audit.act("keys:issue", ALICE, text="\x1b[2J\x1b]0;owned\x07")

    asyncio.run(work())
    assert "\x1b" not in autoglm("audit", "search", data=site.folder).out


def test_a_restored_backup_is_acknowledged_by_who_knows_why(site: Site, tmp_path: Path) -> None:
    shutil.copy(site.folder / "hub.db", tmp_path / "monday.db")
    asyncio.run(act_times(site, 10))
    for file in site.folder.glob("hub.db*"):
        file.unlink()
    shutil.copy(tmp_path / "monday.db", site.folder / "hub.db")
    why = ("--why", "the disk failed; Monday's backup is back")
    assert autoglm("audit", "verify", data=site.folder).status == 1
    assert autoglm("audit", "acknowledge", "--why", " ", data=site.folder).status == 2
    done = autoglm("audit", "acknowledge", *why, "--yes", "--json", data=site.folder)
    assert (done.status, json.loads(done.out)) == (0, [{"seq": 19, "kept_seq": 7}])
    told = autoglm("audit", "verify", data=site.folder)
    assert told.status == 0
    assert told.out.startswith("restored: at least 12 entries behind entry 7 are lost, found out ")
    assert "Monday's backup is back" in told.out
    [restored] = json.loads(autoglm("audit", "verify", "--json", data=site.folder).out)["restored"]
    assert restored["who"].startswith("local:")
    again = autoglm("audit", "acknowledge", *why, "--yes", data=site.folder)
    assert again.out == "nothing is lost of which that was not said before\n"


def test_a_second_place_that_has_more_is_acknowledged_as_well(site: Site, tmp_path: Path) -> None:
    """A backup of all the folder: nothing in it knows that there was more."""
    folder = tmp_path / "copy"

    async def work() -> None:
        async with shipping(site, FilePlace(FilePlaceSettings(folder=folder))) as (_, audit, _):
            audit.act("more", ALICE)

    asyncio.run(work())
    shutil.copytree(site.folder, tmp_path / "monday")
    asyncio.run(work())
    shutil.rmtree(site.folder)
    shutil.copytree(tmp_path / "monday", site.folder)
    asyncio.run(work())
    verify = ("audit", "verify", "--copy", folder)
    assert "two chains" in autoglm(*verify, data=site.folder).out
    done = autoglm("audit", "acknowledge", "--why", "restored", "--copy", folder, "--yes", data=site.folder)
    assert done.out == "1 acknowledged\n"
    told = autoglm(*verify, data=site.folder)
    assert (told.status, "The record is whole." in told.out) == (0, True)
