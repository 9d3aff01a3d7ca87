"""An event reaches whom the routes say, goes on until somebody notices, and tells nobody twice."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from autoglm.channels.delivery import Words, permanent
from autoglm.channels.routes.event import Event
from autoglm.channels.routes.notices import Notice, hearers
from autoglm.channels.routes.silences import NewSilence
from autoglm.core.clock import now_ms
from autoglm.core.envelope import text_of
from autoglm.core.errors import DuplicateId, InvalidField, NotFound, StorageFull
from autoglm.store import StoreSettings, open_store
from channels.clock import Clock
from channels.routes.desk import Desk, desk
from channels.scripted_channel import ScriptedChannel
from eventually import until

NEVER = permanent("40058", Words("a field is wrong", "字段有误"))
OPS = '[[route]]\nname = "ops"\nto = ["user:alice", "channel:c/t"]\n'


async def test_an_event_reaches_whom_its_route_names(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with desk(tmp_path, OPS, c=channel) as hub:
        id = await hub.raise_event(title="Press 7", labels={"line": "3"}, priority=8, id="e/1")
        (letter,) = await hub.has_mail("user:alice")
        account = await hub.account(id, lambda account: len(account.notices) == 2 and account.notices[1].steps)
    assert channel.texts == ["Press 7\nThe press is down."]
    assert (letter.from_, letter.kind, letter.priority) == ("device:press-7", "event", 8)
    assert letter.labels == {"line": "3", "event": "e/1", "route": "ops", "title": "Press 7"}
    assert [(one.notice.to, one.notice.step, one.notice.number) for one in account.notices] == [
        ("user:alice", 0, 0), ("channel:c/t", 0, 0),
    ]  # fmt: skip
    assert [step.state for step in account.notices[1].steps] == ["sent"]


async def test_a_repeated_event_tells_nobody_twice_and_another_under_its_id_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        await hub.raise_event(id="e")
        await hub.raise_event(id="e")
        with pytest.raises(DuplicateId):
            await hub.raise_event("something else", id="e")
        await hub.closed("e")
        assert await hub.texts("user:alice") == ["The press is down."]


async def test_the_first_route_that_matches_takes_it_unless_it_goes_on(tmp_path: Path) -> None:
    routes = """
[[route]]
name = "log"
to = ["user:log"]
goes_on = true
[[route]]
name = "night"
to = ["user:night"]
match = { min_priority = 7 }
[[route]]
name = "rest"
to = ["user:rest"]
"""
    async with desk(tmp_path, routes) as hub:
        for priority in (9, 3):
            await hub.closed(await hub.raise_event(f"p{priority}", priority=priority))
        assert await hub.texts("user:log") == ["p9", "p3"]
        assert await hub.texts("user:night") == ["p9"]
        assert await hub.texts("user:rest") == ["p3"]


async def test_an_event_that_no_route_takes_is_kept_and_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS + 'match = { kinds = ["alert"] }\n', c=ScriptedChannel()) as hub:
        account = await hub.closed(await hub.raise_event())
        assert (account.notices, account.acknowledged_by) == ([], "")
        with pytest.raises(NotFound):
            await hub.notifier.get("never")


# --- fallback, escalation, repetition ---

ESCALATES = """
[[route]]
name = "ops"
to = ["channel:c/t"]
[[route.then]]
after_s = {first}
unless = "{unless}"
to = ["channel:sms/1"]
[[route.then]]
after_s = 600
to = ["channel:sms/2"]
"""


@pytest.mark.parametrize(("unless", "told"), [("sent", ["2"]), ("delivered", ["1", "2"])])
async def test_the_fallback_goes_by_what_the_channel_knows(tmp_path: Path, unless: str, told: list[str]) -> None:
    """The second step follows either way, so that it shows when the time of the first is over."""
    robot, sms = ScriptedChannel(), ScriptedChannel()
    config = ESCALATES.format(first=2.5, unless=unless).replace("after_s = 600", "after_s = 3.0")
    async with desk(tmp_path, config, c=robot, sms=sms) as hub:
        await hub.raise_event()
        await until(lambda: sms.sent and sms.sent[-1][0] == "2")
        assert [target for target, _, _ in sms.sent] == told


async def test_a_message_that_failed_falls_back_at_once(tmp_path: Path) -> None:
    robot, sms = ScriptedChannel(), ScriptedChannel()
    robot.answers.append(NEVER)
    async with desk(tmp_path, ESCALATES.format(first=500, unless="delivered"), c=robot, sms=sms) as hub:
        id = await hub.raise_event()
        await hub.account(id, lambda account: len(account.notices) == 2 and account.notices[1].steps)
    assert [target for target, _, _ in sms.sent] == ["1"]


async def test_an_acknowledgement_ends_it(tmp_path: Path) -> None:
    robot, sms = ScriptedChannel(), ScriptedChannel()
    async with desk(tmp_path, ESCALATES.format(first=500, unless="acknowledged"), c=robot, sms=sms) as hub:
        id = await hub.raise_event()
        await hub.account(id, lambda account: account.notices and account.notices[0].steps)
        account = await hub.notifier.acknowledge(id, by="user:bob")
        assert account.acknowledged_by == "user:bob"
        await hub.closed(id)
    assert sms.sent == []


async def test_who_notices_before_anybody_is_told_spares_them(tmp_path: Path) -> None:
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.3\n'
    async with desk(tmp_path, config) as hub:
        noticed, other = await hub.raise_event("noticed"), ""
        await hub.taken()
        assert (await hub.notifier.acknowledge(noticed, by="user:bob")).acknowledged_by == "user:bob"
        await hub.closed(noticed)
        other = await hub.raise_event("other")
        await hub.closed(other)
        assert await hub.texts("user:alice") == ["other"]
        with pytest.raises(NotFound):
            await hub.notifier.acknowledge("never", by="user:bob")


async def test_an_event_whose_messages_all_failed_can_be_acknowledged(tmp_path: Path) -> None:
    config = '[[route]]\nname = "r"\nto = ["group:gone"]\nrepeat_s = 600.0\n'
    async with desk(tmp_path, config) as hub:
        id = await hub.raise_event()
        await hub.account(id, lambda account: account.notices)
        await hub.notifier.acknowledge(id, by="user:bob")
        assert (await hub.closed(id)).acknowledged_by == "user:bob"


async def test_who_waits_for_an_acknowledgement_is_woken_by_it(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        id = await hub.raise_event()
        (letter,) = await hub.has_mail("user:alice")
        with anyio.fail_after(5.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: hub.mailbox.report(letter, "acknowledged", by="user:alice"))
                account = await hub.notifier.wait_acknowledged(id, 60.0)
        assert account.acknowledged_by == "user:alice"


async def test_an_acknowledgement_on_one_route_stops_the_other(tmp_path: Path) -> None:
    routes = """
[[route]]
name = "mail"
to = ["user:alice"]
goes_on = true
[[route]]
name = "robot"
to = ["channel:c/t"]
then = [{ after_s = 0.4, to = ["channel:sms/1"] }]
"""
    sms = ScriptedChannel()
    async with desk(tmp_path, routes, c=ScriptedChannel(), sms=sms) as hub:
        id = await hub.raise_event()
        (letter,) = await hub.has_mail("user:alice")
        await hub.mailbox.report(letter, "acknowledged", by="user:alice")
        await hub.closed(id)
    assert sms.sent == []


async def test_it_is_said_again_until_somebody_acknowledges(tmp_path: Path) -> None:
    async with desk(tmp_path, '[[route]]\nname = "r"\nto = ["user:alice"]\nrepeat_s = 1.0\n') as hub:
        id = await hub.raise_event()
        letters = await hub.has_mail("user:alice", 2)
        await hub.mailbox.report(letters[1], "acknowledged", by="user:alice")
        account = await hub.closed(id)
    assert [one.notice.number for one in account.notices] == [0, 1]
    assert len({letter.id for letter in letters}) == 2


async def test_what_expires_is_told_no_further(tmp_path: Path, clock: Clock) -> None:
    sms = ScriptedChannel()
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\nthen = [{ after_s = 600, to = ["channel:sms/1"] }]\n'
    async with desk(tmp_path, config, sms=sms) as hub:
        id = await hub.raise_event(expires_at=clock.now_ms() + 60_000)
        await hub.has_mail("user:alice")
        clock.pass_s(601)
        await hub.closed(id)
        with pytest.raises(InvalidField, match="in the past"):
            await hub.raise_event(expires_at=1)
    assert sms.sent == []


# --- alerts ---

ALERTS = '[[route]]\nname = "r"\nto = ["user:alice"]\nthen = [{ after_s = 500, to = ["user:boss"] }]\n'


async def test_an_alert_that_is_over_is_told_to_those_who_heard_of_it(tmp_path: Path) -> None:
    async with desk(tmp_path, ALERTS) as hub:
        alert: dict[str, Any] = {"kind": "alert", "labels": {"press": "7"}}
        first = await hub.raise_event(**alert)
        await hub.has_mail("user:alice")
        over = await hub.raise_event("It runs again.", state="resolved", **alert)
        await hub.closed(over)
        await hub.closed(first)
        letters = await hub.mail("user:alice")
        assert [letter.labels["state"] for letter in letters] == ["firing", "resolved"]
        assert await hub.texts("user:alice") == ["The press is down.", "[已恢复 / resolved]\nIt runs again."]
        assert await hub.mail("user:boss") == []
        await hub.closed(await hub.raise_event("Once more.", state="resolved", **alert))
        assert len(await hub.mail("user:alice")) == 2


async def test_an_alert_that_goes_on_firing_is_not_told_again(tmp_path: Path) -> None:
    async with desk(tmp_path, ALERTS) as hub:
        for _ in range(5):
            await hub.raise_event(kind="alert", labels={"press": "7"})
        await hub.has_mail("user:alice")
        other = await hub.raise_event("Press 8", kind="alert", labels={"press": "8"})
        await hub.account(other, lambda account: account.notices)
        assert await hub.texts("user:alice") == ["The press is down.", "Press 8"]


async def test_a_fire_is_no_repeat_of_a_flood(tmp_path: Path) -> None:
    """Alerts without labels are told apart by their titles, or by their texts; an end that names none is for all."""
    async with desk(tmp_path, ALERTS) as hub:
        flood, fire, again, gas = [
            await hub.raise_event(text, kind="alert", title=title)
            for text, title in (("Flood", ""), ("Fire", ""), ("Fire", ""), ("61 ppm", "Gas"))
        ]
        worse = await hub.raise_event("75 ppm", kind="alert", title="Gas")
        await hub.has_mail("user:alice", 3)
        await hub.taken()
        assert sorted(await hub.texts("user:alice")) == ["Fire", "Flood", "Gas\n61 ppm"]
        accounts = [await hub.notifier.account(id) for id in (flood, fire, again, gas, worse)]
        assert [account.repeats for account in accounts] == ["", "", fire, "", gas]
        assert hub.notifier.counts == {("alert", "told"): 3, ("alert", "repeated"): 2}
        await hub.raise_event("All is well", kind="alert", state="resolved")
        await hub.account(flood, lambda account: not account.is_open)
        await hub.account(worse, lambda account: not account.is_open)
        assert (await hub.account(again, lambda account: not account.is_open)).notices


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_the_end_of_a_flood_leaves_the_fire_alone(tmp_path: Path, is_restarted: bool) -> None:
    alarm: dict[str, Any] = {"kind": "alert", "title": "Flood"}
    async with desk(tmp_path, ALERTS) as hub:
        flood = await hub.raise_event("Water", **alarm)
        fire = await hub.raise_event("Smoke", kind="alert", title="Fire")
        await hub.has_mail("user:alice", 2)
        if not is_restarted:
            await hub.closed(await hub.raise_event("Dry", state="resolved", **alarm))
    async with desk(tmp_path, ALERTS) as hub:
        if is_restarted:
            await hub.closed(await hub.raise_event("Dry", state="resolved", **alarm))
        await hub.closed(flood)
        assert (await hub.notifier.account(fire)).is_open
        for _ in range(2):  # those who heard of the fire hear its end, once, though the flood's came first
            await hub.closed(await hub.raise_event("Put out", kind="alert", title="Fire", state="resolved"))
        await hub.closed(fire)
        ends = [letter.labels["title"] for letter in await hub.mail("user:alice") if letter.labels["state"] != "firing"]
    assert ends == ["Flood", "Fire"]


async def test_the_end_of_a_fire_that_somebody_noticed_leaves_the_flood_alone(tmp_path: Path) -> None:
    async with desk(tmp_path, ALERTS) as hub:
        flood = await hub.raise_event("Flood", kind="alert")
        fire = await hub.raise_event("Fire", kind="alert")
        await hub.has_mail("user:alice", 2)
        await hub.notifier.acknowledge(fire, by="user:bob")
        await hub.closed(fire)
        await hub.closed(await hub.raise_event("Fire", kind="alert", state="resolved"))
        assert (await hub.notifier.account(flood)).is_open
        await hub.closed(await hub.raise_event("All is well", kind="alert", state="resolved"))
        await hub.closed(flood)
        ends = (await hub.texts("user:alice"))[2:]
    assert ends == ["[已恢复 / resolved]\nFire", "[已恢复 / resolved]\nAll is well"]


async def test_a_fire_is_told_though_a_flood_ended_before_their_group_went_out(tmp_path: Path) -> None:
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.3\n'
    async with desk(tmp_path, config) as hub:
        for text, state in (("Flood", "firing"), ("Fire", "firing"), ("Flood", "resolved")):
            await hub.raise_event(text, kind="alert", state=state)
        await hub.taken()
        (letter,) = await hub.has_mail("user:alice")
        assert text_of(letter.content) == "Fire"


async def test_who_repeats_an_alert_learns_what_became_of_it(tmp_path: Path) -> None:
    async with desk(tmp_path, ALERTS) as hub:
        alarm: dict[str, Any] = {"kind": "alert", "labels": {"press": "7"}}
        first = await hub.raise_event("61 bar", **alarm)
        (notice,) = await hub.has_mail("user:alice")
        again = await hub.raise_event("62 bar", **alarm)
        account = await hub.account(again, lambda account: account.repeats)
        assert (account.repeats, account.is_open) == (first, True)
        assert [one.notice.message for one in account.notices] == [notice.id]
        (newest, _) = await hub.notifier.recent(2)
        assert (newest.event.id, newest.told, newest.is_open) == (again, ("user:alice",), True)
        noticed: list[str] = []

        async def wait() -> None:
            noticed.append((await hub.notifier.wait_acknowledged(again, 30.0)).acknowledged_by)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await hub.mailbox.report(notice, "acknowledged", by="user:alice")
        assert noticed == ["user:alice"]


async def test_who_acknowledges_a_repeat_acknowledges_the_alert(tmp_path: Path) -> None:
    async with desk(tmp_path, ALERTS) as hub:
        alarm: dict[str, Any] = {"kind": "alert", "labels": {"press": "7"}}
        first = await hub.raise_event("61 bar", **alarm)
        await hub.has_mail("user:alice")
        again = await hub.raise_event("62 bar", **alarm)
        await hub.account(again, lambda account: account.repeats)
        await hub.notifier.acknowledge(again, by="user:bob")
        assert (await hub.closed(first)).acknowledged_by == "user:bob"


async def test_who_acknowledges_a_repeat_of_a_repeat_acknowledges_the_alert_on_all_routes(tmp_path: Path) -> None:
    """Of three alike, the first went by one route, the second by another one besides, the third by none."""
    then = 'then = [{ after_s = 500, to = ["user:boss"] }]\n'
    config = f"""
[[route]]
name = "urgent"
to = ["user:alice"]
match = {{ min_priority = 7 }}
goes_on = true
{then}
[[route]]
name = "all"
to = ["user:bob"]
{then}
"""
    async with desk(tmp_path, config) as hub:
        ids = []
        for priority, told in ((5, "user:bob"), (8, "user:alice"), (8, "user:alice")):
            ids.append(await hub.raise_event(priority=priority, kind="alert", labels={"press": "7"}))
            await hub.has_mail(told)
        account = await hub.account(ids[2], lambda account: account.repeats)
        assert (account.repeats, {one.notice.to for one in account.notices}) == (ids[1], {"user:alice", "user:bob"})
        await hub.notifier.acknowledge(ids[2], by="user:carol")
        for id in ids:
            assert (await hub.closed(id)).acknowledged_by == "user:carol"


async def test_who_acknowledges_what_repeats_two_alerts_acknowledges_both(tmp_path: Path) -> None:
    then = 'then = [{ after_s = 500, to = ["user:boss"] }]\n'
    config = f"""
[[route]]
name = "named"
to = ["user:alice"]
match = {{ addressees = ["user:*"] }}
goes_on = true
{then}
[[route]]
name = "urgent"
to = ["user:bob"]
match = {{ min_priority = 7 }}
{then}
"""
    async with desk(tmp_path, config) as hub:
        press: dict[str, Any] = {"kind": "alert", "labels": {"press": "7"}}
        ids = [
            await hub.raise_event(to="user:alice", priority=5, **press), await hub.raise_event(priority=8, **press)
        ]  # fmt: skip
        await hub.has_mail("user:alice")
        await hub.has_mail("user:bob")
        ids.append(await hub.raise_event(to="user:alice", priority=8, **press))
        account = await hub.account(ids[2], lambda account: account.repeats)
        assert {one.notice.to for one in account.notices} == {"user:alice", "user:bob"}
        await hub.notifier.acknowledge(ids[2], by="user:carol")
        for id in ids:
            assert (await hub.closed(id)).acknowledged_by == "user:carol"


async def test_while_one_alert_fires_others_are_mute(tmp_path: Path) -> None:
    config = """
[[route]]
name = "r"
to = ["user:alice"]
[[inhibit]]
name = "power"
while = { labels = { what = "power" } }
mute = { labels = { what = "press" } }
equal = ["hall"]
"""
    async with desk(tmp_path, config) as hub:
        power = {"kind": "alert", "labels": {"what": "power", "hall": "1"}}
        await hub.closed(await hub.raise_event("No power", **power))
        await hub.closed(await hub.raise_event("Press", kind="alert", labels={"what": "press", "hall": "1"}))
        await hub.closed(await hub.raise_event("Press in hall 2", kind="alert", labels={"what": "press", "hall": "2"}))
        await hub.closed(await hub.raise_event("Power", state="resolved", **power))
        await hub.closed(await hub.raise_event("Press again", kind="alert", labels={"what": "press", "hall": "1"}))
        texts = await hub.texts("user:alice")
    assert texts == ["No power", "Press in hall 2", "[已恢复 / resolved]\nPower", "Press again"]


async def test_while_the_fire_goes_on_others_are_mute_though_the_flood_is_over(tmp_path: Path) -> None:
    config = """
[[route]]
name = "r"
to = ["user:alice"]
[[inhibit]]
name = "grave"
while = { min_priority = 8 }
mute = { labels = { what = "press" } }
"""
    async with desk(tmp_path, config) as hub:
        for text in ("Fire", "Flood"):
            await hub.closed(await hub.raise_event(text, kind="alert", priority=8))
        await hub.closed(await hub.raise_event("Flood", kind="alert", state="resolved"))
        muted = Event(content="Press", from_="device:a", kind="alert", labels={"what": "press"})
        assert hub.notifier.decide(muted).inhibited_by == "grave"
        await hub.closed(await hub.raise_event("All is well", kind="alert", state="resolved"))
        assert hub.notifier.decide(muted).inhibited_by == ""


async def test_a_silence_is_silent_until_it_ends(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        new = NewSilence(labels={"line": "3"}, until=now_ms() + 60_000, comment="maintenance")
        silence = await hub.notifier.silences.add(new, by="user:bob")
        await hub.closed(await hub.raise_event("quiet", labels={"line": "3"}))
        await hub.closed(await hub.raise_event("loud", labels={"line": "4"}))
        event = Event(content="x", labels={"line": "3"}, from_="device:a")
        assert hub.notifier.decide(event).silenced_by == silence.id
        await hub.notifier.silences.end(silence.id)
        await hub.closed(await hub.raise_event("again", labels={"line": "3"}))
        assert await hub.texts("user:alice") == ["loud", "again"]


@pytest.mark.parametrize("new", [NewSilence(until=1, labels={"a": "b"}), NewSilence(until=2**52)])
async def test_a_silence_of_nothing_or_of_everything_is_refused(tmp_path: Path, new: NewSilence) -> None:
    async with desk(tmp_path, "") as hub:
        with pytest.raises(InvalidField):
            await hub.notifier.silences.add(new, by="user:bob")


# --- groups and people ---


async def test_events_of_a_group_go_in_one_message(tmp_path: Path) -> None:
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_by = ["line"]\ngroup_wait_s = 0.5\n'
    async with desk(tmp_path, config) as hub:
        ids = [await hub.raise_event(f"e{number}", labels={"line": str(number % 2)}) for number in range(6)]
        for id in ids:
            await hub.closed(id)
        texts = await hub.texts("user:alice")
        accounts = [await hub.notifier.account(id) for id in ids]
    assert sorted(texts) == [
        "[3 个事件 / 3 events]\n- e0\n- e2\n- e4",
        "[3 个事件 / 3 events]\n- e1\n- e3\n- e5",
    ]
    assert {len(account.notices) for account in accounts} == {1}


async def test_people_are_reached_as_they_wish(tmp_path: Path) -> None:
    config = """
[[route]]
name = "r"
to = ["group:ops"]
template = "{{ language }}: {{ event.content }}"
[[person]]
address = "user:alice"
language = "en"
reach = [{ by = "channel:c/alice" }, { by = "channel:sms/1", from_priority = 8 }]
mutes = [{ labels = { noise = "*?" } }]
[[person]]
address = "user:bob"
reach = [{ by = "channel:c/bob" }]
quiet = { from = "00:00", to = "00:00", from_priority = 8 }
"""
    chat, sms = ScriptedChannel(), ScriptedChannel()
    async with desk(tmp_path, config, c=chat, sms=sms) as hub:
        await hub.groups.put("ops", ["user:alice", "user:bob"])
        await hub.closed(await hub.raise_event("calm", priority=5))
        await hub.closed(await hub.raise_event("urgent", priority=9))
        await hub.has_mail("user:bob", 2)
        await until(lambda: len(chat.sent) + len(sms.sent) == 4)
        assert await hub.texts("user:alice") == ["zh: calm", "zh: urgent"]
    assert sorted((target, text) for target, text, _ in chat.sent) == [
        ("alice", "en: calm"), ("alice", "en: urgent"), ("bob", "zh: urgent"),
    ]  # fmt: skip
    assert [(target, text) for target, text, _ in sms.sent] == [("1", "en: urgent")]


async def test_a_bad_template_and_a_bad_address_keep_no_alarm_back(tmp_path: Path) -> None:
    config = """
[[route]]
name = "r"
to = ["group:gone", "user:alice"]
template = "{{ event.labels.line }}"
"""
    async with desk(tmp_path, config) as hub:
        account = await hub.closed(await hub.raise_event())
        (text,) = await hub.texts("user:alice")
        (summary,) = await hub.notifier.recent(10)
        found = dict(hub.notifier.addresses(hub.notifier.route("r"), account.event))
    assert text.startswith("The press is down.\n\n[template: the template fails:")
    assert "group:gone" in account.notices[0].notice.error
    assert summary.told == ("user:alice",)
    assert "no such group; 'autoglm groups set gone MEMBER...' makes it" in found["group:gone"]


# --- restarts ---


async def test_after_a_restart_it_goes_on_and_tells_nobody_twice(tmp_path: Path) -> None:
    config = ESCALATES.format(first=1.0, unless="acknowledged")
    robot, sms = ScriptedChannel(), ScriptedChannel()
    async with desk(tmp_path, config, c=robot, sms=sms) as hub:
        id = await hub.raise_event()
        await hub.account(id, lambda account: account.notices and account.notices[0].steps)
    async with desk(tmp_path, config, c=robot, sms=sms) as hub:
        await hub.account(id, lambda account: len(account.notices) == 2 and account.notices[1].steps)
    assert len(robot.sent) == 1
    assert [target for target, _, _ in sms.sent] == ["1"]


async def test_a_group_goes_on_as_it_was_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its events cannot be read at first."""
    monkeypatch.setattr("autoglm.channels.routes.cases.FULL_DISK_S", 0.02)
    config = (
        '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.2\n'
        'then = [{ after_s = 0.8, to = ["user:boss"] }]\n'
    )
    async with desk(tmp_path, config) as hub:
        ids = [await hub.raise_event(f"e{number}") for number in range(3)]
        await hub.has_mail("user:alice")
    async with desk(tmp_path, config) as hub:
        get, failures = hub.store.log.get, 0

        async def broken(id: str) -> Any:
            nonlocal failures
            if id == f"event {ids[2]}" and failures < 2:
                failures += 1
                raise StorageFull("data")
            return await get(id)

        monkeypatch.setattr(hub.store.log, "get", broken)
        for id in ids:
            await hub.closed(id)
        assert failures == 2
        assert await hub.texts("user:boss") == ["[3 个事件 / 3 events]\n- e0\n- e1\n- e2"]
        assert len(await hub.mail("user:alice")) == 1


async def test_events_that_came_before_a_kill_are_told_after_it(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:  # nobody runs
        await Desk(store, "", {}).raise_event("while it was down", id="e")
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        await hub.closed("e")
        assert await hub.texts("user:alice") == ["while it was down"]


async def test_a_restart_does_not_put_off_what_follows(tmp_path: Path) -> None:
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\nthen = [{ after_s = 5.0, to = ["user:boss"] }]\n'
    async with desk(tmp_path, config) as hub:
        await hub.raise_event()
        (told,) = await hub.has_mail("user:alice")
        await until(lambda: now_ms() - told.timestamp >= 3_000)  # most of the time to the next step is over
    async with desk(tmp_path, config) as hub:
        (followed,) = await hub.has_mail("user:boss")
        assert followed.timestamp - told.timestamp < 8_000
        assert len(await hub.mail("user:alice")) == 1


async def test_repetitions_go_on_where_they_were_after_a_restart(tmp_path: Path) -> None:
    config = (
        '[[route]]\nname = "r"\nto = ["user:alice"]\nrepeat_s = 1.0\nthen = [{ after_s = 0.1, to = ["user:boss"] }]\n'
    )
    async with desk(tmp_path, config) as hub:
        await hub.raise_event()
        await hub.has_mail("user:boss", 3)
    async with desk(tmp_path, config) as hub:
        letters = await hub.has_mail("user:boss", 4)
    assert letters[3].timestamp - letters[0].timestamp < 4_500


async def test_an_alert_of_a_group_that_is_over_ends_nothing_for_the_others(tmp_path: Path) -> None:
    config = (
        '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.2\n'
        'then = [{ after_s = 1.5, to = ["user:boss"] }]\n'
    )
    async with desk(tmp_path, config) as hub:
        for press in "12":
            await hub.raise_event(f"press {press}", kind="alert", labels={"press": press})
        await hub.has_mail("user:alice")
        await hub.closed(await hub.raise_event("over", kind="alert", state="resolved", labels={"press": "1"}))
        await hub.has_mail("user:boss")


async def test_an_alert_that_is_over_before_its_group_is_told_is_not_told(tmp_path: Path) -> None:
    config = (
        '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.5\n'
        'then = [{ after_s = 1.0, to = ["user:boss"] }]\n'
    )
    async with desk(tmp_path, config) as hub:
        first = await hub.raise_event("down", kind="alert", labels={"press": "1"})
        other = await hub.raise_event("other", kind="alert", labels={"press": "2"})
        await hub.closed(await hub.raise_event("over", kind="alert", state="resolved", labels={"press": "1"}))
        await hub.has_mail("user:alice")
        assert await hub.texts("user:alice") == ["other"]
        await hub.closed(first)
        await hub.closed(other)
        assert await hub.texts("user:boss") == ["other"]


async def test_who_heard_of_an_alert_hears_its_end_whatever_the_route_asks_for(tmp_path: Path) -> None:
    async with desk(tmp_path, ALERTS + "match = { min_priority = 7 }\n") as hub:
        first = await hub.raise_event(kind="alert", labels={"press": "7"}, priority=9)
        await hub.has_mail("user:alice")
        await hub.closed(await hub.raise_event("It runs.", kind="alert", labels={"press": "7"}, state="resolved"))
        await hub.closed(first)
        assert len(await hub.mail("user:alice")) == 2


async def test_a_resolution_before_a_kill_ends_the_case_after_it(tmp_path: Path) -> None:
    config = (
        '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.2\n'
        'then = [{ after_s = 1.5, to = ["user:boss"] }]\n'
    )
    async with desk(tmp_path, config) as hub:
        first = await hub.raise_event("down", kind="alert", labels={"press": "1"})
        await hub.has_mail("user:alice")
    async with open_store(tmp_path, StoreSettings()) as store:  # nobody runs
        id = await Desk(store, "", {}).raise_event("over", kind="alert", state="resolved", labels={"press": "1"})
    async with desk(tmp_path, config) as hub:
        await hub.closed(id)
        await hub.closed(first)  # by the resolution, or by the step that must not come
        assert await hub.texts("user:boss") == []
        assert len(await hub.mail("user:alice")) == 2


async def test_an_event_that_retention_took_stops_nobody(tmp_path: Path) -> None:
    config = (
        '[[route]]\nname = "r"\nto = ["user:alice"]\ngroup_wait_s = 0.2\n'
        'then = [{ after_s = 1.5, to = ["user:boss"] }]\n'
    )
    async with desk(tmp_path, config) as hub:
        ids = [await hub.raise_event(f"e{number}") for number in range(3)]
        await hub.has_mail("user:alice")
    async with desk(tmp_path, config) as hub:
        get = hub.notifier.get

        async def gone(id: str) -> Event:
            if id == ids[1]:
                raise NotFound("event", id)
            return await get(id)

        hub.notifier.get = gone  # type: ignore[method-assign]
        await hub.has_mail("user:boss")


async def test_a_template_that_fails_in_any_way_keeps_no_alarm_back(tmp_path: Path) -> None:
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\ntemplate = "{{ count|wordwrap(3) }}"\n'
    async with desk(tmp_path, config) as hub:
        await hub.closed(await hub.raise_event())
        (text,) = await hub.texts("user:alice")
    assert text.startswith("The press is down.")


async def test_a_wait_goes_on_while_somebody_may_still_notice(tmp_path: Path) -> None:
    async with desk(tmp_path, '[[route]]\nname = "r"\nto = ["user:alice"]\n') as hub:
        id = await hub.raise_event()
        (letter,) = await hub.has_mail("user:alice")
        await hub.closed(id)
        early = await hub.notifier.wait_acknowledged(id, 0.1)
        assert (early.acknowledged_by, early.is_open, early.is_over) == ("", False, False)
        with anyio.fail_after(5.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: hub.mailbox.report(letter, "acknowledged", by="user:alice"))
                account = await hub.notifier.wait_acknowledged(id, 60.0)
        assert account.acknowledged_by == "user:alice"


async def test_a_wait_ends_when_nobody_can_notice_any_more(tmp_path: Path) -> None:
    robot = ScriptedChannel()
    robot.answers.append(NEVER)
    async with desk(tmp_path, '[[route]]\nname = "r"\nto = ["channel:c/t"]\n', c=robot) as hub:
        with anyio.fail_after(5.0):
            account = await hub.notifier.wait_acknowledged(await hub.raise_event(), 60.0)
        assert account.is_over


async def test_inhibition_outlives_a_restart(tmp_path: Path) -> None:
    config = """
[[route]]
name = "r"
to = ["user:alice"]
[[inhibit]]
name = "power"
while = { labels = { what = "power" } }
mute = { labels = { what = "press" } }
"""
    async with desk(tmp_path, config) as hub:
        await hub.closed(await hub.raise_event("No power", kind="alert", labels={"what": "power"}))
    async with desk(tmp_path, config) as hub:
        await hub.closed(await hub.raise_event("Press", kind="alert", labels={"what": "press"}))
        assert await hub.texts("user:alice") == ["No power"]


async def test_a_flood_of_events_waits_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.channels.routes.backlog.MAX_STARTING", 3)
    async with desk(tmp_path, ALERTS) as hub:
        most = 0
        cases = hub.notifier._cases
        run = cases._run

        async def watched(*args):  # type: ignore[no-untyped-def]
            nonlocal most
            most = max(most, cases.starting)
            await run(*args)

        monkeypatch.setattr(cases, "_run", watched)
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(hub.raise_event, f"{number}")
        assert {text_of(one.content) for one in await hub.has_mail("user:alice", 40)} == {
            f"{number}" for number in range(40)
        }
        await hub.taken()
        assert (1 <= most <= 3, cases.starting) == (True, 0)


async def test_with_too_many_open_ends_of_alerts_and_urgent_events_are_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.channels.routes.backlog.MAX_CASES", 2)
    async with desk(tmp_path, ALERTS) as hub:
        for press in "12":
            await hub.raise_event(press, kind="alert", labels={"press": press})
        await hub.has_mail("user:alice", 2)
        for press, state in (("3", "firing"), ("4", "firing"), ("4", "resolved")):
            await hub.raise_event(press, kind="alert", labels={"press": press}, state=state)
        await hub.raise_event("fire", priority=9)
        await hub.has_mail("user:alice", 3)
        first, second, urgent = await hub.texts("user:alice")
        assert ({first, second}, urgent) == ({"1", "2"}, "fire")
        for press in "12":
            await hub.raise_event(f"{press} over", kind="alert", labels={"press": press}, state="resolved")
        await hub.has_mail("user:alice", 5)
        fire = (await hub.mail("user:alice"))[2]
        await hub.mailbox.report(fire, "acknowledged", by="user:alice")
        await hub.taken()
        await hub.has_mail("user:alice", 6)
        texts = await hub.texts("user:alice")
    assert ("3" in texts, "4" in texts) == (True, False)


async def test_a_fire_behind_a_flood_of_events_is_told_though_another_alert_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.channels.routes.backlog.MAX_CASES", 1)
    async with desk(tmp_path, ALERTS) as hub:
        await hub.raise_event("1", kind="alert", labels={"press": "1"})
        await hub.has_mail("user:alice")
        for text, state in (("Leak", "firing"), ("Fire", "firing"), ("Leak", "resolved")):
            await hub.raise_event(text, kind="alert", state=state)
        await hub.raise_event("1 over", kind="alert", labels={"press": "1"}, state="resolved")
        await hub.taken()
        await hub.has_mail("user:alice", 3)
        assert sorted(await hub.texts("user:alice")) == ["1", "Fire", "[已恢复 / resolved]\n1 over"]
        assert hub.notifier.counts["alert", "over"] == 1


def test_an_end_that_was_cut_off_goes_to_those_who_have_not_heard_it() -> None:
    """An end by words is of these; one without is of all."""

    def told(to: str, *words: str, resolved: bool = False) -> Notice:
        return Notice(message="m", to=to, route="r", step=0, number=0, events=("e",), time=1, words=words,
                      resolved=resolved)  # fmt: skip

    both = [told(to, word) for word in ("flood", "fire") for to in ("user:a", "user:b")]
    cut_off = [*both, told("user:a", "flood", resolved=True)]
    assert [hearers(cut_off, words) for words in ("flood", "fire", "")] == [
        ["user:b"], ["user:a", "user:b"], ["user:a", "user:b"],
    ]  # fmt: skip
    assert hearers([*cut_off, told("user:b", resolved=True)], "") == ["user:a"]


async def test_nobody_takes_the_place_of_a_notice(tmp_path: Path) -> None:
    """Its id follows from the event's, which may be known before it comes."""
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        await hub.raise_event(id="alarm-1")
        (notice,) = await hub.has_mail("user:alice")
        forged = msgspec.structs.replace(notice, id="notice-" + "0" * 32, to="user:mallory")
        with pytest.raises(InvalidField, match="own"):
            await hub.mailbox.send(forged, sender="user:mallory")


async def test_a_repeat_of_an_event_that_has_expired_meanwhile_is_a_repeat(tmp_path: Path, clock: Clock) -> None:
    async with desk(tmp_path, "") as hub:
        expires_at = clock.now_ms() + 60_000
        await hub.raise_event(id="e", expires_at=expires_at)
        clock.pass_s(61)
        await hub.raise_event(id="e", expires_at=expires_at)
        with pytest.raises(InvalidField, match="in the past"):
            await hub.raise_event("another", id="e", expires_at=expires_at)


@pytest.mark.parametrize("subject", ["events", "events-of:", "notices:", "receipts:", "alert:"])
async def test_a_log_that_cannot_be_read_for_a_while_delays_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    monkeypatch.setattr("autoglm.channels.routes.cases.FULL_DISK_S", 0.02)
    monkeypatch.setattr("autoglm.channels.routes.backlog.FULL_DISK_S", 0.02)
    config = '[[route]]\nname = "r"\nto = ["user:alice"]\nthen = [{ after_s = 0.05, to = ["user:boss"] }]\n'
    async with desk(tmp_path, config) as hub:
        await hub.closed(await hub.raise_event("Press 6"))
        reads = 0

        def broken(operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def broken_one(*wanted: str, **kwargs: Any) -> Any:
                nonlocal reads
                if any(one.partition(":")[0] == subject.rstrip(":") for one in wanted):
                    reads += 1
                    if reads % 3:
                        raise StorageFull("data")
                return await operation(*wanted, **kwargs)

            return broken_one

        for name in ("read", "read_last", "next"):
            monkeypatch.setattr(hub.store.log, name, broken(getattr(hub.store.log, name)))
        await hub.raise_event("Press 7", kind="alert")
        await hub.has_mail("user:boss", 2)
        await hub.raise_event("Press 7 is back", kind="alert", state="resolved")
        await hub.has_mail("user:boss", 3)
        monkeypatch.undo()
        texts = [text.splitlines()[-1] for text in await hub.texts("user:alice")]
    assert texts == ["Press 6", "Press 7", "Press 7 is back"]
    assert reads > 2
