"""A socket of the gate: first packet by packet, then all that comes to one callable. A full one slows its twin.

Raw asyncio: a message must not cost a task's turn. Measured in benchmarks/mqtt_gate.py.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from autoglm.channels.broker.gate import codec
from autoglm.channels.broker.gate.codec import Violation, varint_at

HIGH_BYTES = 65_536
"""Waiting to be written; then the other side is read no more."""
_ANSWERS_BYTES = 262_144
"""Of the gate's own packets for a device that does not read; then the device itself is read no more."""
_BEFORE_RELAY_BYTES = 131_072
_CLOSE_S = 2.0
"""For what is left to be written."""


class Wire(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._arrived: asyncio.Future[None] | None = None
        self._relay: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._holds: set[object] = set()
        """Why it is not read."""
        self.twin: Wire | None = None
        self.is_lost = False

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport.set_write_buffer_limits(high=HIGH_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay(data)
            return
        self._buffer += data
        if len(self._buffer) > _BEFORE_RELAY_BYTES:
            self._hold("early")
        self._wake()

    def pause_writing(self) -> None:
        if self.twin is not None:
            self.twin._hold(self)

    def resume_writing(self) -> None:
        self._release("answers")
        if self.twin is not None:
            self.twin._release(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._wake()
        if self.twin is not None:
            self.twin._release(self)
        if self._on_lost is not None:
            self._on_lost()

    # --- what the gate calls ---

    async def packet(self, head: int, limit_bytes: int) -> tuple[bytes, int]:
        """The next packet, before `relay`, and where its body begins. Raises Violation, and OSError at the end.

        head: the first byte that it must have; who speaks another protocol, such as HTTP, is not waited for.
        """
        while True:
            if self._buffer and self._buffer[0] != head:
                raise Violation(codec.PROTOCOL_ERROR, f"the packet is of type {self._buffer[0] >> 4}")
            if len(self._buffer) >= 2:
                found = varint_at(bytes(self._buffer[:5]), 1)
                if found is not None:
                    length, body = found
                    if body + length > limit_bytes:
                        raise Violation(codec.PACKET_TOO_LARGE, f"the packet is over {limit_bytes} bytes")
                    if len(self._buffer) >= body + length:
                        data = bytes(self._buffer[: body + length])
                        del self._buffer[: body + length]
                        return data, body
            if self.is_lost:
                raise ConnectionResetError
            self._arrived = self._loop.create_future()
            await self._arrived

    def relay(self, to: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        """From now on `to` gets all, what is here already first."""
        self._relay, self._on_lost = to, on_lost
        early = bytes(self._buffer)
        self._buffer.clear()
        if early:
            to(early)
        self._release("early")
        if self.is_lost:
            on_lost()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def answer(self, data: bytes) -> None:
        """To who is being read: if he does not read himself, he is not read any more."""
        self.write(data)
        if self._transport is not None and self._transport.get_write_buffer_size() > _ANSWERS_BYTES:
            self._hold("answers")

    def close(self) -> None:
        """What was written goes out, as far as it does within 2 s."""
        transport = self._transport
        if transport is None or self.is_lost:
            return
        self._relay = _nowhere
        transport.close()
        self._loop.call_later(_CLOSE_S, transport.abort)

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _hold(self, why: object) -> None:
        if not self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds.add(why)

    def _release(self, why: object) -> None:
        if why not in self._holds:
            return
        self._holds.discard(why)
        if not self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _nowhere(data: bytes) -> None:
    """What comes after the end."""
