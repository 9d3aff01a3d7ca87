"""DingTalk's stream: a WebSocket that the hub opens and DingTalk pushes messages through, so that no port is public.

Source: open.dingtalk.com, "stream mode protocol"; the behaviour of open-dingtalk/dingtalk-stream-sdk-python.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import anyio
import structlog

from autoglm.channels.adapters.dingtalk.heard import Unreadable
from autoglm.channels.adapters.dingtalk.openapi import MESSAGES_TOPIC, NoPlace, Place
from autoglm.channels.delivery import Words
from autoglm.channels.pauses import pauses_s
from autoglm.core.errors import HubError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = structlog.get_logger()

FRAME_BYTES = 1 << 20
OPEN_S = 10.0
CLOSE_S = 1.0
ALIVE_S = 30.0
"""A ping so often, and so long for its answer: a line that is cut without a word is noticed within twice that."""
OK, REFUSED = 200, 400


class Frame(NamedTuple):
    type: str
    """SYSTEM, CALLBACK or EVENT."""
    topic: str
    message_id: str
    data: str
    """JSON."""


Hear = Callable[[str], Awaitable[None]]
"""Takes the data of a message. Raises Unreadable, HubError."""


class Stream:
    """Keeps one connection. `trouble` says what is wrong with it; None while it is up, and before the first attempt."""

    def __init__(self, channel: str, find_place: Callable[[], Awaitable[Place]]) -> None:
        """find_place raises NoPlace."""
        self._log = log.bind(channel=channel)
        self._find_place = find_place
        self.trouble: tuple[str, Words] | None = None

    async def run(self, hear: Hear) -> None:
        """Until cancelled."""
        from websockets.exceptions import WebSocketException

        pauses = pauses_s()
        while True:
            try:
                if await self._connected(hear):
                    pauses = pauses_s()
            except NoPlace as error:
                self._lost(error.code, error.reason)
            except (OSError, TimeoutError, WebSocketException) as error:
                name = type(error).__name__
                words = Words(f"the stream to DingTalk is cut ({name})", f"到钉钉的 Stream 连接已断开（{name}）")
                self._lost("stream_cut", words)
            await anyio.sleep(next(pauses))

    async def _connected(self, hear: Hear) -> bool:
        """One connection, to its end. True when it brought anything."""
        from websockets.asyncio.client import connect

        place = await self._find_place()
        socket = await connect(
            f"{place.endpoint}?ticket={quote(place.ticket, safe='')}", open_timeout=OPEN_S, close_timeout=CLOSE_S,
            ping_interval=ALIVE_S, ping_timeout=ALIVE_S, max_size=FRAME_BYTES, max_queue=16, proxy=None,
        )  # fmt: skip
        self.trouble = None
        self._log.info("stream_connected")
        try:
            return await self._served(socket, hear)
        finally:
            with anyio.CancelScope(shield=True):
                await socket.close()

    async def _served(self, socket: "ClientConnection", hear: Hear) -> bool:
        """One message after the other: they stay in order, and DingTalk waits while the hub's disk is slow."""
        brought = False
        async for raw in socket:
            frame = parsed(raw)
            if frame is None:
                self._log.warning("stream_frame_unreadable", size_bytes=len(raw))
                continue
            brought = True
            if frame.type == "SYSTEM" and frame.topic == "disconnect":
                self._log.info("stream_ended_by_vendor")
                return brought
            if (answer := await self._answered(frame, hear)) is not None:
                await socket.send(answer)
        return brought

    async def _answered(self, frame: Frame, hear: Hear) -> str | None:
        """The acknowledgement; None where DingTalk must bring it again."""
        if frame.type == "SYSTEM":
            return acknowledgement(frame, OK, frame.data)
        if frame.type != "CALLBACK" or frame.topic != MESSAGES_TOPIC:
            self._log.warning("stream_frame_unknown", type=frame.type[:20], topic=frame.topic[:100])
            return acknowledgement(frame, REFUSED, "{}")
        try:
            await hear(frame.data)
        except Unreadable as error:
            self._log.warning("stream_message_unreadable", reason=str(error))
            return acknowledgement(frame, REFUSED, "{}")
        except HubError as error:
            self._log.warning("stream_message_not_taken", code=error.code)
            return None
        return acknowledgement(frame, OK, json.dumps({"response": None}))

    def _lost(self, code: str, reason: Words) -> None:
        self.trouble = (code, reason)
        self._log.warning("stream_lost", code=code, reason=reason.en)


def parsed(raw: str | bytes) -> Frame | None:
    """None where it is no frame."""
    try:
        found = json.loads(raw)
        headers = found["headers"]
        frame = Frame(found["type"], headers["topic"], headers["messageId"], found.get("data") or "{}")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return frame if all(isinstance(value, str) for value in frame) else None


def acknowledgement(frame: Frame, code: int, data: str) -> str:
    headers = {"messageId": frame.message_id, "contentType": "application/json"}
    message = "OK" if code == OK else "not understood"
    return json.dumps({"code": code, "headers": headers, "message": message, "data": data})
