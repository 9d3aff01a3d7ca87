"""WeCom's end of AI bots' long connections, on a real WebSocket server: subscribing, one connection a bot, answers.

Source: developer.work.weixin.qq.com/document/path/101463, and the vendor's own SDK (WecomTeam/aibot-node-sdk).
"""

import asyncio
import base64
import hashlib
import json
import threading
from collections import deque
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fakes.vendor import Fault
from threaded_server import ThreadedServer

BOT_ID, SECRET = "aib-5823bf96", "secret-of-the-bot"
GROUP = "wrkSFfCgAAxxx"
CHATS = {"alice": 1, "bob": 1, GROUP: 2}
"""Where the bot was spoken to, and of which type they are."""
_SENT = ("aibot_send_msg", "aibot_respond_msg", "ping")


class WeComAiBots(ThreadedServer):
    """`with WeComAiBots() as vendor:` listens at `vendor.url`. `faults` has what happens to the next requests."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: deque[Fault] = deque()
        self.shown: list[tuple[str, dict[str, Any]]] = []
        """(chat, body) in order; a stream that is said again replaces itself."""
        self.secret = SECRET
        self.subscriptions = 0
        self.refused = 0
        self.pings = 0
        self.closed_by_client = 0
        self.answers_pings = True
        self.media: dict[str, tuple[str, str, bytes]] = {}
        self._uploads: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, str] = {}
        self._current: ServerConnection | None = None
        self._connections: set[ServerConnection] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        found = (body.get("markdown") or body.get("stream") or {} for _, body in self.shown)
        return [one["content"] for one in found if "content" in one]

    def say(self, body: dict[str, Any], *, req_id: str, cmd: str = "aibot_msg_callback") -> None:
        """Somebody says something to the bot."""
        self._asked[req_id] = body.get("chatid") or body.get("from", {}).get("userid", "")
        self._push({"cmd": cmd, "headers": {"req_id": req_id}, "body": body})

    def push_raw(self, text: str) -> None:
        self._call(lambda: self._current.send(text) if self._current else None)

    def cut(self) -> None:
        """The network goes away for a moment."""
        self._call(lambda: self._current.transport.abort() if self._current else None)

    def forget_questions(self) -> None:
        self._asked.clear()

    async def _serve_until(self, stopped: asyncio.Event, started: threading.Event) -> None:
        async with serve(self._connected, "127.0.0.1", 0, ping_interval=None, close_timeout=0.2) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            started.set()
            await stopped.wait()
            for connection in tuple(self._connections):
                connection.transport.abort()

    def _call(self, act: Any) -> None:
        async def run() -> None:
            if (found := act()) is not None:
                await found

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _push(self, frame: dict[str, Any]) -> None:
        self.push_raw(json.dumps(frame, ensure_ascii=False))

    async def _connected(self, socket: ServerConnection) -> None:
        self._connections.add(socket)
        try:
            async for text in socket:
                await self._behave(socket, json.loads(text))
            self.closed_by_client += 1
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(socket)
            if self._current is socket:
                self._current = None

    async def _behave(self, socket: ServerConnection, frame: dict[str, Any]) -> None:
        cmd = frame["cmd"]
        fault = self.faults.popleft() if self.faults and cmd in _SENT else None
        if cmd == "ping" and not self.answers_pings:
            return
        if fault in ("throttled", "transient", "auth", "permanent"):
            codes = {"throttled": 45009, "transient": -1, "auth": 853000, "permanent": 40058}
            await self._answer(socket, frame, codes[fault])
            return
        code, body = await self._take(socket, cmd, frame["headers"]["req_id"], frame.get("body") or {})
        match fault:
            case "silent":
                return
            case "cut":
                socket.transport.abort()
            case "garbage":
                await socket.send("<html>no!")
            case "empty_json":
                await socket.send(json.dumps({"headers": frame["headers"]}))
            case _:
                await self._answer(socket, frame, code, body)

    @staticmethod
    async def _answer(
        socket: ServerConnection, frame: dict[str, Any], code: int, body: dict[str, Any] | None = None
    ) -> None:
        answer = {"headers": {"req_id": frame["headers"]["req_id"]}, "errcode": code, "errmsg": f"told: {SECRET}"}
        await socket.send(json.dumps({**answer, **({"body": body} if body else {})}))

    async def _take(self, socket: ServerConnection, cmd: str, req_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        if cmd == "aibot_subscribe":
            return await self._subscribe(socket, body), None
        if socket is not self._current:
            return 40014, None  # not subscribed, or not any more
        match cmd:
            case "ping":
                self.pings += 1
                return 0, None
            case "aibot_send_msg":
                return self._send(body), None
            case "aibot_respond_msg":
                return self._respond(req_id, body), None
            case _:
                return self._upload(cmd, body)

    async def _subscribe(self, socket: ServerConnection, body: dict[str, Any]) -> int:
        if body != {"bot_id": BOT_ID, "secret": self.secret}:
            self.refused += 1
            return 853000
        if self._current is not None and self._current is not socket:
            event = {"msgid": "d", "msgtype": "event", "event": {"eventtype": "disconnected_event"}}
            frame = {"cmd": "aibot_event_callback", "headers": {"req_id": "d"}, "body": event}
            await self._current.send(json.dumps(frame))  # and the old socket stays open, as the vendor leaves it
        self._current = socket
        self.subscriptions += 1
        return 0

    def _send(self, body: dict[str, Any]) -> int:
        chat = body.get("chatid", "")
        if CHATS.get(chat) != body.get("chat_type"):
            return 40058
        if code := self._fault_of(body):
            return code
        self.shown.append((chat, body))
        return 0

    def _respond(self, req_id: str, body: dict[str, Any]) -> int:
        if req_id not in self._asked:
            return 846605
        stream = body.get("stream", {})
        if body.get("msgtype") != "stream" or not stream.get("id") or not isinstance(stream.get("finish"), bool):
            return 40058
        if not 0 < len(stream.get("content", "").encode()) <= 20_480:
            return 45002
        self.shown = [one for one in self.shown if one[1].get("stream", {}).get("id") != stream["id"]]
        self.shown.append((self._asked[req_id], body))
        return 0

    def _fault_of(self, body: dict[str, Any]) -> int:
        match body.get("msgtype"):
            case "markdown":
                size = len(body["markdown"]["content"].encode())
                return 0 if 0 < size <= 20_480 else 45002
            case "template_card":
                card = body["template_card"]
                is_good = card.get("card_type") == "text_notice" or (card.get("task_id") and card.get("button_list"))
                return 0 if is_good else 40058
            case "image" | "file" as kind:
                known = self.media.get(body[kind]["media_id"])
                return 0 if known is not None and known[0] == kind else 40007
            case _:
                return 40008

    def _upload(self, cmd: str, body: dict[str, Any]) -> tuple[int, Any]:
        if cmd == "aibot_upload_media_init":
            upload_id = f"upload-{len(self._uploads)}"
            self._uploads[upload_id] = {**body, "pieces": {}}
            return 0, {"upload_id": upload_id}
        upload = self._uploads.get(body.get("upload_id", ""))
        if upload is None:
            return 40058, None
        if cmd == "aibot_upload_media_chunk":
            piece = base64.b64decode(body["base64_data"], validate=True)
            if len(piece) > 512 * 1024:
                return 45001, None
            upload["pieces"][body["chunk_index"]] = piece
            return 0, None
        data = b"".join(upload["pieces"][index] for index in range(upload["total_chunks"]))
        if len(data) != upload["total_size"] or hashlib.md5(data).hexdigest() != upload["md5"]:
            return 40058, None
        media_id = f"media-{len(self.media)}"
        self.media[media_id] = (upload["type"], upload["filename"], data)
        return 0, {"media_id": media_id}
