"""kill -9 in the middle of many requests: no use that a client knows the end of is forgotten (ADR 8)."""

import asyncio
import json
import random
import threading
from pathlib import Path

import httpx2
import pytest

from eventually import wait_until
from gateway.budget_hub import BudgetHub, budget_hub
from scripted_model import STREAM_HEAD, Request, chunk, completion, event, response

SETTINGS = """
[[budget]]
name = "all"
tokens = 1000000000

[[budget]]
name = "each"
tenant = "*"
requests = 1000000000
"""
CLIENTS = 12
ENOUGH = 150


class Upstream:
    """Answers with a usage of its own each time, whole or as a stream, and remembers what it has told."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        self.told_tokens = 0
        self.told_requests = 0

    async def __call__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tokens_in, tokens_out = self.random.randrange(1, 1000), self.random.randrange(1, 1000)
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        self.told_tokens += tokens_in + tokens_out
        self.told_requests += 1
        if not request.json().get("stream"):
            writer.write(response(200, {**completion("hello"), "usage": usage}))
            return
        last = {"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": usage}
        writer.write(STREAM_HEAD + chunk(event("hello")))
        await writer.drain()
        writer.write(chunk(event(None, "stop")))
        await writer.drain()
        writer.write(chunk(b"data: " + json.dumps(last).encode() + b"\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


class Client(threading.Thread):
    """Asks until the hub is gone; adds up the usage of what came to its end."""

    def __init__(self, hub: BudgetHub, *, is_stream: bool) -> None:
        super().__init__(daemon=True)
        self.url = f"{hub.process.url}/v1/chat/completions"
        self.key = hub.process.admin_key
        self.is_stream = is_stream
        self.tokens = 0
        self.requests = 0

    def run(self) -> None:
        body: dict[str, object] = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
        if self.is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            with httpx2.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=20) as client:
                while True:
                    self._ask(client, body)
        except httpx2.HTTPError:
            pass  # the hub was killed

    def _ask(self, client: httpx2.Client, body: dict[str, object]) -> None:
        with client.stream("POST", self.url, json=body) as reply:
            assert reply.status_code == 200
            parts: list[bytes] = []
            try:
                parts += reply.iter_bytes()
            finally:  # a stream is at its end for its client with [DONE], though the connection is cut then
                self._note(b"".join(parts))

    def _note(self, data: bytes) -> None:
        if self.is_stream:
            lines = [line[6:] for line in data.splitlines() if line.startswith(b"data: ")]
            if b"[DONE]" not in lines:
                return
            data = lines[-2]
        elif not data:
            return
        self.tokens += json.loads(data)["usage"]["total_tokens"]
        self.requests += 1


@pytest.mark.parametrize("round_", range(2))
def test_what_clients_have_seen_is_counted_and_no_more_than_the_model_has_told(tmp_path: Path, round_: int) -> None:
    upstream = Upstream()
    with budget_hub(tmp_path, SETTINGS, slots=64) as hub:
        hub.model.behaviour = upstream
        clients = [Client(hub, is_stream=number % 2 == 0) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        wait_until(lambda: sum(client.requests for client in clients) >= ENOUGH + 37 * round_, 60)
        hub.process.kill()
        for client in clients:
            client.join(30)
        hub.client.close()
        hub.process.start()
        hub.client = hub.process.client()
        seen = sum(client.tokens for client in clients)
        assert min(client.requests for client in clients) > 0
        assert seen <= hub.used("all") <= upstream.told_tokens
        seen_requests = sum(client.requests for client in clients)
        assert seen_requests <= hub.used("all", unit="requests") <= upstream.told_requests
        assert seen_requests <= hub.used("each", "admin", "requests") <= upstream.told_requests
        assert hub.budgets()["all", ""]["estimated_tokens"] == 0
