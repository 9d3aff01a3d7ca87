"""SMS by Aliyun against a strict fake that computes signatures its own way."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from autoglm.channels.adapters.sms_aliyun import receipts
from autoglm.channels.adapters.sms_aliyun.channel import SmsAliyun, SmsAliyunSettings, international, national
from autoglm.channels.adapters.sms_aliyun.codes import of_code
from autoglm.channels.adapters.sms_aliyun.receipts import Receipts, Sent
from autoglm.channels.adapters.sms_aliyun.signature import canonical_query, signed_headers
from autoglm.channels.channel import Cannot, HookCall, Resources
from autoglm.channels.pieces import utf16_units
from autoglm.channels.settings import parse_channel
from autoglm.core.clock import now_ms
from autoglm.core.errors import StorageFull
from autoglm.core.ports import KeyValue
from channels.clock import Clock
from contracts.channel_contract import NO_STORE, ChannelContract, KeptInbox, Rig, message, no_blob
from eventually import until
from fakes.sms_aliyun import KEY_ID, KEY_SECRET, OTHER_TEMPLATE, SIGN_NAME, TEMPLATE, AliyunSms
from fakes.vendor import HTTP_FAULTS

TOKEN = "a-long-token-of-ours"


def channel(url: str = "http://x.example", keyvalue: KeyValue = NO_STORE, **fields: Any) -> SmsAliyun:
    settings = parse_channel(
        {
            "name": "sms", "kind": "sms-aliyun", "base_url": url, "access_key_id": KEY_ID,
            "access_key_secret": KEY_SECRET, "sign_name": SIGN_NAME, "template_code": TEMPLATE, "text_limit": 200,
            "numbers": {"alice": "+8613800138000", "bob": "+85261234567"}, "hook_token": TOKEN,
            "incoming_to": "user:ops", **fields,
        }
    )  # fmt: skip
    assert isinstance(settings, SmsAliyunSettings)
    return SmsAliyun(settings, Resources("sms", no_blob, keyvalue))


@pytest.fixture
def vendor() -> Iterator[AliyunSms]:
    with AliyunSms() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: AliyunSms, keyvalue: KeyValue) -> AsyncIterator[Rig]:
    made = channel(vendor.url, keyvalue)
    yield Rig(
        made, target="alice", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(KEY_SECRET, KEY_ID), limit=200, measure=utf16_units,
        faults=HTTP_FAULTS,
        form=lambda filler: {"TemplateCode": "SMS_1", "TemplateParam": {"text": filler}},
    )  # fmt: skip
    await made.aclose()


class TestContract(ChannelContract):
    pass


def test_the_vendors_own_example_of_a_signature() -> None:
    """Of help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature."""
    query = canonical_query(
        {"RegionId": "cn-shanghai", "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"}
    )
    headers = signed_headers(
        query, action="RunInstances", version="2014-05-26", host="ecs.cn-shanghai.aliyuncs.com",
        key_id="YourAccessKeyId", key_secret="YourAccessKeySecret", date="2023-10-26T10:22:32Z",
        nonce="3156853299f313e23d1673dc12e1703d",
    )  # fmt: skip
    assert headers["Authorization"].endswith("=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0")


async def test_each_character_survives_the_signature(vendor: AliyunSms, rig: Rig) -> None:
    text = "50% ~*'()!&=+/?#\"\\ 压机 👨\u200d👩\u200d👧\n{text} %2B"
    (found,) = await rig.send(message(text))
    assert (found.outcome, vendor.texts) == ("accepted", [text])
    assert vendor.sent[0]["OutId"] == "m-1.0"


async def test_a_clock_that_is_wrong_is_told(vendor: AliyunSms, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s - 1000)
    (found,) = await rig.send(message())
    assert (found.failure, found.code) == ("auth", "InvalidTimeStamp.Expired")
    assert "clock" in found.reason.en


async def test_a_code_with_http_200_is_a_failure_and_names_its_window(keyvalue: KeyValue) -> None:
    with AliyunSms(per_number=1) as vendor:
        made = channel(vendor.url, keyvalue)
        (parcel,) = made.compose(message(), "alice")
        found = [await made.send(parcel, "k") for _ in range(2)]
        await made.aclose()
    assert [delivery.outcome for delivery in found] == ["accepted", "retry"]
    assert (found[1].failure, found[1].code, found[1].retry_after_s) == (
        "throttled",
        "isv.BUSINESS_LIMIT_CONTROL",
        3600,
    )


@pytest.mark.parametrize(
    ("code", "said", "failure", "wait_s"),
    [
        ("isv.BUSINESS_LIMIT_CONTROL", "触发分钟级流控Permits:1", "throttled", 60),
        ("isv.BUSINESS_LIMIT_CONTROL", "触发天级流控Permits:10", "throttled", 10_800),
        ("Throttling.User", "", "throttled", 60), ("isv.AMOUNT_NOT_ENOUGH", "", "auth", None),
        ("isp.SYSTEM_ERROR", "", "transient", None), ("isv.PARAM_LENGTH_LIMIT", "", "too_large", None),
        ("isv.NEVER_SEEN", "", "permanent", None), ("<b>", "", "permanent", None),
    ],
)  # fmt: skip
def test_codes_have_their_class(code: str, said: str, failure: str, wait_s: float | None) -> None:
    found = of_code(code, said)
    assert (found.failure, found.retry_after_s) == (failure, wait_s)
    assert "<" not in found.code + found.reason.en
    if failure == "permanent":
        assert found.code in found.reason.en


@pytest.mark.parametrize(
    ("number", "sent"),
    [("+8613800138000", "13800138000"), ("+85261234567", "85261234567"), ("+12025550123", "12025550123")],
)
def test_numbers_as_the_vendor_writes_them(number: str, sent: str) -> None:
    assert national(number) == sent
    assert international(sent) == number
    assert international("0086" + sent) == f"+86{sent}"


@pytest.mark.parametrize(("number", "is_refused"), [("+13125550123", True), ("+12025550123", False)])
def test_a_number_that_would_reach_somebody_else_is_refused(number: str, is_refused: bool) -> None:
    made = channel(any_number=True)
    if not is_refused:
        assert made.compose(message(), number)
        return
    with pytest.raises(Cannot) as caught:
        made.compose(message(), number)
    assert caught.value.delivery.code == "isv.MOBILE_NUMBER_ILLEGAL"


async def test_own_forms_go_as_they_are(vendor: AliyunSms, rig: Rig) -> None:
    form = {"TemplateCode": OTHER_TEMPLATE, "TemplateParam": {"name": "王", "line": "3"}}
    (found,) = await rig.send(message([{"type": "json", "json": form}]))
    assert found.outcome == "accepted"
    assert (vendor.sent[0]["TemplateCode"], json.loads(vendor.sent[0]["TemplateParam"])) == (
        OTHER_TEMPLATE,
        form["TemplateParam"],
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "empty"),
        ([{"type": "json", "json": {"a": 1}}], "empty"),
        ([{"type": "json", "json": {"TemplateCode": "SMS_1", "TemplateParam": {"a": 1}}}], "isv.INVALID_JSON_PARAM"),
        ([{"type": "json", "json": {"TemplateCode": 1}}], "isv.INVALID_JSON_PARAM"),
        ("x" * 3_000, "too_many_pieces"),
    ],
)
def test_what_cannot_go_is_refused(content: Any, code: str) -> None:
    with pytest.raises(Cannot) as caught:
        channel().compose(message(content), "alice")
    assert caught.value.delivery.code == code


def test_limits_are_a_numbers_own() -> None:
    assert channel().limits("alice").windows == ((50, 86_400.0),)
    assert channel(template_kind="code").limits("alice").windows == ((1, 60.0), (5, 3_600.0), (10, 86_400.0))
    assert channel(per_minute=7).limits("alice").windows == ((7, 60.0),)


async def test_a_template_may_have_more_variables(vendor: AliyunSms, keyvalue: KeyValue) -> None:
    made = channel(vendor.url, keyvalue, template_code=OTHER_TEMPLATE, template_params={"name": "{text}!", "line": "3"})
    (parcel,) = made.compose(message("停 {text}"), "alice")
    assert (await made.send(parcel, "k")).outcome == "accepted"
    assert json.loads(vendor.sent[0]["TemplateParam"]) == {"name": "停 {text}!", "line": "3"}
    await made.aclose()


def test_a_template_must_take_the_text() -> None:
    with pytest.raises(ValidationError, match="one of the values"):
        channel(template_params={"code": "1"})


# --- receipts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told"), [((3, "DELIVERED"), ("delivered", "")), ((2, "MK:0001"), ("permanent", "MK:0001"))]
)
async def test_reports_are_asked_for_until_they_are_there(
    vendor: AliyunSms, rig: Rig, monkeypatch: pytest.MonkeyPatch, status: tuple[int, str], told: tuple[str, str]
) -> None:
    monkeypatch.setattr(receipts, "FIRST_ASK_S", 0.01)
    inbox = KeptInbox()
    (found,) = await rig.send(message())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.channel.run, inbox)
        await until(lambda: len(vendor.asked) >= 2)
        assert inbox.reported == []
        vendor.statuses[found.ticket] = status
        await until(lambda: inbox.reported)
        tasks.cancel_scope.cancel()
    ((ticket, delivery),) = inbox.reported
    assert (ticket, delivery.outcome, delivery.code) == (found.ticket, *told)
    assert {asked["PhoneNumber"] for asked in vendor.asked} == {"13800138000"}


async def test_a_failure_loses_no_receipt_and_holds_up_no_other(
    vendor: AliyunSms, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "FIRST_ASK_S", 0.01)
    monkeypatch.setattr(receipts, "pause_s", lambda *times: 0.001)
    inbox = KeptInbox()
    inbox.refusal = StorageFull("/data")
    for _ in range(2):
        await rig.send(message())
    for ticket in vendor.statuses:
        vendor.statuses[ticket] = (3, "DELIVERED")
    vendor.faults.extend(["server_error", "cut", "auth", "garbage"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.channel.run, inbox)
        await until(lambda: len(vendor.asked) >= 4)
        inbox.refusal = None
        await until(lambda: len(inbox.reported) == 2)
        tasks.cancel_scope.cancel()
    assert {ticket for ticket, _ in inbox.reported} == set(vendor.statuses)


async def test_few_messages_are_waited_for(keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "WAITING", 10)
    asked: list[str] = []

    async def ask(sent: Sent) -> None:
        asked.append(sent.ticket)

    monkeypatch.setattr(receipts, "FIRST_ASK_S", 0.001)
    waiting = Receipts(Resources("sms", no_blob, keyvalue), ask)
    for number in range(100):
        await waiting.expect(Sent(str(number), "1", now_ms()))
    assert (len(await keyvalue.list("sms/")), len(waiting._due) <= 21) == (10, True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run, KeptInbox())
        await until(lambda: len(asked) >= 10)
        tasks.cancel_scope.cancel()
    assert set(asked) == {str(number) for number in range(90, 100)}


async def test_a_message_is_not_asked_for_for_ever(keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "FIRST_ASK_S", 0.001)
    monkeypatch.setattr(receipts, "_GIVE_UP_S", 0.01)

    async def ask(sent: Sent) -> None:
        return None

    waiting = Receipts(Resources("sms", no_blob, keyvalue), ask)
    await waiting.expect(Sent("1", "1", now_ms()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run, KeptInbox())
        await until(lambda: "1" not in waiting._waiting)
        tasks.cancel_scope.cancel()
    assert await keyvalue.list("sms/") == []


@pytest.mark.parametrize("off_s", [60, 4 * 86_400])
async def test_a_restart_goes_on_asking(vendor: AliyunSms, keyvalue: KeyValue, clock: Clock, off_s: int) -> None:
    """Also for what is very old: the network may have reported while the hub was off."""
    before, inbox = channel(vendor.url, keyvalue), KeptInbox()
    found = [await before.send(parcel, "k") for parcel in before.compose(message("x" * 300), "alice")]
    await before.aclose()
    vendor.statuses |= {found[0].ticket: (2, "MK:0001"), found[1].ticket: (3, "DELIVERED")}
    clock.set_by_s(off_s)
    made = channel(vendor.url, keyvalue)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, inbox)
        await until(lambda: len(inbox.reported) == 2)
        tasks.cancel_scope.cancel()
    told = {(ticket, delivery.outcome, delivery.code) for ticket, delivery in inbox.reported}
    assert told == {(found[0].ticket, "permanent", "MK:0001"), (found[1].ticket, "delivered", "")}
    assert await keyvalue.list("sms/waiting/") == []
    await made.aclose()


async def test_what_the_vendor_does_not_know_any_more_is_not_asked_for(
    vendor: AliyunSms, keyvalue: KeyValue, clock: Clock
) -> None:
    """It tells of the last 30 days."""
    before = channel(vendor.url, keyvalue)
    (parcel,) = before.compose(message(), "alice")
    old = (await before.send(parcel, "k")).ticket
    clock.set_by_s(31 * 86_400)
    young = (await before.send(parcel, "k")).ticket
    await before.aclose()
    vendor.statuses |= {old: (3, "DELIVERED"), young: (3, "DELIVERED")}
    clock.pass_s(60)
    made, inbox = channel(vendor.url, keyvalue), KeptInbox()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, inbox)
        await until(lambda: inbox.reported)
        tasks.cancel_scope.cancel()
    assert [ticket for ticket, _ in inbox.reported] == [young]
    assert await keyvalue.list("sms/waiting/") == []
    await made.aclose()


async def test_a_restart_without_a_network_asks_again_however_old_a_message_is(
    vendor: AliyunSms, keyvalue: KeyValue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "pause_s", lambda *times: 0.001)
    before, inbox = channel(vendor.url, keyvalue), KeptInbox()
    (parcel,) = before.compose(message(), "alice")
    ticket = (await before.send(parcel, "k")).ticket
    await before.aclose()
    vendor.statuses[ticket] = (2, "MK:0001")
    vendor.faults.append("cut")
    clock.set_by_s(4 * 86_400)
    made = channel(vendor.url, keyvalue)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, inbox)
        await until(lambda: not vendor.faults and made._receipts._due)
        assert inbox.reported == []
        clock.pass_s(1_800)
        await until(lambda: inbox.reported)
        tasks.cancel_scope.cancel()
    await made.aclose()


async def test_it_is_asked_for_by_the_day_on_which_it_was_sent(
    vendor: AliyunSms, keyvalue: KeyValue, clock: Clock
) -> None:
    clock.set_by_s(1_769_875_190 - time.time())  # 23:59:50 of 31 January in China
    before = channel(vendor.url, keyvalue)
    (parcel,) = before.compose(message(), "alice")
    await before.send(parcel, "k")
    await before.aclose()
    clock.set_by_s(3_600)
    made = channel(vendor.url, keyvalue)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, KeptInbox())
        await until(lambda: vendor.asked)
        tasks.cancel_scope.cancel()
    assert vendor.asked[0]["SendDate"] == "20260131"
    await made.aclose()


# --- pushed -------------------------------------------------------------------------------------------


def call(entries: object, **query: str) -> HookCall:
    body = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return HookCall("POST", {"token": TOKEN, **query}, {}, body)


def report(ticket: str, success: object, code: str = "DELIVERED") -> dict[str, object]:
    """As the vendor's page about SmsReport has it."""
    return {
        "phone_number": "13800138000", "send_time": "2026-01-31 00:00:00", "report_time": "2026-01-31 00:00:05",
        "success": success, "err_code": code, "err_msg": "x", "sms_size": "1", "biz_id": ticket, "out_id": "m-1.0",
    }  # fmt: skip


async def test_pushed_reports_settle_messages(keyvalue: KeyValue, rig: Rig) -> None:
    inbox = KeptInbox()
    (found,) = await rig.send(message())
    assert isinstance(rig.channel, SmsAliyun)
    reply = await rig.channel.hook(call([report(found.ticket, True), report("other", False, "UNDELIV")]), inbox)
    assert json.loads(reply.body)["code"] == 0
    told = [(ticket, delivery.outcome, delivery.code) for ticket, delivery in inbox.reported]
    assert told == [(found.ticket, "delivered", ""), ("other", "permanent", "UNDELIV")]
    assert await keyvalue.list("sms/waiting/") == []


async def test_a_reply_answers_the_last_message_to_its_number(vendor: AliyunSms, rig: Rig) -> None:
    inbox = KeptInbox()
    (found,) = await rig.send(message())
    inbox.messages[found.ticket] = "m-1"
    assert isinstance(rig.channel, SmsAliyun)
    up = {
        "phone_number": "13800138000", "send_time": "2026-01-31 08:00:00", "content": "知道了", "sign_name": SIGN_NAME,
        "dest_code": "1", "sequence_id": 1234567890,
    }  # fmt: skip
    stranger = {**up, "phone_number": "85299999999", "sequence_id": 7}
    for _ in range(2):
        await rig.channel.hook(call([up, stranger]), inbox)
    first, second = inbox.taken
    assert (first.from_, first.to, first.content, first.reply_to) == ("channel:sms/alice", "user:ops", "知道了", "m-1")
    assert first.timestamp == 1_769_817_600_000
    assert (second.from_, second.reply_to) == ("channel:sms/+85299999999", None)


async def test_a_reply_after_a_restart_answers_the_last_message_to_its_number(
    vendor: AliyunSms, keyvalue: KeyValue
) -> None:
    before, inbox = channel(vendor.url, keyvalue, any_number=True), KeptInbox()
    for target in ("alice", "+8613800138000"):
        (parcel,) = before.compose(message(), target)
        inbox.messages[(await before.send(parcel, "k")).ticket] = f"to-{target[:1]}"
    await before.aclose()
    up = {"phone_number": "13800138000", "send_time": "2026-01-31 08:00:00", "content": "知道了", "sequence_id": 1}
    made = channel(vendor.url, keyvalue, any_number=True)
    await made.hook(call([up]), inbox)
    assert [(taken.from_, taken.reply_to) for taken in inbox.taken] == [("channel:sms/+8613800138000", "to-+")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{}", 400), (b"[" * 100_000, 400), ([7, None, {}, {"biz_id": 7}], 200), (b"x" * 1_048_577, 413),
        ([{}] * 1_001, 400),
    ],
)  # fmt: skip
async def test_a_push_that_is_none_is_told(body: object, status: int) -> None:
    assert (await channel().hook(call(body), KeptInbox())).status == status


async def test_an_entry_that_can_never_be_stored_holds_up_no_other(keyvalue: KeyValue) -> None:
    """Else Aliyun would push the whole call again, for ever."""
    inbox = KeptInbox()
    up = {"phone_number": "13800138000", "send_time": "2026-01-31 08:00:00", "content": "知道了", "sequence_id": 1}
    reply = await channel(keyvalue=keyvalue).hook(
        call([{**up, "phone_number": "no\nnumber"}, up, report("1", True)]), inbox
    )
    assert (reply.status, [taken.content for taken in inbox.taken], len(inbox.reported)) == (200, ["知道了"], 1)


@pytest.mark.attack("forged vendor call")
@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
async def test_a_forged_push_is_refused(token: str) -> None:
    inbox = KeptInbox()
    assert (await channel().hook(call([report("1", True)], token=token), inbox)).status == 401
    assert inbox.reported == []


async def test_a_report_that_could_not_be_kept_is_not_confirmed(keyvalue: KeyValue) -> None:
    inbox = KeptInbox()
    inbox.refusal = StorageFull("/data")
    with pytest.raises(StorageFull):
        await channel(keyvalue=keyvalue).hook(call([report("1", True)]), inbox)


def test_no_secret_is_shown() -> None:
    made = channel()
    shown = repr(vars(made)) + json.dumps(made._settings.model_dump(mode="json"))
    assert not [secret for secret in (KEY_ID, KEY_SECRET, TOKEN) if secret in shown]
