"""A gateway described in the settings, against one that answers HTTP 200 to everything."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoglm.channels.adapters.http_sms.channel import HttpSms
from autoglm.channels.adapters.http_sms.settings import HttpSmsSettings
from autoglm.channels.adapters.http_sms.template import at, filled_form, filled_json, filled_query
from autoglm.channels.channel import Cannot, HookCall, Resources
from autoglm.channels.pieces import utf16_units
from autoglm.channels.settings import parse_channel
from autoglm.core.errors import StorageFull
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message, no_blob
from fakes.sms_gateway import ACCOUNT, PASSWORD, SmsGateway
from fakes.vendor import HTTP_FAULTS

TOKEN = "a-long-token-of-ours"
NASTY = '"},{"mobile":"1"} &mobile=1#/../{to}{id}\r\nX: y %26 + 压\u2028\\'
BODIES = {
    "json": json.dumps({"account": ACCOUNT, "mobile": "{to}", "content": "{text}", "ref": "{id}"}),
    "form": f"account={ACCOUNT}&mobile={{to}}&content={{text}}&ref={{id}}",
}


def channel(base: str, form: str = "json", **fields: Any) -> HttpSms:
    by_form = {"method": "GET"} if form == "query" else {"format": form, "body": BODIES[form]}
    query = f"?{BODIES['form']}" if form == "query" else ""
    settings = parse_channel(
        {
            "name": "sms", "kind": "http-sms", "url": f"{base}/{form}{query}", "headers": {"X-Password": PASSWORD},
            "numbers": {"alice": "+8613800138000"}, "code_path": "result.code", "ticket_path": "data.0.id",
            "failures": {"105": "throttled", "500": "transient", "101": "auth", "111": "too_large"},
            "receipt_ticket_path": "msgid", "receipt_status_path": "stat.code", "hook_token": TOKEN,
            "receipts": {"DELIVRD": "delivered", "true": "delivered", "UNDELIV": "permanent"}, **by_form, **fields,
        }
    )  # fmt: skip
    assert isinstance(settings, HttpSmsSettings)
    return HttpSms(settings, Resources("sms", no_blob))


@pytest.fixture
def gateway() -> Iterator[SmsGateway]:
    with SmsGateway() as gateway:
        yield gateway


@pytest.fixture(params=["json", "form"])
async def rig(gateway: SmsGateway, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made = channel(gateway.url, request.param)
    yield Rig(
        made, target="alice", texts=lambda: gateway.texts, misbehave=gateway.faults.append, stop=gateway.__exit__,
        secrets=(PASSWORD,), limit=500, measure=utf16_units,
        faults=HTTP_FAULTS,
    )  # fmt: skip
    await made.aclose()


class TestContract(ChannelContract):
    pass


@pytest.mark.parametrize("form", ["json", "form", "query"])
async def test_no_text_breaks_out_of_its_place(gateway: SmsGateway, form: str) -> None:
    made = channel(gateway.url, form)
    (parcel,) = made.compose(message(NASTY), "alice")
    found = await made.send(parcel, "m-1.0&ref=2")
    assert (found.outcome, found.ticket) == ("accepted", "1")
    assert gateway.sent == [("+8613800138000", NASTY, "m-1.0&ref=2")]
    await made.aclose()


@given(st.text())
def test_whatever_is_filled_in_is_read_back(text: str) -> None:
    values = {"to": "+861", "text": text, "id": "{text}"}
    wanted = {"a": text, "b": "{text}"}
    assert json.loads(filled_json('{"a": "{text}", "b": "{id}"}', values)) == wanted
    template = "a={text}&b={id}"
    for query in (
        urlsplit(filled_query(f"http://x/?{template}", values)).query,
        filled_form(template, values).decode(),
    ):
        assert {name: found[0] for name, found in parse_qs(query, keep_blank_values=True).items()} == wanted


async def test_the_gateways_codes_have_the_classes_of_the_settings(gateway: SmsGateway, rig: Rig) -> None:
    gateway.faults.extend(["throttled", "permanent"])
    (throttled,) = await rig.send(message())
    (unknown,) = await rig.send(message())
    assert (throttled.code, throttled.failure) == ("105", "throttled")
    assert (unknown.code, unknown.failure) == ("999", "permanent")
    assert "999" in unknown.reason.en


async def test_without_a_code_each_2xx_is_a_success(gateway: SmsGateway) -> None:
    made = channel(gateway.url, code_path="", ticket_path="")
    (parcel,) = made.compose(message(), "alice")
    found = await made.send(parcel, "k")
    assert (found.outcome, found.ticket) == ("accepted", "")
    await made.aclose()


async def test_the_check_url_is_judged_by_its_code(gateway: SmsGateway) -> None:
    good = channel(gateway.url, check_url=f"{gateway.url}/balance")
    bad = channel(gateway.url, check_url=f"{gateway.url}/balance", headers={"X-Password": "wrong"})
    assert (await good.check()).ok
    health = await bad.check()
    assert (health.ok, health.code) == (False, "101")
    await good.aclose()
    await bad.aclose()


@pytest.mark.parametrize("target", ["+8613900139000", "alice"])
def test_numbers_may_be_given_where_the_settings_say_so(target: str) -> None:
    assert channel("http://x.example", any_number=True).compose(message(), target)


@pytest.mark.parametrize(
    "target",
    [
        "+8613900139000",
        "8613900139000",
        "+",
        "+0123456789",
        "+8613900139000\n",
        "+86139001390001234",
        "+861390013900a",
        "+١٢٣٤٥٦٧٨٩",
    ],
)
@pytest.mark.parametrize("any_number", [True, False])
def test_a_target_that_is_no_number_of_ours_is_refused(target: str, any_number: bool) -> None:
    if any_number and target == "+8613900139000":
        return
    with pytest.raises(Cannot) as caught:
        channel("http://x.example", any_number=any_number).compose(message(), target)
    assert caught.value.delivery.code == "unknown_target"


@pytest.mark.parametrize(("content", "code"), [("", "empty"), (" \n", "empty"), ("x" * 6_000, "too_many_pieces")])
def test_what_is_no_sms_is_refused(content: str, code: str) -> None:
    with pytest.raises(Cannot) as caught:
        channel("http://x.example").compose(message(content), "alice")
    assert caught.value.delivery.code == code


def test_a_huge_text_is_refused_at_once() -> None:
    made = channel("http://x.example", text_limit=64)
    envelope = message("压机停了。" * 2_000_000)
    begun_s = time.process_time()
    with pytest.raises(Cannot):
        made.compose(envelope, "alice")
    assert time.process_time() - begun_s < 1.0


# --- reports ------------------------------------------------------------------------------------------


def call(body: bytes = b"", *, method: str = "POST", **query: str) -> HookCall:
    return HookCall(method, {"token": TOKEN, **query}, {}, body)


async def test_reports_come_in_three_forms() -> None:
    inbox = KeptInbox()
    made = channel("http://x.example", hook_answer="SUCCESS")
    flat = channel("http://x.example", receipt_status_path="stat")
    reports = [{"msgid": 7, "stat": {"code": "DELIVRD"}}, {"msgid": "8", "stat": {"code": True}}]
    assert (await made.hook(call(json.dumps(reports).encode()), inbox)).body == b"SUCCESS"
    assert (await flat.hook(call(b"msgid=9&stat=UNDELIV"), inbox)).status == 200
    assert (await flat.hook(call(method="GET", msgid="10", stat="DELIVRD"), inbox)).status == 200
    told = [(ticket, delivery.outcome, delivery.code) for ticket, delivery in inbox.reported]
    assert told == [
        ("7", "delivered", ""),
        ("8", "delivered", ""),
        ("9", "permanent", "UNDELIV"),
        ("10", "delivered", ""),
    ]


async def test_a_status_that_the_settings_do_not_name_means_nothing_yet() -> None:
    inbox = KeptInbox()
    body = b'{"msgid": 7, "stat": {"code": "ENROUTE"}}'
    assert (await channel("http://x.example").hook(call(body), inbox)).status == 200
    assert inbox.reported == []


async def test_a_report_that_could_not_be_kept_is_not_confirmed() -> None:
    inbox = KeptInbox()
    inbox.refusal = StorageFull("/data")
    with pytest.raises(StorageFull):
        await channel("http://x.example").hook(call(b'{"msgid": 7, "stat": {"code": "DELIVRD"}}'), inbox)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "压"])
async def test_a_call_without_the_token_is_refused(token: str) -> None:
    forged = call(b'{"msgid": 7, "stat": {"code": "DELIVRD"}}', token=token)
    inbox = KeptInbox()
    assert (await channel("http://x.example").hook(forged, inbox)).status == 401
    assert (await channel("http://x.example", hook_token=None).hook(forged, inbox)).status == 401
    assert inbox.reported == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"nonsense", 400), (b"[]", 400), (b"7", 400), (b"[[[]]]", 400), (b'{"msgid": {}}', 400),
        (b"[" * 100_000, 400), (b"a=b&" * 1_000, 400), (b"\xff\xfe", 400), (b"[" + b"{}," * 1_000 + b"{}]", 413),
        (b" " * ((1 << 20) + 1), 413),
    ],
)  # fmt: skip
async def test_a_report_that_is_none_is_told(body: bytes, status: int) -> None:
    assert (await channel("http://x.example").hook(call(body), KeptInbox())).status == status


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"url": "http://{to}.example/"}, "in the query only"),
        ({"url": "http://x.example/{id}?a={text}"}, "in the query only"),
        ({"url": "http://x.example/?a={phone}"}, "nothing fills {phone}"),
        ({"url": "gateway"}, "must be an address"),
        ({"body": '{"to": {to}}'}, "body must be JSON"),
        ({"body": '{"to": "{recipient}"}'}, "nothing fills"),
        ({"body": None}, "body is needed"),
        ({"method": "GET"}, "none for GET"),
        ({"headers": {"A": "{text}"}}, "nothing fills"),
        ({"headers": {"A": "x\r\nB: y"}}, "no header"),
        ({"headers": {"A b": "x"}}, "no header"),
        ({"failures": {"1": "bad"}}, "throttled"),
        ({"receipt_ticket_path": ""}, "go together"),
        ({"hook_token": "short"}, "16"),
        ({"numbers": {"bob": "13800138000"}}, "pattern"),
    ],
)
def test_settings_that_cannot_work_are_told(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        channel("http://x.example", **fields)


def test_no_secret_is_shown() -> None:
    made = channel("http://x.example/t0ken")
    shown = repr(vars(made)) + json.dumps(made._settings.model_dump(mode="json"))
    assert not [secret for secret in (PASSWORD, TOKEN, "t0ken", ACCOUNT) if secret in shown]


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ({"a": [{"b": 0}]}, "a.0.b", "0"), ({"a": False}, "a", "false"), ({"a": None}, "a", None),
        ({"a": {}}, "a", None),
        ([1], "0", "1"), ([1], "1", None), ([1], "-1", None), ([1], "9" * 5_000, None), ("x", "a", None),
        ({"a": 1.5}, "a", "1.5"),
    ],
)  # fmt: skip
def test_a_path_leads_to_a_value(value: object, path: str, expected: str | None) -> None:
    assert at(value, path) == expected
