"""kill -9 in the middle of writing: all that was acknowledged is there, once."""

import random
import signal
import subprocess
import sys
from pathlib import Path

from autoglm.store import Store, StoreSettings, backup_folder, open_store, restore

CHILD = """
import asyncio, sys
from pathlib import Path
from autoglm.core.ports import NewRecord
from autoglm.store import StoreSettings, open_store

async def main(folder, life):
    async with open_store(Path(folder), StoreSettings()) as store:
        async def write(name):
            n = 0
            while True:
                id = f"{life}-{name}-{n}"
                appended = await store.log.append(
                    NewRecord(id=id, digest=b"d", subjects=("all", f"by:{name}"), body=id.encode() * 20))
                print(id, appended.seq, flush=True)
                n += 1
        await asyncio.gather(*(write(name) for name in range(24)))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def acknowledged_until_killed(folder: Path, life: int, lines: int) -> dict[str, int]:
    """Start the writer, kill it after it acknowledged so many, and return all that it did acknowledge."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(life)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        printed = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        printed += child.stdout.read().splitlines(keepends=True)
    assert child.returncode == -signal.SIGKILL
    whole = [line.split() for line in printed if line.endswith("\n")]
    return {id: int(seq) for id, seq in whole}


async def test_all_that_was_acknowledged_before_a_kill_is_there_once(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for life in range(4):
        acknowledged |= acknowledged_until_killed(tmp_path, life, random.randrange(50, 1500))
    await backup_folder(tmp_path, tmp_path / "backup.tar")  # leaves what opening has to recover
    async with open_store(tmp_path, StoreSettings()) as store:
        assert not store.recovered.was_clean
        assert store.recovered.wal_bytes > 0
        assert store.recovered.last_seq >= max(acknowledged.values())
        assert (await each_once(store)).items() >= acknowledged.items()
    await restore(tmp_path / "backup.tar", tmp_path / "copy")
    async with open_store(tmp_path / "copy", StoreSettings()) as copy:
        assert (await each_once(copy)).items() >= acknowledged.items()
    async with open_store(tmp_path, StoreSettings()) as store:
        assert store.recovered.was_clean


async def each_once(store: Store) -> dict[str, int]:
    """All ids with their numbers; fails when one is there twice or has another body."""
    found: dict[str, int] = {}
    after = 0
    while records := await store.log.read("all", after=after, limit=2000):
        for record in records:
            assert record.id not in found
            assert record.body == record.id.encode() * 20
            found[record.id] = record.seq
        after = records[-1].seq
    return found
