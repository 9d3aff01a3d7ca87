"""A real hub before real model processes, under load: instances are taken out, processes and the hub are killed."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from eventually import until, wait_until
from hub import HubProcess, instance_config, running_hub
from model_process import ModelProcess, model_process

POOL = "[pool]\nprobe_interval_s = 0.5\n\n"


@contextmanager
def hub_and_models(folder: Path, count: int, slots: int = 4) -> Iterator[tuple[HubProcess, list[ModelProcess]]]:
    with ExitStack() as stack:
        models = [stack.enter_context(model_process()) for _ in range(count)]
        config = POOL + "\n".join(
            instance_config(f"i{number}", model.url, slots=slots) for number, model in enumerate(models)
        )
        hub = stack.enter_context(running_hub(folder / "data", config))
        wait_until(lambda: {entry["state"] for entry in pool_of(hub)} == {"ready"})
        yield hub, models


def pool_of(hub: HubProcess) -> list[dict[str, Any]]:
    with hub.client() as client:
        return list(client.get("/api/pool").json()["instances"])


async def post(hub: HubProcess, path: str, body: object = None) -> tuple[int, bytes]:
    """On a connection of its own. Raises OSError, or EOFError when the reply is cut."""
    data = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, limit=8 << 20)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.admin_key}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            return int(first.split()[1]), await _dechunked(reader)
        return int(first.split()[1]), await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.transport.abort()  # closing would wait for a hub that is stopped


async def _dechunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return body


def question(text: str, model: str = "echo-model", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def said(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


class Clients:
    """Each asks one question after the other, with a retry only where `retries`; `answers` has what each got."""

    def __init__(self, hub: HubProcess, count: int, *, retries: bool = False) -> None:
        self.hub = hub
        self.answers: list[tuple[str, int, str]] = []
        """Question, status, answer."""
        self.broken = 0
        """Connections that ended without an answer."""
        self._retries = retries
        self._is_over = False
        self.tasks = [asyncio.create_task(self._run(number)) for number in range(count)]

    async def _run(self, number: int) -> None:
        asked = 0
        while not self._is_over:
            text = f"{number}-{asked}"
            try:
                status, body = await post(self.hub, "/v1/chat/completions", question(text))
            except (OSError, EOFError):
                self.broken += 1
                if not self._retries:
                    raise
                await asyncio.sleep(0.01)  # the pause of a client that tries again
                continue
            self.answers.append((text, status, said(body) if status == 200 else body.decode()))
            asked += 1

    async def pass_by(self, count: int) -> None:
        wanted = len(self.answers) + count
        await until(lambda: len(self.answers) >= wanted or any(task.done() for task in self.tasks), 60)

    async def end(self) -> None:
        """Raises what a client met; each question must have had its one answer."""
        self._is_over = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), 30)
        wrong = [answer for answer in self.answers if answer[1:] != (200, f"You said: {answer[0]}")]
        assert wrong == []
        assert len({text for text, *_ in self.answers}) == len(self.answers)


@asynccontextmanager
async def asking(hub: HubProcess, count: int, *, retries: bool = False) -> AsyncIterator[Clients]:
    clients = Clients(hub, count, retries=retries)
    try:
        yield clients
        await clients.end()
    finally:
        for task in clients.tasks:
            task.cancel()
        await asyncio.wait(clients.tasks)


async def drained(hub: HubProcess, name: str) -> None:
    with anyio.fail_after(20):
        while True:
            status, body = await post(hub, f"/api/pool/{name}/drain")
            assert status == 200, body
            if json.loads(body)["state"] == "drained":
                return
            await asyncio.sleep(0.01)


async def entry(hub: HubProcess, number: int) -> dict[str, Any]:
    found = await anyio.to_thread.run_sync(pool_of, hub)
    return found[number]


async def in_state(hub: HubProcess, number: int, state: str) -> None:
    await anyio.to_thread.run_sync(wait_until, lambda: pool_of(hub)[number]["state"] == state, 20.0)


async def test_draining_and_stopping_each_instance_in_turn_loses_no_request(tmp_path: Path) -> None:
    """As scale-in does it, and a rolling update: drain, stop, start, resume."""
    with hub_and_models(tmp_path, 3) as (hub, models):
        async with asking(hub, 16) as clients:
            for number, model in enumerate(models):
                await clients.pass_by(50)
                await drained(hub, f"i{number}")
                served = (await entry(hub, number))["served"]
                await clients.pass_by(50)
                found = await entry(hub, number)
                assert (found["served"], found["state"], found["running"]) == (served, "drained", 0)
                await anyio.to_thread.run_sync(model.kill)
                await clients.pass_by(20)
                await anyio.to_thread.run_sync(model.start)
                assert (await post(hub, f"/api/pool/i{number}/resume"))[0] == 200
                await in_state(hub, number, "ready")
        assert clients.broken == 0


async def test_a_process_killed_and_one_frozen_under_load_fail_no_request(tmp_path: Path) -> None:
    with hub_and_models(tmp_path, 3) as (hub, models):
        async with asking(hub, 10) as clients:
            await clients.pass_by(50)
            await anyio.to_thread.run_sync(models[0].kill)
            await clients.pass_by(50)
            await anyio.to_thread.run_sync(models[1].freeze)
            await in_state(hub, 1, "down")
            await clients.pass_by(50)
        assert clients.broken == 0


async def test_clients_that_try_again_get_one_right_answer_each_however_often_the_hub_is_killed(tmp_path: Path) -> None:
    """What a kill breaks is a connection without an answer: no wrong answer, no half one taken for a whole."""
    with hub_and_models(tmp_path, 2) as (hub, _):
        async with asking(hub, 12, retries=True) as clients:
            for _ in range(3):
                await clients.pass_by(40)
                await anyio.to_thread.run_sync(hub.kill)
                await anyio.to_thread.run_sync(hub.start)
            await clients.pass_by(40)
        assert clients.broken >= 12


@pytest.fixture(scope="module")
def quiet_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_and_models(tmp_path_factory.mktemp("quiet"), 1) as (hub, _):
        yield hub


LONG = {"letters": "a" * 100_000, "words": "word " * 20_000, "chinese": "长" * 100_000, "marks": '"\\\n' * 33_334}


@pytest.mark.parametrize("model", ["echo-model", "auto"])
@pytest.mark.parametrize("text", ["", " ", *LONG.values()], ids=["empty", "blank", *LONG])
async def test_prompts_of_no_and_of_100000_characters_are_answered(
    quiet_hub: HubProcess, model: str, text: str
) -> None:
    status, body = await post(quiet_hub, "/v1/chat/completions", question(text, model))
    assert (status, said(body)) == (200, f"You said: {text}")


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": None}], [{"role": "user", "content": []}]])
async def test_a_request_without_a_prompt_gets_an_answer_and_not_a_crash(
    quiet_hub: HubProcess, messages: list[object]
) -> None:
    """What the model makes of it is its affair; here it cannot read it, and closes the connection."""
    status, body = await post(quiet_hub, "/v1/chat/completions", {"model": "auto", "messages": messages})
    assert status in (200, 502, 503)
    assert json.loads(body)
    assert (await post(quiet_hub, "/api/pool/i0/resume"))[0] == 200
    await in_state(quiet_hub, 0, "ready")
