"""A disk that is really full while messages are on their way: nothing is lost, nothing goes out twice."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from eventually import wait_until
from fakes.webhooks import WebhookReceiver
from hub import running_hub
from scripted_model import Request
from small_disk import filled, mounted_disk

SECRET = "whsec_" + base64.b64encode(b"small disk" * 3).decode()
MESSAGES = 20


class Receiver(WebhookReceiver):
    """Answers nothing while it `is_held`."""

    is_held = False

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.is_held:  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.005)
        await super()._behave(request, reader, writer)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path) as disk:
        yield disk


def config(url: str) -> str:
    return f"""
[outbox]
first_retry_s = 0.05
max_retry_s = 0.2
[[channel]]
name = "erp"
kind = "webhook"
allow = ["127.0.0.1"]
[channel.endpoints.orders]
url = "{url}"
secret = "{SECRET}"
"""


def post(http: httpx2.Client, id: str, to: str = "channel:erp/orders") -> httpx2.Response:
    return http.post("/api/messages", json={"id": id, "to": to, "content": id})


def ends(http: httpx2.Client, id: str) -> list[Any]:
    receipts = http.get(f"/api/messages/{id}/receipts").json()["receipts"]
    return [step["state"] for step in receipts if step["state"] not in ("accepted", "queued")]


def use_up(http: httpx2.Client) -> None:
    """The pages that the database has left, with messages to nobody in particular."""
    for number in range(10_000):
        if post(http, f"ballast-{number}", "user:nobody").status_code == 507:
            return
    raise AssertionError("there is always room")


def test_what_is_on_its_way_when_the_disk_is_full_ends_once(small_disk: Path) -> None:
    with Receiver(SECRET) as erp, running_hub(small_disk, config(erp.url)) as hub, hub.client() as http:
        erp.is_held = True
        ids = [f"m{number:02}" for number in range(MESSAGES)]
        assert {post(http, id).status_code for id in ids} == {202}
        wait_until(lambda: erp.posts)
        with filled(small_disk):
            use_up(http)
            refused = post(http, "during")
            assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
            erp.is_held = False
            wait_until(lambda: "receipt_delayed" in hub.log())
            assert http.get("/api/outbox").json()["lanes"][0]["waiting"] == MESSAGES
        assert post(http, "during").status_code == 202
        wait_until(lambda: all(ends(http, id) for id in [*ids, "during"]))
        assert {tuple(ends(http, id)) for id in [*ids, "during"]} == {("delivered",)}
        assert sorted(json.loads(request.body)["content"] for request in erp.posts) == ["during", *ids]
        assert "Traceback" not in hub.log()
