"""Questions to people on a real store: every way out, the first answer that counts, and why there is none."""

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from autoglm.channels.delivery import Words, permanent
from autoglm.channels.intake import Intake
from autoglm.channels.questions import NewQuestion, Question, Questions
from autoglm.core.envelope import Envelope, text_of
from autoglm.core.errors import DuplicateId, HubError, InvalidField, NotFound
from channels.clock import Clock
from channels.doorman import Doorman
from channels.outbox.office import settings
from channels.routes.desk import Desk, desk
from channels.scripted_channel import ScriptedChannel

ALICE = """
[[person]]
address = "user:alice"
[[person.reach]]
by = "channel:c/alice"
[[person.reach]]
by = "channel:d/alice"
from_priority = 8
"""


def questions(hub: Desk) -> Questions:
    return Questions(hub.store.log, hub.mailbox, hub.notifier.reach)


async def ask(hub: Desk, to: str = "user:alice", **fields: Any) -> str:
    new = msgspec.convert({"to": to, "question": "Stop press 7?", **fields}, NewQuestion)
    return (await questions(hub).ask(new, sender="user:shift")).id


async def reply(hub: Desk, to: str, text: str, *, by: str, **labels: str) -> None:
    await hub.mailbox.send(Envelope(to="user:shift", content=text, reply_to=to, labels=labels), sender=by)


async def answered(hub: Desk, id: str) -> Question:
    with anyio.fail_after(10.0):
        question = await questions(hub).wait(id, 60.0)
    assert question.state == "answered"
    return question


async def test_an_answer_wakes_whoever_waits(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        id = await ask(hub, choices=["yes", "no"])
        (message,) = await hub.mail("user:alice")
        assert text_of(message.content).splitlines()[:3] == ["Stop press 7?", "1. yes", "2. no"]
        assert (message.labels["question"], message.labels["choices"]) == (id, '["yes", "no"]')
        async with anyio.create_task_group() as tasks:
            found: list[Question] = []

            async def wait() -> None:
                found.append(await answered(hub, id))

            tasks.start_soon(wait)
            await hub.store.log.next("never", after=0, timeout_s=0.05)
            await reply(hub, id, "2", by="user:alice")
        answer = found[0].answer
        assert answer is not None
        assert (answer.text, answer.choice, answer.by) == ("2", "no", "user:alice")


async def test_a_person_is_asked_by_each_way_and_answers_by_one(tmp_path: Path) -> None:
    async with desk(tmp_path, ALICE, c=ScriptedChannel(), d=ScriptedChannel()) as hub:
        id = await ask(hub, priority=8)
        (by_c,) = await hub.has_mail("channel:c/alice")
        (by_d,) = await hub.has_mail("channel:d/alice")
        assert len({id, by_c.id, by_d.id}) == 3
        await reply(hub, by_d.id, "Yes, stop it.", by="channel:d/alice")
        question = await answered(hub, id)
        assert question.answer is not None
        assert (question.answer.by, question.answer.text) == ("channel:d/alice", "Yes, stop it.")
        assert [way.to for way in question.ways] == ["user:alice", "channel:c/alice", "channel:d/alice"]
        await ask(hub, priority=5)
        assert len(await hub.has_mail("channel:c/alice", 2)) == 2
        assert len(await hub.mail("channel:d/alice")) == 1, "not urgent enough for this way"


async def test_the_first_answer_stays(tmp_path: Path) -> None:
    async with desk(tmp_path, ALICE, c=ScriptedChannel(), d=ScriptedChannel()) as hub:
        id = await ask(hub)
        (by_c,) = await hub.has_mail("channel:c/alice")
        await reply(hub, by_c.id, "first", by="channel:c/alice")
        await reply(hub, id, "second", by="user:alice")
        answer = (await answered(hub, id)).answer
        assert answer is not None
        assert answer.text == "first"


@pytest.mark.parametrize("by", ["user:eve", "device:press-7", "channel:c/eve", "model:m"])
async def test_nobody_else_answers_for_the_person(tmp_path: Path, by: str) -> None:
    async with desk(tmp_path, ALICE, c=ScriptedChannel(), d=ScriptedChannel()) as hub:
        id = await ask(hub)
        await reply(hub, id, "yes", by=by)
        assert (await questions(hub).get(id)).answer is None


async def test_a_member_answers_for_the_group_and_one_of_a_party_for_it(tmp_path: Path) -> None:
    async with desk(tmp_path, "", c=ScriptedChannel()) as hub:
        await hub.groups.put("ops", ["user:bob"])
        group, party = await ask(hub, "group:ops"), await ask(hub, "channel:c/@party:2")
        await reply(hub, group, "not mine", by="user:eve")
        await reply(hub, group, "I go", by="user:bob")
        await reply(hub, party, "we go", by="channel:c/carol")
        answers = [(await answered(hub, id)).answer for id in (group, party)]
        assert [answer and (answer.text, answer.by) for answer in answers] == [
            ("I go", "user:bob"), ("we go", "channel:c/carol"),
        ]  # fmt: skip


async def test_a_button_means_its_own_answer_also_where_answers_are_numbers(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        id = await ask(hub, choices=["0", "1", "2"])
        await reply(hub, id, "0", by="user:alice", action="choice:1")
        answer = (await answered(hub, id)).answer
        assert answer is not None
        assert answer.choice == "0"


async def test_a_nod_is_no_choice_but_an_answer_where_none_is_offered(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        offered, plain = await ask(hub, choices=["yes", "no"]), await ask(hub)
        for id in (offered, plain):
            envelope, _ = await hub.mailbox.get(id)
            await reply(hub, id, f"ack:{id}", by="user:alice", action="ack")
            await hub.mailbox.report(envelope, "acknowledged", by="user:alice")
        noticed = await questions(hub).get(offered)
        assert (noticed.state, noticed.acknowledged_by, noticed.answer) == ("open", "user:alice", None)
        answer = (await answered(hub, plain)).answer
        assert answer is not None
        assert answer.text == "ack"


async def test_what_is_said_instead_of_a_choice_is_an_answer_without_one(tmp_path: Path) -> None:
    async with desk(tmp_path, "") as hub:
        id = await ask(hub, choices=["yes", "no"])
        await reply(hub, id, "Ask Bob.", by="user:alice")
        answer = (await answered(hub, id)).answer
        assert answer is not None
        assert (answer.text, answer.choice) == ("Ask Bob.", None)


async def test_a_question_that_reached_nobody_says_why(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.append(permanent("81013", Words("nobody of that name", "没有此人")))
    async with desk(tmp_path, "", c=channel) as hub:
        id = await ask(hub, "channel:c/alice")
        with anyio.fail_after(10.0):
            question = await questions(hub).wait(id, 60.0)
        assert (question.state, question.error) == ("failed", "channel:c/alice: nobody of that name")
        assert question.error_zh == "channel:c/alice：没有此人"


async def test_one_way_that_fails_leaves_the_others(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    channel.answers.append(permanent("81013", Words("nobody of that name", "没有此人")))
    async with desk(tmp_path, ALICE, c=channel, d=ScriptedChannel()) as hub:
        id = await ask(hub)
        (by_c,) = await hub.has_mail("channel:c/alice")
        with anyio.fail_after(10.0):
            await hub.store.log.next(f"receipts:{by_c.id}", after=0, timeout_s=60.0)
        question = await questions(hub).get(id)
        assert (question.state, question.error) == ("open", "")
        assert [step.state for step in question.ways[1].steps] == ["accepted", "failed"]


async def test_an_answer_after_the_end_comes_too_late(tmp_path: Path, clock: Clock) -> None:
    async with desk(tmp_path, "") as hub:
        id = await ask(hub, expires_in_s=60)
        clock.pass_s(61)
        assert (await questions(hub).wait(id, 60.0)).state == "expired"
        await reply(hub, id, "yes", by="user:alice")
        assert (await questions(hub).get(id)).answer is None


async def test_a_repeat_is_one_question_and_sends_what_an_earlier_try_did_not(tmp_path: Path) -> None:
    async with desk(tmp_path, "", c=ScriptedChannel(), d=ScriptedChannel()) as hub:
        await ask(hub, id="q-1")
    async with desk(tmp_path, ALICE, c=ScriptedChannel(), d=ScriptedChannel()) as hub:
        assert await ask(hub, id="q-1") == "q-1"
        assert len(await hub.mail("user:alice")) == 1
        assert await hub.mail("channel:c/alice") == [], "its ways are those of when it was asked"
        with pytest.raises(DuplicateId):
            await ask(hub, id="q-1", question="Another one?")


async def test_what_was_not_sent_by_a_way_is_sent_by_the_repeat(tmp_path: Path) -> None:
    """As after a crash between the first message and the second."""
    async with desk(tmp_path, ALICE, c=ScriptedChannel(), d=ScriptedChannel()) as hub:
        send = hub.mailbox.send

        async def failing(envelope: Envelope, **options: Any) -> Any:
            if envelope.to.startswith("channel:"):
                raise HubError("cut off")
            return await send(envelope, **options)

        hub.mailbox.send = failing  # type: ignore[method-assign]  # the fault
        with pytest.raises(HubError):
            await ask(hub, id="q-1")
        hub.mailbox.send = send  # type: ignore[method-assign]
        await ask(hub, id="q-1")
        assert len(await hub.mail("channel:c/alice")) == len(await hub.mail("user:alice")) == 1


async def test_a_reply_that_names_no_message_answers_the_open_question(tmp_path: Path) -> None:
    """As by SMS: by one of the offered answers, and only once."""
    async with desk(tmp_path, "", c=ScriptedChannel()) as hub:
        inbox = Intake(
            settings("c", senders=("alice",), incoming_to="user:desk"), hub.mailbox, hub.notifier, hub.store.log,
            door=Doorman(), dead=hub.outbox.dead_letters, early=hub.outbox.early_reports,
        )  # fmt: skip
        id = await ask(hub, "channel:c/alice", choices=["yes", "no"])
        for number, text in enumerate(["Who is this?", "No.", "no"]):
            said = Envelope(id=f"in-{number}", to="user:desk", from_="channel:c/alice", content=text)
            await inbox.take(said)
        question = await answered(hub, id)
        assert question.answer is not None
        assert (question.answer.choice, question.acknowledged_by) == ("no", "channel:c/alice")
        assert await hub.texts("user:desk") == ["Who is this?", "no"]


@pytest.mark.parametrize("fields", [{"to": "model:m"}, {"to": "alice"}, {"choices": ["x" * 100] * 12}, {"id": "a b"}])
async def test_a_wrong_question_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with desk(tmp_path, "") as hub:
        with pytest.raises(InvalidField):
            await ask(hub, **fields)
        with pytest.raises(NotFound):
            await questions(hub).get("never")
