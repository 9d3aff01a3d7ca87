"""A backup is one file of one moment; a restore believes nothing that it has not checked."""

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from autoglm.core.errors import BackupBroken, NotFound, StoreBroken
from autoglm.core.ports import NewRecord
from autoglm.store import Store, StoreSettings, backup_folder, open_store, restore, verify
from eventually import wait_until

Tamper = Callable[[Path], None]


def new(id: str) -> NewRecord:
    return NewRecord(id=id, digest=b"d", subjects=("all",), body=id.encode() * 50)


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def fill(store: Store) -> str:
    """Returns the sha256 of the larger blob."""
    await store.log.append_all([new(f"m{n}") for n in range(500)])
    await store.keyvalue.put("key/admin", b"hash")
    await store.blobs.put(chunks(b"small"))
    return await store.blobs.put(chunks(bytes(3_000_000)))


@pytest.fixture
async def archive(tmp_path: Path) -> Path:
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        await fill(store)
        (store.data_dir / "autoglm.toml").write_text("[gateway]\n")
        await store.backup(tmp_path / "backup.tar", extra_files=["autoglm.toml"])
    return tmp_path / "backup.tar"


async def test_a_restored_store_holds_what_the_store_held(tmp_path: Path) -> None:
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        sha256 = await fill(store)
        (store.data_dir / "autoglm.toml").write_text("[gateway]\n")
        (tmp_path / "out").mkdir()
        summary = await store.backup(tmp_path / "out" / "backup.tar", extra_files=["autoglm.toml", "missing.key"])
    assert (summary.blobs, summary.extra_files, summary.damaged_blobs) == (2, ("autoglm.toml",), ())
    assert summary.path.stat().st_size == summary.size_bytes
    assert summary.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in summary.path.parent.iterdir()] == ["backup.tar"]
    restored = await restore(summary.path, tmp_path / "copy")
    assert restored.replaced is None
    assert (tmp_path / "copy" / "autoglm.toml").read_text() == "[gateway]\n"
    async with open_store(tmp_path / "copy", StoreSettings()) as copy:
        assert copy.recovered.was_clean
        assert [record.id for record in await copy.log.read("all", limit=1000)] == [f"m{n}" for n in range(500)]
        entry = await copy.keyvalue.get("key/admin")
        assert entry is not None
        assert entry.value == b"hash"
        assert b"".join([chunk async for chunk in copy.blobs.read(sha256)]) == bytes(3_000_000)
        assert not (await copy.log.append(new("m7"))).is_new
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert names == {"hub.db", "hub.lock", "blobs", "autoglm.toml"}


async def test_writers_go_on_during_a_backup_which_shows_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction writes a pair; a backup that mixed two moments would hold half of one.

    Nor does it start anew with each write, which it would never end with: its progress only rises, although something
    is written between any two of its steps.
    """
    monkeypatch.setattr("autoglm.store.sqlite.backup._STEP_PAGES", 8)
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        await store.log.append_all([new(f"old-{n}") for n in range(2000)])
        is_done = False
        written = 0

        async def write() -> None:
            nonlocal written
            while not is_done:
                await store.log.append_all([new(f"left-{written}"), new(f"right-{written}")])
                written += 1

        seen: list[tuple[int, int]] = []

        def rises(done: int, total: int) -> None:
            assert not seen or seen[-1][0] <= done, "it began anew"
            before = written
            seen.append((done, before))
            wait_until(lambda: written > before)

        writer = asyncio.create_task(write())
        await store.backup(tmp_path / "backup.tar", progress=rises)
        is_done = True
        await writer
        assert len(seen) > 20
    await restore(tmp_path / "backup.tar", tmp_path / "copy")
    async with open_store(tmp_path / "copy", StoreSettings()) as copy:
        ids = [record.id for record in await copy.log.read("all", after=2000, limit=100_000)]
    assert [id.replace("left", "right") for id in ids[::2]] == ids[1::2]
    assert len(ids) // 2 <= seen[0][1] + 1, "what was written after its first step is not in it"


class Syncs:
    """Every fsync there is: of which inode, with how many bytes in it, and what `look` saw at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> None:
        self.seen: list[tuple[int, int, object]] = []
        fsync = os.fsync

        def recorded(descriptor: int) -> None:
            fsync(descriptor)
            state = os.fstat(descriptor)
            self.seen.append((state.st_ino, state.st_size, look()))

        monkeypatch.setattr(os, "fsync", recorded)

    def of_file(self, path: Path) -> list[object]:
        """What was seen when the file, as large as it is now, was synced."""
        state = path.stat()
        return [sight for inode, size_bytes, sight in self.seen if (inode, size_bytes) == (state.st_ino, state.st_size)]

    def of_folder(self, path: Path) -> list[object]:
        return [sight for inode, _, sight in self.seen if inode == path.stat().st_ino]


async def test_a_backup_is_synced_before_it_gets_its_name_and_then_the_name_is(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "backup.tar"
    target.parent.mkdir()
    syncs = Syncs(monkeypatch, target.exists)
    await backup_folder(tmp_path / "origin", target)
    assert syncs.of_file(target) == [False]
    assert syncs.of_folder(target.parent) == [True]


async def test_a_restore_syncs_everything_before_it_moves_anything(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss must find the folder as it was, or as it will be, or marked as unfinished."""
    copy = tmp_path / "copy"
    names = ("autoglm.toml", "blobs", "hub.db")

    def look() -> tuple[bool, tuple[str, ...]]:
        return (copy / "restore.unfinished").exists(), tuple(name for name in names if (copy / name).exists())

    syncs = Syncs(monkeypatch, look)
    await restore(archive, copy)
    untouched: tuple[bool, tuple[str, ...]] = (False, ())
    blobs = copy / "blobs"
    for file in (copy / "hub.db", copy / "autoglm.toml", *blobs.glob("*/*")):
        assert syncs.of_file(file) == [untouched], file
    for folder in (blobs, *blobs.iterdir()):
        assert syncs.of_folder(folder) == [untouched], folder
    in_turn = list(dict.fromkeys(syncs.of_folder(copy)))
    assert in_turn == [(True, ()), (True, names), (False, names)], "marked, moved, done"


async def test_a_restore_syncs_all_folders_that_it_moves_from_and_to_before_it_says_that_it_is_done(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    for folder in (tmp_path / "origin" / "tls", copy / "tls"):
        folder.mkdir(parents=True)
        (folder / "key.pem").write_text(str(folder))
    (copy / "tls" / "own.pem").touch()
    await backup_folder(tmp_path / "origin", tmp_path / "second.tar", extra_files=["tls/key.pem"])
    syncs = Syncs(monkeypatch, (copy / "restore.unfinished").exists)
    replaced = (await restore(tmp_path / "second.tar", copy, force=True)).replaced
    assert replaced is not None
    for folder in (copy / "tls", replaced, replaced / "tls"):
        assert syncs.of_folder(folder) == [True], folder


async def test_another_process_backs_up_a_running_hub(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from autoglm.store import backup_folder;"
        "asyncio.run(backup_folder(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        await fill(store)
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program, str(store.data_dir), str(tmp_path / "backup.tar")],
            check=True,
        )
        await store.log.append(new("after"))
    await restore(tmp_path / "backup.tar", tmp_path / "copy")
    async with open_store(tmp_path / "copy", StoreSettings()) as copy:
        assert len(await copy.log.read("all", limit=1000)) == 500
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        assert store.recovered.was_clean
        assert len(await store.log.read("all", limit=1000)) == 501


async def test_a_hub_that_is_down_can_be_backed_up(tmp_path: Path, archive: Path) -> None:
    await backup_folder(tmp_path / "origin", tmp_path / "second.tar")
    first, second = await verify(archive), await verify(tmp_path / "second.tar")
    assert len(second.members) == len(first.members) - 1


async def test_progress_rises_to_the_end(tmp_path: Path, archive: Path) -> None:
    for call in (
        lambda progress: backup_folder(tmp_path / "origin", tmp_path / "again.tar", progress=progress),
        lambda progress: restore(archive, tmp_path / "copy", progress=progress),
    ):
        steps: list[tuple[int, int]] = []
        await call(lambda done, total, steps=steps: steps.append((done, total)))
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1][0] >= 0.99 * steps[-1][1]


async def test_a_cancelled_backup_leaves_nothing(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "out").mkdir()
    with anyio.CancelScope() as scope:

        def stop(done: int, total: int) -> None:
            anyio.from_thread.run_sync(scope.cancel)

        await backup_folder(tmp_path / "origin", tmp_path / "out" / "backup.tar", progress=stop)
    assert scope.cancelled_caught
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_blob_that_rotted_is_reported(tmp_path: Path, archive: Path) -> None:
    (blob,) = [path for path in (tmp_path / "origin" / "blobs").glob("*/*") if path.stat().st_size == 5]
    blob.write_bytes(b"rot!!")
    summary = await backup_folder(tmp_path / "origin", tmp_path / "backup.tar")
    assert summary.damaged_blobs == (blob.name,)
    await verify(summary.path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "hub.db", "blobs/x", "a/../hub.db", "", "./a"])
async def test_an_extra_file_must_lie_in_the_folder(tmp_path: Path, archive: Path, name: str) -> None:
    with pytest.raises(ValueError, match="below the data folder"):
        await backup_folder(tmp_path / "origin", tmp_path / "backup.tar", extra_files=[name])


async def test_a_folder_without_a_store_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await backup_folder(tmp_path, tmp_path / "backup.tar")


def flip_a_byte(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)


def cut_off(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])


def cut_off_manifest(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        position = tar.getmember("manifest.json").offset
    archive.write_bytes(archive.read_bytes()[:position] + bytes(1024))


def replace_by_text(archive: Path) -> None:
    archive.write_text("no tar at all")


def rewrite(archive: Path, change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None], *, twice: bool = False) -> None:
    with tarfile.open(archive) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]  # plain files
    with tarfile.open(archive, "w") as tar:
        for info, content in members:
            for _ in range(1 + twice):
                if (changed := change(info)) is not None:
                    tar.addfile(changed, io.BytesIO(content))


def renamed(wanted: str) -> Tamper:
    def change(info: tarfile.TarInfo) -> tarfile.TarInfo:
        return info.replace(name=wanted) if info.name.startswith("files/") else info

    return lambda archive: rewrite(archive, change)


def linked(archive: Path) -> None:
    def change(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if info.name.startswith("files/"):
            info = info.replace()
            info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
        return info

    rewrite(archive, change)


def without_a_blob(archive: Path) -> None:
    rewrite(archive, lambda info: None if info.name.startswith("blobs/") else info)


def doubled(archive: Path) -> None:
    rewrite(archive, lambda info: info, twice=True)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (flip_a_byte, "not as the manifest says: blobs/"),
        (cut_off, "no complete backup|end is missing"),
        (cut_off_manifest, "its end is missing"),
        (replace_by_text, "no complete backup"),
        (Path.unlink, "No such file"),
        (renamed("files/../../evil"), "unsafe name"),
        (renamed("/etc/cron.d/evil"), "unsafe name"),
        (renamed("files/hub.lock"), "unsafe name"),
        (renamed("blobs/ab/cd"), "unsafe name"),
        (linked, "no plain file"),
        (without_a_blob, "not as the manifest says: blobs/"),
        (doubled, "there twice"),
    ],
)
async def test_a_backup_that_was_tampered_with_touches_nothing(
    tmp_path: Path, archive: Path, tamper: Tamper, reason: str
) -> None:
    tamper(archive)
    with pytest.raises(BackupBroken, match=reason):
        await restore(archive, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_a_folder_that_holds_something_is_refused_without_force(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "models").mkdir()
    with pytest.raises(StoreBroken, match=r"not empty \(models\).*--force"):
        await restore(archive, tmp_path / "copy")
    assert (await restore(archive, tmp_path / "copy", force=True)).replaced is None
    assert (tmp_path / "copy" / "models").exists()


async def test_force_moves_aside_what_the_backup_replaces(tmp_path: Path, archive: Path) -> None:
    async with open_store(tmp_path / "copy", StoreSettings()) as store:
        await store.log.append(new("newer"))
    replaced = (await restore(archive, tmp_path / "copy", force=True)).replaced
    assert replaced is not None
    async with open_store(tmp_path / "copy", StoreSettings()) as store:
        assert await store.log.get("newer") is None
        assert await store.log.get("m0") is not None
    async with open_store(replaced, StoreSettings()) as store:
        assert await store.log.get("newer") is not None


async def test_force_replaces_in_a_folder_only_the_files_that_the_backup_has(tmp_path: Path) -> None:
    for place, names in {
        "origin": ("a.key", "deep/b.key", "was-folder"),
        "copy": ("a.key", "deep/c.key", "d.key"),
    }.items():
        for name in names:
            path = tmp_path / place / "keys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(place)
    (tmp_path / "copy" / "keys" / "was-folder").mkdir()
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        extra = ["keys/a.key", "keys/deep/b.key", "keys/was-folder"]
        archive = (await store.backup(tmp_path / "backup.tar", extra_files=extra)).path
    replaced = (await restore(archive, tmp_path / "copy", force=True)).replaced
    keys = tmp_path / "copy" / "keys"
    found = {str(path.relative_to(keys)): path.read_text() for path in keys.rglob("*") if path.is_file()}
    assert found == {
        "a.key": "origin", "deep/b.key": "origin", "was-folder": "origin", "deep/c.key": "copy", "d.key": "copy",
    }  # fmt: skip
    assert replaced is not None
    assert sorted(str(path.relative_to(replaced)) for path in replaced.rglob("*")) == [
        "keys", "keys/a.key", "keys/was-folder",
    ]  # fmt: skip


async def test_force_writes_nothing_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    """Nor does a link that leads nowhere stand in the way."""
    for folder in ("origin/keys", "origin/more", "elsewhere", "copy"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("keys/a.key", "more/b.key"):
        (tmp_path / "origin" / name).write_text("origin")
    (tmp_path / "elsewhere" / "a.key").write_text("elsewhere")
    (tmp_path / "copy" / "keys").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "copy" / "more").symlink_to(tmp_path / "nowhere")
    async with open_store(tmp_path / "origin", StoreSettings()) as store:
        archive = (await store.backup(tmp_path / "backup.tar", extra_files=["keys/a.key", "more/b.key"])).path
    replaced = (await restore(archive, tmp_path / "copy", force=True)).replaced
    assert (tmp_path / "copy" / "keys" / "a.key").read_text() == "origin"
    assert (tmp_path / "copy" / "more" / "b.key").read_text() == "origin"
    assert (tmp_path / "elsewhere" / "a.key").read_text() == "elsewhere"
    assert replaced is not None
    assert (replaced / "keys").is_symlink()
    assert (replaced / "more").is_symlink()


async def test_force_replaces_the_blobs_as_a_whole(tmp_path: Path, archive: Path) -> None:
    """Which blobs there are goes with the database."""
    async with open_store(tmp_path / "copy", StoreSettings()) as store:
        own = await store.blobs.put(chunks(b"of the copy"))
    replaced = (await restore(archive, tmp_path / "copy", force=True)).replaced
    assert replaced is not None
    assert not list((tmp_path / "copy" / "blobs").rglob(own))
    assert list((replaced / "blobs").rglob(own))


async def test_a_running_hub_is_not_restored_into(tmp_path: Path, archive: Path) -> None:
    async with open_store(tmp_path / "copy", StoreSettings()):
        with pytest.raises(StoreBroken, match="has it open"):
            await restore(archive, tmp_path / "copy", force=True)


async def test_a_restore_that_was_cut_short_is_noticed_and_completed(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "restore.unfinished").touch()
    with pytest.raises(StoreBroken, match="cut short"):
        async with open_store(tmp_path / "copy", StoreSettings()):
            pass
    await restore(archive, tmp_path / "copy", force=True)
    async with open_store(tmp_path / "copy", StoreSettings()) as store:
        assert await store.log.get("m0") is not None
