"""The mailbox on a real store: what HTTP alone does not show."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from autoglm.channels import expiry
from autoglm.channels.deltas import Delta, Deltas
from autoglm.channels.groups import Groups
from autoglm.channels.mailbox import Mailbox, is_receipt, with_seq
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope
from autoglm.core.errors import HubError, InvalidField, NotFound, QueueFull, StorageFull, StoreBroken
from autoglm.core.payer import Payer
from autoglm.store import Store, StoreSettings, open_store
from channels.clock import Clock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        yield store


@pytest.fixture
async def mailbox(store: Store) -> Mailbox:
    return await mailbox_on(store)


async def mailbox_on(store: Store) -> Mailbox:
    groups = Groups(store.keyvalue)
    await groups.open()
    return Mailbox(store.log, store.keyvalue, groups, lambda name: name == "m")


def envelope(**fields: Any) -> Envelope:
    return msgspec.convert({"to": "user:a", "content": "hello", "from": "user:b", **fields}, Envelope)


async def states(mailbox: Mailbox, id: str) -> list[str]:
    return [step.state for step in await mailbox.receipts(*await mailbox.get(id))]


async def test_a_record_is_the_message_and_its_seq(mailbox: Mailbox) -> None:
    sent = await mailbox.send(envelope(id="one"), sender="user:b")
    (record,) = await mailbox.read("user:a", after=0, limit=10)
    assert msgspec.json.decode(with_seq(record))["seq"] == sent.seq == record.seq
    assert not is_receipt(record)


async def test_following_has_messages_and_own_receipts_but_not_those_of_others(mailbox: Mailbox) -> None:
    to_a, _ = await mailbox.get((await mailbox.send(envelope(), sender="")).id)
    await mailbox.report(to_a, "read", by="user:a")
    await mailbox.send(envelope(to="user:b"), sender="")
    for_b = await mailbox.follow("user:b", after=0, timeout_s=0)
    for_a = await mailbox.follow("user:a", after=0, timeout_s=0)
    assert [is_receipt(record) for record in for_b] == [True, False]
    assert [is_receipt(record) for record in for_a] == [False]


async def test_confirming_reports_what_is_there_and_no_more(mailbox: Mailbox) -> None:
    first = await mailbox.send(envelope(id="c1"), sender="")
    await mailbox.send(envelope(id="c2"), sender="")
    await mailbox.confirm("user:a", "phone", first.seq)
    assert (await states(mailbox, "c1"), await states(mailbox, "c2")) == (["accepted", "delivered"], ["accepted"])
    assert await mailbox.cursor("user:a", "phone") == first.seq
    await mailbox.confirm("user:a", "phone", 2**53 - 1)  # a reader that claims the future has what there is
    assert await states(mailbox, "c2") == ["accepted", "delivered"]
    third = await mailbox.send(envelope(id="c3"), sender="")
    assert await mailbox.cursor("user:a", "phone") < third.seq


async def test_who_reads_a_models_inbox_reports_nothing_in_its_name(mailbox: Mailbox) -> None:
    sent = await mailbox.send(envelope(id="m1", to="model:m"), sender="")
    await mailbox.confirm("model:m", "watcher", 2**53 - 1)
    assert await states(mailbox, "m1") == ["accepted"]
    assert await mailbox.cursor("model:m", "watcher") == sent.seq
    with pytest.raises(InvalidField, match="went to a model"):
        await mailbox.recipient_of(*await mailbox.get("m1"), None)


async def test_readers_confirm_at_the_same_time_without_doubles(mailbox: Mailbox) -> None:
    seqs = [(await mailbox.send(envelope(id=f"r{number}"), sender="")).seq for number in range(20)]
    async with anyio.create_task_group() as tasks:
        for seq in seqs:
            tasks.start_soon(mailbox.confirm, "user:a", "phone", seq)
    assert [await states(mailbox, f"r{number}") for number in range(20)] == [["accepted", "delivered"]] * 20
    assert await mailbox.cursor("user:a", "phone") == seqs[-1]


async def test_who_got_a_group_s_message_is_known_whoever_is_a_member_now(mailbox: Mailbox) -> None:
    await mailbox.groups.put("g", ["user:x", "user:y"])
    sent = await mailbox.send(envelope(to="group:g"), sender="")
    await mailbox.groups.put("g", ["user:z"])
    found = await mailbox.get(sent.id)
    assert await mailbox.recipient_of(*found, by="user:x") == "user:x"
    with pytest.raises(InvalidField, match="was no member"):
        await mailbox.recipient_of(*found, by="user:z")
    assert not await mailbox.was_sent_to(*found, "user:b")


async def test_receipts_and_notes_are_no_messages(mailbox: Mailbox) -> None:
    sent = await mailbox.send(envelope(id="x", expires_at=now_ms() + 60_000), sender="")
    message, _ = await mailbox.get(sent.id)
    await mailbox.report(message, "read", by="user:a")
    for id in ("receipt x user:a read", "expiry x"):
        with pytest.raises(NotFound):
            await mailbox.get(id)


# --- expiry ---


async def until_so(condition: Callable[[], Awaitable[object]]) -> None:
    with anyio.fail_after(10):
        while not await condition():  # noqa: ASYNC110  # what it waits for is in the store
            await anyio.sleep(0.005)


async def has_receipts(mailbox: Mailbox, count: int) -> bool:
    records = await mailbox.follow("user:b", after=0, timeout_s=0)
    return len([record for record in records if is_receipt(record)]) == count


async def test_expiries_are_taken_up_after_a_restart_and_settled_once(tmp_path: Path, clock: Clock) -> None:
    soon = clock.now_ms() + 60_000
    async with open_store(tmp_path, StoreSettings()) as store:
        before = await mailbox_on(store)
        for number in range(5):
            await before.send(envelope(id=f"e{number}", expires_at=soon), sender="")
        await before.send(envelope(id="later", expires_at=soon + 3_600_000), sender="")
        read, _ = await before.get("e0")
        await before.report(read, "read", by="user:a")
    clock.pass_s(61)
    for _ in range(2):
        async with open_store(tmp_path, StoreSettings()) as store:
            mailbox = await mailbox_on(store)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(mailbox.run)
                await until_so(partial(has_receipts, mailbox, 5))
                tasks.cancel_scope.cancel()
            assert await states(mailbox, "e0") == ["accepted", "read"]
            assert await states(mailbox, "later") == ["accepted"]
            assert await has_receipts(mailbox, 5)


async def test_the_sweep_reports_to_the_sender_though_nobody_asks(
    mailbox: Mailbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "_SWEEP_S", 0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mailbox.run)
        await mailbox.send(envelope(id="gone", expires_at=clock.now_ms() + 60_000), sender="")
        clock.pass_s(61)
        with anyio.fail_after(10):
            (record,) = await mailbox.follow("user:b", after=0, timeout_s=10)
        tasks.cancel_scope.cancel()
    assert msgspec.json.decode(record.body)["state"] == "expired"


@pytest.mark.parametrize(
    "refusal", [StorageFull("hub.db"), QueueFull(10_000, 1.0), StoreBroken("hub.db", "I/O error")],
    ids=["disk", "queue", "fault"],
)  # fmt: skip
async def test_a_disk_or_queue_that_takes_nothing_delays_expiries_and_stops_nothing(
    mailbox: Mailbox, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, refusal: HubError
) -> None:
    monkeypatch.setattr(expiry, "_SWEEP_S", 0.01)
    append = store.log.append
    refusals: list[object] = []

    async def full(record: Any) -> Any:
        if len(refusals) < 3:
            refusals.append(record)
            raise refusal
        return await append(record)

    await mailbox.send(envelope(id="late", expires_at=clock.now_ms() + 60_000), sender="")
    clock.pass_s(61)
    monkeypatch.setattr(store.log, "append", full)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mailbox.run)
        with anyio.fail_after(10):
            await mailbox.follow("user:b", after=0, timeout_s=10)
        tasks.cancel_scope.cancel()
    assert len(refusals) == 3
    assert await states(mailbox, "late") == ["accepted", "expired"]


async def test_the_place_from_which_expiries_are_loaded_moves_on(
    mailbox: Mailbox, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "_SWEEP_S", 0.01)
    monkeypatch.setattr(expiry, "_SETTLED_A_NOTE", 2)
    await mailbox.send(envelope(id="open", expires_at=clock.now_ms() + 3_600_000), sender="")
    for number in range(4):
        await mailbox.send(envelope(id=f"n{number}", expires_at=clock.now_ms() + 60_000), sender="")
    clock.pass_s(61)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mailbox.run)
        await until_so(lambda: store.keyvalue.get("mailbox/expiry"))
        tasks.cancel_scope.cancel()
    note = await store.log.get("expiry open")
    entry = await store.keyvalue.get("mailbox/expiry")
    assert note is not None
    assert entry is not None
    assert int(entry.value) == note.seq - 1  # what is still open is loaded again


# --- groups and deltas ---


async def test_groups_are_kept(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        groups = Groups(store.keyvalue)
        await groups.put("ops", ["user:a", "user:a", "device:b"])
        await groups.put("gone", [])
        await groups.delete("gone")
    async with open_store(tmp_path, StoreSettings()) as store:
        groups = Groups(store.keyvalue)
        await groups.open()
        assert [(group.name, group.members) for group in groups.all()] == [("ops", ("user:a", "device:b"))]
        with pytest.raises(NotFound):
            groups.get("gone")


def test_deltas_reach_those_who_listen_now() -> None:
    deltas = Deltas()
    got: list[tuple[str, str]] = []

    def delta(text: str, to: str = "user:a") -> Delta:
        return Delta(reply_to="q", from_="model:m", to=to, index=0, text=text)

    deltas.publish(delta("nobody"))
    with deltas.listening("user:a", lambda delta: got.append(("one", delta.text))):
        deltas.publish(delta("first"))
        with deltas.listening("user:a", lambda delta: got.append(("two", delta.text))):
            deltas.publish(delta("second"))
        deltas.publish(delta("other", to="user:b"))
    deltas.publish(delta("late"))
    assert sorted(got) == [("one", "first"), ("one", "second"), ("two", "second")]
    assert deltas._listeners == {}


async def test_a_readers_cursor_is_its_own_even_where_names_hold_slashes(mailbox: Mailbox) -> None:
    """`user:a` with reader `b/phone` is not `user:a/b` with reader `phone`."""
    await mailbox.send(envelope(to="user:a"), sender="")
    await mailbox.confirm("user:a", "b/phone", 1)
    assert await mailbox.cursor("user:a", "b/phone") == 1
    assert await mailbox.cursor("user:a/b", "phone") == 0


# --- who pays ---


@pytest.mark.parametrize("expires_at", [None, 2**52])
async def test_who_posts_first_pays_for_a_message_to_a_model(mailbox: Mailbox, expires_at: int | None) -> None:
    wanted = envelope(id="m1", to="model:m", expires_at=expires_at)
    assert (await mailbox.send(wanted, sender="", payer=Payer("bob", "ward"))).is_new
    assert not (await mailbox.send(wanted, sender="", payer=Payer("eve", "lab"))).is_new
    assert await mailbox.payer("m1") == Payer("bob", "ward")


async def test_what_no_key_posted_and_what_goes_to_people_has_no_payer(mailbox: Mailbox) -> None:
    await mailbox.send(envelope(id="m1", to="model:m"), sender="")
    await mailbox.send(envelope(id="m2"), sender="", payer=Payer("bob", "ward"))
    assert (await mailbox.payer("m1"), await mailbox.payer("m2")) == (None, None)
