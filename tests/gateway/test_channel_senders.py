"""Who writes by a channel is judged as everybody else: revocations, policies, and the audit, on a running hub."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks

from auth.policy.authority import policy_files
from autoglm.channels.routes.settings import PersonSettings
from autoglm.channels.settings import parse_channel
from eventually import wait_until
from gateway.inside import settings
from gateway.ruled import Ruled, forbidding, revoked, ruled_hub
from gateway.wire import call
from mosquitto import Device, Mosquitto, needs_mosquitto

SECRET = "whsec_" + base64.b64encode(b"two hubs" * 4).decode()
HOOK = "channel:hook/hub"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ruled]:
    channels = [
        {"name": "hook", "kind": "webhook", "incoming_to": "user:bob", "senders": ["hub"],
         "endpoints": {"hub": {"secret": SECRET}}},
    ]  # fmt: skip
    person = PersonSettings.model_validate({"address": "user:alice", "reach": [{"by": HOOK}]})
    chosen = settings().model_copy(
        update={"channel": tuple(parse_channel(one) for one in channels), "person": (person,)}
    )
    with ruled_hub(tmp_path_factory.mktemp("senders"), chosen) as ruled:
        yield ruled


@pytest.fixture
def ruled(site: Ruled) -> Ruled:
    site.rule()
    return site


def say(ruled: Ruled, id: str, text: str) -> int:
    """By a signed call of the sender; the status."""
    body = f'{{"content": "{text}"}}'
    at = datetime.fromtimestamp(int(time.time()), UTC)
    signed = {
        "webhook-id": id, "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign(id, at, body),
    }  # fmt: skip
    return call(ruled.hub.port, "", "POST", "/api/hooks/hook", body.encode(), **signed).status


def heard(ruled: Ruled, to: str = "user:bob") -> list[str]:
    page = call(ruled.hub.port, ruled.hub.key, "GET", f"/api/messages?to={to}&limit=1000").json()
    return [message["content"] for message in page["messages"]]


def refused(ruled: Ruled, who: str = HOOK) -> list[dict[str, Any]]:
    """Oldest first."""
    return ruled.audit(f"action=message:refused&outcome=denied&who={who}")[::-1]


@pytest.mark.attack("a revoked sender goes on by a channel")
@pytest.mark.parametrize("name", [HOOK, "user:alice"])
def test_a_sender_whom_the_centre_revokes_is_heard_no_more(ruled: Ruled, name: str) -> None:
    """By his address there, or as the person whose way it is."""
    before = len(refused(ruled))
    assert say(ruled, f"r1-{name[:4]}", f"before {name}") == 200
    ruled.rule(revoked(name))
    for number in range(3):
        assert say(ruled, f"r2-{name[:4]}-{number}", f"meanwhile {name}") == 403
    ruled.rule()
    assert say(ruled, f"r3-{name[:4]}", f"after {name}") == 200
    assert [text for text in heard(ruled) if name in text] == [f"before {name}", f"after {name}"]
    found = refused(ruled)[before:]
    assert [(entry["resource"], entry["reason"]) for entry in found] == [("user:bob", "revoked")] * 3
    assert len({entry["request_id"] for entry in found}) == 3
    assert all(entry["request_id"].startswith("hook-") for entry in found)


@pytest.mark.attack("a revoked sender goes on by a channel")
def test_a_person_whom_this_hub_revokes_is_heard_no_more(ruled: Ruled) -> None:
    assert call(ruled.hub.port, ruled.hub.key, "POST", "/api/revocations", {"id": "user:alice"}).status == 200
    assert say(ruled, "local-1", "local") == 403
    assert call(ruled.hub.port, ruled.hub.key, "DELETE", "/api/revocations/user:alice").status == 204
    assert "local" not in heard(ruled)


def test_a_policy_says_to_whom_a_channel_may_write(ruled: Ruled) -> None:
    ruled.rule(forbidding('Channel::"hook/hub"', "send:message", 'User::"bob"'))
    assert say(ruled, "p-1", "forbidden") == 403
    ruled.rule(policy_files('permit(principal == Channel::"hook/hub", action, resource);'))
    assert say(ruled, "p-2", "permitted") == 200
    ruled.rule(policy_files('permit(principal == User::"admin", action, resource);'))
    assert say(ruled, "p-3", "not permitted") == 403
    assert {"forbidden", "permitted", "not permitted"} & set(heard(ruled)) == {"permitted"}
    assert [entry["reason"] for entry in refused(ruled)[-2:]] == ["forbidden", "not_permitted"]
    assert ruled.audit(f"kind=decision&outcome=allowed&who={HOOK}&action=send:message")


@needs_mosquitto
@pytest.mark.attack("a revoked sender goes on by a channel")
def test_a_device_of_another_broker_that_is_revoked_is_heard_no_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its messages have the address that the channel's table gives them."""
    folder = tmp_path_factory.mktemp("mqtt-senders")
    with Mosquitto(folder) as broker, Device(broker.port, client_id="speaker") as press:
        rule = {"topic": "in/+", "kind": "chat", "to": "user:bob", "from": "device:{1}"}
        wish = {"name": "mqtt", "kind": "mqtt", "url": broker.url, "qos": 1, "topics": [rule]}
        chosen = settings().model_copy(update={"channel": (parse_channel(wish),)})
        with ruled_hub(folder, chosen) as ruled:
            key = ruled.hub.key
            wait_until(
                lambda: call(ruled.hub.port, key, "GET", "/api/channels?check=1").json()["channels"][0]["health"]["ok"]
            )
            press.publish("in/press-7", "before", 1)
            wait_until(lambda: heard(ruled) == ["before"])
            ruled.rule(revoked("device:press-7"))
            press.publish("in/press-7", "meanwhile", 1)
            press.publish("in/press-8", "of another", 1)
            wait_until(lambda: heard(ruled) == ["before", "of another"])
            (denied,) = refused(ruled, "device:press-7")
            assert (denied["reason"], denied["resource"]) == ("revoked", "user:bob")
