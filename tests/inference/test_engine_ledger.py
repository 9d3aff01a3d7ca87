"""What is learned is a fold over the log: the same in the running hub, after a restart, and from a snapshot."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest
from structlog.testing import capture_logs

from autoglm.core.errors import NotFound, QueueFull
from autoglm.core.ids import uuid7
from autoglm.core.ports import Change, Entry, NewRecord, Record
from autoglm.inference.decision import Arm, Candidate, Decision, Feedback, Outcome, Weights
from autoglm.inference.engine import ledger as ledger_module
from autoglm.inference.engine.account import SUBJECT, Concluded, Event, Judged
from autoglm.inference.engine.learner import LearnerSettings, Option
from autoglm.inference.engine.ledger import SNAPSHOT, Ledger, Snapshot
from autoglm.inference.engine.lessons import Lessons
from autoglm.inference.engine.retries import SOON_S, Retries, digest_of, judgeable
from autoglm.inference.features import Features
from autoglm.store import Store, StoreSettings, open_store
from autoglm.store.sqlite.blobs import list_blobs
from eventually import until

INTENTS = ("translate", "code", "")
ANSWERED = Outcome(status=200)


def load(state: bytes | None) -> Lessons:
    settings = LearnerSettings()
    return Lessons(settings) if state is None else Lessons.restore(state, settings)


def decision(chance: random.Random) -> Decision:
    candidates = tuple(
        Candidate(
            arm=Arm(model), quality=0.5, deviation=0.1, latency_s=1.0, cost=1.0, score=0.5, propensity=0.5
        )
        for model in ("small", "large")
    )  # fmt: skip
    features = Features(api="/chat/completions", intent=chance.choice(INTENTS), prompt_tokens=chance.randrange(2000))
    return Decision(
        id=uuid7(), time_ms=1, tenant="ward", prefer="best", weights=Weights(1.0, 0.0, 0.0), features=features,
        candidates=candidates, chosen=chance.randrange(2), is_exploration=False,
    )  # fmt: skip


def good_end(chance: random.Random) -> Outcome:
    signals = {"not_cut_off": 1.0, "json_valid": chance.choice((0.0, 1.0))}
    return Outcome(status=200, instance="a", took_s=1.0, tokens_out=chance.randrange(1, 400), cost=1.0, signals=signals)


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[Ledger]:
    ledger = Ledger(store.log, store.keyvalue, store.blobs, load)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.run)
        await until(lambda: ledger.lessons is not None)
        yield ledger
        tasks.cancel_scope.cancel()


async def live(ledger: Ledger, count: int, seed: int) -> bytes:
    """Decide, conclude and judge; the state once all of it has been learned."""
    chance = random.Random(seed)
    assert ledger.lessons is not None
    wanted = ledger.lessons.events
    for _ in range(count):
        made = decision(chance)
        ledger.opened(made)
        ledger.concluded(made, good_end(chance))
        wanted += 1
        if chance.random() < 0.5:
            await ledger.judged(judgeable(made, ANSWERED), chance.random(), "person")
            wanted += 1
    await until(lambda: ledger.lessons is not None and ledger.lessons.events == wanted)
    return ledger.lessons.state()


async def test_a_restart_from_the_log_alone_learns_the_same(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            state = await live(ledger, 60, seed=1)
        await store.keyvalue.delete(SNAPSHOT)
        async with running(store) as again:
            assert again.lessons is not None
            assert again.lessons.state() == state


async def test_a_restart_from_a_snapshot_goes_on_as_if_there_was_none(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            await live(ledger, 40, seed=2)
        assert await store.keyvalue.get(SNAPSHOT) is not None
        async with running(store) as again:
            state = await live(again, 40, seed=3)
        await store.keyvalue.delete(SNAPSHOT)
        async with running(store) as anew:
            assert anew.lessons is not None
            assert anew.lessons.state() == state


async def test_a_broken_snapshot_is_learned_anew_from_the_log(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            state = await live(ledger, 20, seed=4)

        def load_nothing(saved: bytes | None) -> Lessons:
            return load(b"junk" if saved is not None else None)

        again = Ledger(store.log, store.keyvalue, store.blobs, load_nothing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again.run)
            await until(lambda: again.lessons is not None)
            assert again.lessons is not None
            assert again.lessons.state() == state
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("version", [1, 2, 99])
async def test_a_snapshot_of_another_version_is_refused_and_each_event_is_learned_once(
    tmp_path: Path, version: int
) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            state = await live(ledger, 40, seed=11)
        saved: dict[str, object] = msgspec.msgpack.decode(state)
        assert saved["version"] != version
        of_another = msgspec.msgpack.encode({**saved, "version": version})
        newest = (await store.log.read_last(SUBJECT, limit=1))[0].seq
        sha256 = await store.blobs.put(parts_of(of_another), max_bytes=1 << 20)
        await store.keyvalue.put(SNAPSHOT, msgspec.json.encode(Snapshot(seq=newest, sha256=sha256)))
        async with running(store) as again:
            assert again.lessons is not None
            assert again.lessons.events == len(await store.log.read(SUBJECT, limit=10_000))
            assert again.lessons.state() == state
        entry = await store.keyvalue.get(SNAPSHOT)
        assert entry is not None
        kept = b"".join([part async for part in store.blobs.read(msgspec.json.decode(entry.value)["sha256"])])
        assert kept == state, "the next start has one that it can read"


class Dying:
    """The store of a hub that is killed before a certain step: nothing it wants to write from then on is written."""

    def __init__(self, store: Store, lives: int) -> None:
        self._store = store
        self._lives = lives
        self.is_dead = False

    def step(self) -> None:
        self.is_dead = self.is_dead or self._lives == 0
        if self.is_dead:
            raise RuntimeError("killed")
        self._lives -= 1

    async def put(self, key: str, value: bytes, *, expected_revision: int | None = None) -> int:
        self.step()
        return await self._store.keyvalue.put(key, value, expected_revision=expected_revision)

    async def get(self, key: str) -> Entry | None:
        return await self._store.keyvalue.get(key)

    async def list(self, prefix: str = "") -> list[Entry]:
        return await self._store.keyvalue.list(prefix)

    def watch(self, prefix: str = "", *, after: int = 0) -> AsyncIterator[Change]:
        return self._store.keyvalue.watch(prefix, after=after)

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        self.step()
        return await self._store.keyvalue.delete(key, expected_revision=expected_revision)


class DyingBlobs:
    """The blobs of the same hub."""

    def __init__(self, store: Store, dying: Dying) -> None:
        self._blobs = store.blobs
        self._dying = dying

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int | None = None) -> str:
        self._dying.step()
        return await self._blobs.put(chunks, max_bytes=max_bytes)

    def read(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self._blobs.read(sha256, start=start, end=end)

    async def size(self, sha256: str) -> int | None:
        return await self._blobs.size(sha256)

    async def delete(self, sha256: str) -> bool:
        self._dying.step()
        return await self._blobs.delete(sha256)


STEPS = 5
"""Writes of one save: the note, the blob, the row, the removal of the blob before, and its note."""


@pytest.mark.parametrize("lives", range(STEPS + 1))
@pytest.mark.parametrize("earlier", [0, 20], ids=["first", "later"])
async def test_a_hub_that_is_killed_while_it_saves_leaves_nothing_behind(
    tmp_path: Path, lives: int, earlier: int
) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        others = await store.blobs.put(parts_of(b"somebody else's"))
        if earlier:
            async with running(store) as ledger:
                await live(ledger, earlier, seed=12)
        dying = Dying(store, lives)
        killed = Ledger(store.log, dying, DyingBlobs(store, dying), load)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(killed.run)
            await until(lambda: killed.lessons is not None)
            state = await live(killed, 20, seed=13)
            tasks.cancel_scope.cancel()
        assert dying.is_dead == (lives < (STEPS if earlier else STEPS - 2)), "there is a step to die at"
        async with running(store) as again:
            assert again.lessons is not None
            assert again.lessons.state() == state
            await live(again, 5, seed=16)
        entry = await store.keyvalue.get(SNAPSHOT)
        assert entry is not None
        ours = msgspec.json.decode(entry.value, type=Snapshot).sha256
        assert list_blobs(tmp_path / "blobs") == sorted((others, ours))


async def test_a_blob_that_was_there_before_a_snapshot_of_the_same_bytes_stays(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            state = await live(ledger, 10, seed=14)
        await store.keyvalue.delete(SNAPSHOT)
        theirs = list_blobs(tmp_path / "blobs")
        async with running(store) as ledger:
            assert ledger.lessons is not None
            assert ledger.lessons.state() == state
        async with running(store) as ledger:
            await live(ledger, 10, seed=15)
        assert len(list_blobs(tmp_path / "blobs")) == 2
        assert set(theirs) < set(list_blobs(tmp_path / "blobs"))


async def parts_of(state: bytes) -> AsyncIterator[bytes]:
    yield state


def spoil(folder: Path, sha256: str) -> None:
    """A blob that can be neither read nor removed: a folder has its name."""
    [blob] = [path for path in folder.rglob("*") if path.name == sha256]
    blob.rename(folder / "aside")
    blob.mkdir()


@pytest.mark.parametrize("trouble", ["too long", "undeletable"])
async def test_what_keeps_a_snapshot_from_being_saved_keeps_nothing_from_being_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(ledger_module, "_SNAPSHOT_EVENTS", 10)
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            await live(ledger, 20, seed=6)
        saved = await store.keyvalue.get(SNAPSHOT)
        assert saved is not None
        if trouble == "too long":
            monkeypatch.setattr(ledger_module, "_MAX_SNAPSHOT_BYTES", 10)
        else:
            spoil(tmp_path, msgspec.json.decode(saved.value)["sha256"])
        with capture_logs() as logs:
            async with running(store) as again:
                await live(again, 40, seed=7)
                assert again.lessons is not None
    events = {line["event"] for line in logs}
    assert "engine_snapshot_not_saved" in events
    assert "engine_not_learning" not in events


async def test_what_ends_while_the_past_is_folded_is_learned_once(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            await live(ledger, 30, seed=5)
        chance = random.Random(6)
        again = Ledger(store.log, store.keyvalue, store.blobs, load)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again.run)
            late = 0
            while again.lessons is None:
                again.concluded(decision(chance), good_end(chance))
                late += 1
                await anyio.lowlevel.checkpoint()
            total = len(await store.log.read(SUBJECT, limit=10_000))
            await until(lambda: again.lessons is not None and again.lessons.events >= total)
            assert late > 0
            assert again.lessons.events == len(await store.log.read(SUBJECT, limit=10_000))
            tasks.cancel_scope.cancel()


async def test_an_account_is_there_while_the_request_runs_and_whole_afterwards(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store, running(store) as ledger:
        made = decision(random.Random(7))
        with pytest.raises(NotFound):
            await ledger.account(made.id)
        ledger.opened(made)
        assert (await ledger.account(made.id)).outcome is None
        ledger.concluded(made, Outcome(status=200, instance="a"))
        assert (await ledger.account(made.id)).outcome is not None, "also while it is on its way to the disk"
        await ledger.judged(judgeable(made, ANSWERED), 0.25, "program")
        account = await ledger.account(made.id)
        assert account.decision == made
        assert account.outcome == Outcome(status=200, instance="a")
        assert [(entry.quality, entry.source) for entry in account.feedback] == [(0.25, "program")]


async def test_an_end_that_could_not_be_written_is_counted_and_keeps_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise QueueFull(1, 1.0)

    async with open_store(tmp_path, StoreSettings()) as store, running(store) as ledger:
        made = decision(random.Random(7))
        ledger.opened(made)
        monkeypatch.setattr(store.log, "hand_in", full)
        ledger.concluded(made, Outcome(status=200, instance="a"))
        assert ledger.lost == 1
        assert ledger._writing == {}
        with pytest.raises(NotFound):
            await ledger.account(made.id)
        with pytest.raises(QueueFull):
            await ledger.judged(judgeable(made, Outcome(status=200)), 1.0, "person")


async def test_an_account_that_is_read_while_the_request_ends_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path, StoreSettings()) as store, running(store) as ledger:
        made, read = decision(random.Random(7)), store.log.read

        async def read_and_end(subject: str, *, after: int = 0, limit: int = 100) -> list[Record]:
            records = await read(subject, after=after, limit=limit)
            ledger.concluded(made, Outcome(status=200, instance="a"))
            await until(lambda: ledger.lessons is not None and ledger.lessons.events == 1)
            return records

        ledger.opened(made)
        monkeypatch.setattr(store.log, "read", read_and_end)
        assert (await ledger.account(made.id)).decision == made


async def test_a_list_has_the_ends_that_are_on_their_way_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids(events: list[Event]) -> list[str]:
        return [event.decision.id for event in events if isinstance(event, Concluded)]

    async with open_store(tmp_path, StoreSettings()) as store, running(store) as ledger:
        first, second, others = (decision(random.Random(seed)) for seed in range(3))
        others = msgspec.structs.replace(others, tenant="kitchen")
        ledger.concluded(first, ANSWERED)
        await until(lambda: not ledger._writing)
        monkeypatch.setattr(store.log, "hand_in", lambda *_: None)  # never written
        ledger.concluded(second, ANSWERED)
        ledger.concluded(others, ANSWERED)
        assert ids(await ledger.recent(10)) == [first.id, second.id, others.id]
        assert ids(await ledger.recent_of("ward", 10)) == [first.id, second.id]
        assert ids(await ledger.recent_of("ward", 1)) == [second.id], "the newest"


async def test_an_end_that_is_written_while_the_list_is_read_is_in_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path, StoreSettings()) as store, running(store) as ledger:
        made, read_last = decision(random.Random(7)), store.log.read_last

        async def write_and_read(subject: str, *, limit: int = 100) -> list[Record]:
            await until(lambda: not ledger._writing)
            return await read_last(subject, limit=limit)

        monkeypatch.setattr(store.log, "read_last", write_and_read)
        ledger.concluded(made, ANSWERED)
        assert await ledger.recent_of("ward", 10) == [Concluded(decision=made, outcome=ANSWERED)]


async def test_an_answer_of_nobody_knows_whom_teaches_nothing(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store, running(store) as ledger:
        assert ledger.lessons is not None
        before = ledger.lessons.learner.state()
        ledger.concluded(decision(random.Random(8)), Outcome(status=200, moved_to="other", signals={"not_empty": 1.0}))
        await until(lambda: ledger.lessons is not None and ledger.lessons.events == 1)
        assert ledger.lessons.learner.state() == before


def test_a_record_from_before_profiles_were_kept_is_judged_as_a_plain_one() -> None:
    made = decision(random.Random(9))
    assert judgeable(made, ANSWERED).arm == made.candidates[made.chosen].arm
    assert judgeable(made, Outcome(status=200, moved_to="other")).arm == Arm("other", "plain")


def test_only_the_first_repeat_is_a_complaint() -> None:
    retries, made = Retries(), decision(random.Random(10))
    digest = digest_of("ward", b'{"messages": [1], "temperature": 0}')
    assert digest == digest_of("ward", b'{"temperature": 1, "messages": [1]}')
    assert digest != digest_of("lab", b'{"messages": [1]}')
    assert retries.asked(digest, 0.0) is None
    retries.answered(digest, judgeable(made, ANSWERED), 0.0)
    assert retries.asked(digest, SOON_S + 1) is None, "much later it is just wanted again"
    assert retries.asked(digest, 1.0) == judgeable(made, ANSWERED)
    retries.answered(digest, judgeable(made, ANSWERED), 2.0)
    assert retries.asked(digest, 3.0) is None, "a program that asks the same again and again"


@pytest.mark.parametrize(
    "body",
    [b'{"type":"of tomorrow"}', b"\xff", b'{"type":"judged","feedback":7}', b""],
    ids=["tag", "bytes", "field", "none"],
)
async def test_an_event_that_cannot_be_read_hides_no_other(tmp_path: Path, body: bytes) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            state = await live(ledger, 20, seed=4)
        await store.log.append(NewRecord(id="odd", digest=b"odd", subjects=(SUBJECT,), body=body))
        await store.keyvalue.delete(SNAPSHOT)
        async with running(store) as again:
            assert again.lessons is not None
            assert again.lessons.state() == state


@pytest.mark.parametrize("row", [b"{}", b"\xff", b'{"seq":"x"}'])
async def test_a_snapshot_row_that_cannot_be_read_is_made_anew(tmp_path: Path, row: bytes) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        async with running(store) as ledger:
            state = await live(ledger, 20, seed=5)
        await store.keyvalue.put(SNAPSHOT, row)
        async with running(store) as again:
            assert again.lessons is not None
            assert again.lessons.state() == state
            await live(again, 5, seed=6)
        entry = await store.keyvalue.get(SNAPSHOT)
        assert entry is not None
        assert entry.value != row


async def test_a_learner_that_cannot_be_made_leaves_the_hub_without_one(tmp_path: Path) -> None:
    def fail(_: bytes | None) -> Lessons:
        raise RuntimeError("no numpy")

    async with open_store(tmp_path, StoreSettings()) as store:
        ledger = Ledger(store.log, store.keyvalue, store.blobs, fail)
        await ledger.run()  # ends, and raises nothing
        assert ledger.lessons is None


def test_so_many_judgements_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.inference.engine.lessons._MOST_JUDGED", 3)
    lessons, chance = load(None), random.Random(3)
    made = [decision(chance) for _ in range(5)]
    for one in made:
        lessons.take(judged(one, 1.0))
    lessons.take(judged(made[2], 0.0))  # now it is the newest
    lessons.take(judged(decision(chance), 1.0))
    assert [*load(lessons.state())._judged][:2] == [made[4].id, made[2].id]
    assert len(lessons._judged) == 3


def judged(made: Decision, quality: float, source: str = "person", time_ms: int = 0) -> Judged:
    feedback = Feedback(decision=made.id, time_ms=time_ms, quality=quality, source=source)
    return Judged(feedback=feedback, features=made.features, arm=judgeable(made, ANSWERED).arm)


def predicted(*events: Judged) -> float:
    lessons = Lessons(LearnerSettings())
    for event in events:
        lessons.take(event)
    option = Option(arm=events[0].arm, latency_s=1.0, cost=1.0)
    choice = lessons.learner.decide(
        events[0].features, [option], Weights(1.0, 0.0, 0.0), seed="0", slo_s=1.0, cost_scale=1.0
    )  # fmt: skip
    return choice.candidates[0].quality


def test_a_decision_weighs_once_by_the_last_word() -> None:
    made = decision(random.Random(1))
    up, down = judged(made, 1.0), judged(made, 0.0)
    assert predicted(up, down) == pytest.approx(predicted(down), abs=0.01)
    assert predicted(down, up) == pytest.approx(predicted(up), abs=0.01)
    assert predicted(*[up] * 10) == pytest.approx(predicted(up), abs=0.001)
    assert predicted(up, judged(decision(random.Random(1)), 1.0)) > predicted(up) + 0.02  # another decision


def test_a_person_is_believed_before_a_retry_whatever_the_order() -> None:
    made = decision(random.Random(1))
    up, asked_again = judged(made, 1.0), judged(made, 0.0, "retry")
    assert predicted(up, asked_again) == pytest.approx(predicted(up), abs=0.001)
    assert predicted(asked_again, up) == pytest.approx(predicted(up), abs=0.01)
