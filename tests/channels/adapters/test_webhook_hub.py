"""Two hubs that reach each other by signed webhooks."""

import base64
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import standardwebhooks

from eventually import wait_until
from hub import HubProcess, running_hub

SECRET = "whsec_" + base64.b64encode(b"two hubs" * 4).decode()


def north() -> str:
    return f"""
[[channel]]
name = "south"
kind = "webhook"
incoming_to = "user:bob"
senders = ["hub"]
[channel.endpoints.hub]
secret = "{SECRET}"
"""


def south(url: str) -> str:
    return f"""
[outbox]
first_retry_s = 0.05
max_retry_s = 0.2
[[channel]]
name = "north"
kind = "webhook"
allow = ["127.0.0.1"]
[channel.endpoints.hub]
url = "{url}/api/hooks/south"
secret = "{SECRET}"
"""


def inbox(hub: HubProcess) -> list[Any]:
    with hub.client() as http:
        return list(http.get("/api/messages", params={"to": "user:bob"}).json()["messages"])


def states(http: httpx2.Client, id: str) -> list[str]:
    return [step["state"] for step in http.get(f"/api/messages/{id}/receipts").json()["receipts"]]


def test_a_message_reaches_another_hub_once_and_is_delivered(tmp_path: Path) -> None:
    """Also while that one is dead for a time."""
    with running_hub(tmp_path / "north", north()) as far, running_hub(tmp_path / "south", south(far.url)) as near:
        with near.client() as http:
            http.post("/api/messages", json={"id": "m-1", "to": "channel:north/hub", "content": "压机停了"})
            wait_until(lambda: "delivered" in states(http, "m-1"))
            far.kill()
            http.post("/api/messages", json={"id": "m-2", "to": "channel:north/hub", "content": "again"})
            wait_until(lambda: [lane["code"] for lane in http.get("/api/outbox").json()["lanes"]] == ["refused"])
            far.start()
            wait_until(lambda: "delivered" in states(http, "m-2"), 30)
        found = [(message["from"], message["content"]) for message in inbox(far)]
    assert found == [("channel:south/hub", "压机停了"), ("channel:south/hub", "again")]


@pytest.mark.attack("forged vendor call")
def test_a_forged_or_repeated_call_changes_nothing(tmp_path: Path) -> None:
    body = '{"content": "x"}'
    at = datetime.fromtimestamp(int(time.time()), UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign("msg_1", at, body),
    }
    with running_hub(tmp_path / "north", north()) as hub:
        url = f"{hub.url}/api/hooks/south"
        forged = httpx2.post(url, content=body + " ", headers=headers)
        taken = [httpx2.post(url, content=body, headers=headers).status_code for _ in range(2)]
        hub.kill()
        hub.start()  # it has forgotten the id, and the log has not
        taken.append(httpx2.post(url, content=body, headers=headers).status_code)
        malformed = httpx2.post(url, content="{", headers=headers)
        assert (forged.status_code, taken, malformed.status_code) == (401, [200, 200, 200], 401)
        assert [message["content"] for message in inbox(hub)] == ["x"]
