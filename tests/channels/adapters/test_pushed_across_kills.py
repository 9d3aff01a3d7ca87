"""A real hub whose people write by DingTalk's stream and Feishu's long connection, and that is killed meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventually import until
from fakes import dingtalk_app, feishu_app
from hub import HubProcess

MESSAGES = 40


class Vendor(NamedTuple):
    """What the two fakes have in common."""

    pushed: Any
    config: str
    said: Any
    taken: Any
    """() -> how many messages were acknowledged."""


@asynccontextmanager
async def dingtalk() -> AsyncIterator[Vendor]:
    with dingtalk_app.DingTalkOpenApi() as api:
        async with dingtalk_app.DingTalkStream(api) as stream:
            config = {
                "kind": "dingtalk-app", "client_id": dingtalk_app.CLIENT_ID,
                "client_secret": dingtalk_app.CLIENT_SECRET, "base_url": api.url,
            }  # fmt: skip
            yield Vendor(stream, _config(config, "manager7"), dingtalk_app.said, lambda: len(stream.acknowledged))


@asynccontextmanager
async def feishu() -> AsyncIterator[Vendor]:
    with feishu_app.FeishuOpenApi() as api:
        async with feishu_app.FeishuConnection(api) as connection:
            config = {
                "kind": "feishu-app", "app_id": feishu_app.APP_ID, "app_secret": feishu_app.APP_SECRET,
                "base_url": api.url,
            }  # fmt: skip
            yield Vendor(connection, _config(config, "ou_18eac8"), feishu_app.said, lambda: len(connection.answered))


def _config(fields: dict[str, str], sender: str) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(["[[channel]]", 'name = "im"', 'incoming_to = "user:desk"', f'senders = ["{sender}"]', *lines])


@pytest.mark.parametrize("vendor", [dingtalk, feishu])
async def test_what_people_write_is_there_once_though_the_hub_is_killed(tmp_path: Path, vendor: Any) -> None:
    async with vendor() as far:
        hub = HubProcess(tmp_path, far.config)
        await asyncio.to_thread(hub.start)
        try:
            await until(lambda: far.pushed.connections, 30)
            for number in range(MESSAGES):
                await far.pushed.push(far.said(f"Message {number}", message_id=f"om_{number}"))
                if number in (10, 25):
                    await asyncio.to_thread(hub.kill)
                    await asyncio.to_thread(hub.start)
            await until(lambda: far.taken() == MESSAGES, 60)
            with hub.client() as client:
                found = client.get("/api/messages", params={"to": "user:desk", "limit": 1000}).json()["messages"]
        finally:
            await asyncio.to_thread(hub.close)
    assert sorted(one["content"] for one in found) == sorted(f"Message {number}" for number in range(MESSAGES))


async def test_a_group_asks_is_answered_acknowledges_and_reads(tmp_path: Path) -> None:
    """By Feishu: the answer is a reply, the group's reply acknowledges it, and who reads it is told."""
    with feishu_app.FeishuOpenApi() as api:
        async with feishu_app.FeishuConnection(api) as connection:
            fields = {"kind": "feishu-app", "app_id": feishu_app.APP_ID, "app_secret": feishu_app.APP_SECRET}
            hub = HubProcess(tmp_path, _config({**fields, "base_url": api.url}, "oc_night"))
            await asyncio.to_thread(hub.start)
            try:
                await until(lambda: connection.connections, 30)
                api.said = {"om_a1"}
                await connection.push(feishu_app.said("Is it up?", group=True))
                await until(lambda: connection.answered)
                with hub.client() as client:
                    states = await _answered(client, api, connection)
            finally:
                await asyncio.to_thread(hub.close)
    assert [body["replies_to"] for body in api.sent] == ["om_a1"]
    assert states == ["accepted", "sent", "acknowledged", "read"]


async def _answered(client: Any, api: feishu_app.FeishuOpenApi, connection: feishu_app.FeishuConnection) -> list[str]:
    """The desk answers the group, which replies and reads. Returns the steps of the answer."""

    def states() -> list[str]:
        return [one["state"] for one in client.get("/api/messages/answer/receipts").json()["receipts"]]

    (asked,) = client.get("/api/messages", params={"to": "user:desk"}).json()["messages"]
    answer = {"id": "answer", "from": "user:desk", "to": asked["from"], "content": "It is.", "reply_to": asked["id"]}
    assert client.post("/api/messages", json=answer).status_code == 202
    await until(lambda: states()[-1] == "sent")
    (ticket,) = api.tickets_of_messages
    await connection.push(feishu_app.said("Thanks", group=True, message_id="om_b2", parent_id=ticket))
    await until(lambda: states()[-1] == "acknowledged")
    await connection.push(feishu_app.event("im.message.message_read_v1", {"message_id_list": [ticket]}))
    await until(lambda: states()[-1] == "read")
    return states()


async def test_a_tap_answers_its_question_and_no_other_one(tmp_path: Path) -> None:
    """By DingTalk, the older of two that offer the same answers."""
    with dingtalk_app.DingTalkOpenApi() as api:
        async with dingtalk_app.DingTalkStream(api) as stream:
            fields = {
                "kind": "dingtalk-app", "client_id": dingtalk_app.CLIENT_ID,
                "client_secret": dingtalk_app.CLIENT_SECRET, "base_url": api.url,
            }  # fmt: skip
            hub = HubProcess(tmp_path, _config(fields, "manager7"))
            await asyncio.to_thread(hub.start)
            try:
                await until(lambda: stream.connections, 30)
                with hub.client() as client:
                    asked = []
                    for number in (7, 8):
                        question = {
                            "to": "channel:im/manager7",
                            "question": f"Stop {number}?",
                            "choices": ["yes", "no"],
                        }
                        reply = await asyncio.to_thread(client.post, "/api/questions", json=question)
                        asked.append(reply.json()["id"])
                        await until(lambda number=number: len(api.sent) == number - 6)  # type: ignore[misc]
                    (_, words), _ = dingtalk_app.tapped(api.texts[0])
                    await stream.push(dingtalk_app.said(words))
                    await until(lambda: stream.acknowledged)
                    found = [(await asyncio.to_thread(client.get, f"/api/questions/{id}")).json() for id in asked]
            finally:
                await asyncio.to_thread(hub.close)
    assert [(one["state"], (one["answer"] or {}).get("choice")) for one in found] == [
        ("answered", "yes"), ("open", None),
    ]  # fmt: skip
