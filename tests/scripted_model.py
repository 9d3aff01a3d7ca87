"""An OpenAI-compatible model server on 127.0.0.1 whose behaviour the test writes: answers, delays, cuts, errors.

It is the other side of the hub's pool. It speaks real HTTP over real sockets from a thread with its own event loop,
so that it serves a hub in this process as well as one in a process of its own.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from threaded_server import ThreadedServer


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def response(status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> bytes:
    """A whole HTTP response."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text: str | None, finish: str | None = None, **delta: Any) -> bytes:
    """One chat.completion.chunk as a server-sent event."""
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "echo-model", "choices": [choice]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def completion(text: str, **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "echo-model", "choices": [choice], "usage": usage}


def last_text(request: Request) -> str:
    content = request.json()["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def echo(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says "You said: <text>", word by word when streaming. A prompt that starts with `slow` takes 50 ms a word."""
    text = f"You said: {last_text(request)}"
    if not request.json().get("stream"):
        writer.write(response(200, completion(text)))
        return
    writer.write(STREAM_HEAD)
    for number, word in enumerate(text.split(" ")):
        writer.write(chunk(event(word if number == 0 else f" {word}")))
        await writer.drain()
        if last_text(request).startswith("slow"):
            await asyncio.sleep(0.05)  # the pace of a model, not a wait for a condition
    writer.write(chunk(event(None, "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def answering(status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Behaviour:
    """The same response to each request."""
    return writing(response(status, body, headers), closes=False)


def writing(data: bytes, *, closes: bool = True) -> Behaviour:
    """These bytes, whatever they are, and then the end of the connection."""

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if closes:
            writer.close()

    return behave


def streaming(*events: bytes, closes: bool = False) -> Behaviour:
    """A stream of these events, each in a write of its own. `closes`: cut before the stream's end."""

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for data in events:
            writer.write(chunk(data))
            await writer.drain()
            await asyncio.sleep(0)
        if closes:
            writer.close()
        else:
            writer.write(b"0\r\n\r\n")

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One for each request, the last one for all further ones."""
    left = list(behaviours)

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, reader, writer)

    return behave


class Gate:
    """Holds requests at a place that the test chooses, until it opens or the client leaves."""

    def __init__(self) -> None:
        self.waiting = 0
        self.left_s: list[float] = []
        """When clients left while they were held; monotonic."""
        self._is_open = False

    def open(self) -> None:
        self._is_open = True

    async def passed(self, reader: asyncio.StreamReader) -> bool:
        """True when it opened, False when the client left first."""
        self.waiting += 1
        try:
            gone = asyncio.ensure_future(reader.read(1))
            while not self._is_open and not gone.done():
                await asyncio.wait([gone], timeout=0.002)
            if gone.done():
                self.left_s.append(time.monotonic())
                return False
            gone.cancel()
            await asyncio.wait([gone])  # else the connection's next request would find it still reading
            return True
        finally:
            self.waiting -= 1

    def before(self, behaviour: Behaviour) -> Behaviour:
        async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await self.passed(reader):
                await behaviour(request, reader, writer)

        return behave

    def within(self, *events: bytes) -> Behaviour:
        """A stream that stops before its last event until the gate opens."""
        begun = STREAM_HEAD + b"".join(chunk(data) for data in events[:-1])
        return self.between(begun, chunk(events[-1]) + b"0\r\n\r\n")

    def between(self, begun: bytes, rest: bytes, *, closes: bool = False) -> Behaviour:
        """These bytes, and when the gate opens those, and perhaps the end of the connection."""

        async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(begun)
            await writer.drain()
            if await self.passed(reader):
                writer.write(rest)
                if closes:
                    writer.close()

        return behave


async def stop_listening(server: asyncio.Server) -> None:
    """All connections that it has accepted are known afterwards.

    asyncio takes some turns of its loop from accepting to the first callback; one that is on its way when its server
    closes is lost with its socket open (`Server._attach` asserts), and the warning fails a test that comes later.
    """
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener)
    await _turns_to_accept()
    server.close()
    await _turns_to_accept()  # uvloop had no reader there


async def _turns_to_accept() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class ScriptedModel(ThreadedServer):
    """`with ScriptedModel() as model:` listens; `model.behaviour` decides on a POST, `model.requests` has them all."""

    def __init__(self, behaviour: Behaviour = echo, models: tuple[str, ...] = ("echo-model",), port: int = 0) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.models = models
        self.requests: list[Request] = []
        self.port = port
        self.open_connections = 0
        self.models_status = 200
        self.behaviour_of_get: Behaviour | None = None
        """Decides on a GET instead of `answer_to_get`: for answers that go on."""
        self.probe_gate: Gate | None = None
        """Holds the answers to probes."""
        self.probes = 0
        """How often it was asked for its models."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        """Of all connections that there were: one whose client takes nothing is closed, but stays open."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve_until(self, stopped: asyncio.Event, started: threading.Event) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, limit=64 << 20)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopped.wait()
        await stop_listening(server)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()  # closing would wait for a client that takes nothing
        await asyncio.sleep(0)

    def answer_to_get(self, request: Request) -> bytes:
        data = [{"id": name, "object": "model"} for name in self.models]
        return response(self.models_status, {"object": "list", "data": data})

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Noted here: a task that is cancelled before its first step would leave the transport open."""
        self._writers.append(writer)
        task = self._loop.create_task(self._connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            while True:
                request = await _read(reader)
                if request is None:
                    break
                if request.method == "GET" and self.behaviour_of_get is not None:
                    await self.behaviour_of_get(request, reader, writer)
                elif request.method == "GET":
                    self.probes += request.path.endswith("/models")
                    if self.probe_gate is not None and not await self.probe_gate.passed(reader):
                        break
                    writer.write(self.answer_to_get(request))
                else:
                    self.requests.append(request)
                    await self.behaviour(request, reader, writer)
                if writer.is_closing():
                    break
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


def main() -> None:
    """`python scripted_model.py [PORT]`: an echoing model in a process of its own, until it is killed."""
    with ScriptedModel(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as model:
        print(model.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
