"""Webhooks out, to a receiver that verifies with the reference library."""

import base64
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from autoglm.channels.adapters.webhook.channel import Webhook, webhook_id
from autoglm.channels.adapters.webhook.settings import WebhookSettings
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from contracts.channel_contract import ChannelContract, Rig, message, no_blob
from fakes.webhooks import WebhookReceiver


def secret(byte: int, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes([byte]) * size).decode()


def channel(endpoints: dict[str, Any], **fields: Any) -> Webhook:
    settings = parse_channel(
        {"name": "hooks", "kind": "webhook", "endpoints": endpoints, "allow": ["127.0.0.1"], **fields}
    )
    assert isinstance(settings, WebhookSettings)
    return Webhook(settings, Resources("hooks", no_blob))


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver(secret(1)) as receiver:
        yield receiver


@pytest.fixture
async def rig(receiver: WebhookReceiver) -> AsyncIterator[Rig]:
    made = channel({"erp": {"url": f"{receiver.url}/hooks?token=t0ken", "secret": receiver.secret}})
    yield Rig(
        made, target="erp", texts=lambda: receiver.texts, misbehave=receiver.faults.append, stop=receiver.__exit__,
        secrets=(receiver.secret, "t0ken"), delivered=True,
        faults=("throttled", "transient", "auth", "permanent", "silent", "cut"),  # 502 throttles: see below,
        files=lambda: [request.body for request in receiver.requests],
    )  # fmt: skip
    await made.aclose()


class TestContract(ChannelContract):
    pass


async def test_the_body_is_the_envelope(receiver: WebhookReceiver, rig: Rig) -> None:
    await rig.send(message("压机停了", labels={"line": "3"}, priority=9))
    assert receiver.bodies == [
        {
            "id": "m-1", "from": "user:alice", "to": "channel:c/t", "timestamp": 1_790_000_000_000,
            "content": "压机停了", "labels": {"line": "3"}, "priority": 9,
        }
    ]  # fmt: skip


async def test_attempts_share_the_id_and_have_each_its_time(
    receiver: WebhookReceiver, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time()
    (parcel,) = rig.channel.compose(message(), "erp")
    for later_s in (0, 200):
        monkeypatch.setattr(time, "time", lambda later_s=later_s: now_s + later_s)
        await rig.channel.send(parcel, "m-1.0")
    await rig.channel.send(parcel, "m-1.1")
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    times = [int(request.headers["webhook-timestamp"]) for request in receiver.requests]
    assert ids[0] == ids[1] != ids[2]
    assert times[1] - times[0] == 200
    assert len({request.headers["webhook-signature"] for request in receiver.requests}) == 3


@pytest.mark.parametrize("key", ["m-1.0", "a.1790000000.b", "plain", "." * 128])
def test_an_id_has_no_full_stop(key: str) -> None:
    """Else `id.timestamp.payload` could be read in two ways."""
    assert re.fullmatch(r"[\x21-\x2d\x2f-\x7e]{1,128}", webhook_id(key))
    assert webhook_id(key) == webhook_id(key) != webhook_id(key + "x")


@pytest.mark.parametrize("known", [1, 2])
async def test_while_a_secret_is_replaced_both_verify(receiver: WebhookReceiver, known: int) -> None:
    receiver.secret = secret(known)
    made = channel({"erp": {"url": receiver.url, "secret": f"{secret(1)}\n{secret(2, 64)[:-2]} {secret(2)}"}})
    (parcel,) = made.compose(message(), "erp")
    assert (await made.send(parcel, "k")).outcome == "delivered"
    await made.aclose()


async def test_ed25519_signs_beside_hmac(receiver: WebhookReceiver) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    pair = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    both = f"{receiver.secret} whsk_{base64.b64encode(pair).decode()}"
    made = channel({"erp": {"url": receiver.url, "secret": both}})
    (parcel,) = made.compose(message(), "erp")
    assert (await made.send(parcel, "k")).outcome == "delivered"
    await made.aclose()
    (request,) = receiver.requests
    hashed, signed = request.headers["webhook-signature"].split(" ")
    assert hashed.startswith("v1,")
    content = f"k.{request.headers['webhook-timestamp']}.".encode() + request.body
    key.public_key().verify(base64.b64decode(signed.removeprefix("v1a,")), content)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, ("delivered", None)), (202, ("delivered", None)), (299, ("delivered", None)),
        (301, ("permanent", "permanent")), (404, ("permanent", "permanent")), (410, ("permanent", "permanent")),
        (413, ("permanent", "too_large")), (429, ("retry", "throttled")), (500, ("retry", "transient")),
        (502, ("retry", "throttled")), (503, ("retry", "transient")), (504, ("retry", "throttled")),
    ],
)  # fmt: skip
async def test_each_status_as_the_specification_says(
    receiver: WebhookReceiver, rig: Rig, status: int, expected: tuple[str, str | None]
) -> None:
    receiver.status, receiver.headers = status, {"Retry-After": "90"}
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure) == expected
    assert found.code == ("" if status < 300 else f"http_{status}")
    assert found.retry_after_s == (90.0 if found.outcome == "retry" else None)


async def test_an_endpoint_that_is_gone_is_not_called_again(receiver: WebhookReceiver, rig: Rig) -> None:
    receiver.status = 410
    await rig.send(message())
    receiver.status = 204
    (found,) = await rig.send(message())
    assert (found.outcome, found.code, len(receiver.requests)) == ("permanent", "disabled", 1)
    health = await rig.channel.check()
    assert (health.ok, health.code) == (False, "disabled")


async def test_a_private_address_is_refused_unless_it_is_allowed(receiver: WebhookReceiver) -> None:
    made = channel({"erp": {"url": receiver.url, "secret": receiver.secret}}, allow=[])
    (parcel,) = made.compose(message(), "erp")
    found = await made.send(parcel, "k")
    assert (found.outcome, found.code, receiver.requests) == ("permanent", "address_refused", [])
    assert (await made.check()).code == "address_refused"
    await made.aclose()


async def test_an_endpoint_without_a_url_takes_nothing() -> None:
    made = channel({"sensor": {"secret": secret(1)}})
    with pytest.raises(Cannot) as caught:
        made.compose(message(), "sensor")
    assert caught.value.delivery.code == "no_url"
    assert (await made.check()).ok
    await made.aclose()


@pytest.mark.parametrize(
    ("endpoint", "wrong"),
    [
        ({"url": "https://x.example", "secret": "whsec_" + "A" * 31}, "24 to 64 bytes"),
        ({"url": "https://x.example", "secret": secret(1, 23)}, "24 to 64 bytes"),
        ({"url": "https://x.example", "secret": secret(1, 65)}, "24 to 64 bytes"),
        ({"url": "https://x.example", "secret": "hunter2"}, "begin with whsec_"),
        ({"url": "https://x.example", "secret": "whsec_hunter2!"}, "base64"),
        ({"url": "https://x.example", "secret": " "}, "no secret"),
        ({"url": "https://x.example", "secret": "whpk_" + base64.b64encode(bytes(32)).decode()}, "able to sign"),
        ({"url": "ftp://x.example", "secret": secret(1)}, "https://"),
        ({"url": "https:///hooks", "secret": secret(1)}, "https://"),
        ({"url": "https://x.example:99999", "secret": secret(1)}, "https://"),
        ({"url": "https://x.example:0", "secret": secret(1)}, "https://"),
    ],
)
def test_settings_that_cannot_work_are_told_without_the_secret(endpoint: dict[str, str], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong) as caught:
        channel({"erp": endpoint})
    reasons = json.dumps([error["msg"] for error in caught.value.errors()])
    assert "hunter2" not in reasons


def test_no_secret_is_shown() -> None:
    made = channel({"erp": {"url": "https://x.example/t0ken", "secret": secret(1)}})
    shown = repr(vars(made)) + repr(made._settings) + json.dumps(made._settings.model_dump(mode="json"))
    assert "t0ken" not in shown
    assert secret(1)[6:] not in shown
    assert repr(bytes([1]) * 32)[2:-1] not in shown
