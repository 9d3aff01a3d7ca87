"""A whole hub between people and programs: what Alertmanager and Telegram bring, and what becomes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from alertmanager_process import AlertmanagerProcess
from eventually import wait_until
from fakes.telegram import CHAT, TOKEN, FakeTelegram
from hub import HubProcess, running_hub

HOOK_TOKEN = "a-token-that-is-long-enough"


def inbox(http: httpx2.Client, to: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/api/messages", params={"to": to}).json()["messages"]
    return found


def send(http: httpx2.Client, to: str, text: str, **fields: Any) -> str:
    reply = http.post("/api/messages", json={"to": to, "content": text, **fields})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def states(http: httpx2.Client, id: str) -> list[str]:
    return [step["state"] for step in http.get(f"/api/messages/{id}/receipts").json()["receipts"]]


def test_the_real_alertmanager_calls_the_real_hub(tmp_path: Path) -> None:
    """Its receiver's name decides whether it is heard; alerts go by the routes, their ends to who heard of them."""
    config = f"""
[[channel]]
name = "am"
kind = "alertmanager"
hook_token = "{HOOK_TOKEN}"
senders = ["hub-team"]
[[route]]
name = "disks"
match.labels.alertname = "Disk*"
to = ["user:ops"]
"""
    with running_hub(tmp_path / "hub", config) as hub, hub.client() as http:
        url = f"{hub.url}/api/hooks/am"
        hook = {"url": url, "http_config": {"authorization": {"credentials": HOOK_TOKEN}}}
        route = {"receiver": "hub team", "group_wait": "50ms", "group_interval": "1s"}
        receivers = [{"name": "hub team", "webhook_configs": [hook]}]
        with AlertmanagerProcess(tmp_path / "am", {"route": route, "receivers": receivers}) as alertmanager:
            alert = {"labels": {"alertname": "DiskFull", "severity": "critical"}, "annotations": {"summary": "Full"}}
            alertmanager.post(alert)
            wait_until(lambda: inbox(http, "user:ops"), 20)
            alertmanager.post({**alert, "endsAt": "2026-01-01T00:00:00Z"})
            wait_until(lambda: len(inbox(http, "user:ops")) == 2, 20)
        firing, resolved = inbox(http, "user:ops")
        assert (firing["priority"], firing["labels"]["state"], resolved["labels"]["state"]) == (9, "firing", "resolved")
        assert httpx2.post(url, json={}, timeout=10).status_code == 401


def test_a_message_to_the_hub_is_an_alert_and_its_end(tmp_path: Path) -> None:
    with AlertmanagerProcess(tmp_path / "am") as alertmanager:
        config = f"""
[[channel]]
name = "am"
kind = "alertmanager"
servers.main.url = "{alertmanager.url}"
"""
        with running_hub(tmp_path / "hub", config) as hub, hub.client() as http:
            raised = send(http, "channel:am/main", "Down.", kind="alert", labels={"alertname": "Press"}, priority=9)
            wait_until(alertmanager.alerts)
            over = send(http, "channel:am/main", "Runs.", reply_to=raised, labels={"state": "resolved"})
            wait_until(lambda: not alertmanager.alerts())
            wait_until(lambda: "sent" in states(http, over))
            assert "delivered" not in states(http, raised)


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    with FakeTelegram() as telegram:
        yield telegram


@pytest.fixture
def hub(telegram: FakeTelegram, tmp_path: Path) -> Iterator[HubProcess]:
    config = f"""
[[channel]]
name = "tg"
kind = "telegram"
token = "{TOKEN}"
base_url = "{telegram.url}"
incoming_to = "user:ops"
senders = ["li"]
chats.li = {CHAT}
"""
    with running_hub(tmp_path / "hub", config) as hub:
        yield hub


def test_a_button_in_telegram_acknowledges_the_message(hub: HubProcess, telegram: FakeTelegram) -> None:
    with hub.client() as http:
        id = send(http, "channel:tg/li", "The press is down.", kind="alert")
        wait_until(lambda: telegram.sent)
        wait_until(lambda: "sent" in states(http, id))
        assert "acknowledged" not in states(http, id)
        telegram.presses(f"ack:{id}", 101)
        wait_until(lambda: "acknowledged" in states(http, id))


def test_what_is_written_to_a_dead_hub_is_there_when_it_lives_again(hub: HubProcess, telegram: FakeTelegram) -> None:
    """Once: what it had taken before it was killed comes again, for Telegram does not know."""
    with hub.client() as http:
        telegram.writes("before")
        wait_until(lambda: inbox(http, "user:ops"))
    hub.kill()
    wait_until(lambda: not telegram.polls)
    telegram.writes("meanwhile")
    telegram.writes("by a stranger", chat=99)
    hub.start()
    with hub.client() as http:
        wait_until(lambda: len(inbox(http, "user:ops")) == 2, 20)
        wait_until(lambda: not telegram.updates, 20)
        assert [message["content"] for message in inbox(http, "user:ops")] == ["before", "meanwhile"]
