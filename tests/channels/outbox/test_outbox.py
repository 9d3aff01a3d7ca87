"""Every message ends in a true receipt; none delays another; none is sent twice where that can be known."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from autoglm.channels.channel import Limits
from autoglm.channels.delivery import (
    Delivery,
    Words,
    accepted,
    delivered,
    permanent,
    throttled,
    transient,
    unauthorized,
)
from autoglm.channels.outbox.subjects import subject_of_channel
from autoglm.channels.receipts import AckState
from autoglm.channels.settings import OutboxSettings
from autoglm.channels.tickets import message_of, ticket_record
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.errors import StorageFull, StoreBroken
from autoglm.core.ports import Appended, NewRecord
from channels.clock import Clock
from channels.outbox.office import EAGER, Office, office, robot, settings
from channels.scripted_channel import ScriptedChannel
from eventually import until

BUSY = transient("busy", Words("the vendor is busy", "服务方繁忙"))
LOST = transient("cut", Words("the connection was cut", "连接中断"), is_in_doubt=True)
NEVER = permanent("40058", Words("a field is wrong", "字段有误"))
PATIENT = EAGER.model_copy(update={"attempt_timeout_s": 600.0})
SLOWLY = throttled("45009", Words("too many", "过多"), 0.05)
STRANGER = unauthorized("93000", Words("the key is not known", "key 无效"))


async def test_a_message_is_sent_and_says_so(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with office(tmp_path, (channel, settings())) as hub:
        (end,) = await hub.ends(await hub.post("hello", id="m"))
        assert (end.state, end.by, end.attempt) == ("sent", "channel:c/t", 1)
    assert channel.sent == [("t", "hello", "m.0")]


async def test_delivered_is_said_only_where_the_channel_says_it(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.extend([delivered(), accepted()])
    async with office(tmp_path, (channel, settings())) as hub:
        first, second = await hub.post("one"), None
        assert [end.state for end in await hub.ends(first)] == ["delivered"]
        second = await hub.post("two")
        assert [end.state for end in await hub.ends(second)] == ["sent"]


async def test_a_passing_failure_is_tried_again_under_the_same_key(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.extend([BUSY, BUSY])
    async with office(tmp_path, (channel, settings())) as hub:
        id = await hub.post("hello", id="m")
        await hub.ends(id)
        steps = await hub.steps(id)
    assert [(step.state, step.code, step.attempt) for step in steps] == [
        ("queued", "busy", 1), ("queued", "busy", 2), ("sent", "", 3),
    ]  # fmt: skip
    assert (steps[0].detail, steps[0].detail_zh) == ("the vendor is busy", "服务方繁忙")
    assert steps[0].retry_at >= steps[0].time
    assert [key for _, _, key in channel.sent] == ["m.0"]


async def test_a_final_failure_is_a_dead_letter_with_the_vendors_code(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.append(NEVER)
    async with office(tmp_path, (channel, settings())) as hub:
        id = await hub.post("hello")
        (end,) = await hub.ends(id)
        (letter,) = await hub.outbox.dead_letters.newest(10)
    assert (end.state, end.code, end.detail_zh) == ("failed", "40058", "字段有误")
    assert (letter.message.id, letter.code, letter.failure, letter.attempts) == (id, "40058", "permanent", 1)
    assert letter.message.content == "hello"


async def test_a_poisoned_message_delays_no_other(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.by_text["poison"] = BUSY
    async with office(tmp_path, (channel, settings())) as hub:
        poison = await hub.post("poison", priority=9)
        others = [await hub.post(f"m{number}") for number in range(30)]
        ends = await hub.ends(*others)
        assert {end.state for end in ends} == {"sent"}
        assert not [step for step in await hub.steps(poison) if step.state != "queued"]


async def test_messages_of_a_thread_go_in_order_and_no_other_waits_for_them(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=4))
    channel.by_text["one"] = BUSY
    async with office(tmp_path, (channel, settings())) as hub:
        thread = [await hub.post(text, thread="talk", priority=9) for text in ("one", "two", "three")]
        await hub.ends(await hub.post("of no thread"))
        assert channel.texts == ["of no thread"]
        del channel.by_text["one"]
        await hub.ends(*thread)
    assert channel.texts == ["of no thread", "one", "two", "three"]


async def test_the_next_of_a_thread_goes_when_the_first_has_failed_for_good(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.by_text["one"] = NEVER
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post(text, thread="talk") for text in ("one", "two")]
        assert [end.state for end in await hub.ends(*ids)] == ["failed", "sent"]


async def test_the_most_urgent_goes_first(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post("first")]
        await until(lambda: channel.tried == ["first"])
        ids += [await hub.post(f"p{priority}", priority=priority) for priority in (1, 9, 5)]
        await until(lambda: hub.outbox.states()[0].waiting == 4)
        channel.gate.set()
        await hub.ends(*ids)
    assert channel.texts == ["first", "p9", "p5", "p1"]


async def test_a_throttled_lane_waits_and_loses_nothing(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(SLOWLY)
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post(f"m{number}") for number in range(3)]
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}
        assert [step.code for step in await hub.steps(ids[0])] == ["45009", ""]
    assert channel.tried == ["m0", "m0", "m1", "m2"]


async def test_a_lane_that_is_stopped_stops_no_other(tmp_path: Path) -> None:
    one, other = ScriptedChannel(), ScriptedChannel()
    one.answers.extend([throttled("45009", Words("too many", "过多"), 600.0)])
    async with office(tmp_path, (one, settings("c")), (other, settings("d"))) as hub:
        await hub.post("stuck", "channel:c/t")
        await until(lambda: one.tried)
        await hub.ends(await hub.post("goes", "channel:d/t"), await hub.post("goes, too", "channel:c/other"))
        (state,) = [state for state in hub.outbox.states() if (state.channel, state.target) == ("c", "t")]
        assert (state.waiting, state.code, state.reason_zh) == (1, "45009", "过多")
        assert 590 < state.paused_s <= 600


async def test_an_operator_sees_when_a_message_is_tried_again(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.append(BUSY)
    patient = OutboxSettings(first_retry_s=60.0)
    async with office(tmp_path, (channel, settings()), outbox=patient) as hub:
        await hub.post("first")
        await until(lambda: hub.outbox.states() and hub.outbox.states()[0].next_try_s > 0)
        (state,) = hub.outbox.states()
        assert (state.code, 20 < state.next_try_s <= 60) == ("busy", True)
        assert hub.outbox.hurry("c") == 1
        await until(lambda: channel.texts == ["first"])


async def test_while_a_vendor_is_down_one_message_at_a_time_asks_for_it(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=4))
    channel.answers.extend([BUSY] * 8)
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post(f"m{number}") for number in range(50)]
        await hub.ends(*ids)
        queued = [step for id in ids for step in await hub.steps(id) if step.state == "queued"]
    assert len(queued) == 8
    assert sorted(channel.texts) == sorted(f"m{number}" for number in range(50))


async def test_attempts_that_fail_beside_each_other_are_one_failure(tmp_path: Path) -> None:
    """Else a moment without the vendor would have a lane with many at a time rest for a minute."""
    channel = ScriptedChannel(Limits(parallel=64))
    channel.gate = anyio.Event()
    channel.answers.extend([BUSY] * 64)
    patient = OutboxSettings(first_retry_s=0.02, max_retry_s=600.0)
    async with office(tmp_path, (channel, settings()), outbox=patient) as hub:
        ids = [await hub.post(f"m{number}") for number in range(64)]
        await until(lambda: channel.running == 64)
        channel.gate.set()
        ends = await hub.ends(*ids)
    assert {(end.state, end.attempt) for end in ends} == {("sent", 2)}


async def test_a_revoked_key_keeps_the_messages_until_an_operator_says_so(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(STRANGER)
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post(f"m{number}") for number in range(3)]
        await until(lambda: any(state.paused_s > 20 for state in hub.outbox.states()))  # there may be no lane yet
        assert channel.tried == ["m0"]
        assert hub.outbox.hurry("d") == 0
        assert hub.outbox.hurry("c") == 1
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}


async def test_what_cannot_be_delivered_for_long_is_given_up(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.by_text["hello"] = BUSY
    async with office(tmp_path, (channel, settings(give_up_after_s=1.0))) as hub:
        (end,) = await hub.ends(await hub.post("hello"))
        (letter,) = await hub.outbox.dead_letters.newest(10)
    assert (end.state, end.code) == ("failed", "busy")
    assert end.detail.startswith("given up after")
    assert letter.failure == "transient"
    assert letter.attempts > 1


async def test_an_answer_that_never_came_is_tried_again_or_not_as_the_settings_say(tmp_path: Path) -> None:
    careless, careful = ScriptedChannel(), ScriptedChannel()
    careless.answers.append(LOST)
    careful.answers.append(LOST)
    async with office(tmp_path, (careless, settings("c")), (careful, settings("d", on_doubt="fail"))) as hub:
        ids = [await hub.post("hello", "channel:c/t"), await hub.post("hello", "channel:d/t")]
        again, never = await hub.ends(*ids)
    assert (again.state, again.attempt) == ("sent", 2)
    assert (never.state, never.code, careful.tried) == ("failed", "cut", ["hello"])


async def test_a_long_text_goes_on_at_the_part_that_failed(tmp_path: Path) -> None:
    channel = ScriptedChannel(piece_bytes=64)
    channel.answers.extend([accepted(), BUSY])
    async with office(tmp_path, (channel, settings())) as hub:
        (end,) = await hub.ends(await hub.post("x" * 150, id="m"))
    assert end.state == "sent"
    assert [key for _, _, key in channel.sent] == ["m.0", "m.1", "m.2"]


async def test_what_is_urgent_goes_between_the_parts_of_a_long_message(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(windows=((2, 0.5),), parallel=1), piece_bytes=64)
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        long = await hub.post("x" * 64 * 5, id="long")
        await until(lambda: channel.tried)
        await hub.ends(await hub.post("urgent", priority=9))
        assert len(channel.sent) <= 4
        (end,) = await hub.ends(long)
    assert (end.state, end.attempt) == ("sent", 1)
    keys = [key for _, _, key in channel.sent if key.startswith("long")]
    assert keys == [f"long.{part}" for part in range(len(keys))]


async def test_a_message_that_expires_while_it_waits_says_so_and_is_not_sent(tmp_path: Path, clock: Clock) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(throttled("45009", Words("too many", "过多"), 600.0))
    async with office(tmp_path, (channel, settings())) as hub:
        await hub.post("first")
        await until(lambda: channel.tried)
        id = await hub.post("late", expires_at=clock.now_ms() + 60_000)
        await hub.read(id)
        clock.pass_s(61)
        (end,) = await hub.ends(id)
        assert end.state == "expired"
        hub.outbox.hurry()
        await hub.settled()
    assert channel.texts == ["first"]


@pytest.mark.parametrize(
    ("answer", "states", "detail"),
    [(accepted(), ["sent"], ""), (BUSY, ["queued", "expired"], "the vendor is busy")],
)
async def test_time_that_runs_out_while_a_request_is_on_its_way_waits_for_its_end(
    tmp_path: Path, clock: Clock, answer: Delivery, states: list[str], detail: str
) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    channel.answers.append(answer)
    async with office(tmp_path, (channel, settings()), outbox=PATIENT) as hub:
        expires_at = clock.now_ms() + 60_000
        id = await hub.post("late", expires_at=expires_at)
        await until(lambda: channel.running)
        clock.pass_s(61)
        notes = hub.mailbox._expiries._waiting
        await until(lambda: not notes or notes[0] >> 53 > expires_at)  # the mailbox has looked
        assert await hub.steps(id) == []  # asking does not end it either
        channel.gate.set()
        await hub.ends(id)
        await hub.settled()
        await until(lambda: not notes)
        steps = await hub.steps(id)
    assert [step.state for step in steps] == states
    assert steps[-1].detail == detail


async def test_what_was_in_doubt_when_its_time_ran_out_says_so(tmp_path: Path, clock: Clock) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        id = await hub.post("late", expires_at=clock.now_ms() + 60_000)
        await until(lambda: channel.running)
    clock.pass_s(61)
    async with office(tmp_path, (channel, settings())) as hub:
        (end,) = await hub.ends(id)
    assert (end.state, "may have been delivered" in end.detail, "可能已送达" in end.detail_zh) == (
        "expired",
        True,
        True,
    )


async def test_what_expired_while_it_waited_for_the_limit_is_not_sent(tmp_path: Path, clock: Clock) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 600.0),), parallel=2))
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        await hub.post("first")
        await until(lambda: channel.sent)
        id = await hub.post("late", expires_at=clock.now_ms() + 60_000)
        await hub.read(id)
        clock.pass_s(61)
        (end,) = await hub.ends(id)
        clock.pass_s(600)
        await hub.settled()
    assert (end.state, channel.texts) == ("expired", ["first"])


async def test_what_waits_for_a_place_in_the_limit_expires_in_time(tmp_path: Path, clock: Clock) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 3600.0),), parallel=4))
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        expires_at = clock.now_ms() + 60_000
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(partial(hub.post, f"m{number}", id=f"m{number}", expires_at=expires_at))
        await until(lambda: channel.sent)
        clock.pass_s(61)
        ends = await hub.ends("m0", "m1", "m2", "m3")
    assert sorted(end.state for end in ends) == ["expired", "expired", "expired", "sent"]


async def test_quiet_hours_hold_what_is_not_urgent_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_s = 600.0
    monkeypatch.setattr("autoglm.channels.outbox.driver.quiet_for_s", lambda quiet, now: left_s if quiet else 0.0)
    channel = ScriptedChannel()
    quiet = {"from": "22:00", "to": "07:00"}
    async with office(tmp_path, (channel, settings(quiet=quiet))) as hub:
        for text, priority in (("later", 5), ("now", 8), ("too", 9)):
            await hub.read(await hub.post(text, priority=priority))
        await until(lambda: sorted(channel.texts) == ["now", "too"])
        left_s = 0.0
        hub.outbox.hurry()
        await until(lambda: len(channel.texts) == 3)
    assert channel.texts[-1] == "later"


async def test_all_that_is_too_old_is_given_up_while_the_lane_is_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.driver._SWEEP_S", 0.2)
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(throttled("45009", Words("too many", "过多"), 600.0))
    async with office(tmp_path, (channel, settings(give_up_after_s=1.0))) as hub:
        ids = [await hub.post(f"m{number}") for number in range(150)]
        ends = await hub.ends(*ids)
    assert {(end.state, end.code) for end in ends} == {("failed", "45009")}
    assert len(channel.tried) == 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store failed is tried again soon."""
    monkeypatch.setattr("autoglm.channels.outbox.driver.BROKEN_STORE_S", 0.02)
    monkeypatch.setattr("autoglm.channels.outbox.outbox.BROKEN_STORE_S", 0.02)


def broken_now_and_then(hub: Office, monkeypatch: pytest.MonkeyPatch, subject: str) -> list[str]:
    """Each fifth read of the subject fails, first the second one. Returns what was read."""
    read, reads = hub.store.log.read, list[str]()

    async def broken(wanted: str, **kwargs: Any) -> Any:
        if wanted == subject:
            reads.append(wanted)
            if len(reads) % 5 == 2:
                raise StorageFull("data")
        return await read(wanted, **kwargs)

    monkeypatch.setattr(hub.store.log, "read", broken)
    return reads


@pytest.mark.usefixtures("hasty")
async def test_what_is_too_old_is_given_up_although_the_log_cannot_be_read_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.driver._SWEEP_S", 0.02)
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(throttled("45009", Words("too many", "过多"), 600.0))
    async with office(tmp_path, (channel, settings(give_up_after_s=1.0))) as hub:
        ids = [await hub.post(f"m{number}") for number in range(10)]
        await hub.has_step(ids[0])
        reads = broken_now_and_then(hub, monkeypatch, "to:channel:c/t")
        assert {end.state for end in await hub.ends(*ids)} == {"failed"}
    assert len(reads) > 2


async def test_no_more_go_out_at_once_than_the_vendor_takes(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=3))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post(f"m{number}") for number in range(40)]
        await until(lambda: channel.running == 3)
        channel.gate.set()
        await hub.ends(*ids)
    assert channel.most_running == 3


async def test_a_limit_of_all_targets_holds_beside_each_ones(tmp_path: Path) -> None:
    """Also after a restart, when the vendor still counts what went out before."""
    channel = ScriptedChannel(Limits(windows=((2, 600.0),), shared=((3, 600.0),), parallel=1))
    async with office(tmp_path, (channel, settings())) as desk:
        for number in range(6):
            await desk.post(f"n {number}", f"channel:c/t{number % 3}")
        await desk.settled_but(3)
    async with office(tmp_path, (channel, settings())) as desk:
        await desk.read(await desk.post("n 6", "channel:c/t9"))
        assert all(driver.lane.window.wait_s(monotonic_s()) > 500 for driver in desk.outbox._drivers.values())
    assert len(channel.sent) == 3


@pytest.mark.parametrize("per", ["target", "channel"])
async def test_a_limit_counts_by_target_or_for_all_of_them(tmp_path: Path, per: str) -> None:
    limits = Limits(windows=((2, 600.0),), per="target" if per == "target" else "channel", parallel=1)
    channel = ScriptedChannel(limits)
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        for number in range(3):
            await hub.post(f"a{number}", "channel:c/a")
            await hub.post(f"b{number}", "channel:c/b")
        expected = 4 if per == "target" else 2
        await hub.settled_but(6 - expected)
        assert len(channel.sent) == expected


async def test_a_full_disk_sends_nothing_that_it_could_not_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = ScriptedChannel()
    async with office(tmp_path, (channel, settings())) as hub:
        append, is_full = hub.store.log.append, True

        async def full(record):  # type: ignore[no-untyped-def]
            if is_full and record.id.startswith("attempt"):
                raise StorageFull("data")
            return await append(record)

        monkeypatch.setattr("autoglm.channels.outbox.carrier._FULL_DISK_S", 0.05)
        monkeypatch.setattr(hub.store.log, "append", full)
        id = await hub.post("hello")
        await until(lambda: hub.outbox.states() and not hub.outbox.states()[0].running)
        assert channel.tried == []
        is_full = False
        assert [end.state for end in await hub.ends(id)] == ["sent"]


@pytest.mark.parametrize("subject", ["to:channel:c/t", "outbox"])
async def test_a_log_that_cannot_be_read_for_a_while_delays_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    """Alone, in a digest, by a lane that reads on, by the outbox itself: SQLite may need some space to read."""
    monkeypatch.setattr("autoglm.channels.outbox.lane.MAX_WAITING", 4)
    monkeypatch.setattr("autoglm.channels.outbox.driver.BROKEN_STORE_S", 0.05)
    monkeypatch.setattr("autoglm.channels.outbox.outbox.BROKEN_STORE_S", 0.05)
    channel = ScriptedChannel(robot(count=2, per_s=0.3, digest_bytes=2000))
    async with office(tmp_path, (channel, settings())) as hub:
        failures = 0
        read, following = hub.store.log.read, hub.store.log.next

        async def broken_read(wanted, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal failures
            failures += wanted == subject
            if wanted == subject and failures % 3:
                raise StorageFull("data")
            return await read(wanted, **kwargs)

        async def broken_next(*wanted, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal failures
            failures += subject in wanted
            if subject in wanted and failures % 3:
                raise StorageFull("data")
            return await following(*wanted, **kwargs)

        monkeypatch.setattr(hub.store.log, "read", broken_read)
        monkeypatch.setattr(hub.store.log, "next", broken_next)
        ids = [await hub.post(f"m{number:02}") for number in range(12)]
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}
        await hub.settled()
    assert failures > 2
    sent = "\n".join(channel.texts)
    assert [sent.count(f"m{number:02}") for number in range(12)] == [1] * 12


@pytest.mark.parametrize("digest_bytes", [0, 2000])
async def test_what_could_not_be_noted_takes_no_place_in_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest_bytes: int
) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.carrier._FULL_DISK_S", 0.02)
    channel = ScriptedChannel(robot(count=2, per_s=3600.0, digest_bytes=digest_bytes))
    async with office(tmp_path, (channel, settings())) as hub:
        append, failures = hub.store.log.append, 0

        async def full(record: NewRecord) -> Appended:
            nonlocal failures
            if record.id.startswith("attempt") and failures < 3:
                failures += 1
                raise StorageFull("data")
            return await append(record)

        await hub.ends(await hub.post("one"))
        monkeypatch.setattr(hub.store.log, "append", full)
        await hub.post("two")
        await hub.post("three")
        await until(lambda: len(channel.sent) == 2)
    assert failures == 3


@pytest.mark.parametrize("record", ["attempt m 1 1", "attempt m 1 0 answered", "receipt m"])
async def test_a_disk_that_fails_for_a_moment_sends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.carrier._FULL_DISK_S", 0.02)
    monkeypatch.setattr("autoglm.channels.outbox.driver.BROKEN_STORE_S", 0.02)
    channel = ScriptedChannel(piece_bytes=64)
    async with office(tmp_path, (channel, settings())) as hub:
        append_all, failures = hub.store.log.append_all, 0

        async def failing(records: Sequence[NewRecord]) -> Sequence[Appended]:
            nonlocal failures
            if not failures and records[0].id.startswith(record):
                failures += 1
                raise StoreBroken("hub.db", "disk I/O error")
            return await append_all(records)

        async def failing_one(one: NewRecord) -> Appended:
            return (await failing([one]))[0]

        monkeypatch.setattr(hub.store.log, "append_all", failing)
        monkeypatch.setattr(hub.store.log, "append", failing_one)
        id = await hub.post("x" * 100, id="m")
        assert [end.state for end in await hub.ends(id)] == ["sent"]
    assert failures
    assert [key for _, _, key in channel.sent] == ["m.0", "m.1"]


async def test_a_place_that_cannot_be_kept_for_a_moment_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office(tmp_path, (ScriptedChannel(), settings())) as hub:
        put, failures = hub.store.keyvalue.put, 0

        async def failing(key: str, value: bytes, **kwargs: Any) -> int:
            nonlocal failures
            if key == "outbox/cursor" and not failures:
                failures += 1
                raise StoreBroken("hub.db", "disk I/O error")
            return await put(key, value, **kwargs)

        monkeypatch.setattr(hub.store.keyvalue, "put", failing)
        await hub.ends(await hub.post("one"))
        await hub.settled()
        await hub.outbox.drain(1.0)
        assert await hub.store.keyvalue.get("outbox/cursor") is None
        await hub.outbox.drain(1.0)
        assert await hub.store.keyvalue.get("outbox/cursor") is not None
    assert failures == 1


async def test_an_adapter_that_crashes_stops_nobody(tmp_path: Path) -> None:
    class Broken(ScriptedChannel):
        async def send(self, parcel, key):  # type: ignore[no-untyped-def]
            if parcel.body == "bad":
                raise ZeroDivisionError("secret-1")
            return await super().send(parcel, key)

    async with office(tmp_path, (Broken(), settings(on_doubt="fail"))) as hub:
        bad, good = await hub.ends(await hub.post("bad"), await hub.post("good"))
    assert (bad.state, bad.code, good.state) == ("failed", "crashed", "sent")
    assert "secret-1" not in repr(bad)


async def test_a_channel_that_the_settings_lost_makes_dead_letters(tmp_path: Path) -> None:
    async with office(tmp_path, (ScriptedChannel(), settings("c"))) as hub:
        (end,) = await hub.ends(await hub.post("hello", "channel:gone/t"))
    assert (end.state, end.code) == ("failed", "channel_removed")


async def test_the_hubs_own_limits_of_time_hold_for_an_adapter_without_any(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    quick = EAGER.model_copy(update={"attempt_timeout_s": 0.05})
    async with office(tmp_path, (channel, settings(on_doubt="fail")), outbox=quick) as hub:
        (end,) = await hub.ends(await hub.post("hello"))
    assert (end.state, end.code) == ("failed", "timeout")


async def test_a_file_on_a_slow_link_is_not_given_up_with_the_texts(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    quick = EAGER.model_copy(update={"attempt_timeout_s": 0.05})
    async with office(tmp_path, (channel, settings(on_doubt="fail")), outbox=quick) as hub:
        blob = await hub.store.blobs.put(chunks(bytes(1 << 20)))  # a minute at 128 kbit/s
        file = {"type": "file", "file": {"file_id": blob}}
        letter = await hub.post([{"type": "text", "text": "the plan"}, file])
        (text,) = await hub.ends(await hub.post("hello"))
        assert text.code == "timeout"
        channel.gate.set()
        (end,) = await hub.ends(letter)
    assert (end.state, channel.texts) == ("sent", ["the plan"])


async def test_a_file_that_cannot_be_looked_at_is_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, careful = ScriptedChannel(), settings(on_doubt="fail")
    async with office(tmp_path, (channel, careful)) as hub:
        looked = anyio.Event()

        async def broken(sha256: str) -> int:
            looked.set()
            raise StoreBroken("blobs", "I/O error")

        monkeypatch.setattr(hub.store.blobs, "size", broken)
        file = {"type": "file", "file": {"file_id": "a" * 64}}
        id = await hub.post([{"type": "text", "text": "the plan"}, file])
        await looked.wait()
        await until(lambda: not hub.outbox.states()[0].running)
    async with office(tmp_path, (channel, careful)) as hub:
        assert [end.state for end in await hub.ends(id)] == ["sent"]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
def small_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.lane.MAX_WAITING", 2)


@pytest.mark.usefixtures("small_lanes")
async def test_a_short_page_of_large_messages_is_not_taken_for_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        read = hub.store.log.read

        async def short(subject, *, after=0, limit=100):  # type: ignore[no-untyped-def]
            return (await read(subject, after=after, limit=limit))[:1]

        monkeypatch.setattr(hub.store.log, "read", short)
        ids = [await hub.post(f"m{number}") for number in range(8)]
        await hub.read(ids[-1])
        channel.gate.set()
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}


@pytest.mark.usefixtures("small_lanes")
async def test_what_comes_while_the_log_is_read_again_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        read = hub.store.log.read
        late: list[str] = []

        async def slow(subject, *, after=0, limit=100):  # type: ignore[no-untyped-def]
            found = await read(subject, after=after, limit=limit)
            if limit > 1 and subject == "to:channel:c/t" and not late:
                late.append(await hub.post("late"))
                await hub.read(late[0])
            return found

        ids = [await hub.post(f"m{number}") for number in range(3)]
        await hub.read(ids[-1])
        monkeypatch.setattr(hub.store.log, "read", slow)
        channel.gate.set()
        await hub.ends(*ids)
        assert [end.state for end in await hub.ends(*late)] == ["sent"]


async def test_a_lane_that_has_nothing_to_send_counts_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.outbox.MAX_LANES", 3)
    channel = ScriptedChannel(Limits(windows=((1, 600.0),), parallel=1))
    async with office(tmp_path, (channel, settings(overflow="wait")), (ScriptedChannel(), settings("d"))) as hub:
        ids = [await hub.post("hello", f"channel:c/{number}") for number in range(6)]
        ids.append(await hub.post("hello", "channel:d/t"))
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}
        again = await hub.post("again", "channel:c/0")
        await hub.settled_but(1)
        assert await hub.steps(again) == []


@pytest.fixture
def few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.outbox.MAX_LANES", 3)
    monkeypatch.setattr("autoglm.channels.outbox.outbox.LEAST_LANES", 1)


@pytest.mark.usefixtures("few_lanes")
async def test_many_targets_of_a_channel_that_is_down_stop_no_other(tmp_path: Path) -> None:
    down = ScriptedChannel(Limits(parallel=1))
    down.gate = anyio.Event()
    async with office(tmp_path, (down, settings("c")), (ScriptedChannel(), settings("d"))) as hub:
        ids = [await hub.post(f"m{number}", f"channel:c/{number % 8}") for number in range(20)]
        await hub.ends(await hub.post("goes", "channel:d/t"))
        assert len(hub.outbox.states()) <= 4
        assert hub.outbox.crowded == ("c",)
        down.gate.set()
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}
    assert sorted(down.texts) == sorted(f"m{number}" for number in range(20))


@pytest.mark.usefixtures("few_lanes", "hasty")
async def test_what_found_no_lane_goes_out_although_the_log_cannot_be_read_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.gate = gate = anyio.Event()
    async with office(tmp_path, (channel, settings("c"))) as hub:
        reads = broken_now_and_then(hub, monkeypatch, subject_of_channel("c"))
        ids = [await hub.post(f"m{number}", f"channel:c/{number}") for number in range(20)]
        await until(lambda: hub.outbox.crowded)
        gate.set()
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}
    assert len(reads) > 1
    assert sorted(channel.texts) == sorted(f"m{number}" for number in range(20))


@pytest.mark.usefixtures("few_lanes")
async def test_what_found_no_lane_goes_out_after_a_restart(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings("c"))) as hub:
        ids = [await hub.post(f"m{number}", f"channel:c/{number}") for number in range(8)]
        await hub.read(ids[-1])
        await hub.outbox.drain(0.01)
    channel.gate = None
    async with office(tmp_path, (channel, settings("c"))) as hub:
        assert {end.state for end in await hub.ends(*ids)} == {"sent"}
        await hub.settled()
    assert sorted(channel.texts) == sorted(f"m{number}" for number in range(8))


async def test_a_lane_at_its_limit_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = ScriptedChannel(Limits(windows=((2, 600.0),), parallel=1))
    channel.answers.extend([BUSY, BUSY])
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        for text in ("one", "two"):
            await hub.post(text)
        await until(lambda: len(channel.tried) == 2 and not hub.outbox.states()[0].running)
        looks = 0
        (driver,) = hub.outbox._drivers.values()
        start = driver._start

        async def counted(*args):  # type: ignore[no-untyped-def]
            nonlocal looks
            looks += 1
            return await start(*args)

        monkeypatch.setattr(driver, "_start", counted)
        await anyio.sleep(0.5)  # how often it looks in a stretch of time is what is asked
    assert looks < 10


# --- digests ---


async def test_what_is_over_the_limit_goes_out_in_a_digest(tmp_path: Path) -> None:
    channel = ScriptedChannel(robot(count=3, digest_bytes=2000))
    async with office(tmp_path, (channel, settings())) as hub:
        channel.gate = anyio.Event()
        ids = [await hub.post(f"message {number}", timestamp=1_790_000_000_000) for number in range(12)]
        await until(lambda: sum(state.waiting for state in hub.outbox.states()) == 12)
        channel.gate.set()
        ends = await hub.ends(*ids)
    assert {end.state for end in ends} == {"sent"}
    assert len(channel.sent) == 3
    assert channel.texts[2].startswith("[10 条消息 / 10 messages]\n")
    assert all(f"user:a: message {number}" in channel.texts[2] for number in range(2, 12))
    assert ends[5].detail == "it went out in a digest of 10 messages"


async def test_urgent_messages_and_those_of_threads_stay_themselves(tmp_path: Path, clock: Clock) -> None:
    channel = ScriptedChannel(robot(count=2, per_s=60.0, digest_bytes=2000))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings()), outbox=PATIENT) as hub:
        ids = [await hub.post("first")]
        await until(lambda: channel.tried)
        clock.pass_s(30)
        ids += [await hub.post(f"plain {number}") for number in range(3)]
        ids += [await hub.post("urgent", priority=9), await hub.post("of a thread", thread="t")]
        await until(lambda: sum(state.waiting for state in hub.outbox.states()) == 6)
        channel.gate.set()
        await until(lambda: channel.texts == ["first", "urgent"])
        clock.pass_s(32)  # one place is free again, for three plain ones
        await hub.settled_but(1)
        clock.pass_s(30)
        await hub.ends(*ids)
    assert "of a thread" in channel.texts
    assert [text for text in channel.texts if "plain 0" in text and "plain 2" in text]


async def test_a_digest_that_is_refused_finds_the_message_to_blame(tmp_path: Path) -> None:
    channel = ScriptedChannel(robot(count=2, per_s=1.0, digest_bytes=2000))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post("first")]
        await until(lambda: channel.tried)
        ids += [await hub.post(text) for text in ("good", "bad", "fine")]
        channel.by_text["bad"] = NEVER
        await until(lambda: sum(state.waiting for state in hub.outbox.states()) == 4)
        channel.answers.extend([accepted(), NEVER])
        channel.gate.set()
        ends = await hub.ends(*ids)
        steps = await hub.steps(ids[1])
    assert [end.state for end in ends] == ["sent", "sent", "failed", "sent"]
    assert [(step.state, step.code) for step in steps] == [("queued", "40058"), ("sent", "")]


async def test_wait_makes_no_digest(tmp_path: Path) -> None:
    channel = ScriptedChannel(robot(count=2, per_s=0.1, digest_bytes=2000))
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        await hub.ends(*[await hub.post(f"m{number}") for number in range(6)])
    assert channel.texts == [f"m{number}" for number in range(6)]


async def test_a_digest_has_one_target(tmp_path: Path) -> None:
    """A lane may be for all of an account: what is for one person goes to nobody else."""
    channel = ScriptedChannel(Limits(windows=((2, 600.0),), per="channel", parallel=1, digest_bytes=2000))
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        await hub.post("first", "channel:c/a")
        await until(lambda: channel.tried)
        for number in range(2):
            await hub.post(f"a{number}", "channel:c/a")
            await hub.post(f"b{number}", "channel:c/b")
        await until(lambda: hub.outbox.states()[0].waiting == 5)
        channel.gate.set()
        await hub.settled_but(2)
    target, text, _ = channel.sent[1]
    assert target == "a"
    assert [line.rpartition(" ")[2] for line in text.split("\n")[1:]] == ["a0", "a1"]


async def test_a_target_that_the_settings_lost_breaks_no_digest(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 600.0),), parallel=1, digest_bytes=2000))
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post(f"m{number}", "channel:c/nobody") for number in range(3)]
        assert {end.code for end in await hub.ends(*ids)} == {"unknown_target"}


# --- restarts ---


async def test_what_waits_goes_out_after_a_restart_and_what_went_does_not(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with office(tmp_path, (channel, settings())) as hub:
        await hub.ends(*[await hub.post(f"sent {number}") for number in range(5)])
        channel.by_text["waits"] = throttled("45009", Words("too many", "过多"), 600.0)
        waits = await hub.post("waits")
        await until(lambda: "waits" in channel.tried)
    del channel.by_text["waits"]
    channel.sent.clear()
    async with office(tmp_path, (channel, settings())) as hub:
        assert [end.state for end in await hub.ends(waits)] == ["sent"]
        await hub.settled()
    assert channel.texts == ["waits"]


async def test_a_request_that_was_on_its_way_is_in_doubt_after_a_restart(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    careful = settings(on_doubt="fail")
    async with office(tmp_path, (channel, careful)) as hub:
        on_its_way = await hub.post("on its way")
        await until(lambda: channel.tried)
    channel.gate = None
    async with office(tmp_path, (channel, careful)) as hub:
        never_begun = await hub.post("fresh")
        doubt, fresh = await hub.ends(on_its_way, never_begun)
    assert (doubt.state, doubt.code, fresh.state) == ("failed", "interrupted", "sent")
    assert channel.texts == ["fresh"]


async def test_a_doubt_that_is_tried_again_is_written_down(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        id = await hub.post("on its way")
        await until(lambda: channel.tried)
    channel.gate = None
    async with office(tmp_path, (channel, settings())) as hub:
        await hub.ends(id)
        steps = await hub.steps(id)
    assert [(step.state, step.code, step.attempt) for step in steps] == [("queued", "interrupted", 1), ("sent", "", 2)]


async def test_a_vendor_that_says_at_once_is_asked_at_once(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.append(throttled("429", Words("too many", "过多"), 0.0))
    async with office(tmp_path, (channel, settings())) as hub:
        assert [end.state for end in await hub.ends(await hub.post("hello"))] == ["sent"]


async def test_attempts_and_parts_are_remembered_over_a_restart(tmp_path: Path) -> None:
    channel = ScriptedChannel(piece_bytes=64)
    slow = EAGER.model_copy(update={"first_retry_s": 600.0, "max_retry_s": 600.0})
    channel.answers.extend([accepted(), BUSY])
    async with office(tmp_path, (channel, settings()), outbox=slow) as hub:
        id = await hub.post("x" * 150, id="m")
        await until(lambda: len(channel.tried) == 2)
        await hub.has_step(id)
    async with office(tmp_path, (channel, settings())) as hub:
        (end,) = await hub.ends(id)
    assert (end.state, end.attempt) == ("sent", 2)
    assert [key for _, _, key in channel.sent] == ["m.0", "m.1", "m.2"]


async def test_a_vendors_limit_counts_over_a_restart(tmp_path: Path) -> None:
    channel = ScriptedChannel(robot(count=2, per_s=600.0))
    own = settings(overflow="wait")
    async with office(tmp_path, (channel, own)) as hub:
        await hub.ends(await hub.post("one"), await hub.post("two"))
    async with office(tmp_path, (channel, own)) as hub:
        await hub.post("three")
        await hub.ends(await hub.post("elsewhere", "channel:c/other"))
        assert channel.texts == ["one", "two", "elsewhere"]


async def test_the_cursor_keeps_what_is_open_and_passes_what_is_not(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.by_text["stuck"] = BUSY
    patient = EAGER.model_copy(update={"first_retry_s": 600.0, "max_retry_s": 600.0})
    async with office(tmp_path, (channel, settings()), outbox=patient) as hub:
        stuck = await hub.post("stuck")
        await hub.ends(*[await hub.post(f"m{number}") for number in range(20)])
        await hub.settled_but(1)
        await hub.outbox.drain(1.0)
        saved = hub.outbox._cursor()
        _, record = await hub.mailbox.get(stuck)
        assert saved.open == (record.seq,)
        assert saved.upto > record.seq
    channel.by_text.clear()
    async with office(tmp_path, (channel, settings())) as hub:
        assert [end.state for end in await hub.ends(stuck)] == ["sent"]


async def test_a_drain_waits_for_what_is_on_its_way_and_begins_nothing(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.gate = gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        ids = [await hub.post("one"), await hub.post("two")]
        await until(lambda: channel.tried)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.outbox.drain, 5.0)
            await anyio.lowlevel.checkpoint()
            gate.set()
        assert [step.state for step in await hub.steps(ids[0])] == ["sent"]
        assert await hub.steps(ids[1]) == []
    assert channel.tried == ["one"]


async def test_a_drain_does_not_wait_for_what_waits_for_a_limit(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 3600.0),), parallel=4))
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        async with anyio.create_task_group() as tasks:  # so that several begin before the first has its place
            for number in range(4):
                tasks.start_soon(partial(hub.post, f"m{number}", id=f"m{number}"))
        await until(lambda: channel.sent)
        await hub.outbox.drain(2.0)
        (state,) = hub.outbox.states()
        assert (state.waiting, state.running) == (3, 0)
        assert len(hub.outbox._cursor().open) == 3


async def test_a_drain_lets_a_message_in_parts_go_on_after_the_next_start(tmp_path: Path) -> None:
    channel = ScriptedChannel(piece_bytes=64)
    channel.gate = gate = anyio.Event()
    async with office(tmp_path, (channel, settings())) as hub:
        id = await hub.post("x" * 150, id="m")
        await until(lambda: channel.tried)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.outbox.drain, 5.0)
            await anyio.lowlevel.checkpoint()
            gate.set()
        assert [key for _, _, key in channel.sent] == ["m.0"]
    async with office(tmp_path, (channel, settings(on_doubt="fail"))) as hub:
        assert [end.state for end in await hub.ends(id)] == ["sent"]
    assert [key for _, _, key in channel.sent] == ["m.0", "m.1", "m.2"]


@pytest.mark.parametrize("subject", ["receipts:m", "attempts:m"])
async def test_what_went_out_is_not_sent_again_when_the_log_cannot_be_read_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    monkeypatch.setattr("autoglm.channels.outbox.driver.BROKEN_STORE_S", 0.05)
    slow = EAGER.model_copy(update={"first_retry_s": 600.0, "max_retry_s": 600.0})
    channel = ScriptedChannel(piece_bytes=64)
    channel.answers.extend([accepted(), BUSY])
    async with office(tmp_path, (channel, settings()), outbox=slow) as hub:
        await hub.has_step(await hub.post("x" * 100, id="m"))
    async with office(tmp_path, (channel, settings())) as hub:
        read, failures = hub.store.log.read, 0

        async def broken(wanted: str, **kwargs: Any) -> Any:
            nonlocal failures
            if wanted == subject and not failures:
                failures += 1
                raise StorageFull("data")
            return await read(wanted, **kwargs)

        monkeypatch.setattr(hub.store.log, "read", broken)
        (end,) = await hub.ends("m")
    assert failures
    assert (end.state, end.attempt) == ("sent", 2)
    assert [key for _, _, key in channel.sent] == ["m.0", "m.1"]


FIRST_TICKET = ticket_record("c", "t-0", "m")


async def test_a_part_that_the_vendor_took_is_not_sent_again_after_a_kill(tmp_path: Path) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 0.5),), parallel=1), piece_bytes=64)
    channel.answers.append(accepted("t-0"))
    async with office(tmp_path, (channel, settings(on_doubt="fail", overflow="wait"))) as hub:
        id = await hub.post("x" * 100, id="m")
        assert await hub.store.log.next(*FIRST_TICKET.subjects, after=0, timeout_s=5.0)  # part 2 waits for its limit
    async with office(tmp_path, (channel, settings(on_doubt="fail", overflow="wait"))) as hub:
        (end,) = await hub.ends(id)
        assert (end.state, end.code) == ("sent", "")
        assert await message_of(hub.store.log, "c", "t-0") == "m"
    assert [key for _, _, key in channel.sent] == ["m.0", "m.1"]


@pytest.mark.parametrize("state", ["delivered", "read", "acknowledged"])
@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_is_told_of_one_part_keeps_none_of_the_others_back(
    tmp_path: Path, is_killed: bool, state: AckState
) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 0.5),), parallel=1), piece_bytes=64)
    channel.answers.append(accepted("t-0"))
    own = settings(overflow="wait")
    async with office(tmp_path, (channel, own)) as hub:
        id = await hub.post("x" * 100, id="m", expires_at=now_ms() + 600_000)
        assert await hub.store.log.next(*FIRST_TICKET.subjects, after=0, timeout_s=5.0)  # part 2 waits for its limit
        envelope, _ = await hub.mailbox.get(id)
        await hub.mailbox.report(envelope, state, by=envelope.to)
        if not is_killed:
            await until(lambda: len(channel.sent) == 2)
    async with office(tmp_path, (channel, own)) as hub:
        await hub.read(await hub.post("elsewhere", "channel:c/other"))
        await hub.settled()
        assert [step.state for step in await hub.steps(id)] == [state, "sent"]
    assert sorted(key for _, text, key in channel.sent if text != "elsewhere") == ["m.0", "m.1"]


async def test_what_is_read_in_part_and_runs_out_of_time_says_so(tmp_path: Path, clock: Clock) -> None:
    channel = ScriptedChannel(Limits(windows=((1, 3600.0),), parallel=1), piece_bytes=64)
    async with office(tmp_path, (channel, settings(overflow="wait"))) as hub:
        id = await hub.post("x" * 100, expires_at=clock.now_ms() + 60_000)
        await until(lambda: channel.sent and not hub.outbox.states()[0].running)
        envelope, _ = await hub.mailbox.get(id)
        await hub.mailbox.report(envelope, "read", by=envelope.to)
        clock.pass_s(61)
        await until(lambda: not hub.mailbox._expiries._waiting)
        steps = await hub.steps(id)
    assert [(step.state, step.detail) for step in steps] == [
        ("read", ""), ("expired", "only its first 1 part went out"),
    ]  # fmt: skip


async def test_a_message_whose_parts_are_fewer_after_a_restart_goes_on(tmp_path: Path) -> None:
    slow = EAGER.model_copy(update={"first_retry_s": 600.0, "max_retry_s": 600.0})
    channel = ScriptedChannel(piece_bytes=64)
    channel.answers.extend([accepted(), accepted(), BUSY])
    async with office(tmp_path, (channel, settings()), outbox=slow) as hub:
        id = await hub.post("x" * 150, id="m")
        await hub.has_step(id)
    async with office(tmp_path, (ScriptedChannel(), settings())) as hub:
        (end,) = await hub.ends(id)
    assert end.state == "sent"


def test_words_of_a_delivery_are_kept_apart_from_its_class() -> None:
    assert Delivery(outcome="accepted").is_settled
    assert not BUSY.is_settled
