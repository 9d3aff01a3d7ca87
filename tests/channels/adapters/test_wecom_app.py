"""A WeCom app against a strict fake: what goes out, what comes in, and what goes wrong."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from wechatpy.enterprise.crypto import WeChatCrypto  # type: ignore[import-untyped]  # has no stubs

from autoglm.channels.adapters.wechat.cards import task_of
from autoglm.channels.adapters.wechat.crypto import CallbackCipher, signature_of
from autoglm.channels.adapters.wechat.elements import parse_xml
from autoglm.channels.adapters.wecom_app import WeComApp
from autoglm.channels.adapters.wecom_app.repeats import Repeats
from autoglm.channels.adapters.wecom_app.settings import WeComAppSettings
from autoglm.channels.channel import Cannot, HookCall, Hooked, HookReply, Resources
from autoglm.channels.delivery import Delivery
from autoglm.channels.settings import parse_channel
from autoglm.core.errors import StorageFull
from contracts.channel_contract import ChannelContract, KeptInbox, NoInbox, Rig, message
from eventually import until
from fakes.vendor import HTTP_FAULTS, Fault
from fakes.wecom_app import AGENT_ID, CORP_ID, SECRET, WeComApps

TOKEN, AES_KEY = "callback-token", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
PIXEL = b"\x89PNG\r\n\x1a\nnot really"
BLOBS = {"a" * 64: b"%PDF-1.7 of a report"}


async def read_blob(sha256: str) -> bytes | None:
    return BLOBS.get(sha256)


def fields(**more: Any) -> dict[str, Any]:
    return {
        "name": "wecom", "kind": "wecom-app", "corp_id": CORP_ID, "agent_id": AGENT_ID, "secret": SECRET,
        "token": TOKEN, "aes_key": AES_KEY, "senders": ["alice", "ops-*"], **more,
    }  # fmt: skip


def channel(vendor: WeComApps | None, **more: Any) -> WeComApp:
    settings = parse_channel(fields(base_url=vendor.url if vendor else "http://127.0.0.1:9", **more))
    assert isinstance(settings, WeComAppSettings)
    return WeComApp(settings, Resources("wecom", read_blob))


@pytest.fixture
def vendor() -> Iterator[WeComApps]:
    with WeComApps() as vendor:
        yield vendor


@pytest.fixture
async def app(vendor: WeComApps) -> AsyncIterator[WeComApp]:
    app = channel(vendor, buttons={"ack": "Got it", "stop": "Stop the press"})
    yield app
    await app.aclose()


@pytest.fixture
def rig(vendor: WeComApps, app: WeComApp) -> Rig:
    return Rig(
        app, target="alice", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(SECRET, TOKEN, AES_KEY), limit=2048, unknown_target="@nobody",
        faults=HTTP_FAULTS,
        form=lambda filler: {"msgtype": "news", "news": {"articles": [{"title": filler}]}},
        files=lambda: [data for _, _, data in vendor.media.values()],
    )  # fmt: skip


class TestContract(ChannelContract):
    pass


# --- tokens -----------------------------------------------------------------------------------------


async def test_one_token_serves_many_messages_at_once(vendor: WeComApps, rig: Rig) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(rig.send, message(f"n {number}"))
    assert (vendor.token_requests, len(vendor.texts)) == (1, 8)


async def test_a_token_that_ran_out_is_fetched_anew_once(vendor: WeComApps, rig: Rig) -> None:
    await rig.send(message("first"))
    vendor.tokens.clear()
    (found,) = await rig.send(message("second"))
    assert (found.outcome, vendor.texts, vendor.token_requests) == ("accepted", ["first", "second"], 2)


async def test_a_revoked_secret_keeps_the_messages(vendor: WeComApps) -> None:
    app = channel(vendor, secret="another")
    (parcel,) = app.compose(message(), "alice")
    found = await app.send(parcel, "k")
    assert (found.outcome, found.failure, found.code, found.is_in_doubt) == ("retry", "auth", "40001", False)
    assert "secret" in found.reason.en
    assert not (await app.check()).ok
    await app.aclose()


@pytest.mark.parametrize(("code", "failure"), [(-1, "transient"), (45009, "throttled"), (99999, "auth")])
async def test_no_token_is_no_verdict_on_the_message(vendor: WeComApps, rig: Rig, code: int, failure: str) -> None:
    vendor.token_code = code
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure, found.code, found.is_in_doubt) == ("retry", failure, str(code), False)


# --- whom it reaches --------------------------------------------------------------------------------


async def test_a_member_that_is_not_there_is_a_failure_though_the_answer_is_ok(vendor: WeComApps, rig: Rig) -> None:
    (parcel,) = rig.channel.compose(message(), "mallory")
    found = await rig.channel.send(parcel, "k")
    assert (found.outcome, found.code, vendor.shown) == ("permanent", "invaliduser", [])


async def test_a_member_without_a_licence_is_a_failure(vendor: WeComApps, rig: Rig) -> None:
    vendor.unlicensed.add("alice")
    (found,) = await rig.send(message())
    assert (found.outcome, found.code, vendor.shown) == ("permanent", "unlicenseduser", [])


@pytest.mark.parametrize(("target", "reached"), [("@party:2", 2), ("@tag:7", 2), ("@party:9", 0)])
async def test_departments_and_tags_are_addressees(vendor: WeComApps, rig: Rig, target: str, reached: int) -> None:
    (parcel,) = rig.channel.compose(message(), target)
    found = await rig.channel.send(parcel, "k")
    assert len(vendor.shown) == reached
    assert found.code == ("" if reached else "81013")


async def test_a_department_of_which_one_has_no_licence_is_reached_but_for_that_one(
    vendor: WeComApps, rig: Rig
) -> None:
    vendor.unlicensed.add("bob")
    (parcel,) = rig.channel.compose(message(), "@party:2")
    found = await rig.channel.send(parcel, "k")
    assert (found.outcome, [member for member, _ in vendor.shown]) == ("accepted", ["alice"])
    assert "1 of its members" in found.reason.en


@pytest.mark.parametrize("target", ["alice|bob", "@all", "@party:x", "a" * 65, "-alice", "压机"])
def test_what_is_no_member_is_no_target(target: str) -> None:
    with pytest.raises(Cannot):
        channel(None).compose(message(), target)


async def test_the_limits_keep_us_below_what_wecom_drops_in_silence(vendor: WeComApps, rig: Rig) -> None:
    """The fake does as WeCom: the 31st message is accepted, and nobody sees it. So the windows must be ours."""
    found = [(await rig.send(message(f"n {number}")))[0].outcome for number in range(31)]
    assert (set(found), len(vendor.texts)) == ({"accepted"}, 30)
    limits = rig.channel.limits("alice")
    assert (limits.windows, limits.per) == (((30, 60.0), (1000, 3600.0)), "target")


# --- repetitions ------------------------------------------------------------------------------------


async def test_a_repeated_attempt_is_shown_once(vendor: WeComApps, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (parcel,) = rig.channel.compose(message("once"), "alice")
    await rig.channel.check()
    vendor.faults.append("silent")
    with monkeypatch.context() as patch:
        patch.setattr("autoglm.channels.web.TIMEOUT_S", 0.5)
        first = await rig.channel.send(parcel, "k1")
    second = await rig.channel.send(parcel, "k1")
    assert (first.is_in_doubt, second.outcome, vendor.texts) == (True, "accepted", ["once"])


async def test_two_messages_of_the_same_words_are_both_shown(vendor: WeComApps, rig: Rig) -> None:
    (parcel,) = rig.channel.compose(message("The press is down."), "alice")
    await rig.channel.send(parcel, "k1")
    await rig.channel.send(parcel, "k2")
    assert len(vendor.texts) == 2


def test_the_memory_of_words_ends_with_wecoms() -> None:
    now_s = [0.0]
    repeats = Repeats(100.0, clock_s=lambda: now_s[0])
    assert not repeats.is_another(b"x", "k1")
    assert not repeats.is_another(b"x", "k1")
    now_s[0] = 99.0
    assert repeats.is_another(b"x", "k2")
    assert repeats.is_another(b"x", "k2"), "a second attempt at it would be hidden as a repetition of the first message"
    now_s[0] = 200.0
    assert not repeats.is_another(b"x", "k3")


# --- forms ------------------------------------------------------------------------------------------


async def test_pictures_and_files_are_uploaded_and_go_out_with_their_names(vendor: WeComApps, rig: Rig) -> None:
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/press.png"}},
        {"type": "file", "file": {"file_id": "a" * 64, "filename": '报告 "1".pdf'}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF-sound").decode(), "format": "wav"}},
    ]
    found = await rig.send(message(parts))
    assert [delivery.outcome for delivery in found] == ["accepted"] * 4
    assert vendor.texts == ["See:\nhttps://example.org/press.png"]
    assert list(vendor.media.values()) == [
        ("image", "picture.png", PIXEL),
        ("file", "报告 _1_.pdf", BLOBS["a" * 64]),
        ("file", "audio.wav", b"RIFF-sound"),
    ]
    assert [body["msgtype"] for _, body in vendor.shown] == ["text", "image", "file", "file"]


async def test_a_picture_is_uploaded_once_and_again_when_wecom_lost_it(vendor: WeComApps, rig: Rig) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    (parcel,) = rig.channel.compose(message([{"type": "image_url", "image_url": {"url": url}}]), "alice")
    assert [(await rig.channel.send(parcel, key)).outcome for key in ("k1", "k2")] == ["accepted"] * 2
    assert len(vendor.media) == 1
    vendor.media.clear()
    assert (await rig.channel.send(parcel, "k3")).outcome == "accepted"
    assert len(vendor.shown) == 3


PLAN = [{"type": "file", "file": {"file_id": "a" * 64}}]


def uploads(vendor: WeComApps) -> int:
    return sum(request.path.startswith("/cgi-bin/media/upload") for request in vendor.requests)


async def sent_at_once(rig: Rig, *targets: str) -> list[Delivery]:
    """The same file to each of them."""
    found: list[Delivery] = []

    async def send(target: str) -> None:
        (parcel,) = rig.channel.compose(message(PLAN), target)
        found.append(await rig.channel.send(parcel, target))

    async with anyio.create_task_group() as tasks:
        for target in targets:
            tasks.start_soon(send, target)
    return found


async def test_a_file_for_several_at_once_is_uploaded_once(vendor: WeComApps, rig: Rig) -> None:
    found = await sent_at_once(rig, "alice", "bob")
    assert [one.outcome for one in found] == ["accepted"] * 2
    assert (uploads(vendor), len(vendor.shown)) == (1, 2)


async def test_a_lost_file_for_several_at_once_is_uploaded_once_more(vendor: WeComApps, rig: Rig) -> None:
    await sent_at_once(rig, "alice")
    vendor.media.clear()
    assert [one.outcome for one in await sent_at_once(rig, "alice", "bob")] == ["accepted"] * 2
    assert uploads(vendor) == 2


@pytest.mark.parametrize(("remembered", "count"), [(1, 4), (2, 2)])
async def test_of_many_uploads_the_oldest_is_forgotten(
    vendor: WeComApps, rig: Rig, monkeypatch: pytest.MonkeyPatch, remembered: int, count: int
) -> None:
    monkeypatch.setattr("autoglm.channels.adapters.wechat.uploads._REMEMBERED", remembered)
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF-sound").decode(), "format": "wav"}}
    for _ in range(2):
        assert [one.outcome for one in await rig.send(message([*PLAN, sound]))] == ["accepted"] * 2
    assert uploads(vendor) == count


async def test_those_who_wait_for_an_upload_share_its_failure(vendor: WeComApps, rig: Rig) -> None:
    await rig.channel.check()
    vendor.faults.append("permanent")
    found = await sent_at_once(rig, "alice", "bob")
    assert [(one.failure, one.is_in_doubt) for one in found] == [("permanent", False)] * 2
    assert (uploads(vendor), vendor.shown) == (1, [])


async def test_an_upload_that_is_given_up_is_taken_over_by_who_waits_for_it(vendor: WeComApps, rig: Rig) -> None:
    await rig.channel.check()
    vendor.faults.append("silent")
    attempt, found = anyio.CancelScope(), list[Delivery]()

    async def give_up() -> None:
        with attempt:
            await sent_at_once(rig, "alice")

    async def wait() -> None:
        found.extend(await sent_at_once(rig, "bob"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        await until(lambda: uploads(vendor) == 1)
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert uploads(vendor) == 1
        attempt.cancel()
    assert ([one.outcome for one in found], [member for member, _ in vendor.shown]) == (["accepted"], ["bob"])


@pytest.mark.parametrize("fault", ["silent", "empty_json"])
async def test_an_upload_without_a_good_answer_leaves_no_doubt(
    vendor: WeComApps, rig: Rig, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("autoglm.channels.web.TIMEOUT_S", 0.5)
    vendor.faults.append(fault)
    (parcel,) = rig.channel.compose(message([{"type": "file", "file": {"file_id": "a" * 64}}]), "alice")
    found = await rig.channel.send(parcel, "k")
    assert (found.failure, found.is_in_doubt, vendor.shown) == ("transient", False, [])


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "file", "file": {"file_id": "b" * 64}}, "no_file"),
        ({"type": "file", "file": {"file_data": "data:;base64,QQ=="}}, "media_too_small"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}, "bad_media"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,plain"}}, "bad_media"),
    ],
)
async def test_media_that_cannot_go_are_told(rig: Rig, part: dict[str, Any], code: str) -> None:
    try:
        (found,) = await rig.send(message([part]))
    except Cannot as error:
        found = error.delivery
    assert (found.outcome, found.code) == ("permanent", code)


async def test_media_over_the_limit_are_too_large(rig: Rig) -> None:
    BLOBS["c" * 64] = bytes(20 * 2**20 + 1)
    (found,) = await rig.send(message([{"type": "file", "file": {"file_id": "c" * 64}}]))
    assert (found.failure, found.code) == ("too_large", "media_too_large")


async def test_an_alert_has_buttons_that_name_it(vendor: WeComApps, rig: Rig) -> None:
    (found,) = await rig.send(message(kind="alert"))
    ((_, body),) = vendor.shown
    card = body["template_card"]
    assert [(one["key"], one["text"]) for one in card["button_list"]] == [("ack", "Got it"), ("stop", "Stop the …")]
    assert (card["sub_title_text"], found.ticket) == ("The press is down.", card["task_id"])
    assert card["task_id"] == task_of("m-1", "alice") != task_of("m-1", "bob")


async def test_a_question_has_a_button_for_each_answer_that_it_offers(vendor: WeComApps, rig: Rig) -> None:
    await rig.send(message("Stop?", labels={"choices": '["Yes", "No"]'}))
    await rig.send(message("Which?", labels={"choices": str(list("abcdefg")).replace("'", '"')}))
    (_, body), (_, plain) = vendor.shown
    assert [(one["key"], one["text"]) for one in body["template_card"]["button_list"]] == [
        ("choice:1", "Yes"), ("choice:2", "No"),
    ]  # fmt: skip
    assert plain["msgtype"] == "text", "a card has room for six"
    assert plain["text"]["content"].endswith("\n6. f\n7. g")


async def test_answers_that_no_button_can_show_do_not_keep_the_message(vendor: WeComApps, rig: Rig) -> None:
    found = await rig.send(message("Stop?", labels={"choices": json.dumps(["Yes", " ", "\ud83d"])}))
    assert [one.outcome for one in found] == ["accepted"]
    ((_, body),) = vendor.shown
    assert [one["key"] for one in body["template_card"]["button_list"]] == ["choice:1", "choice:3"]


async def test_a_long_alert_goes_whole_before_its_card(vendor: WeComApps, rig: Rig) -> None:
    text = "压机停了。" * 100
    await rig.send(message(text, kind="alert"))
    assert vendor.texts == [text]
    assert [body["msgtype"] for _, body in vendor.shown] == ["text", "template_card"]


async def test_wecoms_own_forms_go_as_they_are_but_to_nobody_else(vendor: WeComApps, rig: Rig) -> None:
    card = {"card_type": "button_interaction", "main_title": {"title": "t"}, "button_list": [{"text": "a", "key": "b"}]}
    own = {"msgtype": "template_card", "template_card": card, "touser": "bob", "agentid": 7}
    await rig.send(message([{"type": "json", "json": own}]))
    ((member, body),) = vendor.shown
    assert member == "alice"
    assert body["template_card"] == {**card, "task_id": task_of("m-1", "alice", 1)}


async def test_markdown_has_the_same_limit(vendor: WeComApps) -> None:
    app = channel(vendor, format="markdown")
    assert [len(app.compose(message("压" * count), "alice")) for count in (682, 683)] == [1, 2]
    await app.aclose()


@pytest.mark.parametrize("content", ["", " \n", [{"type": "json", "json": {"a": 1}}]])
def test_what_wecom_cannot_show_is_refused(content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(None).compose(message(content), "alice")
    assert caught.value.delivery.code == "empty"


# --- what comes in ----------------------------------------------------------------------------------


def call(
    inner: str, *, at_s: int | None = None, nonce: str = "n1", key: str = AES_KEY, receiver: str = CORP_ID
) -> HookCall:
    """As wechatpy, and so WeCom, makes it."""
    stamp = str(int(time.time()) if at_s is None else at_s)
    body = WeChatCrypto(TOKEN, key, receiver).encrypt_message(inner, nonce, stamp)
    signature = parse_xml(body).get("MsgSignature")
    return HookCall("POST", {"timestamp": stamp, "nonce": nonce, "msg_signature": signature}, {}, body.encode())


def text(content: str = "已处理", *, number: int = 7, sender: str = "alice") -> str:
    return (
        f"<xml><ToUserName><![CDATA[{CORP_ID}]]></ToUserName><FromUserName><![CDATA[{sender}]]></FromUserName>"
        f"<CreateTime>1790000000</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content>"
        f"<MsgId>{number}</MsgId><AgentID>{AGENT_ID}</AgentID></xml>"
    )


def press(task_id: str, key: str = "ack", *, sender: str = "alice", at_s: int = 1_790_000_000) -> str:
    return (
        f"<xml><ToUserName>{CORP_ID}</ToUserName><FromUserName>{sender}</FromUserName><CreateTime>{at_s}</CreateTime>"
        f"<MsgType>event</MsgType><Event>template_card_event</Event><EventKey>{key}</EventKey><TaskId>{task_id}</TaskId>"
        f"<CardType>button_interaction</CardType><ResponseCode>r</ResponseCode><AgentID>{AGENT_ID}</AgentID></xml>"
    )


async def heard(inner: str, inbox: KeptInbox | None = None) -> tuple[HookReply, KeptInbox]:
    inbox = inbox or KeptInbox()
    app: Hooked = channel(None, buttons={"ack": "Got it"})
    return await app.hook(call(inner), inbox), inbox


async def test_a_pressed_choice_shows_its_number() -> None:
    reply, inbox = await heard(press("t1", "choice:2"))
    (found,) = inbox.taken
    assert (found.content, found.labels["action"]) == ("2", "choice:2")
    assert reply.status == 200


async def test_the_address_is_verified_by_the_bare_echo() -> None:
    stamp, echo = str(int(time.time())), CallbackCipher(AES_KEY, CORP_ID).encrypt("8155392817163")
    query = {"timestamp": stamp, "nonce": "n", "echostr": echo, "msg_signature": signature_of(TOKEN, stamp, "n", echo)}
    reply = await channel(None).hook(HookCall("GET", query, {}, b""), NoInbox())
    assert (reply.status, reply.body) == (200, b"8155392817163")


async def test_a_text_comes_in_once_however_often_wecom_calls() -> None:
    inbox = KeptInbox()
    for _ in range(3):
        reply, _ = await heard(text(), inbox)
        assert (reply.status, reply.body) == (200, b"")
    (found,) = inbox.taken
    assert (found.id, found.from_, found.to, found.content) == (
        "wecom.7",
        "channel:wecom/alice",
        "model:auto",
        "已处理",
    )
    assert (found.timestamp, found.thread) == (1_790_000_000_000, "wecom.alice")


async def test_what_could_not_be_taken_is_not_answered_with_yes() -> None:
    inbox = KeptInbox()
    inbox.refusal = StorageFull("disk")
    with pytest.raises(StorageFull):
        await heard(text(), inbox)
    inbox.refusal = None
    await heard(text(), inbox)
    assert len(inbox.taken) == 1


@pytest.mark.parametrize(
    ("inner", "content"),
    [
        ("<MsgType>voice</MsgType><Recognition>停机</Recognition>", "停机"),
        (
            "<MsgType>location</MsgType><Label>厂房</Label><Location_X>1.5</Location_X><Location_Y>2</Location_Y>",
            "厂房 (1.5, 2)",
        ),
        ("<MsgType>link</MsgType><Title>t</Title><Url>http://x</Url>", "t\nhttp://x"),
    ],
)
async def test_messages_of_other_kinds_become_text(inner: str, content: str) -> None:
    body = f"<xml><FromUserName>alice</FromUserName><CreateTime>1</CreateTime><MsgId>9</MsgId>{inner}</xml>"
    _, inbox = await heard(body)
    assert [one.content for one in inbox.taken] == [content]


async def test_a_picture_comes_in_as_its_address_and_a_file_as_its_fields() -> None:
    inbox = KeptInbox()
    head = "<FromUserName>alice</FromUserName><CreateTime>1</CreateTime>"
    await heard(f"<xml>{head}<MsgId>1</MsgId><MsgType>image</MsgType><PicUrl>https://p/1</PicUrl></xml>", inbox)
    await heard(f"<xml>{head}<MsgId>2</MsgId><MsgType>file</MsgType><MediaId>m1</MediaId></xml>", inbox)
    shown = json.dumps([str(one.content) for one in inbox.taken])
    assert "https://p/1" in shown
    assert "m1" in shown


async def test_a_button_acknowledges_the_message_that_it_stands_under() -> None:
    inbox = KeptInbox()
    inbox.messages["autoglm-1"] = "m-1"
    reply, _ = await heard(press("autoglm-1"), inbox)
    (found,) = inbox.taken
    assert (found.reply_to, found.labels, found.content) == ("m-1", {"action": "ack"}, "Got it")
    answer = parse_xml(reply.body)
    opened = parse_xml(CallbackCipher(AES_KEY, CORP_ID).decrypt(answer.get("Encrypt")))
    button = opened.child("Button")
    assert (opened.get("MsgType"), opened.get("ToUserName")) == ("update_button", "alice")
    assert button is not None
    assert button.get("ReplaceName") == "✓ Got it"


async def test_nobodys_button_looks_as_if_it_had_been_heard() -> None:
    inbox = KeptInbox()
    inbox.strangers = {"mallory"}
    reply, _ = await heard(press("autoglm-1", sender="mallory"), inbox)
    assert reply.body == b""


async def test_two_presses_are_two_and_a_repeated_call_is_one() -> None:
    inbox = KeptInbox()
    for inner in (press("t1"), press("t1"), press("t2"), press("t1", "stop"), press("t1", at_s=1_790_000_001)):
        await heard(inner, inbox)
    assert len(inbox.taken) == 4


@pytest.mark.parametrize("event", ["enter_agent", "subscribe", "LOCATION"])
async def test_other_events_are_answered_and_left(event: str) -> None:
    reply, inbox = await heard(f"<xml><MsgType>event</MsgType><Event>{event}</Event></xml>")
    assert (reply.status, inbox.taken) == (200, [])


BAD_CALLS: dict[str, tuple[Callable[[], HookCall], int, bytes]] = {
    "replayed": (lambda: call(text(), at_s=int(time.time()) - 3600), 403, b"time"),
    "unsigned": (lambda: call(text())._replace(body=b"<xml/>"), 403, b"signature"),
    "doctype": (lambda: call(text())._replace(body=b"<!DOCTYPE x><xml/>"), 400, b"xml"),
    "another key": (lambda: call(text(), key="B" * 43), 400, b"EncodingAESKey"),
    "empty": (lambda: HookCall("GET", {}, {}, b""), 403, b"time"),
    "noise": (lambda: HookCall("POST", {}, {}, b"\xff" * 1000), 403, b"time"),
    "another company's": (lambda: call(text(), receiver="ww-another"), 403, b"receiver"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
async def test_a_strangers_call_is_refused_without_a_trace(name: str) -> None:
    made, status, code = BAD_CALLS[name]
    reply = await channel(None).hook(made(), NoInbox())
    assert reply.status == status
    assert code in reply.body
    assert not [secret for secret in (SECRET, TOKEN, AES_KEY) if secret.encode() in reply.body]


async def test_without_a_token_nothing_is_heard() -> None:
    reply = await channel(None, token=None, aes_key=None).hook(call(text()), NoInbox())
    assert (reply.status, b"token" in reply.body) == (400, True)


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"aes_key": "short"},
        {"aes_key": AES_KEY[:-1] + "="},
        {"token": None},
        {"buttons": {"": "x"}},
        {"buttons": {"a": " "}},
    ],
)
def test_wrong_settings_are_told_without_their_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_channel(fields(**wrong))
    assert SECRET not in str(caught.value)


def test_no_secret_is_shown() -> None:
    app = channel(None)
    shown = repr(vars(app)) + json.dumps(app._settings.model_dump(mode="json"))
    assert not [secret for secret in (SECRET, TOKEN, AES_KEY) if secret in shown]
