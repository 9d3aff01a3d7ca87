"""One HTTP request and its response on the measured path: plain ASGI, without a framework in between."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from autoglm.auth.keys import KeyRing, Principal
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, InvalidField, PayloadTooLarge, UnsupportedMediaType
from autoglm.gateway.problems import openai_response, problem_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SEND_WHOLE = "autoglm.send_whole"
"""Key of the scope under which the server takes a whole response at once (see server.HubProtocol.send_whole)."""
ON_LEAVE = "autoglm.on_leave"
"""Key of the scope under which a callback for the client's departure is found (see server.HubProtocol)."""

HAS_LEFT = "autoglm.has_left"
"""Key of the scope that is true once the client has left."""

_ids = itertools.count(1)
_process = os.urandom(4).hex()
_encode = msgspec.json.Encoder().encode
_JSON: Headers = [(b"content-type", b"application/json")]


def next_request_id() -> str:
    """Unique over all runs of the hub, in practice."""
    return f"{_process}-{next(_ids):x}"


class ClientLeft(Exception):
    """The client closed its connection; there is nobody to answer."""


class Exchange:
    """Gives a handler what it needs of a request, and remembers what the access log and the metrics need."""

    __slots__ = (
        "headers", "instance", "model", "path", "principal", "receive", "request_id", "route", "scope", "send",
        "started_s", "status", "tokens_in", "tokens_out",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = next_request_id()
        self.started_s = monotonic_s()
        self.path: str = scope["path"]
        self.route = ""
        """The path with its variables' names, for metrics: `/api/messages/{id}`."""
        self.status = 0
        self.principal: Principal | None = None
        self.model = ""
        self.instance = ""
        self.tokens_in = 0
        self.tokens_out = 0

    # --- the request ---

    def identify(self, keys: KeyRing) -> Principal:
        """Whose request it is; counts against the key's limit. Raises Unauthorized, RateLimited."""
        principal = self.principal = keys.by_header(self.headers.get(b"authorization"))
        principal.take()
        return principal

    @property
    def is_head(self) -> bool:
        """True when the client wants the head of the answer to a GET only."""
        return bool(self.scope["method"] == "HEAD")

    def query(self) -> dict[str, str]:
        """The query's parameters. Raises InvalidField, also for a name that is there twice."""
        try:
            pairs = parse_qsl(
                self.scope["query_string"].decode(), keep_blank_values=True, max_num_fields=100, errors="strict"
            )
        except (ValueError, UnicodeDecodeError) as error:
            raise InvalidField("query", f"is not readable: {error}") from error
        query = dict(pairs)
        if len(query) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidField(twice[:40], "is there more than once")
        return query

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises PayloadTooLarge (before reading, when the length is announced), ClientLeft.

        How long the client may take is the server's business (see server.HubProtocol).
        """
        encoding = self.headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise UnsupportedMediaType(encoding.decode("latin-1")[:40], "a body without content-encoding")
        announced = self.headers.get(b"content-length")
        if announced is not None and int(announced[-20:]) > limit_bytes:  # the parser refuses what is over 64 bits
            raise PayloadTooLarge(limit_bytes)
        message = await self.receive()
        if not message.get("more_body") and message["type"] == "http.request":
            body: bytes = message["body"]
            if len(body) > limit_bytes:
                raise PayloadTooLarge(limit_bytes)
            return body
        return await self._long_body(message, limit_bytes)

    async def _long_body(self, message: MutableMapping[str, Any], limit_bytes: int) -> bytes:
        parts: list[bytes] = []
        size_bytes = 0
        while True:
            if message["type"] != "http.request":
                raise ClientLeft
            size_bytes += len(message["body"])
            if size_bytes > limit_bytes:
                raise PayloadTooLarge(limit_bytes)
            parts.append(message["body"])
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()

    def cancel_when_left(self) -> None:
        """From now on the client's departure cancels this task, within the same turn of the event loop."""
        task = asyncio.current_task()
        assert task is not None
        self.scope[ON_LEAVE] = task.cancel

    @property
    def has_left(self) -> bool:
        """True when the client's departure was what cancelled the task."""
        return bool(self.scope.get(HAS_LEFT))

    # --- the response ---

    async def respond(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole response."""
        # RFC 9110, section 8.6: none with 204.
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        lines: Headers = [*headers, *length, (b"x-request-id", self.request_id.encode())]
        self.status = status
        if self.scope[SEND_WHOLE](status, lines, body):
            return
        await self.send({"type": "http.response.start", "status": status, "headers": lines})
        await self.send({"type": "http.response.body", "body": body})

    async def respond_json(self, status: int, value: object) -> None:
        await self.respond(status, _encode(value), _JSON)

    async def start(self, status: int, headers: Headers) -> None:
        """Begin a response of unknown length; `write` the rest."""
        self.status = status
        headers.append((b"x-request-id", self.request_id.encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body; waits while the client is slow."""
        await self.send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def respond_problem(self, error: HubError) -> None:
        """Answer with problem details, or under /v1 with OpenAI's error object."""
        form = openai_response if self.path.startswith("/v1/") else problem_response
        status, headers, body = form(error, self.request_id)
        if error.code == PayloadTooLarge.code and b"expect" in self.headers:  # it will not send the body now
            headers.append((b"connection", b"close"))
        await self.respond(status, body, headers)
