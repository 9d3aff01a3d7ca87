"""Feishu's app bot against a strict fake: the open API, and the long connection on a real WebSocket server."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from autoglm.channels import line, web
from autoglm.channels.adapters.feishu import connection, openapi
from autoglm.channels.adapters.feishu.app import FeishuApp, FeishuAppSettings, twice_json_bytes
from autoglm.channels.adapters.feishu.connection import Parts
from autoglm.channels.adapters.feishu.frames import Frame
from autoglm.channels.adapters.feishu.heard import Said, heard
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.choices import words_of
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import JsonPart, TextPart, encode_envelope
from autoglm.core.errors import NotFound
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message, no_blob
from eventually import until
from fakes.feishu_app import APP_ID, APP_SECRET, FeishuConnection, FeishuOpenApi, event, said
from fakes.push_server import listening
from fakes.vendor import HTTP_FAULTS


def channel(api: FeishuOpenApi, **fields: Any) -> FeishuApp:
    credentials = {"app_id": APP_ID, "app_secret": APP_SECRET}
    settings = parse_channel(
        {"name": "fs", "kind": "feishu-app", "base_url": api.url, "incoming_to": "user:desk"} | credentials | fields
    )
    assert isinstance(settings, FeishuAppSettings)
    return FeishuApp(settings, Resources("fs", no_blob))


@pytest.fixture
def api() -> Iterator[FeishuOpenApi]:
    with FeishuOpenApi() as api:
        yield api


@pytest.fixture
async def feishu(api: FeishuOpenApi) -> AsyncIterator[FeishuApp]:
    feishu = channel(api)
    yield feishu
    await feishu.aclose()


@pytest.fixture
async def pushed(api: FeishuOpenApi) -> AsyncIterator[FeishuConnection]:
    async with FeishuConnection(api) as pushed:
        yield pushed


@pytest.fixture
def inbox() -> KeptInbox:
    return KeptInbox()


@pytest.fixture
def rig(api: FeishuOpenApi, feishu: FeishuApp) -> Rig:
    return Rig(
        feishu, target="ou_18eac8", texts=lambda: api.texts, misbehave=api.faults.append, stop=api.__exit__,
        secrets=(APP_SECRET,), limit=26_000, measure=twice_json_bytes, unknown_target=None,
        faults=HTTP_FAULTS,
        form=lambda filler: {"msg_type": "text", "content": {"text": filler}},
    )  # fmt: skip


class TestContract(ChannelContract):
    pass


async def send(feishu: FeishuApp, target: str, content: Any = "Down.", **fields: Any) -> Any:
    parcels = feishu.compose(message(content, **fields), target)
    id = fields.get("id", target)
    return [await feishu.send(parcel, f"{id}.{index}") for index, parcel in enumerate(parcels)]


# --- out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "id_type"),
    [
        ("ou_18eac8", "open_id"),
        ("on_7f2", "union_id"),
        ("wang@example.com", "email"),
        ("manager7", "user_id"),
        ("oc_night", "chat_id"),
    ],
)
async def test_a_target_says_by_itself_what_it_is(
    api: FeishuOpenApi, feishu: FeishuApp, target: str, id_type: str
) -> None:
    (found,) = await send(feishu, target)
    assert found.outcome == "accepted"
    assert found.ticket.startswith("om_")
    assert [(body["receive_id"], body["id_type"]) for body in api.sent] == [(target, id_type)]


async def test_an_answer_shows_what_it_answers(api: FeishuOpenApi, feishu: FeishuApp) -> None:
    """Feishu calls who asked; only the first piece is a reply."""
    api.said = {"om_a1"}
    (short,) = await send(feishu, "oc_night", "It is.", reply_to="fs:om_a1")
    assert (short.outcome, api.sent[0]["replies_to"], api.texts) == ("accepted", "om_a1", ["It is."])
    await send(feishu, "oc_night", "压" * 10_000, reply_to="fs:om_a1", id="m-2")
    assert ["replies_to" in body for body in api.sent[1:]] == [True, False]


@pytest.mark.parametrize("asked", ["fs:om_withdrawn", "m-17", "other:om_a1", "fs:ev-1"])
async def test_an_answer_to_what_is_not_there_goes_out_by_itself(
    api: FeishuOpenApi, feishu: FeishuApp, asked: str
) -> None:
    api.said = {"om_a1"}
    (found,) = await send(feishu, "oc_night", "It is.", reply_to=asked)
    assert (found.outcome, [body["receive_id"] for body in api.sent]) == ("accepted", ["oc_night"])
    assert len(api.requests) == (3 if "withdrawn" in asked else 2)


async def test_what_may_have_arrived_is_sent_again_and_arrives_once(api: FeishuOpenApi, feishu: FeishuApp) -> None:
    (parcel,) = feishu.compose(message(), "ou_18eac8")
    api.faults.append("cut")
    lost = await feishu.send(parcel, "m-1.0")
    again = await feishu.send(parcel, "m-1.0")
    assert (lost.is_in_doubt, again.outcome, len(api.sent)) == (True, "accepted", 1)
    await feishu.send(parcel, "m-2.0")
    assert len(api.sent) == 2


async def test_strangers_and_groups_without_the_bot_are_final(feishu: FeishuApp) -> None:
    (stranger,) = await send(feishu, "ou_nobody")
    (group,) = await send(feishu, "oc_elsewhere")
    assert (stranger.outcome, stranger.code) == ("permanent", "230013")
    assert (group.outcome, group.code) == ("permanent", "230002")


async def test_a_throttled_message_rests_as_long_as_feishu_says(api: FeishuOpenApi, feishu: FeishuApp) -> None:
    api.faults.append("throttled")
    (found,) = await send(feishu, "ou_18eac8")
    assert (found.failure, found.code, found.retry_after_s) == ("throttled", "99991400", 7.0)


@pytest.mark.parametrize(("said", "rest_s"), [("soon", 1.0), ("nan", 1.0), ("inf", 1.0), ("1e30", 3600.0), ("-5", 1.0)])
def test_an_odd_reset_is_bounded(said: str, rest_s: float) -> None:
    answer = web.Answer(429, {"x-ogw-ratelimit-reset": said}, b'{"code": 99991400}')
    assert openapi.of_answer(answer).retry_after_s == rest_s


async def test_a_token_that_was_revoked_is_renewed_once_and_the_message_arrives(
    api: FeishuOpenApi, feishu: FeishuApp
) -> None:
    await send(feishu, "ou_18eac8")
    api.tokens.clear()
    (found,) = await send(feishu, "oc_night")
    assert (found.outcome, api.token_requests, len(api.sent)) == ("accepted", 2, 2)


async def test_credentials_that_were_revoked_keep_the_message_for_an_operator(
    api: FeishuOpenApi, feishu: FeishuApp
) -> None:
    api.secret = "another"
    (found,) = await send(feishu, "ou_18eac8")
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "10014")


async def test_no_answer_for_a_token_leaves_no_doubt_about_the_message(
    api: FeishuOpenApi, feishu: FeishuApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(api, "take", lambda request: b"")
    (found,) = await send(feishu, "ou_18eac8")
    assert (found.outcome, found.failure, found.is_in_doubt) == ("retry", "transient", False)
    assert "nothing was sent" in found.reason.en


async def test_own_forms_of_webhooks_and_api_become_the_apis(api: FeishuOpenApi, feishu: FeishuApp) -> None:
    post = {"zh_cn": {"title": "t", "content": [[{"tag": "text", "text": "x"}]]}}
    card = {"elements": [{"tag": "hr"}]}
    forms = [
        {"msg_type": "post", "content": {"post": post}},
        {"msg_type": "interactive", "card": card},
        {"msg_type": "image", "content": '{"image_key": "img_1"}'},
    ]
    found = await send(feishu, "ou_18eac8", [{"type": "json", "json": form} for form in forms])
    assert [one.outcome for one in found] == ["accepted"] * 3
    assert [json.loads(body["content"]) for body in api.sent] == [post, card, {"image_key": "img_1"}]


async def test_markdown_goes_as_a_card_that_fits(api: FeishuOpenApi) -> None:
    feishu = channel(api, format="markdown")
    text = '"*压*"\n' * 5_000
    found = await send(feishu, "oc_night", text, labels={"at": "all"})
    assert {one.outcome for one in found} == {"accepted"}
    assert {body["msg_type"] for body in api.sent} == {"interactive"}
    assert api.texts[0].startswith("<at id=all></at> (1/")
    await feishu.aclose()


@pytest.mark.parametrize("content", ["", " \n", [{"type": "json", "json": {"temperature": 21}}]])
def test_what_feishu_cannot_show_is_refused(api: FeishuOpenApi, content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(api).compose(message(content), "ou_18eac8")
    assert caught.value.delivery.code == "empty"


# --- in ---------------------------------------------------------------------------------------------


async def test_a_message_comes_in_and_is_answered_when_it_is_on_disk(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    async with listening(feishu, inbox, pushed):
        frame_id = await pushed.push(said("Is the press up? 压机"))
        await until(lambda: pushed.answered)
        assert pushed.pings == 1
    (envelope,) = inbox.taken
    assert pushed.answered == [frame_id]
    assert (envelope.id, envelope.from_, envelope.to) == ("fs:om_a1", "channel:fs/ou_18eac8", "user:desk")
    assert (envelope.content, envelope.thread, envelope.timestamp) == (
        "Is the press up? 压机",
        "fs:oc_two",
        1_790_000_000_000,
    )


async def test_what_the_hub_cannot_take_is_said_to_have_failed_and_comes_again(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    inbox.refusal = NotFound("disk", "full")
    async with listening(feishu, inbox, pushed):
        frame_id = await pushed.push(said())
        await until(lambda: pushed.failed)
        inbox.refusal = None
        pushed.connections[-1].transport.abort()
        await until(lambda: pushed.answered)
    assert (pushed.failed, pushed.answered, len(inbox.taken)) == ([frame_id], [frame_id], 1)


async def test_a_group_message_is_the_groups_and_names_the_person_and_those_it_calls(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    mentions = [{"key": "@_user_1", "id": {"open_id": "ou_bot"}, "name": "Hub"}]
    async with listening(feishu, inbox, pushed):
        await pushed.push(said("@_user_1 status?", group=True, mentions=mentions))
        await until(lambda: inbox.taken)
    (envelope,) = inbox.taken
    assert (envelope.from_, envelope.content) == ("channel:fs/oc_night", "@Hub status?")
    assert envelope.labels == {"sender": "ou_18eac8"}


async def test_a_reply_answers_the_message_of_the_hub(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    (sent,) = await send(feishu, "ou_18eac8", "Confirm?")
    inbox.messages = {sent.ticket: "m-17"}
    async with listening(feishu, inbox, pushed):
        await pushed.push(said("Yes", parent_id="om_unknown", root_id=sent.ticket))
        await until(lambda: inbox.taken)
    assert [envelope.reply_to for envelope in inbox.taken] == ["m-17"]


@pytest.mark.parametrize(
    ("value", "words", "labels"),
    [
        ({"text": "Approved", "action": "approve"}, "Approved", {"action": "approve"}),
        ("Approved", "Approved", {}),
        ({"n": 1}, "[button / 按钮]", {}),
    ],
)
async def test_a_press_of_a_button_answers_the_cards_message(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox, value: Any, words: str, labels: Any
) -> None:
    inbox.messages = {"om_card": "m-17"}
    fields = {
        "operator": {"open_id": "ou_18eac8"}, "action": {"tag": "button", "value": value},
        "context": {"open_message_id": "om_card", "open_chat_id": "oc_two"},
    }  # fmt: skip
    async with listening(feishu, inbox, pushed):
        await pushed.push(event("card.action.trigger", fields, create_time="1790000000000123"))
        await until(lambda: pushed.answered)
    (envelope,) = inbox.taken
    part = JsonPart(json={"feishu": "card.action", "tag": "button", "value": value})
    assert (envelope.reply_to, envelope.content) == ("m-17", [TextPart(text=words), part])
    assert (envelope.id, envelope.from_, envelope.timestamp) == ("fs:ev-1", "channel:fs/ou_18eac8", 1_790_000_000_000)
    assert envelope.labels == labels


async def test_a_question_has_a_button_for_each_answer_and_a_press_is_heard(
    api: FeishuOpenApi, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    feishu = channel(api, senders=["ou_18eac8"])
    (sent,) = await send(feishu, "ou_18eac8", "Stop the press?", labels={"choices": '["Stop", "Go on"]'})
    inbox.messages, inbox.strangers = {sent.ticket: "m-17"}, {"ou_stranger"}
    text, actions = json.loads(api.sent[0]["content"])["elements"]
    assert text == {"tag": "div", "text": {"tag": "plain_text", "content": "Stop the press?"}}
    assert [button["text"]["content"] for button in actions["actions"]] == ["Stop", "Go on"]
    async with listening(feishu, inbox, pushed):
        for number, person in enumerate(("ou_18eac8", "ou_stranger")):
            fields = {
                "operator": {"open_id": person},
                "action": {"tag": "button", "value": actions["actions"][1]["value"]},
                "context": {"open_message_id": sent.ticket, "open_chat_id": "oc_two"},
            }
            await pushed.push(event("card.action.trigger", fields, event_id=f"ev-{number}"))
        await until(lambda: len(pushed.answered) == 2)
    press = inbox.taken[0]
    assert (press.reply_to, words_of(press)) == ("m-17", "2")
    assert [one["toast"]["type"] for one in pushed.shown] == ["success", "error"]
    assert pushed.wrong == []
    await feishu.aclose()


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"kind": "alert"}, ["div", "action"]),
        ({"kind": "alert", "labels": {"at": "all"}}, ["markdown", "action"]),
        ({"kind": "event"}, None),
    ],
)
async def test_an_alert_has_a_button_that_acknowledges(api: FeishuOpenApi, fields: Any, tags: list[str] | None) -> None:
    feishu = channel(api, senders=["*"])
    await send(feishu, "ou_18eac8", "Down.", **fields)
    elements = json.loads(api.sent[0]["content"]).get("elements")
    assert (elements and [one["tag"] for one in elements]) == tags
    if elements:
        assert elements[1]["actions"][0]["value"]["action"] == "ack"
    await feishu.aclose()


def test_no_button_is_there_where_nobody_would_be_heard(api: FeishuOpenApi) -> None:
    (parcel,) = channel(api, senders=[]).compose(message(kind="alert"), "ou_18eac8")
    assert "action" not in str(parcel.body)


async def test_a_long_question_has_its_buttons_below_the_last_piece(api: FeishuOpenApi) -> None:
    feishu = channel(api, senders=["*"])
    choices = json.dumps(['"\\' * 50] * 5)
    found = await send(feishu, "ou_18eac8", '"压"\n' * 6_000, labels={"choices": choices})
    assert {one.outcome for one in found} == {"accepted"}
    assert [body["msg_type"] for body in api.sent] == [*["text"] * (len(found) - 1), "interactive"]
    await feishu.aclose()


async def test_a_label_with_hundreds_of_answers_has_some_as_buttons_and_the_rest_as_text(api: FeishuOpenApi) -> None:
    feishu = channel(api, senders=["*"])
    label = json.dumps(["no"] * 160)
    found = await send(feishu, "ou_18eac8", "压" * 9_000, labels={"choices": label})
    assert {one.outcome for one in found} == {"accepted"}
    card = json.loads(api.sent[-1]["content"])
    assert len(card["elements"][1]["actions"]) == 20
    assert "\n21. no\n" in "".join(api.texts)
    assert "".join(api.texts).endswith("\n160. no")
    await feishu.aclose()


@pytest.mark.parametrize("choice", ['"', "\\", " ", "\x01", "\ud83d", "👩‍🏭"])
async def test_answers_of_any_characters_fit_below_a_long_text(api: FeishuOpenApi, choice: str) -> None:
    feishu = channel(api, senders=["*"])
    label = json.dumps([choice * 20] * 20)[:1024]
    label = label if label.endswith("]") else f"{label[: label.rindex(',')]}]"
    found = await send(feishu, "ou_18eac8", "压" * 9_000, labels={"choices": label})
    assert {one.outcome for one in found} == {"accepted"}
    await feishu.aclose()


@pytest.mark.parametrize("how", ["sent there", "named by senders", "a chat of two"])
async def test_a_press_in_a_group_comes_from_the_group(
    api: FeishuOpenApi, pushed: FeishuConnection, inbox: KeptInbox, how: str
) -> None:
    feishu = channel(api, senders=["oc_night"] if how == "named by senders" else ["*"])
    if how == "sent there":
        await send(feishu, "oc_night")
    fields = {
        "operator": {"open_id": "ou_18eac8"}, "action": {"tag": "button", "value": "Yes"},
        "context": {"open_message_id": "om_card", "open_chat_id": "oc_night"},
    }  # fmt: skip
    async with listening(feishu, inbox, pushed):
        await pushed.push(event("card.action.trigger", fields))
        await until(lambda: pushed.answered)
    (envelope,) = inbox.taken
    sender, labels = ("ou_18eac8", {}) if how == "a chat of two" else ("oc_night", {"sender": "ou_18eac8"})
    assert (envelope.from_, envelope.labels) == (f"channel:fs/{sender}", labels)
    await feishu.aclose()


async def test_who_has_read_a_message_is_reported(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    fields = {"reader": {"reader_id": {"open_id": "ou_18eac8"}}, "message_id_list": ["om_1", "om_2"]}
    async with listening(feishu, inbox, pushed):
        await pushed.push(event("im.message.message_read_v1", fields))
        await until(lambda: pushed.answered)
    assert [(ticket, delivery.outcome) for ticket, delivery in inbox.reported] == [("om_1", "read"), ("om_2", "read")]


async def test_an_event_in_several_frames_is_put_together(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    async with listening(feishu, inbox, pushed):
        await pushed.push(said("long " * 100), parts=7)
        await until(lambda: pushed.answered)
    assert [envelope.content for envelope in inbox.taken] == [("long " * 100).strip()]


def test_unfinished_events_are_bounded() -> None:
    """In number and in bytes, whatever `sum` and `seq` say."""
    parts = Parts()

    def headers(number: int, total: str, index: str) -> tuple[tuple[str, str], ...]:
        return (("message_id", str(number)), ("sum", total), ("seq", index))

    for number in range(1_000):
        assert parts.whole(Frame(headers=headers(number, "2", "0"), payload=b"x" * 100_000)) is None
    assert parts._size_bytes() <= 16 * 100_000
    for number in range(20):
        assert parts.whole(Frame(headers=headers(number, "2", "0"), payload=b"x" * 1_000_000)) is None
    assert parts._size_bytes() <= 8 << 20
    for total, index in (("9999", "0"), ("2", "7")):
        assert parts.whole(Frame(headers=headers(7_000, total, index), payload=b"x")) is None
    assert parts.whole(Frame(headers=headers(7_001, "-1", "²"), payload=b"whole")) == b"whole"


async def test_bots_and_other_events_are_left_and_not_brought_again(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    robot = said()
    robot["event"]["sender"]["sender_type"] = "app"
    async with listening(feishu, inbox, pushed):
        await pushed.push(robot)
        await pushed.push(event("im.chat.member.bot.added_v1", {"chat_id": "oc_new"}))
        await until(lambda: len(pushed.answered) == 2)
    assert inbox.taken == []


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff", b"[]", b"null", b"{}", json.dumps(said(chat_id="")).encode(),
        json.dumps(said(create_time="soon")).encode(), json.dumps(said(content="no json")).encode(),
        json.dumps(said()).replace("ou_18eac8", "ou 18").encode(), b'{"header":' * 20_000,
        b"[" * 200_000 + b"]" * 200_000, json.dumps(said(create_time="9" * 40)).encode(),
        json.dumps(said(content="[" * 100_000)).encode(), b'{"header": NaN}',
    ],
)  # fmt: skip
async def test_what_cannot_be_read_costs_neither_the_connection_nor_the_next_message(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox, payload: bytes
) -> None:
    async with listening(feishu, inbox, pushed):
        await pushed.say(b"\x0b\xff")
        await pushed.say("text")
        await pushed.pong(b"no json")
        await pushed.push_payload(payload)
        await pushed.push(said())
        await until(lambda: len(pushed.answered) == 2)
        assert len(pushed.connections) == 1
    assert len(inbox.taken) == 1


async def test_the_connection_comes_back_after_cuts_and_outages_and_loses_nothing(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    async with listening(feishu, inbox, pushed):
        pushed.connections[-1].transport.abort()
        await pushed.push(said(message_id="om_cut"))
        await until(lambda: len(inbox.taken) == 1)
        await pushed.stop()
        await until(lambda: feishu._connection.line.trouble is not None)
        health = await feishu.check()
        assert (health.ok, health.code) == (False, "line_cut")
        assert feishu.link_state == (False, 2)
        await pushed.push(said(message_id="om_down"))
        await pushed.start()
        await until(lambda: len(inbox.taken) == 2)
        assert (await feishu.check()).ok
        assert feishu.link_state == (True, 3)
    assert [envelope.id for envelope in inbox.taken] == ["fs:om_cut", "fs:om_down"]


async def test_a_refused_handshake_says_why(
    api: FeishuOpenApi, feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    pushed.refusal = {"handshake-status": "514", "handshake-autherrcode": "1000040350", "handshake-msg": "too many"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feishu.run, inbox)
        await until(lambda: api.places >= 3)
        health = await feishu.check()
        assert (health.ok, health.code) == (False, "1000040350")
        assert "too many long connections" in health.reason.en
        pushed.refusal = {}
        await until(lambda: pushed.connections)
        tasks.cancel_scope.cancel()


async def test_pings_go_out_as_often_as_feishu_wants(
    api: FeishuOpenApi, feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openapi, "ping_s_of", lambda config: config["PingInterval"] / 1000)
    api.ping_interval_s = 10
    async with listening(feishu, inbox, pushed):
        await until(lambda: pushed.pings >= 5)


@pytest.mark.parametrize(
    ("config", "ping_s"),
    [
        ({"PingInterval": 90}, 90.0),
        ({"PingInterval": 0}, 10.0),
        ({"PingInterval": 10**9}, 600.0),
        ({}, 120.0),
        (7, 120.0),
    ],
)
def test_an_odd_interval_of_pings_is_bounded(config: object, ping_s: float) -> None:
    assert openapi.ping_s_of(config) == ping_s
    assert connection._ping_s_in(json.dumps(config).encode()) == ping_s


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        (
            {
                "message_type": "post",
                "content": json.dumps(
                    {
                        "title": "Night",
                        "content": [
                            [{"tag": "text", "text": "See "}, {"tag": "a", "text": "this", "href": "http://x"}],
                            [{"tag": "at", "user_id": "@_user_1", "user_name": "Wang"}, {"tag": "img"}],
                        ],
                    }
                ),
            },
            "Night\nSee this http://x\n@Wang[picture / 图片]",
        ),
        (
            {"message_type": "image", "content": '{"image_key": "img_1"}'},
            [
                TextPart(text="[picture / 图片]"),
                JsonPart(json={"feishu": "image", "message_id": "om_a1", "image_key": "img_1"}),
            ],
        ),
        (
            {"message_type": "hologram", "content": ""},
            [TextPart(text="[hologram]"), JsonPart(json={"feishu": "hologram", "message_id": "om_a1"})],
        ),
    ],
)
def test_other_messages_than_text_come_in_as_what_can_be_read_of_them(fields: Any, content: Any) -> None:
    found = heard(json.dumps(said(**fields)).encode(), channel="fs", incoming_to="user:desk")
    assert isinstance(found, Said)
    assert found.envelope.content == content


@pytest.mark.parametrize("url", ["ws://example.com/ws", "http://example.com", "example.com"])
def test_an_unencrypted_connection_is_refused_where_the_api_is_encrypted(url: str) -> None:
    answer = web.Answer(200, {}, json.dumps({"code": 0, "data": {"URL": url}}).encode())
    with pytest.raises(line.NoLine, match="not encrypted"):
        openapi.place_of(answer, is_encrypted=True)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"code": 0}', b'{"code": 0, "data": {"URL": 7}}'])
def test_an_answer_without_a_place_is_none(body: bytes) -> None:
    with pytest.raises(line.NoLine, match="nothing was sent"):
        openapi.place_of(web.Answer(200, {}, body), is_encrypted=True)


async def test_half_an_emoji_becomes_what_can_be_written_down(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    async with listening(feishu, inbox, pushed):
        await pushed.push(said("cut \ud83d"))
        await until(lambda: pushed.answered)
    assert [encode_envelope(envelope) for envelope in inbox.taken]
    assert [envelope.content for envelope in inbox.taken] == ["cut \ufffd"]


async def test_the_log_names_senders_so_that_they_can_be_let_in(
    feishu: FeishuApp, pushed: FeishuConnection, inbox: KeptInbox
) -> None:
    with capture_logs() as logged:
        async with listening(feishu, inbox, pushed):
            await pushed.push(said("A secret of theirs", group=True))
            await until(lambda: pushed.answered)
    assert [entry["sender"] for entry in logged if entry["event"] == "message_heard"] == ["channel:fs/oc_night"]
    assert "secret" not in str(logged)


def test_no_secret_is_shown(api: FeishuOpenApi) -> None:
    feishu = channel(api)
    shown = repr(vars(feishu)) + json.dumps(feishu._settings.model_dump(mode="json"))
    assert APP_SECRET not in shown


@pytest.mark.parametrize(("service", "expected"), [("33", 33), ("9" * 5_000, 0), ("-1", 0), ("", 0)])
def test_a_service_that_is_no_number_is_none(service: str, expected: int) -> None:
    """Python reads no number of more than 4,300 digits."""
    body = {"code": 0, "data": {"URL": f"wss://x.example/ws?service_id={service}"}}
    assert openapi.place_of(web.Answer(200, {}, json.dumps(body).encode()), is_encrypted=True).service == expected
