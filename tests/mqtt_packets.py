"""MQTT packets written and read by hand, for tests that must send what no library sends."""

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple, Self


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def sized(body: bytes) -> bytes:
    """With its length before it, as a variable byte integer."""
    size, digits = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(digits) + body


def packet(head: int, body: bytes = b"") -> bytes:
    return bytes((head,)) + sized(body)


def properties(*entries: bytes) -> bytes:
    return sized(b"".join(entries))


def connect(
    level: int = 4, *, client_id: str = "c", username: str | None = None, password: bytes | None = None,
    will: str | None = None, will_delay_s: int = 0, method: str = "", data: bytes = b"", keepalive_s: int = 60,
    clean: bool = True, extra: bytes = b"",
) -> bytes:  # fmt: skip
    """extra: further properties of MQTT 5."""
    flags = (clean << 1) | ((will is not None) << 2) | ((password is not None) << 6) | ((username is not None) << 7)
    body = text("MQIsdp" if level == 3 else "MQTT") + bytes((level, flags)) + keepalive_s.to_bytes(2, "big")
    if level == 5:
        body += properties(b"\x15" + text(method) if method else b"", b"\x16" + text(data) if data else b"", extra)
    body += text(client_id)
    if will is not None:
        delay = properties(b"\x18" + will_delay_s.to_bytes(4, "big")) if level == 5 else b""
        body += delay + text(will) + text("gone")
    body += b"" if username is None else text(username)
    return packet(0x10, body + (b"" if password is None else text(password)))


def publish(
    topic: str | bytes, payload: bytes = b"x", *, level: int = 4, qos: int = 0, number: int = 1, alias: int = 0,
    retain: bool = False,
) -> bytes:  # fmt: skip
    body = text(topic) + (number.to_bytes(2, "big") if qos else b"")
    if level == 5:
        body += properties(b"\x23" + alias.to_bytes(2, "big")) if alias else b"\0"
    return packet(0x30 | qos << 1 | retain, body + payload)


def subscribe(*filters: str, level: int = 4, number: int = 1, qos: int = 1) -> bytes:
    body = number.to_bytes(2, "big") + (b"\0" if level == 5 else b"")
    return packet(0x82, body + b"".join(text(one) + bytes((qos,)) for one in filters))


def split(stream: bytes) -> Iterator[bytes]:
    """Its packets; the last one must be whole."""
    at = 0
    while at < len(stream):
        size = shift = 0
        place = at + 1
        while True:
            digit = stream[place]
            size |= (digit & 127) << shift
            shift, place = shift + 7, place + 1
            if digit < 128:
                break
        assert place + size <= len(stream)
        yield stream[at : place + size]
        at = place + size


class Answer(NamedTuple):
    kind: int
    """The first byte's upper half, such as 2 for CONNACK."""
    body: bytes


class RawDevice:
    """A client that sends what it is told to: `async with RawDevice(port) as device`."""

    def __init__(self, port: int, *, local: str = "127.0.0.1") -> None:
        """local: the address that it comes from."""
        self._port = port
        self._local = local

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(self._local, 0)
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, timeout_s: float = 10.0) -> Answer | None:
        """The next packet; None when the connection ended. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            try:
                head = (await self.reader.readexactly(1))[0]
                size = shift = 0
                while True:
                    digit = (await self.reader.readexactly(1))[0]
                    size |= (digit & 127) << shift
                    shift += 7
                    if digit < 128:
                        break
                return Answer(head >> 4, await self.reader.readexactly(size))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def ask(self, data: bytes) -> Answer | None:
        self.send(data)
        return await self.answer()
