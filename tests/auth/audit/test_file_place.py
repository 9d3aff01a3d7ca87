"""Files as a second place: without a gap or a double after a kill, and never written over by another chain."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from audited import ALICE, Site, arrived, shipping
from autoglm.auth.audit.chain import Verification
from autoglm.auth.audit.file_place import FilePlace, forks, list_files, read_files
from autoglm.auth.audit.heads import HeadKeys
from autoglm.auth.audit.places import Shipping
from autoglm.auth.audit.settings import FilePlaceSettings
from autoglm.core.ports import JournalEntry
from autoglm.store import StoreSettings, open_store
from eventually import until


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def place(folder: Path, *, max_file_bytes: int = 64 << 20) -> FilePlace:
    return FilePlace(FilePlaceSettings(folder=folder, max_file_bytes=max_file_bytes))


def troubles(site: Site) -> list[str]:
    return [entry.reason for entry, _ in site.entries() if entry.action == "audit:place"]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def run_once(site: Site, folder: Path, acts: int = 3) -> None:
    async with shipping(site, place(folder)) as (_, audit, _):
        for n in range(acts):
            audit.act(f"act-{n}", ALICE, text="x")


def in_files(folder: Path) -> list[JournalEntry]:
    return list(read_files(folder))


def assert_equal_so_far(site: Site, folder: Path) -> None:
    """What came there is what the store has; the last stop and head come after the place was closed."""
    there = in_files(folder)
    assert there == site.rows()[: len(there)]
    assert len(there) >= len(site.rows()) - 2


async def test_all_entries_come_there_as_they_are(site: Site, folder: Path) -> None:
    for _ in range(3):
        await run_once(site, folder)
    assert_equal_so_far(site, folder)
    verification = Verification(HeadKeys([site.key.public]))
    assert verification.take(in_files(folder)) == []
    assert verification.end()[0].heads == 2
    assert troubles(site) == []
    [file] = list_files(folder)
    assert [mode_of(path) for path in (file.path, folder)] == [0o600, 0o700]


async def test_a_file_that_is_full_is_followed_by_another(site: Site, folder: Path) -> None:
    async with shipping(site, place(folder, max_file_bytes=4096)) as (store, audit, ship):
        for _ in range(10):
            for n in range(5):
                audit.act(f"act-{n}", ALICE)
            await arrived(store, audit, ship)
    files = list_files(folder)
    assert len(files) > 3
    assert max(file.path.stat().st_size for file in files) < 2 * 4096
    assert [next(iter(in_files_of(file.path))).seq for file in files] == [file.first_seq for file in files]
    assert_equal_so_far(site, folder)


def in_files_of(path: Path) -> list[JournalEntry]:
    return [row for row in in_files(path.parent) if row.seq >= int(path.stem[-12:])]


@pytest.mark.parametrize("kept", ["", "{", "all but one byte", "a line and the start of the next"])
async def test_what_a_kill_left_half_written_is_written_again(site: Site, folder: Path, kept: str) -> None:
    await run_once(site, folder)
    [file] = list_files(folder)
    lines = file.path.read_bytes().splitlines(keepends=True)
    torn = {
        "": b"", "{": b"{", "all but one byte": b"".join(lines)[:-1],
        "a line and the start of the next": lines[0] + lines[1][:7],
    }[kept]  # fmt: skip
    file.path.write_bytes(torn)
    await run_once(site, folder)
    assert_equal_so_far(site, folder)
    assert troubles(site) == ["place_emptied" if b"\n" not in torn else "place_cut"]


CHILD = """
import asyncio, sys
from pathlib import Path
from audited import ALICE, Site
from autoglm.auth.audit.file_place import FilePlace
from autoglm.auth.audit.places import Shipping
from autoglm.auth.audit.settings import FilePlaceSettings

async def main(folder, copy):
    async with Site(Path(folder)).running() as (store, audit):
        place = FilePlace(FilePlaceSettings(folder=Path(copy), max_file_bytes=20_000))
        ship = Shipping(place, store.journal, store.keyvalue, audit)
        task = asyncio.create_task(ship.run())
        while True:
            for n in range(20):
                audit.act(f"act-{n}", ALICE)
            await audit.written()
            print(ship.position, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def killed_after(lines: int, site: Site, folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(site.folder), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as child:
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
        child.kill()
    assert child.returncode == -signal.SIGKILL


async def test_kills_leave_no_gap_and_no_double(site: Site, folder: Path) -> None:
    for _ in range(4):
        killed_after(random.randrange(5, 120), site, folder)
    await run_once(site, folder)
    assert len(in_files(folder)) > 400
    assert_equal_so_far(site, folder)
    assert troubles(site) == []


@pytest.mark.attack("audit: the database is replaced by an older copy, seen by the second place")
async def test_an_older_copy_of_the_store_does_not_write_over_what_was_exported(site: Site, folder: Path) -> None:
    await run_once(site, folder)
    shutil.copy(site.folder / "hub.db", site.folder / "older.db")
    await run_once(site, folder, acts=10)
    exported = in_files(folder)
    shutil.copy(site.folder / "older.db", site.folder / "hub.db")
    site.head_file.path.unlink()  # the attacker's, too
    await run_once(site, folder, acts=2)
    assert troubles(site) == ["place_ahead"]
    assert_equal_so_far(site, folder)
    [fork] = forks(folder)
    first, second = list_files(folder)
    assert (first.generation, second.generation, second.first_seq) == (1, 2, fork.seq)
    assert fork.end == exported[-1]
    second.path.rename(folder / "aside")
    assert in_files(folder) == exported
    assert len(exported) > len(site.rows())


@pytest.mark.attack("audit: the store is rewritten, seen by the second place")
async def test_a_rewritten_end_is_seen(site: Site, folder: Path) -> None:
    await run_once(site, folder)
    last = in_files(folder)[-1]
    site.tamper(f"UPDATE journal SET digest = zeroblob(32) WHERE seq = {last.seq}")
    await run_once(site, folder)
    assert troubles(site) == ["place_ahead"]


@pytest.mark.attack("audit: the files are cut, removed or damaged")
@pytest.mark.parametrize(
    ("what", "trouble"), [("cut", "place_cut"), ("removed", "place_emptied"), ("damaged", "place_damaged")]
)
async def test_what_is_done_to_the_files_is_seen_and_mended(site: Site, folder: Path, what: str, trouble: str) -> None:
    await run_once(site, folder)
    [file] = list_files(folder)
    lines = file.path.read_bytes().splitlines(keepends=True)
    if what == "cut":
        file.path.write_bytes(b"".join(lines[:2]))
    elif what == "removed":
        file.path.unlink()
    else:
        file.path.write_bytes(b"".join(lines[:-1]) + b'{"entry":{"seq":99999999999999999999}}\n')
    await run_once(site, folder)
    assert troubles(site) == [trouble]
    if what == "damaged":
        assert len(forks(folder)) == 1
    else:
        assert_equal_so_far(site, folder)


async def test_the_end_of_a_run_comes_there_before_the_store_closes(site: Site, folder: Path) -> None:
    await run_once(site, folder)
    async with open_store(site.folder, StoreSettings()) as store:
        audit = site.audit(store)
        await audit.start()
        ship = Shipping(place(folder), store.journal, store.keyvalue, audit)
        await audit.stop()
        with anyio.fail_after(20):
            await ship.finish()
        assert ship.position == store.journal.last().seq
    assert in_files(folder) == site.rows()
    assert in_files(folder)[-1].kind == "head"


async def test_an_end_that_cannot_come_there_holds_up_no_stop(site: Site, folder: Path) -> None:
    async with site.running() as (store, audit):
        await Shipping(place(folder / "not" / "mounted"), store.journal, store.keyvalue, audit).finish()
        await audit.written()
        assert store.journal.last().seq == 1


async def test_what_is_erased_is_erased_there_too(site: Site, folder: Path) -> None:
    async with shipping(site, place(folder, max_file_bytes=4096)) as (store, audit, ship):
        for n in range(40):
            audit.act(f"act-{n}", ALICE, text="secret-of-hers")
            await arrived(store, audit, ship)
        audit.act("audit:erase", None, kind="erase", erases=((2, 30),))
        audit.act("after", ALICE, text="y")
    assert len(list_files(folder)) > 3
    assert_equal_so_far(site, folder)
    content = b"".join(file.path.read_bytes() for file in list_files(folder))
    assert content.count(b"secret-of-hers") == 11
    assert [name for name in names(folder) if not name.endswith(".jsonl")] == []


async def test_an_erasure_that_a_kill_cut_off_is_done_at_the_next_start(site: Site, folder: Path) -> None:
    """The entry that asks for it is there, the work is not done, the position not noted."""
    await run_once(site, folder)
    async with site.running() as (store, audit):
        audit.act("audit:erase", None, kind="erase", erases=((2, 4),))
        await audit.written()
        copy = place(folder)
        position, _ = await copy.open(0, store.journal)
        await copy.put(await store.journal.read(after=position))
        await copy.aclose()
    assert in_files(folder)[2].personal is not None
    (folder / "audit-0001-000000000001.jsonl.new").write_text("left by a kill")
    await run_once(site, folder)
    assert_equal_so_far(site, folder)
    assert in_files(folder)[2].personal is None
    assert names(folder) == ["audit-0001-000000000001.jsonl"]


async def test_a_folder_that_is_not_there_for_a_while_holds_up_nothing(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.auth.audit.places._RETRY_S", (0.01, 0.02))
    (folder.parent / "copy").write_text("a file in its place: as a disk that is not mounted")
    async with shipping(site, place(folder)) as (store, audit, ship):
        while not ship.failure:
            audit.act("act", ALICE)
            await audit.written()
        assert "copy" in ship.failure
        os.unlink(folder)
        await arrived(store, audit, ship)
        await until(lambda: ship.failure == "")
    assert_equal_so_far(site, folder)


async def test_a_line_that_somebody_changed_is_named(site: Site, folder: Path) -> None:
    await run_once(site, folder)
    [file] = list_files(folder)
    file.path.write_bytes(file.path.read_bytes().replace(b'"hash":"', b'"hash":"zz', 1))
    with pytest.raises(ValueError, match="line 1"):
        in_files(folder)
