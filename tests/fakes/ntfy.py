"""ntfy on loopback: users, publish as JSON and by PUT, its limits and codes, a cache, and the JSON stream.

Sources: docs.ntfy.sh/publish, /subscribe/api, server/errors.go.
"""

import asyncio
import base64
import itertools
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import STREAM_HEAD, Request, chunk, response

TOKEN = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"
TOPIC, REPLIES = "press-line-7-x8Zq", "answers-Qw3r"
USER, PASSWORD = "hub", "pass-word-1"
_CREDENTIALS = (f"Bearer {TOKEN}", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
_is_topic = re.compile(r"[-_A-Za-z0-9]{1,64}").fullmatch
_FIELDS = {"topic", "message", "title", "tags", "priority", "click", "actions", "attach", "filename", "icon",
           "markdown", "delay", "email", "call"}  # fmt: skip


class FakeNtfy(Vendor):
    """`messages` has what is in the cache, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.needs_user = True
        self.sinces: list[str] = []
        """What each subscription asked for."""
        self.uploads: list[bytes] = []
        self._numbers = itertools.count(1)
        self._streams: set[asyncio.StreamWriter] = set()
        self._server.behaviour_of_get = self._got

    @property
    def texts(self) -> list[str]:
        return [message["message"] for message in self.messages]

    @property
    def streams(self) -> int:
        return len(self._streams)

    def phone_writes(self, text: str, topic: str = TOPIC, **fields: Any) -> None:
        """Somebody publishes there, from another thread."""
        self._server._loop.call_soon_threadsafe(self._publish, {"topic": topic, "message": text, **fields})

    def cut_streams(self) -> None:
        self._server._loop.call_soon_threadsafe(self._cut)

    def take(self, request: Request) -> bytes:
        if self.needs_user and request.headers.get("authorization") not in _CREDENTIALS:
            return _error(40101, "unauthorized")
        place = urlsplit(request.path).path
        if request.method == "GET":
            return response(200, {"username": USER}) if place == "/v1/account" else _error(40401, "page not found")
        if request.method == "PUT":
            return self._uploaded(place, request)
        if place != "/":
            return _error(40401, "page not found")
        if len(request.body) > 8192:
            return _error(41303, "JSON body too large")
        try:
            message = json.loads(request.body)
        except ValueError:
            return _error(40017, "request body must be message JSON")
        return _fault_of(message) or self._published(message)

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 42901, "transient": 50001, "auth": 40101, "permanent": 40009}
        headers = {"Retry-After": "5"} if fault == "throttled" else None
        return _error(codes[fault], f"told to: {TOPIC} {TOKEN}", headers)

    async def _got(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults and self.faults[0] == "auth":
            self.faults.popleft()
            writer.write(self.refuse("auth"))
            return
        place = urlsplit(request.path)
        if not place.path.endswith("/json"):
            writer.write(self.take(request))
            return
        if self.needs_user and request.headers.get("authorization") not in _CREDENTIALS:
            writer.write(_error(40101, "unauthorized"))
            return
        topics = unquote(place.path.removesuffix("/json").strip("/")).split(",")
        (since,) = parse_qs(place.query)["since"]
        self.sinces.append(since)
        known = [message["id"] for message in self.messages]
        after = known.index(since) + 1 if since in known else 0  # a time, or an id that is gone: all of the cache
        writer.write(STREAM_HEAD + chunk(b'{"id":"o","time":1,"event":"open","topic":"x"}\n'))
        for message in self.messages[after:]:
            if message["topic"] in topics:
                writer.write(_line(message))
        writer.topics = topics  # type: ignore[attr-defined]
        self._streams.add(writer)
        writer.write(chunk(b'{"id":"k","time":1,"event":"keepalive","topic":"x"}\n'))
        await reader.read()
        self._streams.discard(writer)

    def _uploaded(self, place: str, request: Request) -> bytes:
        if len(request.body) > 2 << 20:
            return _error(41301, "attachment too large")
        self.uploads.append(request.body)
        name = request.headers["filename"]
        tags = request.headers.get("tags", "").split(",")
        return self._published({"topic": place.strip("/"), "message": f"You received a file: {name}", "tags": tags})

    def _published(self, message: dict[str, Any]) -> bytes:
        return response(200, self._publish(message))

    def _publish(self, message: dict[str, Any]) -> dict[str, Any]:
        known = {"id": f"m{next(self._numbers):011}", "time": 1_790_000_000, "event": "message", **message}
        self.messages.append(known)
        for writer in self._streams:
            if known["topic"] in writer.topics:  # type: ignore[attr-defined]
                writer.write(_line(known))
        return known

    def _cut(self) -> None:
        for writer in self._streams:
            writer.transport.abort()


def _line(message: dict[str, Any]) -> bytes:
    return chunk(json.dumps(message).encode() + b"\n")


def _fault_of(message: dict[str, Any]) -> bytes | None:
    if not set(message) <= _FIELDS:
        return _error(40017, "unknown field")  # stricter than ntfy, which ignores it
    if not (isinstance(message.get("topic"), str) and _is_topic(message["topic"])):
        return _error(40009, "topic invalid")
    if message.get("priority", 3) not in (1, 2, 3, 4, 5):
        return _error(40007, "invalid priority parameter")
    if len(message.get("message", "").encode()) > 4096:
        return _error(40014, "attachments not allowed")
    for action in message.get("actions", []):
        if action.get("action") not in ("view", "http", "broadcast") or not action.get("label"):
            return _error(40018, "actions invalid")
        if action["action"] != "broadcast" and not action.get("url"):
            return _error(40018, "actions invalid")
    return _error(40018, "actions invalid") if len(message.get("actions", [])) > 3 else None


def _error(code: int, text: str, headers: dict[str, str] | None = None) -> bytes:
    return response(code // 100, {"code": code, "http": code // 100, "error": text}, headers)
