"""A whole hub, a push service, and browsers that subscribe as the page lets them."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from eventually import wait_until
from fakes.push_service import PushService
from hub import HubProcess, running_hub

KEYS = """
[[key]]
name = "alice"
value = "sk-alice"
address = "user:alice"
scopes = ["read:message:user:alice"]

[[key]]
name = "writer"
value = "sk-writer"
address = "user:alice"
scopes = ["send:message:user:alice"]

[[key]]
name = "bob"
value = "sk-bob"
address = "user:bob"
scopes = ["read:message:user:bob"]

[[key]]
name = "carol"
value = "sk-carol"
address = "user:carol"
scopes = ["read:message:user:carol"]

[[key]]
name = "press"
value = "sk-press"
scopes = ["send:message:device:press"]

[[key]]
name = "wall"
value = "sk-wall"
scopes = ["read:message:device:wall"]
"""
PUSH = """
[outbox]
first_retry_s = 0.05

[[channel]]
name = "push"
kind = "web-push"
contact = "mailto:it@example.org"
allow = ["127.0.0.1"]

[[channel]]
name = "hooks"
kind = "webhook"

[channel.endpoints.alice]
url = "https://erp.invalid/hooks"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


@pytest.fixture(scope="module")
def service() -> Iterator[PushService]:
    with PushService() as service:
        yield service


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("push") / "data", PUSH + KEYS) as hub:
        yield hub


def call(hub: HubProcess, method: str, path: str, key: str = "sk-alice", **options: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{hub.url}/api/push/{path}", headers=headers, timeout=20, **options)


def steps(hub: HubProcess, to: str, text: str) -> list[dict[str, Any]]:
    """Send a message, and wait for how it ends: `queued` is no end."""
    with hub.client() as http:
        id = http.post("/api/messages", json={"to": to, "content": text}).raise_for_status().json()["id"]

        def receipts() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = http.get(f"/api/messages/{id}/receipts").json()["receipts"]
            return found

        wait_until(lambda: receipts()[-1]["state"] in ("sent", "failed"), 20)
        return receipts()


def test_from_switching_on_to_switching_off(hub: HubProcess, service: PushService) -> None:
    browser = service.browser(application_server_key=call(hub, "GET", "key").json()["key"])
    made = call(hub, "POST", "subscriptions", json=browser.subscription())
    assert made.status_code == 200
    assert browser.token not in made.text
    assert call(hub, "GET", "subscriptions").json() == {"subscriptions": [made.json()]}
    assert made.json()["service"] == service.url
    assert [step["state"] for step in steps(hub, "channel:push/alice", "The press is down.")] == ["accepted", "sent"]
    assert [notice["text"] for notice in browser.notices] == ["The press is down."]
    assert call(hub, "DELETE", f"subscriptions/{made.json()['id']}").status_code == 204
    assert call(hub, "GET", "subscriptions").json() == {"subscriptions": []}
    assert service.complaints == []


def test_who_has_switched_it_on_nowhere_is_told_so_in_the_receipt(hub: HubProcess) -> None:
    *_, last = steps(hub, "channel:push/nobody", "hello")
    assert (last["state"], last["code"]) == ("failed", "no_subscription")
    assert "console's settings" in last["detail"]
    assert "控制台" in last["detail_zh"]


def test_a_retry_reaches_only_the_browser_that_missed_it_over_a_kill(hub: HubProcess, service: PushService) -> None:
    first, second = service.browser(), service.browser()
    for browser in (first, second):
        call(hub, "POST", "subscriptions", "sk-carol", json=browser.subscription()).raise_for_status()
    second.faults.append("transient")
    found = steps(hub, "channel:push/carol", "once")
    assert [(step["state"], step.get("code", "")) for step in found[1:]] == [("queued", "http_503"), ("sent", "")]
    assert (len(first.notices), len(second.notices)) == (1, 1)
    hub.kill()
    hub.start()
    steps(hub, "channel:push/carol", "again")
    assert (len(first.notices), len(second.notices)) == (2, 2), "subscriptions and the key are on disk"


def test_a_subscription_is_its_owners_alone(hub: HubProcess, service: PushService) -> None:
    id = call(hub, "POST", "subscriptions", json=service.browser().subscription()).json()["id"]
    assert call(hub, "DELETE", f"subscriptions/{id}", "sk-bob").json()["code"] == "not_found"
    assert call(hub, "GET", "subscriptions", "sk-bob").json()["subscriptions"] == []
    assert call(hub, "DELETE", f"subscriptions/{id}").status_code == 204
    assert call(hub, "DELETE", f"subscriptions/{id}").json()["code"] == "not_found"


def test_a_key_that_may_not_read_its_messages_gets_none_pushed(hub: HubProcess, service: PushService) -> None:
    reply = call(hub, "POST", "subscriptions", "sk-writer", json=service.browser().subscription())
    assert (reply.status_code, reply.json()["scope"]) == (403, "read:message:user:alice")
    assert call(hub, "GET", "key", "sk-stranger").status_code == 401


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "http://169.254.169.254/latest"}, "endpoint"),
        ({"endpoint": "http://push.example/x"}, "endpoint"),
        ({"endpoint": "https://10.0.0.1/x"}, "endpoint"),
        ({"endpoint": "https://push.example:99999/"}, "endpoint"),
        ({"endpoint": 7}, "endpoint"),
        ({"keys": {"p256dh": "BAAA", "auth": "AAAA"}}, "keys"),
        ({"keys": {}}, "keys.p256dh"),
    ],
)
def test_what_nothing_could_be_pushed_to_is_refused_at_once(
    hub: HubProcess, service: PushService, change: dict[str, Any], field: str
) -> None:
    reply = call(hub, "POST", "subscriptions", json={**service.browser().subscription(), **change})
    assert (reply.status_code, reply.json()["code"], reply.json()["field"]) == (400, "invalid_field", field)


def test_what_a_browser_adds_to_a_subscription_one_day_does_no_harm(hub: HubProcess, service: PushService) -> None:
    json = {**service.browser().subscription(), "expirationTime": 1.8e12, "new": {}}
    made = call(hub, "POST", "subscriptions", json=json)
    assert made.status_code == 200
    call(hub, "DELETE", f"subscriptions/{made.json()['id']}").raise_for_status()


def test_a_hub_without_such_a_channel_says_so(tmp_path_factory: pytest.TempPathFactory, service: PushService) -> None:
    with running_hub(tmp_path_factory.mktemp("bare") / "data", KEYS) as hub:
        subscription = service.browser().subscription()
        for reply in (call(hub, "GET", "key"), call(hub, "POST", "subscriptions", json=subscription)):
            assert (reply.status_code, reply.json()["detail"]) == (
                404, "there is no channel of the kind 'web-push' here",
            )  # fmt: skip
        with hub.client() as http:
            capabilities = {one["name"]: one for one in http.get("/api/capabilities").json()["capabilities"]}
        assert not capabilities["push"]["available"]
        assert "web-push" in capabilities["push"]["fix"]


def test_the_hub_says_that_it_can_push(hub: HubProcess) -> None:
    with hub.client() as http:
        here, inside_wechat = (
            {one["name"]: one for one in http.get("/api/capabilities", headers=headers).json()["capabilities"]}["push"]
            for headers in ({}, {"User-Agent": "Mozilla/5.0 MicroMessenger/8.0"})
        )
    assert (here["available"], inside_wechat["available"]) == (True, False)


# --- whose message it is ------------------------------------------------------------------------------


def ask(hub: HubProcess, method: str, path: str, key: str, **options: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{hub.url}/api/messages{path}", headers=headers, timeout=20, **options)


def sent_to(hub: HubProcess, to: str) -> str:
    reply = ask(hub, "POST", "", "sk-press", json={"to": to, "content": "The press is down."})
    return str(reply.raise_for_status().json()["id"])


@pytest.mark.parametrize(
    ("to", "key"),
    [
        ("channel:push/alice", "sk-alice"),
        ("channel:push/user:alice", "sk-alice"),
        ("channel:push/device:wall", "sk-wall"),
    ],
)
def test_who_was_pushed_a_message_reads_and_acknowledges_it(hub: HubProcess, to: str, key: str) -> None:
    id = sent_to(hub, to)
    assert ask(hub, "GET", f"/{id}", key).json()["content"] == "The press is down."
    acked = ask(hub, "POST", f"/{id}/ack", key)
    assert (acked.status_code, acked.json()["state"]) == (200, "acknowledged")
    steps = ask(hub, "GET", f"/{id}/receipts", key).json()["receipts"]
    assert ("acknowledged", to) in [(step["state"], step.get("by")) for step in steps]


@pytest.mark.parametrize(
    ("to", "key"),
    [
        ("channel:push/alice", "sk-bob"),
        ("channel:push/alice", "sk-writer"),  # the same address, and no right to read its messages
        ("channel:push/wall", "sk-wall"),  # user:wall's
        ("channel:push/alice/", "sk-alice"),
        ("channel:hooks/alice", "sk-alice"),  # an endpoint of that name is nobody's screen
    ],
)
def test_what_was_pushed_to_another_is_not_there(hub: HubProcess, to: str, key: str) -> None:
    id = sent_to(hub, to)
    for method, path in (("GET", f"/{id}"), ("GET", f"/{id}/receipts"), ("POST", f"/{id}/ack")):
        assert ask(hub, method, path, key).json()["code"] == "not_found", (method, path)
    steps = ask(hub, "GET", f"/{id}/receipts", "sk-press").json()["receipts"]
    assert "acknowledged" not in [step["state"] for step in steps]


def test_the_sender_of_what_was_pushed_does_not_acknowledge_it(hub: HubProcess) -> None:
    id = sent_to(hub, "channel:push/alice")
    reply = ask(hub, "POST", f"/{id}/ack", "sk-press")
    assert (reply.status_code, reply.json()["scope"]) == (403, "read:message:channel:push/alice")


def test_the_right_to_one_message_is_none_to_the_channel(hub: HubProcess) -> None:
    for path in ("?to=channel:push/alice", "/stream?to=channel:push/alice"):
        assert ask(hub, "GET", path, "sk-alice").status_code == 403


# --- it ends with the right by which it was switched on -----------------------------------------------


def api(hub: HubProcess, method: str, path: str, json: Any = None) -> Any:
    with hub.client() as http:
        reply = http.request(method, path, json=json)
        assert reply.status_code < 300, reply.text
        return reply.json() if reply.content else None


def issued(hub: HubProcess, name: str, address: str) -> str:
    wish = {"name": name, "address": address, "scopes": [f"read:message:{address}"]}
    return str(api(hub, "POST", "/api/keys", wish)["key"])


@pytest.mark.attack("pushes go on after a revocation")
def test_a_browser_is_told_nothing_more_once_the_key_is_revoked(hub: HubProcess, service: PushService) -> None:
    lost, kept = service.browser(), service.browser()
    for name, browser in (("dora-phone", lost), ("dora-desk", kept)):
        key = issued(hub, name, "user:dora")
        call(hub, "POST", "subscriptions", key, json=browser.subscription()).raise_for_status()
    steps(hub, "channel:push/dora", "to both")
    api(hub, "DELETE", "/api/keys/dora-phone")
    steps(hub, "channel:push/dora", "to one")
    assert [notice["text"] for notice in lost.notices] == ["to both"]
    assert [notice["text"] for notice in kept.notices] == ["to both", "to one"]
    again = issued(hub, "dora-phone", "user:dora")  # another key of that name
    assert len(call(hub, "GET", "subscriptions", again).json()["subscriptions"]) == 1
    steps(hub, "channel:push/dora", "once more")
    assert [notice["text"] for notice in lost.notices] == ["to both"]


@pytest.mark.attack("a key that gets the name of a revoked one")
def test_a_new_key_of_the_same_name_brings_no_old_browser_back(hub: HubProcess, service: PushService) -> None:
    browser = service.browser()
    former = issued(hub, "erin", "user:erin")
    call(hub, "POST", "subscriptions", former, json=browser.subscription()).raise_for_status()
    api(hub, "DELETE", "/api/keys/erin")
    issued(hub, "erin", "user:erin")
    *_, last = steps(hub, "channel:push/erin", "for the new one")
    assert ((last["state"], last["code"]), browser.notices) == (("failed", "no_subscription"), [])


@pytest.mark.attack("pushes go on after a revocation")
def test_a_revoked_person_is_told_nothing_more_on_any_browser(hub: HubProcess, service: PushService) -> None:
    browser, key = service.browser(), issued(hub, "frank", "user:frank")
    call(hub, "POST", "subscriptions", key, json=browser.subscription()).raise_for_status()
    api(hub, "POST", "/api/revocations", {"id": "user:frank"})
    steps(hub, "channel:push/frank", "a diagnosis")
    api(hub, "DELETE", "/api/revocations/user:frank")
    assert call(hub, "GET", "subscriptions", key).json()["subscriptions"] == []
    steps(hub, "channel:push/frank", "another one")
    assert browser.notices == []
    call(hub, "POST", "subscriptions", key, json=browser.subscription()).raise_for_status()
    steps(hub, "channel:push/frank", "all is well")
    assert [notice["text"] for notice in browser.notices] == ["all is well"]
