"""DingTalk's app robot against a strict fake: the open API, and the stream on a real WebSocket server."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from autoglm.channels import access_tokens, line, web
from autoglm.channels.adapters.dingtalk import openapi, stream
from autoglm.channels.adapters.dingtalk.app import DingTalkApp, DingTalkAppSettings
from autoglm.channels.adapters.dingtalk.heard import heard
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.choices import words_of
from autoglm.channels.settings import parse_channel
from autoglm.channels.wording import json_bytes
from autoglm.core.envelope import JsonPart, TextPart, encode_envelope
from autoglm.core.errors import NotFound
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message, no_blob
from eventually import until
from fakes.dingtalk_app import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONVERSATIONS,
    DingTalkOpenApi,
    DingTalkStream,
    said,
    tapped,
)
from fakes.push_server import listening
from fakes.vendor import HTTP_FAULTS

GROUP = "cidAbC/dEf+0=="


def channel(api: DingTalkOpenApi, **fields: Any) -> DingTalkApp:
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    settings = parse_channel(
        {"name": "ding", "kind": "dingtalk-app", "base_url": api.url, "incoming_to": "user:desk"} | credentials | fields
    )
    assert isinstance(settings, DingTalkAppSettings)
    return DingTalkApp(settings, Resources("ding", no_blob))


@pytest.fixture
def api() -> Iterator[DingTalkOpenApi]:
    with DingTalkOpenApi() as api:
        yield api


@pytest.fixture
async def ding(api: DingTalkOpenApi) -> AsyncIterator[DingTalkApp]:
    ding = channel(api)
    yield ding
    await ding.aclose()


@pytest.fixture
async def pushed(api: DingTalkOpenApi) -> AsyncIterator[DingTalkStream]:
    async with DingTalkStream(api) as pushed:
        yield pushed


@pytest.fixture
def inbox() -> KeptInbox:
    return KeptInbox()


@pytest.fixture
def rig(api: DingTalkOpenApi, ding: DingTalkApp) -> Rig:
    return Rig(
        ding, target="manager7", texts=lambda: api.texts, misbehave=api.faults.append, stop=api.__exit__,
        secrets=(CLIENT_SECRET,), limit=18_000, measure=json_bytes, unknown_target=None,
        faults=HTTP_FAULTS,
        form=lambda filler: {"msgKey": "sampleText", "msgParam": {"content": filler}},
    )  # fmt: skip


class TestContract(ChannelContract):
    pass


async def send(ding: DingTalkApp, target: str, content: Any = "Down.", **fields: Any) -> Any:
    return [await ding.send(parcel, "k") for parcel in ding.compose(message(content, **fields), target)]


# --- questions ---------------------------------------------------------------------------------------


async def test_a_tap_answers_the_question_that_it_stands_below(
    api: DingTalkOpenApi, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    """Of two questions with the same answers, in a conversation of two and in a group."""
    ding = channel(api, senders=["manager7", GROUP])
    choices = {"choices": json.dumps(["Stop", "Let it run"])}
    for number, target in enumerate(("manager7", GROUP)):
        for press in (7, 8):
            await send(
                ding, target, f"Press {press}?\n1. Stop\n2. Let it run", labels=choices, id=f"q-{number}-{press}"
            )
    assert {body["msgKey"] for body in api.sent} == {"sampleMarkdown"}
    texts = [json.loads(body["msgParam"])["text"] for body in api.sent]
    assert texts[0].startswith("Press 7?\n\n1. Stop\n\n2. Let it run\n\n[1. Stop](dtmd://")
    async with listening(ding, inbox, pushed):
        for number, text in enumerate(texts):
            label, words = tapped(text)[1]
            assert label == "2. Let it run"
            await pushed.push(said(words, message_id=f"tap-{number}", group=number > 1))
        await until(lambda: len(pushed.acknowledged) == 4)
    assert [envelope.reply_to for envelope in inbox.taken] == ["q-0-7", "q-0-8", "q-1-7", "q-1-8"]
    assert {(envelope.content, words_of(envelope)) for envelope in inbox.taken} == {("Let it run", "2")}
    await ding.aclose()


@pytest.mark.parametrize("choice", ["a](http://x)", "\\", "50 % + 1 & more?", "停机（7 号）", "two\nlines", "x" * 99])
async def test_answers_of_any_characters_are_links_that_dingtalk_reads(api: DingTalkOpenApi, choice: str) -> None:
    ding = channel(api, senders=["*"])
    (found,) = await send(ding, "manager7", "Which?", labels={"choices": json.dumps([choice, "no"])}, id="q]1")
    assert found.outcome == "accepted"
    text = json.loads(api.sent[0]["msgParam"])["text"]
    assert [words.partition(" [")[2] for _, words in tapped(text)] == ["1#q]1]", "2#q]1]"]
    (press, _) = (heard(json.dumps(said(words)), channel="ding", incoming_to="user:desk") for _, words in tapped(text))
    assert (press.envelope.reply_to, press.envelope.labels["action"]) == ("q]1", "choice:1")
    await ding.aclose()


async def test_twenty_long_answers_below_a_long_text_fit(api: DingTalkOpenApi) -> None:
    ding = channel(api, senders=["*"])
    labels = {"choices": json.dumps(["停" * 47] * 20, ensure_ascii=False), "at": ",".join(["manager7"] * 100)}
    found = await send(ding, "manager7", "压" * 9_000, labels=labels, id="q" * 128)
    assert {one.outcome for one in found} == {"accepted"}
    texts = [json.loads(body["msgParam"])["text"] for body in api.sent]
    assert [len(tapped(text)) for text in texts] == [*[0] * (len(texts) - 1), 20]
    assert max(map(json_bytes, texts)) <= 20_000
    await ding.aclose()


async def test_answers_that_begin_alike_are_told_apart(api: DingTalkOpenApi) -> None:
    ding = channel(api, senders=["*"])
    choices = [f"Restart the whole press line {when}" for when in ("now", "tomorrow")]
    await send(ding, "manager7", "Which?", labels={"choices": json.dumps(choices)}, id="q-1")
    (first, said_first), (second, said_second) = tapped(json.loads(api.sent[0]["msgParam"])["text"])
    assert (first[:2], second[:2]) == ("1.", "2.")
    assert (said_first[-7:], said_second[-7:]) == ("[1#q-1]", "[2#q-1]")
    await ding.aclose()


async def test_links_that_leave_no_room_are_left_out(api: DingTalkOpenApi) -> None:
    ding = channel(api, senders=["*"])
    labels = {"choices": json.dumps(["停" * 40] * 20, ensure_ascii=False), "at": ",".join(["停" * 100] * 10)}
    found = await send(ding, "manager7", "压机", labels=labels, id="#" * 128)
    assert {one.outcome for one in found} == {"accepted"}
    text = json.loads(api.sent[-1]["msgParam"])["content"]
    assert "\n20. 停" in text
    assert tapped(text) == []
    await ding.aclose()


@pytest.mark.parametrize(
    "lure",
    [
        "[Details](dtmd://dingtalkclient/sendMessage?content=Yes%20%5B1%23q-2%5D)", "<dtmd://dingtalkclient/page/x>",
        "[Details][1]\n[1]: dtmd://dingtalkclient/x", "![x](http://evil.example/seen.png)", "<img src=http://x>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["question", "choice"])
async def test_a_text_below_which_links_stand_has_none_of_its_own(api: DingTalkOpenApi, lure: str, where: str) -> None:
    """As text it had none: a tap could answer another question."""
    ding = channel(api, senders=["*"])
    question, choice = ("Which?\n" + lure, "no") if where == "question" else ("Which?", lure)
    await send(ding, "manager7", question, labels={"choices": json.dumps([choice, "yes"])}, id="q-1")
    text = json.loads(api.sent[0]["msgParam"])["text"]
    assert [words[-7:] for _, words in tapped(text)] == ["[1#q-1]", "[2#q-1]"]
    assert re.findall(r"\][(\[:]|<[\w/!]", text.partition("[1. ")[0]) == []
    await ding.aclose()


@pytest.mark.parametrize(
    ("content", "fields"),
    [("Down.", {}), ("Which?", {"labels": {"choices": "[]"}}), ("Stop [2#q-1] now", {}), ("[0#q-1]", {})],
)
async def test_what_is_no_question_and_no_tap_is_left_as_it_is(
    api: DingTalkOpenApi, content: str, fields: dict[str, Any]
) -> None:
    ding = channel(api, senders=["*"])
    await send(ding, "manager7", content, **fields)
    assert json.loads(api.sent[0]["msgParam"]) == {"content": content}
    found = heard(json.dumps(said(content)), channel="ding", incoming_to="user:desk").envelope
    assert (found.content, found.reply_to, found.labels.get("action")) == (content, None, None)
    await ding.aclose()


async def test_no_link_is_there_where_nobody_would_be_heard(api: DingTalkOpenApi, ding: DingTalkApp) -> None:
    await send(ding, "manager7", "Which?", labels={"choices": '["yes"]'})
    assert "dtmd" not in str(api.sent)


# --- out --------------------------------------------------------------------------------------------


async def test_people_and_groups_are_reached_by_the_api(api: DingTalkOpenApi, ding: DingTalkApp) -> None:
    (to_person,) = await send(ding, "manager7")
    (to_group,) = await send(ding, GROUP)
    assert (to_person.outcome, to_group.outcome) == ("accepted", "accepted")
    assert to_person.ticket.startswith("process-")
    assert [body.get("userIds") or body["openConversationId"] for body in api.sent] == [["manager7"], GROUP]
    assert json.loads(api.sent[0]["msgParam"]) == {"content": "Down."}
    assert GROUP in CONVERSATIONS


async def test_http_200_for_a_person_who_is_not_there_is_a_failure(api: DingTalkOpenApi, ding: DingTalkApp) -> None:
    (found,) = await send(ding, "nobody")
    assert (found.outcome, found.code) == ("permanent", "invalidStaffIdList")
    api.flow_controlled = {"manager7"}
    (slowed,) = await send(ding, "manager7")
    assert (slowed.failure, slowed.code) == ("throttled", "flowControlledStaffIdList")
    (no_group,) = await send(ding, "cidNobody==")
    assert (no_group.outcome, no_group.code) == ("permanent", "invalidParameter.openConversationId.invalid")


async def test_one_token_serves_many_messages_at_once(api: DingTalkOpenApi, ding: DingTalkApp) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(send, ding, "manager7")
    assert len(api.sent) == 10
    assert api.token_requests == 1


async def test_a_token_that_was_revoked_is_renewed_once_and_the_message_arrives(
    api: DingTalkOpenApi, ding: DingTalkApp
) -> None:
    await send(ding, "manager7")
    api.tokens.clear()
    (found,) = await send(ding, "manager7")
    assert found.outcome == "accepted"
    assert (api.token_requests, len(api.sent)) == (2, 2)


async def test_credentials_that_were_revoked_keep_the_message_for_an_operator(
    api: DingTalkOpenApi, ding: DingTalkApp
) -> None:
    await send(ding, "manager7")
    api.tokens.clear()
    api.secret = "another"
    (found,) = await send(ding, "manager7")
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "invalidClientIdOrSecret")
    assert CLIENT_SECRET not in repr(found)


async def test_a_token_is_renewed_before_it_ends(
    api: DingTalkOpenApi, ding: DingTalkApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100_000.0
    monkeypatch.setattr(access_tokens, "monotonic_s", lambda: now_s)
    await send(ding, "manager7")
    monkeypatch.setattr(access_tokens, "monotonic_s", lambda: now_s + 6899)
    await send(ding, "manager7")
    assert api.token_requests == 1
    monkeypatch.setattr(access_tokens, "monotonic_s", lambda: now_s + 6901)
    await send(ding, "manager7")
    assert api.token_requests == 2


async def test_no_answer_for_a_token_leaves_no_doubt_about_the_message(
    api: DingTalkOpenApi, ding: DingTalkApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(api, "take", lambda request: b"")
    (found,) = await send(ding, "manager7")
    assert (found.outcome, found.failure, found.is_in_doubt) == ("retry", "transient", False)
    assert "nothing was sent" in found.reason.en


async def test_own_forms_of_both_kinds_go_by_the_api(api: DingTalkOpenApi, ding: DingTalkApp) -> None:
    link = {"msgtype": "link", "link": {"title": "t", "text": "x", "messageUrl": "http://x"}}
    markdown = {"msgKey": "sampleMarkdown", "msgParam": {"title": "t", "text": "*x*"}}
    found = await send(ding, "manager7", [{"type": "json", "json": link}, {"type": "json", "json": markdown}])
    assert [one.outcome for one in found] == ["accepted", "accepted"]
    assert [body["msgKey"] for body in api.sent] == ["sampleLink", "sampleMarkdown"]
    with pytest.raises(Cannot) as caught:
        await send(ding, "manager7", [{"type": "json", "json": {"msgtype": "feedCard", "feedCard": {"links": []}}}])
    assert caught.value.delivery.code == "unknown_msgtype"


# --- in ---------------------------------------------------------------------------------------------


async def test_a_message_comes_in_and_is_acknowledged_when_it_is_on_disk(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        message_id = await pushed.push(said("Is the press up? 压机"))
        await until(lambda: pushed.acknowledged)
    (envelope,) = inbox.taken
    assert pushed.acknowledged == [message_id]
    assert (envelope.from_, envelope.to, envelope.content) == (
        "channel:ding/manager7",
        "user:desk",
        "Is the press up? 压机",
    )
    assert (envelope.id, envelope.thread) == ("ding:msgAbC0==", "ding:cidTwo==")
    assert (envelope.timestamp, envelope.labels) == (1_790_000_000_000, {"sender_name": "Wang"})


async def test_what_the_hub_cannot_take_is_not_acknowledged_and_comes_again(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    inbox.refusal = NotFound("disk", "full")
    async with listening(ding, inbox, pushed):
        await pushed.push(said())
        await pushed.ping("after")
        await until(lambda: pushed.pongs)
        assert (pushed.acknowledged, inbox.taken) == ([], [])
        inbox.refusal = None
        await pushed.disconnect()
        await until(lambda: pushed.acknowledged)
    assert len(inbox.taken) == 1


async def test_a_repeated_message_is_taken_once(ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.push(said())
        await pushed.push(said())
        await until(lambda: len(pushed.acknowledged) == 2)
    assert len(inbox.taken) == 1


async def test_an_answer_goes_by_the_webhook_of_the_session_and_calls_who_asked(
    api: DingTalkOpenApi, ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.push(said(group=True, **api.session()))
        await until(lambda: inbox.taken)
    (asked,) = inbox.taken
    assert (asked.from_, asked.labels["sender"]) == (f"channel:ding/{GROUP}", "manager7")
    found = await send(ding, asked.from_.partition("/")[2], "压" * 9_000, reply_to=asked.id)
    assert [one.outcome for one in found] == ["accepted", "accepted"]
    assert [body.get("at") for body in api.answered] == [{"atUserIds": ["manager7"]}, None]
    assert api.sent == []


@pytest.mark.parametrize("end", ["over", "refused"])
async def test_a_session_that_has_ended_gives_way_to_the_api(
    api: DingTalkOpenApi, ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox, end: str
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.push(said(**api.session(lasts_s=-1 if end == "over" else 5400)))
        await until(lambda: inbox.taken)
    api.sessions.clear()
    (found,) = await send(ding, "manager7", "It is.")
    assert (found.outcome, len(api.sent), len(api.answered)) == ("accepted", 1, 0)
    asked = [request for request in api.requests if "sendBySession" in request.path]
    assert len(asked) == (0 if end == "over" else 1)


async def test_an_answer_in_doubt_is_not_sent_another_way(
    api: DingTalkOpenApi, ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.push(said(**api.session()))
        await until(lambda: inbox.taken)
    api.faults.append("cut")
    (found,) = await send(ding, "manager7", "It is.")
    assert (found.outcome, found.is_in_doubt) == ("retry", True)
    assert (len(api.answered), api.sent) == (1, [])


@pytest.mark.parametrize(
    "webhook",
    [
        "http://127.0.0.1:1/robot/sendBySession?session=x",
        "https://dingtalk.com.evil.example/s",
        "file:///etc/passwd",
        "https://[",
    ],
)
async def test_a_webhook_at_another_host_is_never_called(
    api: DingTalkOpenApi, ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox, webhook: str
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.push(said(**{**api.session(), "sessionWebhook": webhook}))
        await until(lambda: inbox.taken)
    (found,) = await send(ding, "manager7", "It is.")
    assert (found.outcome, len(api.sent)) == ("accepted", 1)


@pytest.mark.parametrize("field", ["originalProcessQueryKey", "repliedMsg"])
async def test_a_quoted_message_of_the_hub_is_answered(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox, field: str
) -> None:
    (sent,) = await send(ding, "manager7", "Confirm?")
    inbox.messages = {sent.ticket: "m-17"}
    text: dict[str, Any] = {"content": "Yes", "isReplyMsg": True, "repliedMsg": {"msgId": "other"}}
    fields: dict[str, Any] = {"originalProcessQueryKey": sent.ticket}
    if field == "repliedMsg":
        text["repliedMsg"], fields = {"msgId": sent.ticket}, {}
    async with listening(ding, inbox, pushed):
        await pushed.push(said(text=text, **fields))
        await until(lambda: inbox.taken)
    assert [envelope.reply_to for envelope in inbox.taken] == ["m-17"]


async def test_a_ping_of_the_vendor_is_answered_with_its_data(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.ping("0d6f")
        await until(lambda: pushed.pongs)
    (pong,) = pushed.pongs
    assert (pong["code"], json.loads(pong["data"])) == (200, {"opaque": "0d6f"})


async def test_the_connection_comes_back_after_cuts_and_outages_and_loses_nothing(
    api: DingTalkOpenApi, ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        pushed.connections[-1].transport.abort()
        await pushed.push(said(message_id="cut"))
        await until(lambda: len(inbox.taken) == 1)
        await pushed.stop()
        await until(lambda: ding._stream.line.trouble is not None)
        health = await ding.check()
        assert (health.ok, health.code) == (False, "line_cut")
        assert ding.link_state == (False, 2)
        await pushed.push(said(message_id="down"))
        await pushed.start()
        await until(lambda: len(inbox.taken) == 2)
        assert (await ding.check()).ok
        assert ding.link_state == (True, 3)
    assert [envelope.id for envelope in inbox.taken] == ["ding:cut", "ding:down"]


async def test_credentials_that_are_refused_do_not_end_the_listening(
    api: DingTalkOpenApi, ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    api.secret = "another"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ding.run, inbox)
        await until(lambda: api.places >= 3)
        health = await ding.check()
        assert (health.ok, health.code) == (False, "invalidClientIdOrSecret")
        api.secret = CLIENT_SECRET
        await until(lambda: pushed.connections)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"type": NaN}',
        '{"type": "CALLBACK", "headers": {}}',
        '{"type": 1, "headers": {"topic": 2}}',
        "\ud800",
    ],
)
def test_what_is_no_frame_is_none(raw: str) -> None:
    assert stream.parsed(raw) is None


@pytest.mark.parametrize(
    "data",
    [
        "no json", "[]", "null", "{}", json.dumps(said(message_id="")), json.dumps(said(senderStaffId="a b")),
        json.dumps(said(createAt="soon")), json.dumps(said(conversationId=7)), json.dumps(said(createAt=10**30)),
        "[" * 100_000, '{"msgId": Infinity}', json.dumps(said(createAt=-1)),
    ],
)  # fmt: skip
async def test_a_message_that_cannot_be_read_is_refused_once_and_the_next_one_taken(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox, data: str
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.say("garbage")
        await pushed.say(json.dumps({"type": "CALLBACK"}))
        bad = await pushed.push_data(data)
        unknown = await pushed.push(said(), topic="/v1.0/other")
        good = await pushed.push(said())
        await until(lambda: pushed.acknowledged)
    assert (pushed.refused, pushed.acknowledged) == ([bad, unknown], [good])
    assert len(inbox.taken) == 1


async def test_a_frame_over_the_bound_costs_the_connection_and_no_message(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        first = pushed.connections[-1]
        await pushed.say("x" * (line.FRAME_BYTES + 1))
        await until(lambda: pushed.connections and pushed.connections[-1] is not first)
        await pushed.push(said())
        await until(lambda: pushed.acknowledged)
    assert len(inbox.taken) == 1


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({"msgtype": "audio", "content": {"recognition": "Start it.", "downloadCode": "x"}}, "Start it."),
        ({"msgtype": "richText", "content": {"richText": [{"text": "Look"}, {"text": " here"}]}}, "Look here"),
        (
            {"msgtype": "picture", "content": {"downloadCode": "abc"}},
            [TextPart(text="[picture / 图片]"), JsonPart(json={"dingtalk": "picture", "downloadCode": "abc"})],
        ),
        (
            {"msgtype": "richText", "content": {"richText": [{"text": "Look"}, {"downloadCode": "abc"}]}},
            [
                TextPart(text="Look"),
                TextPart(text="[picture / 图片]"),
                JsonPart(json={"dingtalk": "picture", "downloadCode": "abc"}),
            ],
        ),
        ({"msgtype": "hologram"}, [TextPart(text="[hologram]"), JsonPart(json={"dingtalk": "hologram"})]),
    ],
)
def test_other_messages_than_text_come_in_as_what_can_be_read_of_them(fields: Any, content: Any) -> None:
    found = heard(json.dumps(said(**fields)), channel="ding", incoming_to="user:desk")
    assert found.envelope.content == content


async def test_half_an_emoji_becomes_what_can_be_written_down(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    async with listening(ding, inbox, pushed):
        await pushed.push(said("cut \ud83d"))
        await until(lambda: pushed.acknowledged)
    assert [encode_envelope(envelope) for envelope in inbox.taken]
    assert [envelope.content for envelope in inbox.taken] == ["cut \ufffd"]


async def test_the_log_names_senders_so_that_they_can_be_let_in(
    ding: DingTalkApp, pushed: DingTalkStream, inbox: KeptInbox
) -> None:
    with capture_logs() as logged:
        async with listening(ding, inbox, pushed):
            await pushed.push(said("A secret of theirs"))
            await until(lambda: pushed.acknowledged)
    assert [entry["sender"] for entry in logged if entry["event"] == "message_heard"] == ["channel:ding/manager7"]
    assert "secret" not in str(logged)


def test_people_without_a_staff_id_have_their_senders_id() -> None:
    found = heard(json.dumps(said(senderStaffId=None)), channel="ding", incoming_to="user:desk")
    assert found.envelope.from_ == "channel:ding/$:LWCP_v1:$deZJ+k1g=="


def test_a_long_or_odd_id_of_the_vendor_becomes_one_of_ours() -> None:
    found = heard(json.dumps(said(message_id="消息" * 100)), channel="ding", incoming_to="user:desk")
    assert len(found.envelope.id) == len("ding:") + 60


@pytest.mark.parametrize(
    "endpoint", ["ws://example.com/connect", "http://example.com", "example.com", "wss://[", "wss:///"]
)
def test_an_unencrypted_stream_is_refused_where_the_api_is_encrypted(endpoint: str) -> None:
    answer = web.Answer(200, {}, json.dumps({"endpoint": endpoint, "ticket": "t"}).encode())
    with pytest.raises(line.NoLine, match="not encrypted"):
        openapi.place_of(answer, is_encrypted=True)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("Forbidden.AccessDenied.QpsLimitForApi", "throttled"), ("Forbidden.Denied", "auth"), ("odd", "permanent")],
)
def test_a_code_with_http_200_is_a_failure_without_doubt(code: str, expected: str) -> None:
    body = json.dumps({"code": code, "message": "said with HTTP 200"}).encode()
    found = openapi.of_sent(web.Answer(200, {}, body), "manager7")
    assert (found.failure, found.code, found.is_in_doubt) == (expected, code, False)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"endpoint": 7, "ticket": "t"}', b'{"endpoint": "wss://x"}'])
def test_an_answer_without_a_place_is_none(body: bytes) -> None:
    with pytest.raises(line.NoLine, match="cannot be read"):
        openapi.place_of(web.Answer(200, {}, body), is_encrypted=True)


def test_no_secret_is_shown(api: DingTalkOpenApi) -> None:
    ding = channel(api)
    shown = repr(vars(ding)) + json.dumps(ding._settings.model_dump(mode="json"))
    assert CLIENT_SECRET not in shown
