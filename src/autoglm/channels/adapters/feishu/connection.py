"""Feishu's long connection: a WebSocket that the hub opens and Feishu pushes events through, so that no port is public.

Source: the behaviour of larksuite/oapi-sdk-python (ws/client.py): pings, events in several frames, answers.
"""

import base64
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import anyio
import msgspec

from autoglm.channels.adapters.feishu.frames import CONTROL, DATA, Frame, Malformed, decoded, encoded
from autoglm.channels.adapters.feishu.heard import Unreadable
from autoglm.channels.adapters.feishu.openapi import Place, of_refusal, ping_s_of
from autoglm.channels.line import Line, NoLine
from autoglm.channels.vendor_json import vendor_map
from autoglm.channels.web import Answer
from autoglm.core.errors import HubError
from autoglm.core.tasks import one_task_group

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import InvalidStatus

OK, FAILED = 200, 500
_MOST_DIGITS = 19
_MOST_PARTS = 64
_MOST_UNFINISHED = 16
_MOST_BYTES = 8 << 20

Hear = Callable[[bytes], Awaitable[Mapping[str, object] | None]]
"""Takes the payload of an event; what a callback is answered with, None for an event. Raises Unreadable, HubError."""


class LongConnection:
    """Keeps one connection."""

    def __init__(self, channel: str, find_place: Callable[[], Awaitable[Place]]) -> None:
        """find_place raises NoLine."""
        self.line = Line(channel, "Feishu", "飞书")
        self._log = self.line.log
        self._find_place = find_place

    async def run(self, hear: Hear) -> None:
        """Until cancelled."""
        from websockets.exceptions import InvalidStatus

        async def once() -> bool:
            place = await self._find_place()
            try:
                async with self.line.opened(place.url) as socket:
                    return await _Connection(socket, place, hear, self.line).served()
            except InvalidStatus as error:
                raise _refused(error) from None

        await self.line.keep(once)


class _Connection:
    def __init__(self, socket: "ClientConnection", place: Place, hear: Hear, line: Line) -> None:
        self._socket, self._hear, self._log = socket, hear, line.log
        self._service, self._ping_s = place.service, place.ping_s
        self._parts = Parts()

    async def served(self) -> bool:
        """One event after the other, to the connection's end. True when it brought anything."""
        brought = False
        async with one_task_group() as tasks:
            tasks.start_soon(self._ping)
            async for raw in self._socket:
                try:
                    frame = decoded(raw if isinstance(raw, bytes) else raw.encode("utf-8", "replace"))
                except Malformed as error:
                    self._log.warning("frame_unreadable", reason=str(error), size_bytes=len(raw))
                    continue
                brought = True
                await self._take(frame)
            tasks.cancel_scope.cancel()
        return brought

    async def _ping(self) -> None:
        """Feishu counts a connection without them as gone."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                ping = Frame(method=CONTROL, service=self._service, headers=(("type", "ping"),))
                await self._socket.send(encoded(ping))
                await anyio.sleep(self._ping_s)
        except ConnectionClosed:
            return  # who reads it tells

    async def _take(self, frame: Frame) -> None:
        kind = frame.header("type")
        if frame.method == CONTROL:
            if kind == "pong" and frame.payload:
                self._ping_s = _ping_s_in(frame.payload)
            return
        if frame.method != DATA or kind not in ("event", "card"):
            self._log.warning("frame_unknown", method=frame.method, type=kind[:20])
            return
        payload = self._parts.whole(frame)
        if payload is not None:
            await self._socket.send(encoded(await self._answered(frame, payload)))

    async def _answered(self, frame: Frame, payload: bytes) -> Frame:
        """FAILED: Feishu brings an event again, after 15 seconds, 5 minutes, an hour and 6 hours; it tells whoever
        pressed a button that this failed.
        """
        try:
            return answer_to(frame, OK, await self._hear(payload))
        except Unreadable as error:
            self._log.warning("event_unreadable", reason=str(error))
            return answer_to(frame, OK)
        except HubError as error:
            self._log.warning("event_not_taken", code=error.code)
            return answer_to(frame, FAILED)


class Parts:
    """Puts events together that come in several frames. Bounded: the oldest unfinished one gives way, to come again."""

    def __init__(self) -> None:
        self._unfinished: OrderedDict[str, dict[int, bytes]] = OrderedDict()

    def whole(self, frame: Frame) -> bytes | None:
        """The event's payload; None while frames of it are missing."""
        total, index = _count(frame.header("sum")), _count(frame.header("seq"))
        if total <= 1:
            return frame.payload
        if total > _MOST_PARTS or index >= total:
            return None
        parts = self._unfinished.setdefault(frame.header("message_id"), {})
        parts[index] = frame.payload
        if len(parts) == total:
            del self._unfinished[frame.header("message_id")]
            return b"".join(parts[number] for number in range(total))
        while len(self._unfinished) > _MOST_UNFINISHED or self._size_bytes() > _MOST_BYTES:
            self._unfinished.popitem(last=False)
        return None

    def _size_bytes(self) -> int:
        return sum(len(part) for parts in self._unfinished.values() for part in parts.values())


def answer_to(frame: Frame, code: int, result: Mapping[str, object] | None = None) -> Frame:
    """The same frame, with a code for its payload, and the result in base64, as the vendor's SDKs write it."""
    data = None if result is None else base64.b64encode(json.dumps(result, ensure_ascii=False).encode()).decode()
    return msgspec.structs.replace(frame, payload=json.dumps({"code": code, "headers": None, "data": data}).encode())


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= 4 else 0


def _ping_s_in(payload: bytes) -> float:
    return ping_s_of(vendor_map(payload))


def _refused(error: "InvalidStatus") -> NoLine:
    """A handshake that Feishu refuses says why in headers."""
    headers = error.response.headers
    said = headers.get("handshake-autherrcode") or headers.get("handshake-status") or ""
    status = error.response.status_code
    body = json.dumps({"code": int(said)} if said.isdecimal() and len(said) <= _MOST_DIGITS else {}).encode()
    refusal = of_refusal(Answer(status, {}, body))
    return NoLine(refusal.code, refusal.reason)
