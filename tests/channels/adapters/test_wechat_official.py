"""A WeChat Official Account against a strict fake: templates, receipts, answers within 48 hours, what comes in."""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from wechatpy.crypto import WeChatCrypto  # type: ignore[import-untyped]  # has no stubs

from autoglm.channels.adapters.wechat.crypto import signature_of
from autoglm.channels.adapters.wechat.elements import parse_xml
from autoglm.channels.adapters.wechat_official import WeChatOfficial
from autoglm.channels.adapters.wechat_official import channel as official
from autoglm.channels.adapters.wechat_official.settings import WeChatOfficialSettings
from autoglm.channels.adapters.wechat_official.template import filled
from autoglm.channels.channel import Cannot, HookCall, HookReply, Resources
from autoglm.channels.delivery import Delivery
from autoglm.channels.pieces import utf16_units
from autoglm.channels.settings import parse_channel
from autoglm.core.errors import StorageFull
from contracts.channel_contract import ChannelContract, KeptInbox, NoInbox, Rig, message, no_blob
from eventually import until
from fakes.vendor import HTTP_FAULTS
from fakes.wechat_official import ALARM, ALICE, APP_ID, BOB, SECRET, STRANGER, WeChatOfficials

TOKEN, AES_KEY = "callback-token", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
FIELDS = {"thing1": "{title}", "time2": "{time}", "character_string3": "{id} {label.line}"}
TEMPLATES = {"alarm": {"id": ALARM, "fields": FIELDS, "url": "https://hub.example/"}}
PIXEL = b"\x89PNG\r\n\x1a\nnot really"


def fields(**more: Any) -> dict[str, Any]:
    return {
        "name": "oa", "kind": "wechat-official", "app_id": APP_ID, "secret": SECRET, "token": TOKEN, "aes_key": AES_KEY,
        "senders": ["*"], **more,
    }  # fmt: skip


def channel(vendor: WeChatOfficials | None, **more: Any) -> WeChatOfficial:
    settings = parse_channel(fields(base_url=vendor.url if vendor else "http://127.0.0.1:9", **more))
    assert isinstance(settings, WeChatOfficialSettings)
    return WeChatOfficial(settings, Resources("oa", no_blob))


@pytest.fixture
def vendor() -> Iterator[WeChatOfficials]:
    with WeChatOfficials() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: WeChatOfficials) -> AsyncIterator[Rig]:
    """Without templates: customer-service messages, which carry texts whole."""
    account = channel(vendor)
    yield Rig(
        account, target=ALICE, texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(SECRET, TOKEN, AES_KEY), limit=2048,
        faults=HTTP_FAULTS,
        form=lambda filler: {"msgtype": "news", "news": {"articles": [{"title": filler}]}},
    )  # fmt: skip
    await account.aclose()


@pytest.fixture
async def account(vendor: WeChatOfficials) -> AsyncIterator[WeChatOfficial]:
    """With a template."""
    account = channel(vendor, templates=TEMPLATES)
    yield account
    await account.aclose()


class TestContract(ChannelContract):
    pass


async def sent(account: WeChatOfficial, *, to: str = ALICE, key: str = "k", **more: Any) -> Delivery:
    (parcel,) = account.compose(message(more.pop("content", "The press is down."), **more), to)
    return await account.send(parcel, key)


# --- templates --------------------------------------------------------------------------------------


async def test_a_template_is_filled_from_the_message(vendor: WeChatOfficials, account: WeChatOfficial) -> None:
    found = await sent(account, content="压机停了\n3 号线", labels={"line": "L3"})
    assert (found.outcome, found.ticket) == ("accepted", "200228332")
    ((openid, body),) = vendor.shown
    assert (openid, body["url"]) == (ALICE, "https://hub.example/")
    assert {name: one["value"] for name, one in body["data"].items()} == {
        "thing1": "压机停了", "time2": "2026年9月21日 22:13", "character_string3": "m-1 L3",
    }  # fmt: skip


async def test_what_is_too_long_for_a_field_is_cut_where_one_sees_it(
    vendor: WeChatOfficials, account: WeChatOfficial
) -> None:
    found = await sent(account, content="压" * 21)
    assert vendor.shown[0][1]["data"]["thing1"]["value"] == "压" * 19 + "…"
    assert (found.outcome, found.reason.en) == ("accepted", "the template shows the beginning only of thing1")
    assert found.reason.zh == "模板字段 thing1 只显示开头"
    assert (await sent(account, content="压" * 20)).reason.en == ""


async def test_ten_megabytes_in_a_template_are_cut_and_the_receipt_says_so(
    vendor: WeChatOfficials, account: WeChatOfficial
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://cam.example/7.jpg"}}
    found = await sent(account, content=[{"type": "text", "text": "压机 down " * 1_000_000}, picture])
    assert vendor.shown[0][1]["data"]["thing1"]["value"].endswith("…")
    assert found.reason.en.endswith("beginning only of thing1; pictures and files are not in a template")


async def test_a_time_that_no_calendar_has_is_the_last_one(vendor: WeChatOfficials, account: WeChatOfficial) -> None:
    """Of a sender that counts in microseconds."""
    assert (await sent(account, timestamp=1_790_000_000_000_000)).outcome == "accepted"
    assert vendor.shown[0][1]["data"]["time2"]["value"].startswith("9999年12月31日")


FAMILY = "👨\u200d👩\u200d👧"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["压", "a", " ", "\n", FAMILY, "e\u0301", "\u200b", "🇨🇳"]), max_size=40).map("".join))
def test_a_thing_is_never_empty_nor_over_20_whoever_counts(text: str) -> None:
    value = filled({"thing1": "{text}"}, message(text), "Asia/Shanghai").data["thing1"]["value"]
    assert utf16_units(value) <= 20
    assert value.strip("\u200b ")
    assert "\n" not in value


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("thing1", " \n ", "-"),
        ("thing1", "\u200b\ufeff\u2060", "-"),
        ("character_string2", "a" * 40, "a" * 29 + "..."),
        ("phrase3", "一二三四五六", "一二三四…"),
        ("number4", "42.5", "42.5"),
        ("amount5", "¥12.5元", "¥12.5元"),
        ("phone_number6", "+86 20 1234", "+86 20 1234"),
        ("keyword1", "x" * 300, "x" * 199 + "…"),
        ("thing1", "{label.line}", "{label.line}"),
    ],
)
def test_each_type_of_field_gets_what_it_takes(field: str, text: str, value: str) -> None:
    assert filled({field: "{text}"}, message(text), "Asia/Shanghai").data[field]["value"] == value


@pytest.mark.parametrize(
    ("field", "text"),
    [("number4", "many"), ("character_string2", "压"), ("amount5", "12345678901"), ("phone_number6", "1" * 18)],
)
def test_a_value_that_would_change_its_meaning_is_refused(field: str, text: str) -> None:
    with pytest.raises(Cannot) as caught:
        filled({field: "{text}"}, message(text), "Asia/Shanghai")
    assert (caught.value.delivery.outcome, caught.value.delivery.code) == ("permanent", "47003")
    assert field in caught.value.delivery.reason.en


async def test_a_repeated_attempt_is_shown_once(
    vendor: WeChatOfficials, account: WeChatOfficial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.channels.web.TIMEOUT_S", 0.5)
    await account.check()
    vendor.faults.append("silent")
    first, second = [await sent(account, key="k1") for _ in range(2)]
    other = await sent(account, key="k2")
    assert (first.is_in_doubt, second.outcome, len(vendor.shown)) == (True, "accepted", 2)
    assert second.ticket != other.ticket


async def test_a_label_names_another_template(vendor: WeChatOfficials) -> None:
    more = {**TEMPLATES, "wrong": {"id": "no-such-id", "fields": FIELDS}}
    account = channel(vendor, templates=more, template="alarm")
    assert (await sent(account)).outcome == "accepted"
    found = await sent(account, labels={"template": "wrong"})
    assert (found.outcome, found.code) == ("permanent", "40037")
    with pytest.raises(Cannot):
        account.compose(message(labels={"template": "none"}), ALICE)
    health = await account.check()
    assert (health.ok, health.code, "wrong" in health.reason.en) == (False, "40037", True)
    await account.aclose()


@pytest.mark.parametrize(("openid", "code"), [(STRANGER, "43004"), ("oNobody-0123456789_abcdef", "40003")])
async def test_who_does_not_follow_is_told(account: WeChatOfficial, openid: str, code: str) -> None:
    found = await sent(account, to=openid)
    assert (found.outcome, found.code) == ("permanent", code)


async def test_the_calls_of_a_day_are_waited_for_by_the_hour(
    vendor: WeChatOfficials, account: WeChatOfficial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "refuse", lambda fault: b"".join(error_lines(45009)))
    vendor.faults.append("throttled")
    found = await sent(account)
    assert (found.failure, found.code, found.retry_after_s) == ("throttled", "45009", 3600.0)
    assert account.limits(ALICE).windows == ((100_000, 86_400.0),)


def error_lines(code: int) -> Iterator[bytes]:
    body = json.dumps({"errcode": code, "errmsg": "told"}).encode()
    yield b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(body)
    yield body


async def test_wechats_own_forms_go_as_they_are(vendor: WeChatOfficials, account: WeChatOfficial) -> None:
    data = {name: {"value": "2026年9月21日 22:13"} for name in ("thing1", "time2")}
    template = {"template_id": ALARM, "data": {**data, "character_string3": {"value": "x"}}, "touser": BOB}
    news = {"msgtype": "news", "news": {"articles": [{"title": "t", "url": "http://x"}]}}
    parts = [{"type": "json", "json": template}, {"type": "json", "json": news}]
    for index, parcel in enumerate(account.compose(message(parts), ALICE)):
        assert (await account.send(parcel, f"k{index}")).outcome in ("accepted",)
    assert [openid for openid, _ in vendor.shown] == [ALICE, ALICE]


# --- answers ----------------------------------------------------------------------------------------


async def test_an_answer_goes_as_a_customer_service_message(vendor: WeChatOfficials, account: WeChatOfficial) -> None:
    assert (await sent(account, content="22 度", reply_to="oa.7")).outcome == "accepted"
    assert vendor.texts == ["22 度"]


async def test_after_48_hours_the_way_out_is_told(vendor: WeChatOfficials, account: WeChatOfficial) -> None:
    vendor.talking.clear()
    found = await sent(account, reply_to="oa.7")
    assert (found.outcome, found.code) == ("permanent", "45015")
    assert "template message" in found.reason.en
    assert "模板消息" in found.reason.zh


async def test_pictures_go_and_files_are_refused_with_the_whole(vendor: WeChatOfficials, rig: Rig) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    assert [one.outcome for one in await rig.send(message([picture]))] == ["accepted"]
    assert list(vendor.media.values()) == [PIXEL]
    with pytest.raises(Cannot) as caught:
        rig.channel.compose(message([picture, {"type": "file", "file": {"file_id": "a" * 64}}]), ALICE)
    assert caught.value.delivery.code == "no_files"


async def test_more_answers_than_wechat_takes_are_refused(rig: Rig) -> None:
    assert len(rig.channel.compose(message("压" * 3_300), ALICE)) == 5
    with pytest.raises(Cannot) as caught:
        rig.channel.compose(message("压" * 4_000), ALICE)
    assert caught.value.delivery.failure == "too_large"


# --- tokens -----------------------------------------------------------------------------------------


async def test_tokens_are_shared_and_fetched_anew_once(vendor: WeChatOfficials, account: WeChatOfficial) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            (parcel,) = account.compose(message(), ALICE)
            tasks.start_soon(account.send, parcel, f"k{number}")
    assert vendor.token_requests == 1
    vendor.tokens.clear()
    assert (await sent(account, key="k9")).outcome == "accepted"
    assert (vendor.token_requests, len(vendor.shown)) == (2, 7)


async def test_a_reset_secret_keeps_the_messages(vendor: WeChatOfficials) -> None:
    account = channel(vendor, secret="another")
    found = await sent(account)
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "40125")
    assert (await account.check()).code == "40125"
    await account.aclose()


# --- what comes in ----------------------------------------------------------------------------------


def call(inner: str, *, is_plain: bool = False) -> HookCall:
    """As wechatpy, and so WeChat, makes it."""
    stamp, nonce = str(int(time.time())), "n1"
    query = {"timestamp": stamp, "nonce": nonce, "signature": signature_of(TOKEN, stamp, nonce)}
    if is_plain:
        return HookCall("POST", query, {}, inner.encode())
    body = WeChatCrypto(TOKEN, AES_KEY, APP_ID).encrypt_message(inner, nonce, stamp)
    more = {"encrypt_type": "aes", "msg_signature": parse_xml(body).get("MsgSignature")}
    return HookCall("POST", {**query, **more}, {}, body.encode())


def text(content: str = "现在几度？", number: int = 7) -> str:
    return (
        f"<xml><ToUserName>gh_1</ToUserName><FromUserName>{ALICE}</FromUserName><CreateTime>1790000000</CreateTime>"
        f"<MsgType>text</MsgType><Content><![CDATA[{content}]]></Content><MsgId>{number}</MsgId></xml>"
    )


def finished(status: str, msgid: str = "200228332") -> str:
    return (
        f"<xml><ToUserName>gh_1</ToUserName><FromUserName>{ALICE}</FromUserName><CreateTime>1790000000</CreateTime>"
        f"<MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event><MsgID>{msgid}</MsgID>"
        f"<Status><![CDATA[{status}]]></Status></xml>"
    )


async def heard(inner: str, inbox: KeptInbox | None = None) -> tuple[HookReply, KeptInbox]:
    inbox = inbox or KeptInbox()
    inbox.messages.setdefault("200228332", "m-1")
    return await channel(None).hook(call(inner), inbox), inbox


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        ("success", "delivered", ""),
        ("failed:user block", "permanent", "failed:user block"),
        ("failed: user block", "permanent", "failed:user block"),
        ("failed: system failed", "permanent", "failed:system failed"),
        ("failed:something new", "permanent", "failed:something new"),
        ("", "permanent", "failed"),
    ],
)
async def test_the_delivery_event_is_the_receipt(status: str, outcome: str, code: str) -> None:
    reply, inbox = await heard(finished(status))
    ((ticket, delivery),) = inbox.reported
    assert (ticket, delivery.outcome, delivery.code, reply.body) == ("200228332", outcome, code, b"success")
    assert outcome == "delivered" or delivery.reason.zh


class AskedInbox(KeptInbox):
    """Counts how often it was asked for a ticket."""

    asked = 0

    async def message_of(self, ticket: str) -> str | None:
        self.asked += 1
        return await super().message_of(ticket)


async def test_a_receipt_that_is_quicker_than_the_outbox_waits_for_it() -> None:
    inbox = AskedInbox()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel(None).hook, call(finished("success")), inbox)
        await until(lambda: inbox.asked == 2)
        assert inbox.reported == []
        inbox.messages["200228332"] = "m-1"
    assert len(inbox.reported) == 1


async def test_an_unknown_receipt_is_handed_on_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "_RECEIPT_WAIT_S", 0.05)
    _, inbox = await heard(finished("success", "999"))
    assert [ticket for ticket, _ in inbox.reported] == ["999"]


async def test_a_receipt_that_could_not_be_kept_is_not_answered_with_success() -> None:
    inbox = KeptInbox()
    inbox.refusal = StorageFull("disk")
    with pytest.raises(StorageFull):
        await heard(finished("success"), inbox)


async def test_a_text_comes_in_once_however_often_wechat_calls() -> None:
    inbox = KeptInbox()
    for _ in range(3):
        reply, _ = await heard(text(), inbox)
        assert reply.body == b"success"
    (found,) = inbox.taken
    assert (found.id, found.from_, found.content) == ("oa.7", f"channel:oa/{ALICE}", "现在几度？")


async def test_an_entry_of_the_menu_comes_in_as_an_action() -> None:
    event = f"<FromUserName>{ALICE}</FromUserName><MsgType>event</MsgType><Event>CLICK</Event><EventKey>ack</EventKey>"
    _, inbox = await heard(f"<xml>{event}</xml>")
    assert [one.labels for one in inbox.taken] == [{"action": "ack"}]


@pytest.mark.parametrize("event", ["subscribe", "unsubscribe", "LOCATION", "VIEW", "CLICK"])
async def test_other_events_are_answered_and_left(event: str) -> None:
    reply, inbox = await heard(f"<xml><MsgType>event</MsgType><Event>{event}</Event></xml>")
    assert (reply.body, inbox.taken, inbox.reported) == (b"success", [], [])


async def test_the_address_is_verified_by_the_bare_echo() -> None:
    stamp = str(int(time.time()))
    query = {"timestamp": stamp, "nonce": "n", "echostr": "5837", "signature": signature_of(TOKEN, stamp, "n")}
    assert (await channel(None).hook(HookCall("GET", query, {}, b""), NoInbox())).body == b"5837"
    wrong = {**query, "signature": "0" * 40}
    assert (await channel(None).hook(HookCall("GET", wrong, {}, b""), NoInbox())).status == 403


async def test_plain_text_is_heard_only_without_a_key() -> None:
    inbox = KeptInbox()
    reply = await channel(None, aes_key=None).hook(call(text(), is_plain=True), inbox)
    assert (reply.body, len(inbox.taken)) == (b"success", 1)
    assert (await channel(None).hook(call(text(), is_plain=True), NoInbox())).status == 403


async def test_without_a_token_nothing_is_heard() -> None:
    assert (await channel(None, token=None, aes_key=None).hook(call(text()), NoInbox())).status == 400


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"templates": {"a": {"id": "x", "fields": {"thing1": "{titel}"}}}}, "{titel}"),
        ({"templates": {"a": {"id": "x", "fields": {"thing1.DATA": "x"}}}}, "leave out the .DATA"),
        ({"templates": {**TEMPLATES, "b": TEMPLATES["alarm"]}}, "which of the templates"),
        ({"template": "none"}, "channel.templates.none"),
        ({"token": None}, "aes_key needs token"),
        ({"aes_key": "short"}, "43 letters"),
        ({"zone": "Mars/Base"}, "time zone"),
    ],
)
def test_wrong_settings_are_told_in_plain_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_channel(fields(**wrong))
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_no_secret_is_shown() -> None:
    account = channel(None)
    shown = repr(vars(account)) + json.dumps(account._settings.model_dump(mode="json"))
    assert not [secret for secret in (SECRET, TOKEN, AES_KEY) if secret in shown]
