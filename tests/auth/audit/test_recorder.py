"""What happens is written down once, in order, and nothing happens that cannot be written down."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from audited import ALICE, PRESS, Site, act_times
from autoglm.auth.audit.recorder import Audit
from autoglm.auth.audit.settings import AuditSettings
from autoglm.auth.occasion import Occasion, occasion
from autoglm.core.errors import StorageFull
from autoglm.store import Store, StoreSettings, open_store


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def request_of_10_0_0_7() -> Iterator[None]:
    token = occasion.set(Occasion("req-1", "10.0.0.7"))
    yield
    occasion.reset(token)


def counts(site: Site, action: str) -> list[int]:
    return [entry.count for entry, _ in site.entries() if entry.action == action]


async def test_a_decision_says_who_what_when_and_by_which_policy(site: Site) -> None:
    site.clock.is_trusted = False
    async with site.running() as (_, audit):
        audit.policy_version, audit.is_offline = 7, True
        with_occasion = occasion.set(Occasion("req-1", "10.0.0.7"))
        audit.decision(PRESS, "send:message", "user:alice", is_allowed=False, reason="no_scope")
        occasion.reset(with_occasion)
    entry, personal = site.entries()[1]
    assert (entry.kind, entry.action, entry.outcome, entry.reason) == ("decision", "send:message", "denied", "no_scope")
    assert (entry.at_ms, entry.is_clock_trusted, entry.boot) == (site.clock.ms, False, 3)
    assert (entry.policy_version, entry.is_offline, entry.request_id) == (7, True, "req-1")
    assert (personal.who, personal.name, personal.credential) == ("device:press-7", "press-7", "jkt:press")
    assert (personal.resource, personal.client) == ("user:alice", "10.0.0.7")


async def test_a_run_begins_with_its_start_and_ends_with_its_stop_and_a_head(site: Site) -> None:
    await act_times(site, 1)
    assert [entry.kind for entry, _ in site.entries()] == ["start", "act", "stop", "head"]
    kept = site.head_file.load()
    assert kept is not None
    assert kept.newest is not None
    assert (kept.newest.seq, kept.newest.digest) == (3, site.rows()[2].digest.hex())
    assert site.head_file.path.stat().st_mode & 0o777 == 0o600
    assert site.head_file.path.parent.stat().st_mode & 0o777 == 0o700


async def test_repeats_of_a_second_become_one_entry_with_their_count(site: Site) -> None:
    async with site.running() as (_, audit):
        begin_ms = site.clock.ms
        for n in range(50):
            site.clock.ms = begin_ms + 10 * n
            audit.decision(ALICE, "read:message", "user:alice", is_allowed=True)
            audit.decision(ALICE, "model:use", "glm", is_allowed=n % 2 == 0)
    assert counts(site, "read:message") == [1, 49]
    assert sorted(counts(site, "model:use")) == [1, 1, 24, 24]
    [_, summed] = [entry for entry, _ in site.entries() if entry.action == "read:message"]
    assert (summed.first_ms, summed.last_ms) == (begin_ms + 10, begin_ms + 490)
    assert (summed.begins_ms, summed.ends_ms) == (begin_ms + 10, begin_ms + 490)


async def test_a_sum_ends_with_its_second(tmp_path: Path) -> None:
    """Each repeat comes after the time of the one before: all are written as they are."""
    site = Site(tmp_path, AuditSettings(summed_s=1e-9))
    async with site.running() as (_, audit):
        for _ in range(3):
            audit.decision(ALICE, "read:message", "user:alice", is_allowed=True)
    assert counts(site, "read:message") == [1, 1, 1]


@pytest.mark.usefixtures("request_of_10_0_0_7")
async def test_only_what_is_equal_is_summed_up(site: Site) -> None:
    async with site.running() as (_, audit):
        for change in (False, True):
            audit.is_offline = change
            for who in (ALICE, PRESS):
                for resource in ("a", "b"):
                    audit.decision(who, "model:use", resource, is_allowed=True)
        audit.policy_version = 2
        audit.decision(ALICE, "model:use", "a", is_allowed=True)
        token = occasion.set(Occasion("req-2", "10.0.0.8"))
        audit.decision(ALICE, "model:use", "a", is_allowed=True)
        occasion.reset(token)
    found = [entry for entry, _ in site.entries() if entry.action == "model:use"]
    assert [entry.first_ms for entry in found] == [0] * 10  # none of them is a sum


async def test_what_changes_something_is_never_summed_up(site: Site) -> None:
    async with site.running() as (_, audit):
        for _ in range(5):
            audit.decision(ALICE, "send:message", "user:alice", is_allowed=True)
            audit.act("keys:issue", ALICE)
    assert counts(site, "send:message") == [1] * 5
    assert counts(site, "keys:issue") == [1] * 5


@pytest.mark.attack("audit: refused requests flood the disk")
async def test_a_flood_of_refusals_is_summed_up(site: Site) -> None:
    async with site.running() as (_, audit):
        for _ in range(10_000):
            audit.decision(PRESS, "admin", "keys", is_allowed=False)
    assert counts(site, "admin") == [1, 9_999]


@pytest.mark.attack("audit: a name in a request makes an entry of megabytes")
async def test_a_long_name_is_cut(site: Site) -> None:
    async with site.running() as (_, audit):
        for action in ("model:use", "send:message"):
            audit.decision(PRESS, action, "m" * 5_000_000, is_allowed=True)
        audit.act("act", PRESS, resource="m" * 5_000_000, text="t" * 5_000_000)
        assert max(len(key[3]) for key in audit._sums) == 512
    assert max(len(row.personal or b"") for row in site.rows()) < 4000


async def test_what_is_summed_up_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.auth.audit.recorder._MAX_SUMS", 3)
    async with site.running() as (_, audit):
        for n in range(10):
            for _ in range(2):
                audit.decision(ALICE, "model:use", f"m{n}", is_allowed=True)
        assert len(audit._sums) == 3
    assert sum(counts(site, "model:use")) == 20


async def test_a_sum_is_as_sure_of_the_time_as_its_ends(site: Site) -> None:
    async with site.running() as (_, audit):
        for _ in range(2):
            audit.decision(ALICE, "model:use", "a", is_allowed=True)
        site.clock.is_trusted = False
        audit.close_sums(older_than_s=0)
    assert [entry.is_clock_trusted for entry, _ in site.entries() if entry.action == "model:use"] == [True, False]


async def test_the_chain_is_signed_after_so_many_entries(tmp_path: Path) -> None:
    site = Site(tmp_path, AuditSettings(head_every_entries=10))
    async with site.running() as (_, audit):
        for n in range(25):
            audit.act(f"a{n}", ALICE)
            await audit.written()
            await audit.tick()
    assert [entry.head.seq for entry, _ in site.entries() if entry.head is not None] == [11, 22, 29]
    assert site.verify()[1] == []


async def test_the_chain_is_signed_after_so_long_but_not_for_its_own_heads(site: Site) -> None:
    async with site.running() as (_, audit):
        audit.act("a", ALICE)
        await audit.written()
        audit._signed_s -= site.settings.head_every_s
        for _ in range(3):
            await audit.tick()
            audit._signed_s -= site.settings.head_every_s
    assert [entry.kind for entry, _ in site.entries()] == ["start", "act", "head", "stop", "head"]


async def test_a_run_writes_sums_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.auth.audit.recorder._TICK_S", 0.01)
    site = Site(tmp_path, AuditSettings(summed_s=0.01))
    async with site.running() as (store, audit):
        for _ in range(5):
            audit.decision(ALICE, "model:use", "a", is_allowed=True)
        running = asyncio.create_task(audit.run())
        assert await store.journal.wait(after=2, timeout_s=10)
        running.cancel()
    assert counts(site, "model:use") == [1, 4]


def fill(store: Store) -> None:
    store._db.execute("PRAGMA max_page_count = 1")


def free(store: Store) -> None:
    store._db.execute("PRAGMA max_page_count = 1000000")


async def until_full(audit: Audit) -> int:
    """Acts that were taken, until one is refused."""
    for n in range(5000):
        audit.act("act", ALICE, text="x" * 500)
        try:
            await audit.written()
        except StorageFull:
            return n + 1
    raise AssertionError("the disk was not full")


@pytest.mark.attack("audit: the disk is filled so that nothing is recorded")
async def test_a_full_disk_lets_nothing_happen_unrecorded(site: Site) -> None:
    async with site.running() as (store, audit):
        fill(store)
        taken = await until_full(audit)
        with pytest.raises(StorageFull):
            audit.act("act", ALICE)
        with pytest.raises(StorageFull):
            audit.decision(ALICE, "admin", "keys", is_allowed=True)
        audit.decision(ALICE, "read:message", "user:alice", is_allowed=True)  # waits in memory
        await audit.tick()
        free(store)
        await audit.tick()
        audit.act("after", ALICE)
    actions = [entry.action for entry, _ in site.entries()]
    assert actions == [
        "audit:start", *["act"] * taken, "read:message", "after", "audit:stop", "audit:head"
    ]  # fmt: skip
    assert site.verify()[1] == []


async def test_a_head_that_cannot_be_kept_outside_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site.running() as (_, audit):
        audit.act("a", ALICE)
        await audit.written()
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            audit._signed_s -= site.settings.head_every_s
            await audit.tick()
        assert site.head_file.load() is None
    assert site.head_file.load() is not None
    assert site.verify()[1] == []


async def test_a_kill_before_the_first_head_is_no_loss_of_heads(site: Site) -> None:
    async with open_store(site.folder, StoreSettings()) as store:
        await site.audit(store).start()
    await act_times(site, 1)
    assert [(entry.outcome, entry.reason) for entry, _ in site.entries() if entry.kind == "start"] == [
        ("allowed", ""), ("allowed", "")
    ]  # fmt: skip


async def test_the_chain_is_signed_by_one_after_the_other(site: Site) -> None:
    """A round of its own, a request that verifies, and the end of the run may come at a time."""
    async with site.running() as (_, audit):
        audit.act("a", ALICE)
        heads = await asyncio.gather(*(audit.sign() for _ in range(5)))
        kept = site.head_file.load()
        assert kept is not None
        assert kept.newest == max(heads, key=lambda head: head.seq)
    assert site.problems() == []
