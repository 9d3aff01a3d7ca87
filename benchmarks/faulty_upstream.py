"""A model in a process of its own, to be made slow, stopped and killed: answers each prompt with itself after a delay.

`python benchmarks/faulty_upstream.py PORT` prints its port (0: a free one). GET /v1/models: a health probe; POST
/v1/chat/completions: an answer; POST /delay: the seconds to answer after from now on; GET /arrivals: when requests for
answers came, in seconds of CLOCK_MONOTONIC.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

MODEL = "echo"
DELAY_S = 0.05


class Upstream:
    """The process, seen from the benchmark. Keeps its port when it is started again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> Self:
        command = [sys.executable, str(Path(__file__)), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def delay(self, seconds: float) -> None:
        self._ask("POST", "/delay", json.dumps(seconds))

    def arrivals_s(self) -> list[float]:
        return list(self._ask("GET", "/arrivals"))

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def running_upstreams(count: int) -> Iterator[list[Upstream]]:
    upstreams: list[Upstream] = []
    try:
        for number in range(count):
            upstreams.append(Upstream(f"i{number}").start())
        yield upstreams
    finally:
        for upstream in upstreams:
            upstream.kill()


class _Model:
    def __init__(self) -> None:
        self.delay_s = DELAY_S
        self.arrivals_s: list[float] = []

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = (line.partition(":") for line in head.split("\r\n")[1:])
                headers = {name.lower(): value.strip() for name, _, value in lines}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                answer = json.dumps(await self._answer(head.split(" ")[1], body)).encode()
                start = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                writer.write(start.encode() + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> object:
        match path:
            case "/v1/models":
                return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            case "/delay":
                self.delay_s = float(json.loads(body))
                return self.delay_s
            case "/arrivals":
                return self.arrivals_s
        self.arrivals_s.append(time.monotonic())
        text = json.loads(body)["messages"][-1]["content"]
        await asyncio.sleep(self.delay_s)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "chatcmpl-1", "object": "chat.completion", "model": MODEL, "choices": [choice]}


if __name__ == "__main__":
    asyncio.run(_Model().serve(int(sys.argv[1])))
