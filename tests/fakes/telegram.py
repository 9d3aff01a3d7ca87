"""Telegram's Bot API on loopback: chats, sizes in UTF-16 units, uploads, and long polling with its offset.

Source: core.telegram.org/bots/api. Errors have `ok`, `error_code` and `description`, and the HTTP status of the code.
"""

import asyncio
import contextlib
import itertools
import json
from collections import deque
from email import message_from_bytes
from typing import Any

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

BOT = 123456789
TOKEN = f"{BOT}:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0"
CHAT, GROUP, BLOCKED, MOVED, SUPERGROUP = 4242, -55, 666, -77, -1001234567890


class FakeTelegram(Vendor):
    """`sent` has what was taken, in order, as (method, fields)."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.uploads: list[tuple[str, bytes]] = []
        """(filename, bytes)"""
        self.updates: list[dict[str, Any]] = []
        """Those that are not confirmed."""
        self.offsets: list[int | None] = []
        self.pressed: list[tuple[str, str]] = []
        """(the button's data, the words that are shown) of presses that were answered."""
        self._presses: dict[str, str] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        """By file_id: (file_path, bytes) of what people sent; what is not here Telegram does not give."""
        self.file_faults: deque[bytes] = deque()
        """Answers to the next downloads."""
        self.webhook = ""
        self.token = TOKEN
        self._polls = 0
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()

    @property
    def texts(self) -> list[str]:
        return [fields["text"] for method, fields in self.sent if method == "sendMessage"]

    @property
    def polls(self) -> int:
        """That wait now."""
        return self._polls

    def arrives(self, **update: Any) -> None:
        """From another thread."""
        self._server._loop.call_soon_threadsafe(self._arrived, {"update_id": 1000 + next(self._numbers), **update})

    def writes(self, text: str, *, chat: int = CHAT, **fields: Any) -> None:
        """Somebody writes to the bot."""
        sender = {"id": 7, "is_bot": False, "first_name": "Li", "username": "li"}
        known = {"message_id": 500 + next(self._numbers), "date": 1_790_000_000, "from": sender}
        self.arrives(message={**known, "chat": {"id": chat, "type": "private"}, "text": text, **fields})

    def presses(self, data: str, message_id: int, *, chat: int = CHAT) -> None:
        message = {"message_id": message_id, "date": 0, "chat": {"id": chat, "type": "private"}}
        sender = {"id": 7, "is_bot": False, "first_name": "Li"}
        query: dict[str, Any] = {
            "id": f"q{next(self._numbers)}",
            "from": sender,
            "chat_instance": "1",
            "message": message,
            "data": data,
        }
        self._presses[query["id"]] = data
        self.arrives(callback_query=query)

    def take(self, request: Request) -> bytes:
        if request.path.startswith("/file/"):
            return self._download(request.path.removeprefix("/file/"))
        _, bot, method = request.path.split("/")
        if bot != f"bot{self.token}":
            return _error(401, "Unauthorized")
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            fields = self._multipart(kind, request.body)
        elif kind == "application/json":
            fields = json.loads(request.body)
        else:
            return _error(400, "Bad Request: unsupported content type")
        match method:
            case "getMe":
                return _ok({"id": BOT, "is_bot": True, "first_name": "hub", "username": "hub_bot"})
            case "getWebhookInfo":
                return _ok({"url": self.webhook, "has_custom_certificate": False, "pending_update_count": 0})
            case "getFile":
                if fields["file_id"] not in self.files:
                    return _error(400, "Bad Request: file is too big")
                return _ok({"file_id": fields["file_id"], "file_path": self.files[fields["file_id"]][0]})
            case "answerCallbackQuery":
                data = self._presses.pop(fields["callback_query_id"], None)
                if data is None:
                    return _error(400, "Bad Request: query is too old and response timeout expired or it is invalid")
                self.pressed.append((data, fields.get("text", "")))
                return _ok(True)
            case "sendMessage" | "sendPhoto" | "sendDocument":
                return _fault_of(method, fields) or self._sent(method, fields)
        return _error(404, "Not Found")

    def _download(self, place: str) -> bytes:
        if self.file_faults:
            return self.file_faults.popleft()
        bot, _, path = place.partition("/")
        found = [data for known, data in self.files.values() if known == path]
        return response(200, found[0]) if bot == f"bot{self.token}" and found else _error(404, "Not Found")

    def refuse(self, fault: Fault) -> bytes:
        match fault:
            case "throttled":
                return _error(429, f"Too Many Requests: retry after 9 {TOKEN}", {"retry_after": 9})
            case "transient":
                return _error(500, f"Internal Server Error {TOKEN}")
            case "auth":
                return _error(401, "Unauthorized")
            case _:
                return _error(400, "Bad Request: can't parse entities")

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not request.path.endswith("/getUpdates") or self.faults:
            await super()._behave(request, reader, writer)
            return
        if request.path.split("/")[1] != f"bot{self.token}":
            writer.write(_error(401, "Unauthorized"))
        elif self.webhook or self._polls:
            words = (
                "can't use getUpdates method while webhook is active"
                if self.webhook
                else "terminated by other getUpdates"
            )
            writer.write(_error(409, f"Conflict: {words} request"))
        else:
            writer.write(await self._polled(request, reader))

    async def _polled(self, request: Request, reader: asyncio.StreamReader) -> bytes:
        fields = request.json()
        assert set(fields["allowed_updates"]) == {"message", "channel_post", "callback_query"}
        offset = fields.get("offset")
        self.offsets.append(offset)
        self.updates = [update for update in self.updates if offset is None or update["update_id"] >= offset]
        self._polls += 1
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while not self.updates and not gone.done():
                self._news.clear()
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([news, gone], timeout=fields["timeout"], return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            self._polls -= 1
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone
        return _ok(self.updates[:100])

    def _arrived(self, update: dict[str, Any]) -> None:
        self.updates.append(update)
        self._news.set()

    def _sent(self, method: str, fields: dict[str, Any]) -> bytes:
        self.sent.append((method, fields))
        chat = {"id": int(fields["chat_id"]), "type": "private"}
        return _ok({"message_id": 100 + len(self.sent), "date": 1_790_000_000, "chat": chat})

    def _multipart(self, kind: str, body: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for part in message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body).walk():
            if part.is_multipart():
                continue
            name = part.get_param("name", header="content-disposition")
            data = part.get_payload(decode=True)
            assert isinstance(name, str)
            assert isinstance(data, bytes)
            if (filename := part.get_filename()) is None:
                fields[name] = data.decode()
            else:
                fields[name] = filename
                self.uploads.append((filename, data))
        return fields


def _fault_of(method: str, fields: dict[str, Any]) -> bytes | None:
    chat = int(fields["chat_id"])
    if chat == BLOCKED:
        return _error(403, "Forbidden: bot was blocked by the user")
    if chat == MOVED:
        return _error(
            400, "Bad Request: group chat was upgraded to a supergroup chat", {"migrate_to_chat_id": SUPERGROUP}
        )
    if chat not in (CHAT, GROUP, SUPERGROUP):
        return _error(400, "Bad Request: chat not found")
    if method == "sendMessage":
        text = fields["text"]
        if not text.strip():
            return _error(400, "Bad Request: message text is empty")
        if len(text.encode("utf-16-le")) // 2 > 4096:
            return _error(400, "Bad Request: message is too long")
    elif "photo" not in fields and "document" not in fields:
        return _error(400, "Bad Request: there is no file in the request")
    keyboard = fields.get("reply_markup", {}).get("inline_keyboard", [])
    if sum(map(len, keyboard)) > 100:
        return _error(400, "Bad Request: reply markup is too long")
    for row in keyboard:
        for button in row:
            if not button.get("text", "").strip() or not 1 <= len(button["callback_data"].encode()) <= 64:
                return _error(400, "Bad Request: BUTTON_DATA_INVALID")
    return None


def _ok(result: Any) -> bytes:
    return response(200, {"ok": True, "result": result})


def _error(code: int, description: str, parameters: dict[str, Any] | None = None) -> bytes:
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return response(code, body | ({"parameters": parameters} if parameters else {}))
