"""`autoglm mcp` as an agent uses it: by the SDK's own client, over standard input and output, on a real hub."""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from cli.terminal import autoglm, environment
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

if TYPE_CHECKING:
    from mcp import Client

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")

KEYS = """
[[key]]
name = "agent"
value = "sk-agent"
address = "device:agent"
scopes = ["send:message:device:agent", "read:message:device:agent"]

[[route]]
name = "all"
to = ["user:boss"]
"""
TOOLS = {"send_message", "notify", "ask_person", "get_answer", "get_receipts", "read_inbox", "list_instances"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with ScriptedModel() as model:
        config = instance_config("echo-1", model.url) + KEYS
        with running_hub(tmp_path_factory.mktemp("mcp") / "data", config) as hub:
            yield hub


@asynccontextmanager
async def agent(data: Path, *options: str, mode: str = "auto") -> AsyncIterator["Client"]:
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    command = [sys.executable, "-m", "autoglm", "mcp", *options]
    environ = environment(data)
    with (data.parent / f"{data.name}.mcp.log").open("a") as errors:
        server = StdioServerParameters(command=command[0], args=command[1:], env=environ)
        async with Client(stdio_client(server, errlog=errors), mode=mode) as client:
            yield client


async def use(client: "Client", tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, read_timeout_seconds=30.0)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    [text] = result.content
    assert text.type == "text"
    found: dict[str, Any] = result.structured_content
    assert json.loads(text.text) == found, "for models that read text, and for programs"
    return found


async def refusal(client: "Client", tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, read_timeout_seconds=30.0)
    assert result.is_error
    [text] = result.content
    assert text.type == "text"
    return text.text


def send(http: httpx2.Client, **message: Any) -> str:
    return str(http.post("/api/messages", json=message).raise_for_status().json()["id"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_tool_explains_itself(hub: HubProcess, mode: str) -> None:
    async with agent(hub.data_dir, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        for tool in tools:
            assert tool.description
            assert "\n" not in tool.description
            for name, argument in tool.input_schema["properties"].items():
                assert "description" in json.dumps(argument), f"{tool.name}.{name}"
            assert "context" not in tool.input_schema["properties"]
            assert tool.output_schema is not None
        assert "user:alice" in (client.instructions or "")


async def test_a_message_is_sent_read_and_its_receipts_are_told(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client:
        labels = {"line": "3"}
        sent = await use(client, "send_message", to="user:bea", text="冲床停机了。", priority=9, labels=labels)
        [message] = (await use(client, "read_inbox", address="user:bea"))["messages"]
        assert (message["id"], message["text"], message["sender"]) == (sent["id"], "冲床停机了。", "user:admin")
        assert (message["priority"], message["labels"], message["is_cut"]) == (9, labels, False)
        with hub.client() as http:
            http.post(f"/api/messages/{sent['id']}/ack").raise_for_status()
        steps = (await use(client, "get_receipts", id=sent["id"]))["steps"]
        assert [step["state"] for step in steps] == ["accepted", "acknowledged"]


async def test_an_event_goes_by_the_routes(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client:
        sent = await use(client, "notify", text="Down.", title="Press 7", kind="alert", labels={"press": "7"})
        found = await use(client, "read_inbox", address="user:boss", wait_s=20)
        assert found["messages"][0]["labels"]["event"] == sent["id"]
        await use(client, "notify", text="Runs.", kind="alert", labels={"press": "7"}, is_resolved=True)
        later = await use(client, "read_inbox", address="user:boss", after=found["next"], wait_s=20)
        assert later["messages"][0]["labels"]["state"] == "resolved"


async def test_a_person_is_asked_and_the_agent_waits_while_it_does_other_things(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client, anyio.create_task_group() as tasks:
        answers: list[dict[str, Any]] = []

        async def ask() -> None:
            answers.append(await use(client, "ask_person", to="user:li", question="Stop?", choices=["yes", "no"]))

        tasks.start_soon(ask)
        [question] = (await use(client, "read_inbox", address="user:li", wait_s=20))["messages"]
        assert question["text"].startswith("Stop?\n1. yes\n2. no")
        with hub.client() as http:
            send(http, to="user:admin", content="1", reply_to=question["id"], **{"from": "user:li"})
    [answer] = answers
    assert (answer["state"], answer["choice"], answer["by"]) == ("answered", "yes", "user:li")
    assert answer["id"] == question["id"]


async def test_a_question_stands_when_the_wait_is_over(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client:
        asked = await use(client, "ask_person", to="user:late", question="Stop?", wait_s=0)
        assert (asked["state"], asked["answer"]) == ("open", None)
    with hub.client() as http:
        send(http, to="user:admin", content="Ask Bob.", reply_to=asked["id"], **{"from": "user:late"})
    async with agent(hub.data_dir) as client:
        answer = await use(client, "get_answer", id=asked["id"])
        assert (answer["state"], answer["answer"], answer["choice"]) == ("answered", "Ask Bob.", None)


async def test_results_are_bounded(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client:
        for number in range(3):
            await use(client, "send_message", to="user:full", text=f"{number}" + "文" * 5000)
        found = await use(client, "read_inbox", address="user:full", limit=2, reader="me")
        assert [len(message["text"]) for message in found["messages"]] == [2000, 2000]
        assert all(message["is_cut"] for message in found["messages"])
        rest = await use(client, "read_inbox", address="user:full", after=found["next"], reader="me")
        assert [message["text"][0] for message in rest["messages"]] == ["2"]
        assert "less than or equal to 50" in await refusal(client, "read_inbox", limit=1000)


async def test_the_instances_are_listed(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client:
        [instance] = (await use(client, "list_instances"))["instances"]
        assert (instance["name"], instance["models"]) == ("echo-1", ["echo-model"])


async def test_what_goes_wrong_is_told_in_plain_words(hub: HubProcess) -> None:
    async with agent(hub.data_dir) as client:
        assert "did you mean 'user:alice'?" in await refusal(client, "send_message", to="alice", text="x")
        assert "no channel 'wecom'" in await refusal(client, "ask_person", to="channel:wecom/x", question="?")
        assert "there is no question 'never' here" in await refusal(client, "get_answer", id="never")
        assert "priority" in await refusal(client, "notify", text="x", priority=10)


async def test_a_key_may_do_what_its_scopes_say(hub: HubProcess) -> None:
    async with agent(hub.data_dir, "--url", hub.url, "--key", "sk-agent") as client:
        await use(client, "send_message", to="user:ann", text="hello")
        assert (await use(client, "read_inbox"))["messages"] == []
        assert "read:message:user:ann" in await refusal(client, "read_inbox", address="user:ann")


async def test_without_a_hub_the_way_to_one_is_told(tmp_path: Path) -> None:
    """And once there is one, the same server finds it."""
    data = tmp_path / "data"
    async with agent(data) as client:
        assert "autoglm up" in await refusal(client, "list_instances")
        with running_hub(data) as hub:
            await use(client, "list_instances")
            hub.kill()
            assert "gone" in await refusal(client, "list_instances")


def test_the_tools_are_listed_for_people_and_programs() -> None:
    shown = autoglm("mcp", "--list")
    assert "ask_person " in shown.out
    listed = json.loads(autoglm("mcp", "--list", "--json").out)
    assert {tool["name"] for tool in listed} == TOOLS
    assert listed[0]["inputSchema"]["required"] == ["to", "text"]


def test_the_server_ends_with_its_input(tmp_path: Path) -> None:
    assert autoglm("mcp", data=tmp_path, stdin="") == (0, "", "")
