"""A client that sends exactly the bytes that a test wants, and reads replies, events and frames as they come."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

TIMEOUT_S = 20.0


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection to a hub. `key` goes into requests that `request` builds."""

    def __init__(self, port: int, key: str = "", *, receive_buffer_bytes: int = 0) -> None:
        """receive_buffer_bytes: what the kernel takes for a client that does not read; 0 leaves that to the kernel."""
        self.key = key
        self._socket = socket.socket()
        self._socket.settimeout(TIMEOUT_S)
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._buffer = b""
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    # --- out ---

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        """Send a request without waiting for its reply. Underscores in the names of headers stand for dashes."""
        self.send(self.head(method, path, body, **headers) + (body or b""))

    def head(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        lines = {"host": "hub", **({"authorization": f"Bearer {self.key}"} if self.key else {})}
        if body is not None:
            lines["content-length"] = str(len(body))
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode("latin-1")

    # --- in ---

    def reply(self, *, to_head: bool = False) -> Reply:
        """The next reply. to_head: it answers a HEAD and has no body."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in head[1:])}
        status = int(head[0].split(" ")[1])
        if to_head or status in (204, 304):
            return Reply(status, headers, b"")
        if "content-length" in headers:
            return Reply(status, headers, self._exactly(int(headers["content-length"])))
        return Reply(status, headers, b"".join(self.chunks()))

    def start(self) -> Reply:
        """The head of a reply whose body comes in pieces; go on with `chunks` or `events`."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in head[1:])}
        return Reply(int(head[0].split(" ")[1]), headers, b"")

    def chunks(self) -> Iterator[bytes]:
        """The pieces of a chunked body, until its end."""
        while size := int(self._until(b"\r\n"), 16):
            yield self._exactly(size)
            self._exactly(2)
        self._exactly(2)

    def events(self) -> Iterator[dict[str, Any]]:
        """Server-sent events: `event`, `id` where there is one, and `data` as JSON; comments as {"comment": ...}."""
        buffer = ""
        for chunk in self.chunks():
            buffer += chunk.decode()
            while "\n\n" in buffer:
                block, buffer = buffer.split("\n\n", 1)
                yield _event(block)

    def is_closed(self) -> bool:
        """True when the hub closes the connection; waits for it, and takes what still comes."""
        try:
            while self._socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        found, self._buffer = self._buffer.split(end, 1)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError(f"the hub closed the connection; left: {self._buffer[:200]!r}")
        self._buffer += data


def _event(block: str) -> dict[str, Any]:
    if block.startswith(":"):
        return {"comment": block[1:].strip()}
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return {**fields, "data": json.loads(fields["data"])}


def call(port: int, key: str, method: str, path: str, body: object = None, **headers: str) -> Reply:
    """One request on a connection of its own. body: bytes as they are, anything else as JSON."""
    with Wire(port, key) as wire:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        wire.request(method, path, data, **headers)
        return wire.reply(to_head=method == "HEAD")


@contextmanager
def stream(port: int, key: str, query: str, **headers: str) -> Iterator[tuple[Wire, Iterator[dict[str, Any]]]]:
    """An open stream of server-sent events, past its first comment."""
    with Wire(port, key) as wire:
        wire.request("GET", f"/api/messages/stream?{query}", None, **headers)
        reply = wire.start()
        assert reply.status == 200, reply
        events = wire.events()
        assert next(events) == {"comment": "connected"}
        yield wire, events
