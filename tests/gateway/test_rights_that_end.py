"""A right that ends, ends at once, wherever its holder is at that moment; and none grows on the way."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from auth.policy.authority import Authority, policy_files
from autoglm.auth.policy.settings import PolicySettings
from autoglm.client import HubProblem
from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from autoglm.core.errors import StorageFull
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, Wire, call

FORBIDDEN = 'forbid(principal, action == Action::"send:message", resource == User::"boss");'
ROLES = {
    "roles": {"chief": ["admin:*"]},
    "grants": {"user:chief": [{"role": "chief"}], "device:crane": [{"role": "chief"}]},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("ends") / "data", settings()) as inside:
        yield inside


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A hub with a policy: nobody writes to the boss, and one address has a role."""
    folder = tmp_path_factory.mktemp("ruled")
    authority = Authority(folder / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files(FORBIDDEN, roles=ROLES))
    policy = PolicySettings(
        root_file=folder / "authority" / "metadata" / "1.root.json", source=str(folder / "authority"),
        deny_after_s=10**9, read_only_after_s=10**9,
    )  # fmt: skip
    with hub_inside(folder / "data", settings().model_copy(update={"policy": policy})) as inside:
        inside.ask(inside.hub._trust.policy.pull())
        yield inside


def issue(hub: Inside, name: str, *scopes: str, key: str = "", **fields: Any) -> Reply:
    body = {"name": name, "scopes": scopes or ["send:message", "read:message"], **fields}
    return call(hub.port, key or hub.key, "POST", "/api/keys", body)


def was_let_in(hub: Inside, who: str) -> bool:
    return bool(call(hub.port, hub.key, "GET", f"/api/audit?who={who}&outcome=allowed").json()["entries"])


@pytest.mark.attack("a body that outlives its sender's right")
def test_who_is_revoked_while_his_body_comes_does_nothing_by_it(hub: Inside) -> None:
    key = issue(hub, "slow", "admin:*").json()["key"]
    body = json.dumps({"name": "back-door", "scopes": ["admin:*"]}).encode()
    with Wire(hub.port, key) as wire:
        wire.send(wire.head("POST", "/api/keys", body) + body[:5])
        wait_until(lambda: was_let_in(hub, "device:slow"))
        assert call(hub.port, hub.key, "DELETE", "/api/keys/slow").status == 204
        wire.send(body[5:])
        assert wire.reply().status == 401
    names = [entry["name"] for entry in call(hub.port, hub.key, "GET", "/api/keys").json()["keys"]]
    assert "back-door" not in names


@pytest.mark.attack("a body that outlives its sender's right")
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/plant-7"), ("PUT", "/plant-7"), ("POST", "/"), ("POST", "/notify")]
)
def test_who_is_revoked_while_his_notification_comes_notifies_nobody(hub: Inside, method: str, path: str) -> None:
    """As ntfy's and Apprise's clients send it."""
    name = f"late-{method}{path.replace('/', '-')}"
    key = issue(hub, name).json()["key"]
    body = json.dumps({"topic": "plant-7", "message": "heat", "body": "heat"}).encode()
    with Wire(hub.port, key) as wire:
        wire.send(wire.head(method, path, body, content_type="application/json", expect="100-continue"))
        assert wire.start().status == 100  # so it knows whose it is
        assert call(hub.port, hub.key, "DELETE", f"/api/keys/{name}").status == 204
        wire.send(body)
        assert wire.reply().status == 401


@pytest.mark.attack("a revoked key goes on")
def test_who_is_revoked_sends_nothing_more_on_an_open_websocket(hub: Inside) -> None:
    key = issue(hub, "talker").json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None, additional_headers=headers) as ws:
        ws.recv(timeout=20)
        assert call(hub.port, hub.key, "DELETE", "/api/keys/talker").status == 204
        ws.send(json.dumps({"type": "send", "message": {"to": "user:late", "content": "too late"}}))
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=20)
    assert call(hub.port, hub.key, "GET", "/api/messages?to=user:late").json()["messages"] == []


@pytest.mark.attack("a revoked key goes on")
def test_a_long_poll_hands_out_nothing_to_who_was_revoked_meanwhile(hub: Inside) -> None:
    key = issue(hub, "patient").json()["key"]
    answers: list[Reply] = []
    readers = hub.readers
    poll = threading.Thread(
        target=lambda: answers.append(call(hub.port, key, "GET", "/api/messages?to=user:bed-9&wait=20"))
    )
    poll.start()
    while hub.readers == readers:
        poll.join(0.01)
    assert call(hub.port, hub.key, "DELETE", "/api/keys/patient").status == 204
    call(hub.port, hub.key, "POST", "/api/messages", {"to": "user:bed-9", "content": "a diagnosis"})
    poll.join(20)
    assert answers[0].status == 401
    assert b"diagnosis" not in answers[0].body


@pytest.mark.attack("a revoked address goes on by its key")
@pytest.mark.parametrize("path", ["/api/me", "/api/tasks", "/api/messages?to=device:lost"])
def test_an_address_that_is_revoked_is_revoked_for_its_keys_too(hub: Inside, path: str) -> None:
    key = issue(hub, f"lost-{abs(hash(path))}", address="device:lost").json()["key"]
    assert call(hub.port, key, "GET", path).status == 200
    assert call(hub.port, hub.key, "POST", "/api/revocations", {"id": "device:lost"}).status == 200
    assert call(hub.port, key, "GET", path).status == 401
    assert call(hub.port, hub.key, "DELETE", "/api/revocations/device:lost").status == 204
    assert call(hub.port, key, "GET", path).status == 200


async def test_a_revocation_that_was_not_written_is_not_said_to_be(
    hub: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    revocations = hub.hub._trust.revocations

    async def full(*_: object) -> int:
        raise StorageFull("hub.db")

    with monkeypatch.context() as patch:
        patch.setattr(revocations._keyvalue, "put", full)
        for _ in range(2):  # and again
            assert call(hub.port, hub.key, "POST", "/api/revocations", {"id": "device:gone"}).status == 507
    assert revocations.of(("device:gone",)) is not None  # in force all the while
    assert call(hub.port, hub.key, "POST", "/api/revocations", {"id": "device:gone"}).status == 200
    entry = hub.ask(revocations._keyvalue.get("auth/revoked/device:gone"))
    assert entry is not None


@pytest.mark.attack("a clock set back by who gains by it")
def test_a_key_that_ends_says_not_what_time_it_is(hub: Inside) -> None:
    key = issue(hub, "temporary", "admin:clock", ttl_s=60).json()["key"]
    now = call(hub.port, hub.key, "GET", "/api/clock").json()["now"]
    refused = call(hub.port, key, "POST", "/api/clock/confirm", {"now": now - 86_400_000})
    assert (refused.status, refused.json()["reason"]) == (403, "credential_ends")
    assert call(hub.port, hub.key, "POST", "/api/clock/confirm", {"now": now}).status == 200


# --- by a policy ---


def test_a_policy_about_whom_one_writes_to_is_kept(ruled: Inside) -> None:
    key = issue(ruled, "writer").json()["key"]
    refused = call(ruled.port, key, "POST", "/api/messages", {"to": "user:boss", "content": "hi"})
    assert (refused.status, refused.json()["reason"]) == (403, "forbidden")
    assert call(ruled.port, key, "POST", "/api/messages", {"to": "user:alice", "content": "hi"}).status == 202


@pytest.mark.attack("a right that grows by being passed on")
def test_who_gives_an_address_gives_its_roles(ruled: Inside) -> None:
    clerk = issue(ruled, "clerk", "admin:keys", "admin:devices", "send:message").json()["key"]
    for fields in ({"address": "user:chief"}, {"tenant": "others"}):
        assert issue(ruled, "more", "send:message", key=clerk, **fields).status == 403, fields
    assert issue(ruled, "crane", "send:message", key=clerk).status == 403  # device:crane has the role
    crane = {"name": "crane", "scopes": ["send:message"]}
    assert call(ruled.port, clerk, "POST", "/api/devices/enrolments", crane).status == 403
    assert issue(ruled, "other", "send:message", key=clerk).status == 201


def test_a_second_code_does_not_bring_back_who_was_sent_away(hub: Inside, tmp_path: Path) -> None:
    wish = {"name": "twice", "scopes": ["send:message"]}
    codes = [call(hub.port, hub.key, "POST", "/api/devices/enrolments", wish).json()["code"] for _ in range(2)]
    Device.enrol(tmp_path / "first.json", codes[0], url=hub.hub.url)
    assert call(hub.port, hub.key, "DELETE", "/api/devices/twice").status == 204
    with pytest.raises(HubProblem, match="not known, was used, or has ended"):
        Device.enrol(tmp_path / "second.json", codes[1], url=hub.hub.url)
