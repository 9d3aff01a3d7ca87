"""What comes in: known senders only, joined to what it answers, once."""

from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from autoglm.channels.channel import Limits
from autoglm.channels.delivery import Delivery, Words, accepted, delivered, permanent
from autoglm.channels.intake import Intake, is_agreement
from autoglm.channels.questions import NewQuestion, Questions
from autoglm.channels.tickets import ticket_record
from autoglm.core.envelope import Envelope, text_of
from autoglm.core.errors import StorageFull, UnknownRecipient
from channels.doorman import Doorman
from channels.outbox.office import robot, settings
from channels.routes.desk import Desk, desk
from channels.scripted_channel import ScriptedChannel
from eventually import until

OPS = '[[route]]\nname = "ops"\nto = ["channel:c/bob"]\n'


def intake(hub: Desk, *senders: str, door: Doorman | None = None) -> Intake:
    own = settings("c", senders=senders or ("bob",), incoming_to="user:desk")
    outbox = hub.outbox
    return Intake(
        own, hub.mailbox, hub.notifier, hub.store.log,
        door=door or Doorman(), dead=outbox.dead_letters, early=outbox.early_reports,
    )  # fmt: skip


def letter(text: str = "hello", **fields: object) -> Envelope:
    known: dict[str, object] = {"id": "in-1", "from_": "channel:c/bob", "to": "user:desk", "content": text}
    return Envelope(**{**known, **fields})  # type: ignore[arg-type]  # as the adapters make it


async def told(hub: Desk) -> Envelope:
    await hub.raise_event()
    (notice,) = await hub.has_mail("channel:c/bob")
    return notice


@pytest.mark.parametrize(
    ("senders", "is_taken"), [(("bob",), True), (("b*",), True), (("*",), True), (("bo",), False), (("Bob",), False)]
)
async def test_only_known_senders_are_heard(tmp_path: Path, senders: tuple[str, ...], is_taken: bool) -> None:
    async with desk(tmp_path, "") as hub:
        inbox = intake(hub, *senders)
        with capture_logs() as logs:
            await inbox.take(letter())
        assert await hub.texts("user:desk") == (["hello"] if is_taken else [])
        assert inbox.refused == (not is_taken)
        assert [(line["event"], line.get("sender")) for line in logs] == (
            [] if is_taken else [("sender_refused", "bob")]
        )


async def test_who_may_not_send_is_refused_and_that_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        door = Doorman(send=False)
        inbox = intake(hub, door=door)
        with capture_logs() as logs:
            assert not await inbox.take(letter())
        assert await hub.texts("user:desk") == []
        assert (door.asked, inbox.counts["refused"]) == ([("send", "in-1", "user:desk")], 1)
        (line,) = logs
        assert (line["event"], line["sender"], line["envelope_id"], line["reason"]) == (
            "sender_refused", "bob", "in-1", "revoked",
        )  # fmt: skip


async def test_what_cannot_be_written_down_is_not_taken_and_comes_again(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        with pytest.raises(StorageFull):
            await intake(hub, door=Doorman(error=StorageFull("hub.db"))).take(letter())
        assert await hub.texts("user:desk") == []
        assert await intake(hub).take(letter())


async def test_who_may_only_acknowledge_ends_the_alarm_and_says_nothing(tmp_path: Path) -> None:
    """As under a policy that nobody renews: alarms go out still, and an "OK" by SMS has to stop them."""
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        door = Doorman(send=False)
        assert not await intake(hub, door=door).take(letter("on my way", reply_to=notice.id))
        assert (await hub.notifier.account(notice.labels["event"])).acknowledged_by == "channel:c/bob"
        assert await hub.mail("device:press-7") == []
        assert door.asked == [("send", "in-1", "device:press-7"), ("acknowledge", "in-1", "user:desk")]


async def test_who_may_do_neither_acknowledges_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        door = Doorman(send=False, acknowledge=False)
        assert not await intake(hub, door=door).take(letter("on my way", reply_to=notice.id))
        assert (await hub.notifier.account(notice.labels["event"])).acknowledged_by == ""


async def test_of_an_event_nobody_is_asked_about_whom_the_routes_name(tmp_path: Path) -> None:
    async with desk(tmp_path, '[[route]]\nname = "r"\nto = ["user:alice"]\n') as hub:
        door = Doorman()
        assert await intake(hub, door=door).take(letter("Disk full", kind="alert", to="model:auto"))
        assert door.asked == [("send", "in-1", "")]


async def test_the_same_message_is_taken_once_also_in_other_words(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        for text in ("hello", "hello", "hello!"):
            await intake(hub).take(letter(text))
        assert await hub.texts("user:desk") == ["hello"]


async def test_what_became_of_each_message_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise StorageFull("data")

    async with desk(tmp_path, "") as hub:
        inbox = intake(hub)
        await inbox.take(letter())
        await inbox.take(letter())
        await inbox.take(letter("hello!"))
        await inbox.take(letter(id="in-2", from_="channel:c/eve"))
        with pytest.raises(UnknownRecipient):
            await inbox.take(letter(id="in-3", to="group:none"))
        monkeypatch.setattr(hub.store.log, "append", full)
        monkeypatch.setattr(hub.store.log, "append_all", full)
        with pytest.raises(StorageFull):
            await inbox.take(letter(id="in-4"))
        assert inbox.counts == {"taken": 1, "duplicate": 2, "refused": 2, "failed": 1}


async def test_a_reply_acknowledges_and_goes_to_whoever_is_answered(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        await intake(hub).take(letter("on my way", reply_to=notice.id))
        (answer,) = await hub.mail("device:press-7")
        assert (text_of(answer.content), answer.reply_to) == ("on my way", notice.id)
        account = await hub.notifier.account(notice.labels["event"])
        assert account.acknowledged_by == "channel:c/bob"
        assert await hub.mail("user:desk") == []


async def test_a_reply_to_what_went_to_somebody_else_acknowledges_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        await intake(hub, "*").take(letter("ok", from_="channel:c/eve", reply_to=notice.id))
        assert (await hub.notifier.account(notice.labels["event"])).acknowledged_by == ""
        assert await hub.texts("user:desk") == ["ok"]


async def test_a_reply_to_somebody_elses_question_does_not_keep_that_one_from_answering(tmp_path: Path) -> None:
    """What is typed without naming a message is for the question that has no reply; anybody can name one by its id."""
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        questions = Questions(hub.store.log, hub.mailbox, hub.notifier.reach)
        new = NewQuestion(to="channel:c/bob", question="Stop press 7?", choices=["yes", "no"])
        id = (await questions.ask(new, sender="user:shift")).id
        await intake(hub, "*").take(letter("no", id="of-eve", from_="channel:c/eve", reply_to=id))
        assert (await questions.get(id)).answer is None
        await intake(hub, "*").take(letter("yes", id="of-bob"))
        answer = (await questions.get(id)).answer
        assert answer is not None
        assert (answer.choice, answer.by) == ("yes", "channel:c/bob")


async def test_one_of_a_party_may_answer_for_it(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS.replace("c/bob", "c/@party:2"), c=ScriptedChannel()) as hub:
        await hub.raise_event()
        (notice,) = await hub.has_mail("channel:c/@party:2")
        await intake(hub).take(letter("", reply_to=notice.id, labels={"action": "ack"}))
        assert (await hub.notifier.account(notice.labels["event"])).acknowledged_by == "channel:c/@party:2"


async def test_a_word_of_agreement_is_for_the_last_event_that_waits(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        await intake(hub).take(letter("压机怎么了？", id="in-1"))
        assert (await hub.notifier.account(notice.labels["event"])).acknowledged_by == ""
        await intake(hub).take(letter("收到！", id="in-2"))
        assert (await hub.notifier.account(notice.labels["event"])).acknowledged_by == "channel:c/bob"
        await intake(hub).take(letter("收到", id="in-3"))
        assert await hub.texts("user:desk") == ["压机怎么了？", "收到"]


@pytest.mark.parametrize(
    ("text", "agrees"), [("OK.", True), (" 好的。", True), ("Got it!", True), ("ok, but why?", False)]
)
def test_only_a_bare_confirmation_is_one(text: str, agrees: bool) -> None:
    assert is_agreement(text) is agrees


async def test_an_alert_that_comes_in_is_an_event(tmp_path: Path) -> None:
    async with desk(tmp_path, '[[route]]\nname = "r"\nto = ["user:alice"]\n') as hub:
        await intake(hub).take(letter("Disk full", kind="alert", labels={"host": "a"}))
        (notice,) = await hub.has_mail("user:alice")
        assert (notice.kind, notice.labels["host"], notice.from_) == ("alert", "a", "channel:c/bob")


async def test_a_vendors_receipt_finds_its_message(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        await hub.store.log.append(ticket_record("c", "vendor-1", notice.id))
        inbox = intake(hub)
        assert await inbox.message_of("vendor-1") == notice.id
        assert await inbox.message_of("vendor-2") is None
        await inbox.report("vendor-1", delivered())
        await inbox.report("vendor-2", delivered())
        bounced = permanent("550", Words("no such mailbox", "邮箱不存在"))
        await inbox.report("vendor-1", bounced)
        await inbox.report("vendor-1", bounced)
        steps = [(step.state, step.code) for step in (await hub.mailbox.receipts(*await hub.mailbox.get(notice.id)))]
        assert [step for step in steps if step[0] in ("delivered", "failed")] == [("delivered", ""), ("failed", "550")]
        assert [one.code for one in await hub.outbox.dead_letters.newest(10)] == ["550"]


async def test_a_bare_ok_that_comes_twice_acknowledges_one_event(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        ids = []
        for count, text in enumerate(("one", "two"), 1):
            ids.append(await hub.raise_event(text))
            await hub.has_mail("channel:c/bob", count)  # two at a time are told in any order
        for _ in range(2):
            await intake(hub).take(letter("OK"))
        accounts = [await hub.notifier.account(id) for id in ids]
    assert [account.acknowledged_by for account in accounts] == ["", "channel:c/bob"]


async def test_an_answer_to_one_who_takes_none_acknowledges_and_goes_where_others_go(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        id = await hub.raise_event(**{"from": "site:gone/user:x"})
        (notice,) = await hub.has_mail("channel:c/bob")
        await intake(hub).take(letter("on my way", reply_to=notice.id))
        assert (await hub.notifier.account(id)).acknowledged_by == "channel:c/bob"
        assert await hub.texts("user:desk") == ["on my way"]


async def test_a_failure_that_is_reported_again_makes_no_second_dead_letter(tmp_path: Path) -> None:
    async with desk(tmp_path, OPS, c=ScriptedChannel()) as hub:
        notice = await told(hub)
        await hub.store.log.append(ticket_record("c", "t-1", notice.id))
        never = permanent("4", Words("no such number", "空号"))
        await intake(hub).report("t-1", never)
        await hub.outbox.dead_letters.drop(notice.id)
        await intake(hub).report("t-1", never)
        assert await hub.outbox.dead_letters.newest(10) == []


async def in_two_parts(hub: Desk, channel: ScriptedChannel) -> str:
    """A message whose first part the vendor has taken, as t-1, and whose second one waits for its answer."""
    channel.gate = first = anyio.Event()
    channel.answers.extend([accepted("t-1"), accepted("t-2")])
    long = Envelope(id="long", from_="user:a", to="channel:c/bob", content="x" * 24)
    await hub.mailbox.send(long, sender="user:a")
    await until(lambda: len(channel.tried) == 1)
    channel.gate = anyio.Event()
    first.set()
    await until(lambda: len(channel.tried) == 2)
    return "long"


async def ended(hub: Desk, id: str) -> list[str]:
    """The steps of a message that went out."""
    await until(lambda: not hub.outbox.states())
    return [step.state for step in await hub.mailbox.receipts(*await hub.mailbox.get(id))]


async def test_a_message_in_parts_has_arrived_when_all_of_them_have(tmp_path: Path) -> None:
    channel = ScriptedChannel(piece_bytes=20)
    async with desk(tmp_path, "", c=channel) as hub:
        id = await in_two_parts(hub, channel)
        inbox = intake(hub)
        for _ in range(2):  # vendors say things twice
            await inbox.report("t-1", delivered())
        assert channel.gate is not None
        channel.gate.set()
        assert await ended(hub, id) == ["accepted", "sent"]
        await inbox.report("t-1", delivered())
        assert await ended(hub, id) == ["accepted", "sent"]
        await inbox.report("t-2", delivered())
        assert await ended(hub, id) == ["accepted", "sent", "delivered"]


async def test_a_report_that_comes_before_the_ticket_is_noted_counts_when_it_is(tmp_path: Path) -> None:
    """As of a gateway that calls the hook before it answers the request, and of a device that confirms at once."""
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    async with desk(tmp_path, "", c=channel) as hub:
        channel.answers.append(accepted("t-1"))
        await hub.mailbox.send(Envelope(id="m", from_="user:a", to="channel:c/bob", content="x"), sender="user:a")
        await until(lambda: channel.tried)
        await intake(hub).report("t-2", delivered())
        for outcome in ("delivered", "read"):
            await intake(hub).report("t-1", Delivery(outcome=outcome))
        channel.gate.set()
        assert await ended(hub, "m") == ["accepted", "sent", "delivered", "read"]


async def test_of_a_message_that_failed_in_part_no_further_part_goes_out(tmp_path: Path) -> None:
    """As after a restart: somebody may have sent it again by now."""
    channel = ScriptedChannel(Limits(windows=((1, 1.0),), parallel=1), piece_bytes=20)
    async with desk(tmp_path, "", c=channel) as hub:
        channel.answers.append(accepted("t-1"))
        long = Envelope(id="long", from_="user:a", to="channel:c/bob", content="x" * 24)
        await hub.mailbox.send(long, sender="user:a")
        assert await hub.store.log.next(*ticket_record("c", "t-1", "long").subjects, after=0, timeout_s=5.0)
        await intake(hub).report("t-1", permanent("4", Words("no such number", "空号")))
        assert await ended(hub, "long") == ["accepted", "failed"]
        assert len(channel.tried) == 1


@pytest.mark.parametrize("tickets", [("", "t-2"), ("t-1", ""), ("t-1", "t-1")])
async def test_a_message_a_part_of_which_has_no_ticket_of_its_own_is_not_said_to_have_arrived(
    tmp_path: Path, tickets: tuple[str, str]
) -> None:
    channel = ScriptedChannel(piece_bytes=20)
    async with desk(tmp_path, "", c=channel) as hub:
        channel.answers.extend(accepted(ticket) for ticket in tickets)
        long = Envelope(id="long", from_="user:a", to="channel:c/bob", content="x" * 24)
        await hub.mailbox.send(long, sender="user:a")
        await until(lambda: len(channel.sent) == 2)
        assert await ended(hub, "long") == ["accepted", "sent"]
        for ticket in filter(None, tickets):
            await intake(hub).report(ticket, delivered())
        assert await ended(hub, "long") == ["accepted", "sent"]


async def test_a_ticket_that_a_vendor_uses_again_is_the_newest_messages(tmp_path: Path) -> None:
    """A modem counts its messages to 255."""
    channel = ScriptedChannel()
    async with desk(tmp_path, "", c=channel) as hub:

        async def arrive(id: str) -> list[str]:
            channel.answers.append(accepted("7"))
            await hub.mailbox.send(Envelope(id=id, from_="user:a", to="channel:c/bob", content=id), sender="user:a")
            await until(lambda: id in channel.texts)
            await ended(hub, id)
            await intake(hub).report("7", delivered())
            return await ended(hub, id)

        for id in ("one", "two"):
            assert await arrive(id) == ["accepted", "sent", "delivered"]
        assert await intake(hub).message_of("7") == "two"


async def test_a_message_one_part_of_which_does_not_arrive_has_failed(tmp_path: Path) -> None:
    channel = ScriptedChannel(piece_bytes=20)
    async with desk(tmp_path, "", c=channel) as hub:
        id = await in_two_parts(hub, channel)
        await intake(hub).report("t-1", permanent("4", Words("no such number", "空号")))
        assert channel.gate is not None
        channel.gate.set()
        assert await ended(hub, id) == ["accepted", "failed"]
        await intake(hub).report("t-2", delivered())
        assert await ended(hub, id) == ["accepted", "failed"]
        assert [one.code for one in await hub.outbox.dead_letters.newest(10)] == ["4"]


async def digest_of_three(hub: Desk, channel: ScriptedChannel) -> list[Envelope]:
    """The notices of three events, which went out as one message; an event before them went by itself."""
    channel.gate = anyio.Event()
    await hub.raise_event("press 0 is hot")
    await until(lambda: channel.running)
    for number in (1, 2, 3):
        await hub.raise_event(f"press {number} is hot")
    notices = await hub.has_mail("channel:c/bob", 4)
    await until(lambda: hub.outbox.states()[0].waiting == 4)
    channel.gate.set()
    await until(lambda: len(channel.sent) == 2)
    assert channel.texts[1].startswith("[3 ")
    return notices[1:]


async def test_an_answer_to_a_digest_is_for_all_that_is_in_it(tmp_path: Path) -> None:
    channel = ScriptedChannel(robot(count=2, digest_bytes=2000))
    async with desk(tmp_path, OPS, c=channel) as hub:
        notices = await digest_of_three(hub, channel)
        await intake(hub).take(letter("收到", reply_to=notices[0].id))
        for notice in notices:
            account = await hub.notifier.account(notice.labels["event"])
            assert account.acknowledged_by == "channel:c/bob"


async def test_a_vendors_receipt_for_a_digest_is_for_all_that_is_in_it(tmp_path: Path) -> None:
    channel = ScriptedChannel(robot(count=2, digest_bytes=2000))
    channel.answers.extend([accepted(), accepted("vendor-9")])
    async with desk(tmp_path, OPS, c=channel) as hub:
        notices = await digest_of_three(hub, channel)
        inbox = intake(hub)
        await until(lambda: not hub.outbox.states())
        await inbox.report("vendor-9", permanent("550", Words("no such mailbox", "邮箱不存在")))
        assert {one.message.id for one in await hub.outbox.dead_letters.newest(10)} == {one.id for one in notices}


async def test_a_fallback_goes_by_what_the_vendor_reports_later(tmp_path: Path) -> None:
    """Of each event the second step follows in any case, so that it shows when the time of the first is over."""
    cases = {
        "a": ("delivered", "delivered"),
        "b": ("read", "delivered"),
        "c": ("delivered", "read"),
        "d": ("", "delivered"),
    }
    routes = "".join(
        f"""
[[route]]
name = "{name}"
match = {{ labels = {{ case = "{name}" }} }}
to = ["channel:c/{name}"]
then = [
  {{ after_s = 2.0, unless = "{unless}", to = ["channel:sms/first-{name}"] }},
  {{ after_s = 2.4, to = ["channel:sms/second-{name}"] }},
]
"""
        for name, (_, unless) in cases.items()
    )
    robot, sms = ScriptedChannel(Limits(parallel=1)), ScriptedChannel()
    async with desk(tmp_path, routes, c=robot, sms=sms) as hub:
        for name, (outcome, _) in cases.items():
            robot.answers.append(accepted(f"ticket-{name}"))
            id = await hub.raise_event(labels={"case": name})
            await hub.account(id, lambda account: account.notices and account.notices[0].steps)
            if outcome:
                await intake(hub).report(f"ticket-{name}", Delivery(outcome=outcome))  # type: ignore[arg-type]
        seconds = {f"second-{name}" for name in cases}
        await until(lambda: seconds <= {target for target, _, _ in sms.sent})
    assert {target for target, _, _ in sms.sent} - seconds == {"first-c", "first-d"}
