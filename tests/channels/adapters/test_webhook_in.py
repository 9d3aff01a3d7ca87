"""Webhooks in: signed by the reference library, and by attackers."""

import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from autoglm.channels.adapters.webhook import incoming
from autoglm.channels.adapters.webhook.channel import Webhook
from autoglm.channels.adapters.webhook.settings import WebhookSettings
from autoglm.channels.adapters.webhook.signature import is_signed, parse_secrets, sign
from autoglm.channels.channel import HookCall, HookReply, Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import JsonPart
from autoglm.core.errors import HubError, InvalidField, InvalidJson, StorageFull
from contracts.channel_contract import KeptInbox, no_blob

ERP = "whsec_" + base64.b64encode(b"erp" * 8).decode()
NEW = "whsec_" + base64.b64encode(b"new" * 8).decode()
MES = "whsec_" + base64.b64encode(b"mes" * 8).decode()


def settings(**fields: Any) -> WebhookSettings:
    endpoints = {"erp": {"secret": f"{ERP} {NEW}"}, "mes": {"secret": MES}}
    found = parse_channel({"name": "hooks", "kind": "webhook", "endpoints": endpoints, **fields})
    assert isinstance(found, WebhookSettings)
    return found


@pytest.fixture
async def channel() -> AsyncIterator[Webhook]:
    channel = Webhook(settings(incoming_to="user:alice"), Resources("hooks", no_blob))
    yield channel
    await channel.aclose()


def call(
    body: object,
    *,
    secret: str = ERP,
    id: str = "msg_1",
    at_s: float | None = None,
    query: dict[str, str] | None = None,
) -> HookCall:
    """Signed by the reference library."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    at = datetime.fromtimestamp(time.time() if at_s is None else at_s, UTC)
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(id, at, raw.decode()),
    }
    return HookCall("POST", query or {}, headers, raw)


def altered(signed: HookCall, **headers: str) -> HookCall:
    return signed._replace(
        headers={**signed.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
    )


async def test_what_looks_like_an_envelope_becomes_one(channel: Webhook) -> None:
    inbox = KeptInbox()
    body = {
        "content": "压机停了", "kind": "alert", "priority": 8, "labels": {"line": "3"}, "thread": "t",
        "reply_to": "m-1", "id": "chosen", "from": "user:admin", "to": "user:ceo", "timestamp": 5,
    }  # fmt: skip
    assert await channel.hook(call(body), inbox) == HookReply(200, b"taken")
    (taken,) = inbox.taken
    assert (taken.content, taken.kind, taken.priority, taken.labels) == ("压机停了", "alert", 8, {"line": "3"})
    assert (taken.thread, taken.reply_to) == ("t", "m-1")
    assert (taken.from_, taken.to) == ("channel:hooks/erp", "user:alice")
    assert taken.id.startswith("hook-")
    assert abs(taken.timestamp - time.time() * 1000) < 5000


@pytest.mark.parametrize("body", [{"a": [1, None]}, [1, 2], "text", 7, None, {"content": "x", "stranger": 1}, {}])
async def test_any_other_json_becomes_a_part(channel: Webhook, body: Any) -> None:
    inbox = KeptInbox()
    await channel.hook(call(body), inbox)
    assert inbox.taken[0].content == [JsonPart(json=body)]


@pytest.mark.parametrize(("secret", "sender"), [(ERP, "erp"), (NEW, "erp"), (MES, "mes")])
@pytest.mark.parametrize("is_named", [True, False])
async def test_who_signed_is_who_sent(channel: Webhook, secret: str, sender: str, is_named: bool) -> None:
    inbox = KeptInbox()
    await channel.hook(call({}, secret=secret, query={"endpoint": sender} if is_named else {}), inbox)
    assert inbox.taken[0].from_ == f"channel:hooks/{sender}"


async def test_a_public_key_verifies_ed25519() -> None:
    key = Ed25519PrivateKey.generate()
    public = "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    channel = Webhook(settings(endpoints={"plc": {"secret": public}}), Resources("hooks", no_blob))
    good = call({}, secret=ERP)
    content = f"msg_1.{good.headers['webhook-timestamp']}.".encode() + good.body
    signature = base64.b64encode(key.sign(content)).decode()
    inbox = KeptInbox()
    assert (await channel.hook(altered(good, webhook_signature=f"v1,AAAA v1a,{signature}"), inbox)).status == 200
    forged = base64.b64encode(key.sign(content + b" ")).decode()
    assert (await channel.hook(altered(good, webhook_signature=f"v1a,{forged}"), inbox)).status == 401
    assert len(inbox.taken) == 1


# --- attacks ------------------------------------------------------------------------------------------


async def test_what_was_changed_on_the_way_is_refused(channel: Webhook) -> None:
    good = call({"content": "x"})
    stranger = call({"content": "x"}, secret="whsec_" + base64.b64encode(b"no!" * 8).decode())
    signature = good.headers["webhook-signature"]
    later = str(int(good.headers["webhook-timestamp"]) + 1)
    forged = [
        stranger,
        good._replace(body=good.body + b" "),
        altered(good, webhook_id="msg_2"),
        altered(good, webhook_timestamp=later),
        altered(good, webhook_signature=signature.replace("v1,", "v2,")),
        altered(good, webhook_signature=signature.replace("v1,", "v1a,")),
        altered(good, webhook_signature=signature[3:]),
        altered(good, webhook_signature=signature[:-4]),
        altered(good, webhook_signature="v1,"),
        altered(good, webhook_signature="v1,压压压压"),
        altered(good, webhook_signature=""),
        altered(good, webhook_signature=" ".join(["v1," + "A" * 43 + "="] * 16 + [signature])),
        good._replace(query={"endpoint": "mes"}),
        good._replace(query={"endpoint": "nobody"}),
    ]
    for bad in forged:
        assert (await channel.hook(bad, Nobody())).status == 401
    assert (await channel.hook(good, KeptInbox())).status == 200


async def test_with_many_endpoints_a_call_names_its_own() -> None:
    """Each secret that is tried hashes the body, and anybody may call."""
    many = {f"press-{number}": {"secret": MES} for number in range(incoming.MAX_TRIED)} | {"erp": {"secret": ERP}}
    channel = Webhook(settings(endpoints=many), Resources("hooks", no_blob))
    reply = await channel.hook(call({}), Nobody())
    assert reply.status == 400
    assert b"?endpoint=ENDPOINT" in reply.body
    inbox = KeptInbox()
    assert (await channel.hook(call({}, query={"endpoint": "erp"}), inbox)).status == 200
    assert inbox.taken[0].from_ == "channel:hooks/erp"
    await channel.aclose()


def test_no_call_has_many_signatures_checked_by_ed25519() -> None:
    """Each costs a hash of the body."""
    key = Ed25519PrivateKey.generate()
    secrets = parse_secrets("whsk_" + base64.b64encode(key.private_bytes_raw()).decode())
    good, wrong = sign(secrets, "id", 1, b"x"), sign(secrets, "id", 2, b"x")
    assert is_signed(secrets, " ".join([*[wrong] * 3, good]), "id", "1", b"x")
    assert not is_signed(secrets, " ".join([*[wrong] * 4, good]), "id", "1", b"x")


def test_no_body_may_be_longer_than_the_hub_reads() -> None:
    with pytest.raises(ValidationError):
        settings(incoming_bytes=1_048_577)


class Nobody(KeptInbox):
    """Takes nothing."""

    async def take(self, envelope: object) -> bool:
        raise AssertionError("was taken")


@pytest.mark.parametrize(("offset_s", "status"), [(-310, 401), (-290, 200), (0, 200), (290, 200), (310, 401)])
async def test_five_minutes_to_either_side_are_taken(channel: Webhook, offset_s: int, status: int) -> None:
    inbox = KeptInbox()
    assert (await channel.hook(call({}, at_s=time.time() + offset_s), inbox)).status == status
    assert len(inbox.taken) == (status == 200)


async def test_who_is_refused_is_told_and_not_remembered_as_heard(channel: Webhook) -> None:
    inbox = KeptInbox()
    inbox.strangers = {"erp", "mes"}
    assert (await channel.hook(call({}), inbox)).status == 403
    inbox.strangers.clear()
    assert (await channel.hook(call({}), inbox)).status == 200


@pytest.mark.attack("replay of a vendor call")
async def test_a_replayed_call_is_taken_once(channel: Webhook) -> None:
    inbox = KeptInbox()
    good = call({"content": "x"})
    retried = call({"content": "x"}, at_s=time.time() - 60)  # the sender's own retry: the same id, another time
    for again in (good, good, retried):
        assert (await channel.hook(again, inbox)).status == 200
    inbox.taken.clear()  # the inbox is not even asked
    assert (await channel.hook(good, inbox)).status == 200
    assert inbox.taken == []


async def test_two_endpoints_may_use_the_same_id(channel: Webhook) -> None:
    inbox = KeptInbox()
    for secret in (ERP, MES):
        await channel.hook(call({}, secret=secret), inbox)
    assert len({taken.id for taken in inbox.taken}) == 2


async def test_what_was_not_stored_is_not_remembered(channel: Webhook) -> None:
    """The sender hears of the failure, and its next attempt counts."""
    inbox = KeptInbox()
    inbox.refusal = StorageFull("/data")
    with pytest.raises(StorageFull):
        await channel.hook(call({}), inbox)
    inbox.refusal = None
    await channel.hook(call({}), inbox)
    assert len(inbox.taken) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook_id": ""}, {"webhook_id": "a.b"}, {"webhook_id": "a b"}, {"webhook_id": "x" * 257},
        {"webhook_id": "压"}, {"webhook_timestamp": ""}, {"webhook_timestamp": "-1"}, {"webhook_timestamp": "1e9"},
        {"webhook_timestamp": "nan"}, {"webhook_timestamp": "9" * 5000}, {"webhook_timestamp": "١٢٣"},
    ],
)  # fmt: skip
async def test_headers_that_are_none_are_refused(channel: Webhook, headers: dict[str, str]) -> None:
    assert (await channel.hook(altered(call({}), **headers), Nobody())).status == 400


async def test_nothing_but_a_post_is_taken(channel: Webhook) -> None:
    assert (await channel.hook(call({})._replace(method="GET"), Nobody())).status == 405
    assert (await channel.hook(HookCall("POST", {}, {}, b""), Nobody())).status == 400


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidJson), (b"<xml/>", InvalidJson), (b"{", InvalidJson), (b"NaN", InvalidJson),
        (b'"\\ud800"', InvalidJson), (b"\xef\xbb\xbf{}", InvalidJson), (b"[" * 200_000, HubError),
        (b"[" * 101 + b"]" * 101, InvalidField), (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, InvalidField),
        (b'{"content": 7}', InvalidField), (b'{"content": "x", "priority": 11}', InvalidField),
        (b'{"content": "x", "reply_to": "a b"}', InvalidField),
        (b'{"content": "x", "labels": {"a": 1}}', InvalidField),
    ],
)  # fmt: skip
async def test_a_signed_body_that_is_no_message_is_told(channel: Webhook, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await channel.hook(call(body), Nobody())


@pytest.mark.parametrize(("size", "status"), [(1024, 200), (1025, 413), (5_000_000, 413)])
async def test_a_long_body_is_refused(size: int, status: int) -> None:
    channel = Webhook(settings(incoming_bytes=1024), Resources("hooks", no_blob))
    found = await channel.hook(call(b'"' + b"x" * (size - 2) + b'"'), KeptInbox())
    assert found.status == status


async def test_a_flood_of_forgeries_costs_little_and_one_line_of_the_log(channel: Webhook) -> None:
    good = call({"x": "y" * 100_000})
    forged = altered(good, webhook_signature="v1," + base64.b64encode(bytes(32)).decode())
    begun_s = time.process_time()
    with capture_logs() as lines:
        for _ in range(500):
            assert (await channel.hook(forged, Nobody())).status == 401
    assert time.process_time() - begun_s < 2.0
    assert [line["event"] for line in lines] == ["hook_calls_refused"]


async def test_few_ids_are_remembered(channel: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "REMEMBERED", 50)
    inbox = KeptInbox()
    for number in range(120):
        await channel.hook(call({}, id=f"msg_{number}"), inbox)
    assert len(channel._incoming._known) == 50
    await channel.hook(call({}, id="msg_0"), inbox)  # forgotten here, and known to the inbox
    assert len(inbox.taken) == 120
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 601)
    await channel.hook(call({}, id="msg_x"), inbox)
    assert len(channel._incoming._known) == 1


# --- the signature itself -----------------------------------------------------------------------------


@given(st.from_regex(r"[a-zA-Z0-9_-]{1,40}", fullmatch=True), st.integers(0, 2**40), st.text())
def test_the_reference_library_signs_the_same(id: str, timestamp_s: int, payload: str) -> None:
    at = datetime.fromtimestamp(timestamp_s % 2**32, UTC)
    ours = sign(parse_secrets(ERP), id, int(at.timestamp()), payload.encode("utf-8", "replace"))
    theirs = standardwebhooks.Webhook(ERP).sign(id, at, payload.encode("utf-8", "replace").decode())
    assert ours == theirs


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=4), st.integers(0, 10**6))
def test_any_change_of_the_payload_breaks_the_signature(payload: bytes, noise: bytes, place: int) -> None:
    secrets = parse_secrets(f"{NEW} {ERP}")
    header = sign(secrets, "a", 7, payload)
    assert is_signed(parse_secrets(ERP), header, "a", "7", payload)
    at = place % (len(payload) + 1)
    assert not is_signed(secrets, header, "a", "7", payload[:at] + noise + payload[at:])
