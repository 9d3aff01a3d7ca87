"""Dead letters are kept, counted without reading them, and never without bound."""

from pathlib import Path

import pytest

from autoglm.channels.delivery import Words, permanent
from autoglm.channels.outbox import dead_letters
from autoglm.channels.outbox.dead_letters import DeadLetters
from autoglm.core.envelope import Envelope
from autoglm.core.errors import NotFound
from autoglm.store import StoreSettings, open_store

NEVER = permanent("550", Words("no such mailbox", "邮箱不存在"))


def message(id: str, text: str = "hello") -> Envelope:
    return Envelope(id=id, from_="user:a", to="channel:c/t", content=text)


async def ids(letters: DeadLetters) -> list[str]:
    return [letter.message.id for letter in await letters.newest(10)]


async def test_the_newest_come_first_also_after_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        letters = DeadLetters(store.keyvalue)
        for id in ("b", "a", "c"):
            await letters.put(message(id), NEVER, 1)
        assert (await ids(letters), await letters.count()) == (["c", "a", "b"], 3)
        assert [letter.message.id for letter in await letters.newest(2)] == ["c", "a"]
        await letters.drop("a")
        with pytest.raises(NotFound):
            await letters.drop("a")
    async with open_store(tmp_path, StoreSettings()) as store:
        assert await DeadLetters(store.keyvalue).count() == 2


async def test_one_that_fails_again_is_the_newest_and_counts_once(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        letters = DeadLetters(store.keyvalue)
        for id in ("a", "b", "a"):
            await letters.put(message(id), NEVER, 1)
        assert (await ids(letters), await letters.count()) == (["a", "b"], 2)


@pytest.mark.parametrize("bound", ["MAX_LETTERS", "MAX_BYTES"])
async def test_beyond_the_bound_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        letters = DeadLetters(store.keyvalue)
        await letters.put(message("m0"), NEVER, 1)
        (entry,) = await store.keyvalue.list("dead-letter/")
        monkeypatch.setattr(dead_letters, bound, 3 if bound == "MAX_LETTERS" else 3 * len(entry.value))
        for number in range(1, 10):
            await letters.put(message(f"m{number}"), NEVER, 1)
        assert await ids(letters) == ["m9", "m8", "m7"]
        assert len(await store.keyvalue.list("dead-letter/")) == 3


async def test_one_larger_than_the_bound_is_kept_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MAX_BYTES", 100)
    async with open_store(tmp_path, StoreSettings()) as store:
        letters = DeadLetters(store.keyvalue)
        for id in ("a", "b"):
            await letters.put(message(id, "x" * 200), NEVER, 1)
        assert await ids(letters) == ["b"]
