"""Asks a broker whether it lets the hub in: CONNECT and CONNACK of MQTT 3.1.1, then DISCONNECT.

Source: MQTT 3.1.1, sections 3.1, 3.2 and 3.14.
"""

import asyncio

_CLIENT_ID = "autoglm-probe"


def connect_packet(username: str, password: str) -> bytes:
    fields = b"".join(_string(text) for text in (_CLIENT_ID, username, password))
    rest = _string("MQTT") + bytes((4, 0b1100_0010, 0, 10)) + fields  # version 4; user, password, clean; 10 s
    size, head = len(rest), bytearray((0x10,))
    while True:
        size, digit = divmod(size, 128)
        head.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(head) + rest


def _string(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


async def answers(port: int, username: str, password: str, *, timeout_s: float) -> bool:
    """Whether the broker at 127.0.0.1 welcomes the user in time."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(connect_packet(username, password))
            return await reader.readexactly(4) == b"\x20\x02\x00\x00"
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.write(b"\xe0\x00")
            writer.close()
