"""DingTalk's stream: a WebSocket that the hub opens and DingTalk pushes messages through, so that no port is public.

Source: open.dingtalk.com, "stream mode protocol"; the behaviour of open-dingtalk/dingtalk-stream-sdk-python.
"""

import json
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote

from autoglm.channels.adapters.dingtalk.heard import Unreadable
from autoglm.channels.adapters.dingtalk.openapi import MESSAGES_TOPIC, Place
from autoglm.channels.line import Line
from autoglm.channels.vendor_json import vendor_map
from autoglm.core.errors import HubError

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
    """Keeps one connection."""

    def __init__(self, channel: str, find_place: Callable[[], Awaitable[Place]]) -> None:
        """find_place raises NoLine."""
        self.line = Line(channel, "DingTalk", "钉钉")
        self._log = self.line.log
        self._find_place = find_place

    async def run(self, hear: Hear) -> None:
        """Until cancelled."""

        async def once() -> bool:
            place = await self._find_place()
            async with self.line.opened(f"{place.endpoint}?ticket={quote(place.ticket, safe='')}") as socket:
                return await self._served(socket, socket.send, hear)

        await self.line.keep(once)

    async def _served(
        self, frames: AsyncIterable[str | bytes], send: Callable[[str], Awaitable[None]], hear: Hear
    ) -> bool:
        """One message after the other: they stay in order, and DingTalk waits while the hub's disk is slow."""
        brought = False
        async for raw in frames:
            frame = parsed(raw)
            if frame is None:
                self._log.warning("stream_frame_unreadable", size_bytes=len(raw))
                continue
            brought = True
            if frame.type == "SYSTEM" and frame.topic == "disconnect":
                self._log.info("stream_ended_by_vendor")
                return brought
            if (answer := await self._answered(frame, hear)) is not None:
                await send(answer)
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


def parsed(raw: str | bytes) -> Frame | None:
    """None where it is no frame."""
    found = vendor_map(raw)
    headers = found.get("headers")
    if not isinstance(headers, dict):
        return None
    given = (found.get("type"), headers.get("topic"), headers.get("messageId"), found.get("data") or "{}")
    texts = [value for value in given if isinstance(value, str)]
    return Frame(*texts) if len(texts) == len(given) else None


def acknowledgement(frame: Frame, code: int, data: str) -> str:
    headers = {"messageId": frame.message_id, "contentType": "application/json"}
    message = "OK" if code == OK else "not understood"
    return json.dumps({"code": code, "headers": headers, "message": message, "data": data})
