"""SMS by Tencent Cloud against a strict fake that computes signatures its own way."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from autoglm.channels.adapters.sms_tencent import pull, signature
from autoglm.channels.adapters.sms_tencent.channel import SmsTencent, SmsTencentSettings
from autoglm.channels.adapters.sms_tencent.codes import of_code
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.pieces import utf16_units
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope, encode_envelope
from autoglm.core.errors import InvalidField, StorageFull, StoreBroken, UnknownRecipient
from autoglm.core.ports import KeyValue
from contracts.channel_contract import NO_STORE, ChannelContract, KeptInbox, Rig, message, no_blob
from eventually import until
from fakes.sms_tencent import APP, SECRET_ID, SECRET_KEY, SIGN_NAME, TencentSms
from fakes.vendor import HTTP_FAULTS


def channel(url: str = "http://x.example", keyvalue: KeyValue = NO_STORE, **fields: Any) -> SmsTencent:
    settings = parse_channel(
        {
            "name": "sms", "kind": "sms-tencent", "base_url": url, "secret_id": SECRET_ID, "secret_key": SECRET_KEY,
            "sdk_app_id": APP, "sign_name": SIGN_NAME, "template_id": "1110", "text_limit": 200,
            "numbers": {"alice": "+8613800138000"}, "incoming_to": "user:ops", "pull_every_s": 1, **fields,
        }
    )  # fmt: skip
    assert isinstance(settings, SmsTencentSettings)
    return SmsTencent(settings, Resources("sms", no_blob, keyvalue))


@pytest.fixture
def vendor() -> Iterator[TencentSms]:
    with TencentSms() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: TencentSms, keyvalue: KeyValue) -> AsyncIterator[Rig]:
    made = channel(vendor.url, keyvalue)
    yield Rig(
        made, target="alice", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(SECRET_KEY, SECRET_ID), limit=200, measure=utf16_units,
        faults=HTTP_FAULTS,
        form=lambda filler: {"TemplateId": "1110", "TemplateParamSet": [filler]},
    )  # fmt: skip
    await made.aclose()


class TestContract(ChannelContract):
    pass


@pytest.mark.parametrize(
    ("key", "signed", "expected"),
    [
        (SECRET_KEY, {}, "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"),
        (
            "*" * 32,
            {"x-tc-action": "describeinstances"},
            "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f",
        ),
    ],
)
def test_the_vendors_own_examples_of_a_signature(key: str, signed: dict[str, str], expected: str) -> None:
    """Of the pages about signature v3: an earlier one, and the one of today."""
    body = b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}'
    headers = {"content-type": "application/json; charset=utf-8", "host": "cvm.tencentcloudapi.com", **signed}
    assert signature._signature(body, headers, key, 1551113065, "cvm") == (expected, "2019-02-25/cvm/tc3_request")


async def test_each_character_survives(vendor: TencentSms, rig: Rig) -> None:
    text = "50% ~*'()!&=+/?#\"\\ 压机 👨\u200d👩\u200d👧\n{text} %2B"
    (found,) = await rig.send(message(text))
    assert (found.outcome, found.ticket, vendor.texts) == ("accepted", "2019:538884000001", [text])
    assert vendor.sent[0]["SessionContext"] == "m-1.0"


async def test_a_clock_that_is_wrong_is_told(vendor: TencentSms, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s - 400)
    (found,) = await rig.send(message())
    assert (found.failure, found.code) == ("auth", "AuthFailure.SignatureExpire")
    assert "clock" in found.reason.en


async def test_a_code_with_http_200_is_a_failure(keyvalue: KeyValue) -> None:
    with TencentSms(per_number=1) as vendor:
        made = channel(vendor.url, keyvalue)
        (parcel,) = made.compose(message(), "alice")
        found = [await made.send(parcel, "k") for _ in range(2)]
        await made.aclose()
    assert [delivery.outcome for delivery in found] == ["accepted", "retry"]
    assert (found[1].failure, found[1].retry_after_s) == ("throttled", 30.0)


@pytest.mark.parametrize(
    ("code", "failure", "rest_s"),
    [
        ("LimitExceeded.PhoneNumberOneHourLimit", "throttled", 3_600), ("LimitExceeded.AppDailyLimit", "throttled", 60),
        ("RequestLimitExceeded", "throttled", 5), ("AuthFailure.SignatureFailure", "auth", None),
        ("UnauthorizedOperation.RequestIpNotInWhitelist", "auth", None),
        ("InternalError.SendAndRecvFail", "transient", None),
        ("FailedOperation.InsufficientBalanceInSmsPackage", "auth", None),
        ("InvalidParameterValue.TemplateParameterLengthLimit", "too_large", None),
        ("FailedOperation.NeverSeen", "permanent", None), ("LimitExceededNot", "permanent", None),
        ("<b>", "permanent", None),
    ],
)  # fmt: skip
def test_codes_have_their_class(code: str, failure: str, rest_s: float | None) -> None:
    found = of_code(code)
    assert (found.failure, found.retry_after_s) == (failure, rest_s)
    assert "<" not in found.code + found.reason.en


async def test_own_forms_go_as_they_are(vendor: TencentSms, rig: Rig) -> None:
    form = {"TemplateId": "2220", "TemplateParamSet": ["王", "3"]}
    (found,) = await rig.send(message([{"type": "json", "json": form}]))
    assert found.outcome == "accepted"
    assert {name: vendor.sent[0][name] for name in form} == form


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (" ", "empty"),
        ([{"type": "json", "json": {"TemplateId": "1", "TemplateParamSet": [1]}}], "InvalidParameterValue"),
        ([{"type": "json", "json": {"TemplateId": 1}}], "InvalidParameterValue"),
        ("x" * 3_000, "too_many_pieces"),
    ],
)
def test_what_cannot_go_is_refused(content: Any, code: str) -> None:
    with pytest.raises(Cannot) as caught:
        channel().compose(message(content), "alice")
    assert caught.value.delivery.code == code


def test_limits_are_a_numbers_own() -> None:
    assert channel().limits("alice").windows == ((1, 30.0), (10, 86_400.0))
    assert channel(per_minute=7).limits("alice").windows == ((7, 60.0),)


def test_a_template_must_take_the_text() -> None:
    with pytest.raises(ValidationError, match="one of the parameters"):
        channel(template_params=["1"])


# --- pulled -------------------------------------------------------------------------------------------


def status(ticket: str, report: str, description: str) -> dict[str, Any]:
    """As the page about PullSmsSendStatus has it."""
    return {
        "UserReceiveTime": 1570526317, "CountryCode": "86", "SubscriberNumber": "13800138000",
        "PhoneNumber": "+8613800138000", "SerialNo": ticket, "ReportStatus": report, "Description": description,
    }  # fmt: skip


def reply(text: str, number: str = "+8613800138000", at_s: int = 1_790_000_000) -> dict[str, Any]:
    """As the page about PullSmsReplyStatus has it."""
    return {
        "ExtendCode": "1", "CountryCode": "86", "SubscriberNumber": number[3:], "PhoneNumber": number,
        "SignName": SIGN_NAME, "ReplyContent": text, "ReplyTime": at_s,
    }  # fmt: skip


async def test_statuses_and_replies_are_pulled(vendor: TencentSms, rig: Rig) -> None:
    inbox = KeptInbox()
    (found,) = await rig.send(message())
    inbox.messages[found.ticket] = "m-1"
    vendor.statuses += [status(found.ticket, "SUCCESS", "DELIVRD"), status("other", "FAIL", "MK:0004"), {}]
    vendor.replies += [reply("知道了"), reply("?", "+85299999999")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.channel.run, inbox)
        await until(lambda: len(inbox.reported) == 2 and len(inbox.taken) == 2)
        tasks.cancel_scope.cancel()
    told = [(ticket, delivery.outcome, delivery.code) for ticket, delivery in inbox.reported]
    assert told == [(found.ticket, "delivered", ""), ("other", "permanent", "MK:0004")]
    first, second = inbox.taken
    assert (first.from_, first.to, first.content, first.reply_to) == ("channel:sms/alice", "user:ops", "知道了", "m-1")
    assert first.timestamp == 1_790_000_000_000
    assert (second.from_, second.reply_to) == ("channel:sms/+85299999999", None)


async def test_a_reply_is_from_the_address_that_was_written_to(vendor: TencentSms, keyvalue: KeyValue) -> None:
    """Else it would not count as its answer."""
    made = channel(vendor.url, keyvalue, any_number=True)
    inbox = KeptInbox()
    for target in ("alice", "+8613800138000"):
        (parcel,) = made.compose(message(), target)
        found = await made.send(parcel, "k")
        inbox.messages[found.ticket] = f"to-{target[:1]}"
    vendor.replies += [reply("知道了")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, inbox)
        await until(lambda: inbox.taken)
        tasks.cancel_scope.cancel()
    assert (inbox.taken[0].from_, inbox.taken[0].reply_to) == ("channel:sms/+8613800138000", "to-+")
    await made.aclose()


async def test_a_reply_after_a_restart_answers_the_last_message_to_its_number(
    vendor: TencentSms, keyvalue: KeyValue
) -> None:
    before, inbox = channel(vendor.url, keyvalue), KeptInbox()
    for id in ("m-1", "m-2"):
        (parcel,) = before.compose(message(), "alice")
        inbox.messages[(await before.send(parcel, "k")).ticket] = id
    await before.aclose()
    vendor.replies += [reply("知道了")]
    made = channel(vendor.url, keyvalue)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, inbox)
        await until(lambda: inbox.taken)
        tasks.cancel_scope.cancel()
    assert [(taken.from_, taken.reply_to) for taken in inbox.taken] == [("channel:sms/alice", "m-2")]
    await made.aclose()


@pytest.mark.parametrize(("pull", "count"), [("all", 1), ("statuses", 0)])
async def test_only_what_a_reply_may_be_for_is_noted(
    vendor: TencentSms, keyvalue: KeyValue, pull: str, count: int
) -> None:
    made = channel(vendor.url, keyvalue, pull=pull)
    (parcel,) = made.compose(message(), "alice")
    for _ in range(3):
        await made.send(parcel, "k")
    assert len(await keyvalue.list("sms/")) == count
    await made.aclose()


async def test_more_than_one_pull_holds_comes_at_once(vendor: TencentSms) -> None:
    made = channel(vendor.url, pull="statuses", pull_every_s=3_600)
    vendor.statuses += [status(f"t{number}", "SUCCESS", "DELIVRD") for number in range(250)]
    inbox = KeptInbox()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run, inbox)
        await until(lambda: len(inbox.reported) == 250)
        tasks.cancel_scope.cancel()
    assert vendor.pulls == {"PullSmsSendStatus": 3}
    await made.aclose()


async def test_what_was_pulled_is_kept_until_it_is_stored(
    vendor: TencentSms, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor hands it out once."""
    monkeypatch.setattr(pull, "pause_s", lambda *times: 0.001)
    vendor.faults.extend(["server_error", "auth", "transient"])
    vendor.statuses += [status(f"t{number}", "SUCCESS", "DELIVRD") for number in range(3)]
    vendor.replies += [reply("知道了")]
    inbox = KeptInbox()
    inbox.refusal = StorageFull("/data")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.channel.run, inbox)
        await until(lambda: vendor.statuses == vendor.replies == [])
        inbox.refusal = None
        await until(lambda: len(inbox.reported) == 3 and len(inbox.taken) == 1)
        tasks.cancel_scope.cancel()
    assert [ticket for ticket, _ in inbox.reported] == ["t0", "t1", "t2"]


async def test_what_was_pulled_is_stored_when_the_hub_stops() -> None:
    class Slow(KeptInbox):
        """Answers when it is let."""

        def __init__(self) -> None:
            super().__init__()
            self.begun, self.may = anyio.Event(), anyio.Event()

        async def report(self, ticket: str, delivery: Any) -> None:
            self.begun.set()
            await self.may.wait()
            await super().report(ticket, delivery)

    with TencentSms() as vendor:
        made = channel(vendor.url, pull="statuses")
        vendor.statuses += [status(f"t{number}", "SUCCESS", "DELIVRD") for number in range(3)]
        inbox = Slow()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.run, inbox)
            await inbox.begun.wait()
            tasks.cancel_scope.cancel()
            inbox.may.set()
        assert [ticket for ticket, _ in inbox.reported] == ["t0", "t1", "t2"]
        await made.aclose()


async def test_an_entry_that_can_never_be_stored_holds_up_no_other(vendor: TencentSms, rig: Rig) -> None:
    class Picky(KeptInbox):
        async def take(self, envelope: Envelope) -> bool:
            if envelope.content == "bad":
                raise InvalidField("content", "is bad")
            if envelope.content == "nowhere":
                raise UnknownRecipient("user:ops", "nobody has the name")
            encode_envelope(envelope)
            return await super().take(envelope)

    vendor.replies += [reply("bad"), reply("nowhere"), reply("good", at_s=10**30), reply("x", number="a number")]
    inbox = Picky()
    with capture_logs() as lines:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.channel.run, inbox)
            await until(lambda: inbox.taken and [line for line in lines if line["event"] == "sms_entry_dropped"][2:])
            tasks.cancel_scope.cancel()
    assert [taken.content for taken in inbox.taken] == ["good"]


async def test_a_store_that_is_broken_drops_no_entry(vendor: TencentSms, rig: Rig) -> None:
    """A pull consumes them: what was fetched is kept until the store takes it."""

    class Broken(KeptInbox):
        tries = 0

        async def take(self, envelope: Envelope) -> bool:
            self.tries += 1
            if self.tries < 3:
                raise StoreBroken("data", "it cannot be read")
            return await super().take(envelope)

    vendor.replies += [reply("help")]
    inbox = Broken()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.channel.run, inbox)
        await until(lambda: inbox.taken)
        tasks.cancel_scope.cancel()
    assert ([taken.content for taken in inbox.taken], inbox.tries) == (["help"], 3)


async def test_a_pull_that_is_refused_again_and_again_is_one_line_of_the_log(
    vendor: TencentSms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "pause_s", lambda *times: 0.001)
    made = channel(vendor.url, pull="statuses")
    vendor.faults.extend(["auth"] * 20)
    with capture_logs() as lines:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.run, KeptInbox())
            await until(lambda: vendor.pulls["PullSmsSendStatus"] >= 1)
            tasks.cancel_scope.cancel()
    assert [line["event"] for line in lines] == ["sms_pull_failed"]
    assert "SecretIdNotFound" in lines[0]["reason"]
    await made.aclose()


async def test_nothing_is_pulled_where_another_program_does(vendor: TencentSms) -> None:
    made = channel(vendor.url, pull="nothing")
    await made.run(KeptInbox())
    assert vendor.requests == []
    await made.aclose()


def test_no_secret_is_shown() -> None:
    made = channel()
    shown = repr(vars(made)) + json.dumps(made._settings.model_dump(mode="json"))
    assert not [secret for secret in (SECRET_ID, SECRET_KEY) if secret in shown]
