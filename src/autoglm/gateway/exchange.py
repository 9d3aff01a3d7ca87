"""One HTTP request and its response on the measured path, without a framework in between."""

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from autoglm.auth.authenticator import Authenticator, Shown
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.principal import Principal
from autoglm.auth.tokens.proof import body_matches
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import (
    HubError,
    InvalidField,
    PayloadTooLarge,
    TokenRefused,
    Unauthorized,
    UnsupportedMediaType,
)
from autoglm.gateway.head import Head
from autoglm.gateway.problems import lacks_v1, openai_response, problem_response

if TYPE_CHECKING:
    from autoglm.gateway.hosts import Hosts
    from autoglm.gateway.http1 import HttpConnection

Headers = list[tuple[bytes, bytes]]

HIGH_WATER_BYTES = 64 * 1024
"""What may come of a body before somebody asks for it."""

_MOST_PARTS = 1000
READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
LEFT = 499
"""The status for a client that did not wait: nginx's."""

_ids = itertools.count(1)
_process = os.urandom(4).hex()
_encode = msgspec.json.Encoder().encode
_JSON: Headers = [(b"content-type", b"application/json")]
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CLOSE = (b"connection", b"close")


def next_request_id() -> str:
    """Unique over all runs of the hub, in practice."""
    return f"{_process}-{next(_ids):x}"


def header_lines(headers: Headers) -> bytes:
    """Raises ValueError for a header that would end early."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a line break in a header")
    return lines


def head_bytes(status: int, first_lines: bytes, headers: Headers, request_id: str) -> bytes:
    """The head of a response (RFC 9112, section 4). Raises ValueError for a header that would end early."""
    lines = header_lines(headers)
    start = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status  # an upstream may have statuses of its own
    return b"%b%b%bx-request-id: %b\r\n\r\n" % (start, first_lines, lines, request_id.encode())


GoOn = Callable[["Exchange", Coroutine[Any, Any, None] | None], None]
"""What answers without a task says when it is over (None), or what is left to do in one."""


async def raising(error: Exception) -> None:
    """For GoOn: what went wrong outside of a task is dealt with in one, as everything else."""
    raise error


class ClientLeft(Exception):
    """The client closed its connection; there is nobody to answer."""


class Exchange:
    """Gives a handler what it needs of a request, and remembers what the access log and the metrics need."""

    # Defaults of the class, not slots: a request sets the few that differ.
    route = ""
    """The path with its variables' names, for metrics: `/api/messages/{id}`."""
    status = 0
    """Of the response; 0 until that has begun."""
    variables: dict[str, str] = {}  # noqa: RUF012  # a default that is replaced, never changed
    """Of the path."""
    has_whole_body = False
    is_page = False
    """True for an answer that a browser shows: it has the headers of the page (see headers)."""
    is_complete = False
    """True once the whole response is out."""
    has_left = False
    """True once the client has closed the connection."""
    on_leave: Callable[[], object] | None = None
    principal: Principal | None = None
    shown: Shown | None = None
    """What the principal is known by, where it is no key."""
    visit: "Shown | HubError | None" = None
    """Whose cookie came along; an error where that counts no more. See visitors."""
    acted_on = ""
    """What the request makes, changes or removes, for the audit: its id, name or address, and never a secret.

    Named by the handler as soon as it is known, also where the request then fails; empty: the path's variables say it.
    """
    model = ""
    instance = ""
    code = ""
    """Of the error that the request was refused with, or its stream broken off. This and the next two are for the log
    only: what a client asked for is no label for a metric."""
    wanted = ""
    """The model that the client named."""
    first_token_s = 0.0
    """Of a stream: seconds from the request to the first token; 0 where there was none."""
    asked = ""
    """The model that was asked for or chosen, where no answer says it."""
    blamed = ""
    """The instance that failed."""
    tokens_in = 0
    tokens_out = 0
    _body_sha256: bytes | None = None
    """Of the only body that the request's proof is for."""
    _is_body_read = False
    _auth: Authenticator | None = None
    """Which has identified the principal."""
    _arrival: asyncio.Future[None] | None = None
    _is_chunked = False
    _is_discarding = False
    _loose_parts = 0
    _size_bytes = 0

    def __init__(self, connection: "HttpConnection", head: Head, body: bytes | None = None) -> None:
        """body: the whole of it, when it came along with the head."""
        self._connection = connection
        self.head = head
        self.headers = head.headers
        self.path = head.path
        self.is_keep_alive = head.is_keep_alive
        """False when the connection closes after the response."""
        self.request_id = next_request_id()
        self.started_s = monotonic_s()
        if body is None:
            self._parts: list[bytes] = []
        else:
            self._parts = [body]
            self._size_bytes = len(body)
            self.has_whole_body = True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with this exchange in a task. A response that is not complete when it ends is cut off visibly."""
        self._connection.spawn(self, work)

    # --- the request ---

    @property
    def client(self) -> str:
        """The address that it comes from; empty where it has none."""
        return self._connection.client(self.headers)

    @property
    def hosts(self) -> "Hosts":
        """The names of this hub."""
        return self._connection.hosts

    @property
    def occasion(self) -> Occasion:
        ids = () if self.shown is None else self.shown.token_ids
        return Occasion(self.request_id, self.client, self.method in READING, ids)

    def identify(self, auth: Authenticator) -> Principal:
        """Whose request it is; counts once against his limit, and takes a proof once, however often it is asked.

        Raises Unauthorized, SessionEnded, TooManyFailures, RateLimited.
        """
        if self.principal is not None:
            return self.principal
        authorization = self.headers.get(b"authorization")
        if authorization is not None and authorization[:5].lower() == b"dpop ":
            shown = auth.by_proof(authorization, self.headers.get(b"dpop"), self.method, self._target, self.client)
            self._bind_body(shown.body_sha256)
            self.shown = shown
            occasion.set(self.occasion)
            principal = shown.principal
        elif authorization is None and self.visit is not None:
            if isinstance(self.visit, HubError):
                raise self.visit
            self.shown = self.visit
            principal = self.visit.principal
        else:
            principal = auth.by_header(authorization, self.client)
        self.admit(principal, auth)
        return principal

    def admit(self, principal: Principal, auth: Authenticator) -> None:
        """It is his, as auth says, which is asked again after each wait. Raises RateLimited."""
        self.principal = principal
        self._auth = auth
        principal.take()

    def check_still(self) -> None:
        """After a wait: whether who was let in may go on. Raises Unauthorized when he was revoked meanwhile."""
        auth, principal = self._auth, self.principal
        if auth is None or principal is None or auth.is_current(self.shown or auth.of_key(principal)):
            return
        raise Unauthorized("what this request showed has ended, or was revoked meanwhile")

    def hold_key(self, auth: Authenticator, jkt: str, *, shared: bytes) -> None:
        """Raises Unauthorized unless the header `DPoP` proves that who asks holds the key with this thumbprint."""
        dpop = self.headers.get(b"dpop")
        sha256 = auth.check_holds(dpop, self.method, self._target, jkt=jkt, shared=shared, client=self.client)
        self._bind_body(sha256)

    @property
    def _target(self) -> str:
        """The path as it came, percent signs and all."""
        return self.head.raw_path.decode("ascii", "replace")

    def _bind_body(self, sha256: bytes | None) -> None:
        """From now on a body with another digest is refused. Raises TokenRefused where it was read already."""
        self._body_sha256 = sha256
        if self._is_body_read:
            self.whole_body()

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def is_head(self) -> bool:
        """True when the client wants the head of the answer to a GET only."""
        return self.head.method == "HEAD"

    def query(self) -> dict[str, str]:
        """The query's parameters. Raises InvalidField, also for a name that is there twice."""
        try:
            pairs = parse_qsl(self.head.query.decode(), keep_blank_values=True, max_num_fields=100, errors="strict")
        except (ValueError, UnicodeDecodeError) as error:
            raise InvalidField("query", f"is not readable: {error}") from error
        query = dict(pairs)
        if len(query) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidField(twice[:40], "is there more than once")
        return query

    async def body(self, limit_bytes: int, on_part: Callable[[int], object] | None = None) -> bytes:
        """The whole body. Raises PayloadTooLarge (before reading, when the length is announced), ClientLeft.

        on_part: told the bytes of each part that comes. How long the client may take is the server's business (see
        server.Server).
        """
        self.check_body(limit_bytes)
        if not self.has_whole_body:
            await self._rest(limit_bytes, on_part)
            self.check_still()
        return self.whole_body()

    def check_body(self, limit_bytes: int) -> None:
        """Refuse what is not worth reading. Raises PayloadTooLarge, UnsupportedMediaType."""
        encoding = self.headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise UnsupportedMediaType(encoding.decode("latin-1")[:40], "a body without content-encoding")
        length = self.head.length
        if max(length or 0, self._size_bytes) > limit_bytes:
            raise PayloadTooLarge(limit_bytes)

    def whole_body(self) -> bytes:
        """The body, once `has_whole_body`. Raises TokenRefused when the request's proof is for another one."""
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._is_body_read = True
        if self._body_sha256 is not None and not body_matches(self._body_sha256, body):
            raise TokenRefused("wrong_body", "proof")
        return body

    async def _rest(self, limit_bytes: int, on_part: Callable[[int], object] | None) -> None:
        if self.head.expects_continue and not self._size_bytes:
            self._connection.ask_for_body()
        self._connection.resume_reading()
        while not self.has_whole_body:
            if self.has_left:
                raise ClientLeft
            self._arrival = asyncio.get_running_loop().create_future()
            before_bytes = self._size_bytes
            try:
                await self._arrival
            finally:
                self._arrival = None
            if on_part is not None:
                on_part(self._size_bytes - before_bytes)
            if self._size_bytes > limit_bytes:
                self._is_discarding = True
                raise PayloadTooLarge(limit_bytes)

    def ignore_body(self) -> None:
        """Nobody will ask for it. Called by the connection."""
        self._is_discarding = True

    def take(self, part: bytes) -> None:
        """A part of the body came. Called by the connection."""
        if self.is_complete or self._is_discarding:
            return  # the answer did not wait for it
        self._parts.append(part)
        self._size_bytes += len(part)
        self._loose_parts += 1
        if self._loose_parts == _MOST_PARTS:  # of two bytes each, they would take 24 times their size
            self._parts[-_MOST_PARTS:] = [b"".join(self._parts[-_MOST_PARTS:])]
            self._loose_parts = 0
        if self._arrival is None and self._size_bytes > HIGH_WATER_BYTES:
            self._connection.pause_reading()

    def wake(self) -> None:
        """Let `body` look at what has come. Called by the connection."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def cancel_when_left(self) -> None:
        """From now on the client's departure cancels this task, within the same turn of the event loop."""
        task = asyncio.current_task()
        assert task is not None
        self.on_leave = task.cancel
        if self.has_left:
            task.cancel()

    def leave(self) -> None:
        """The client is gone. Called by the connection."""
        self.has_left = True
        self.wake()
        on_leave, self.on_leave = self.on_leave, None
        if on_leave is not None:
            on_leave()

    # --- the response ---

    def respond_prepared(self, status: int, body: bytes, lines: bytes) -> None:
        """As `respond`, with headers that `header_lines` has made before: for the measured path."""
        if self.is_keep_alive and not self.is_head and status in _STATUS_LINES:
            self.status = status
            first = self._connection.answer_lines
            self._connection.write(
                b"%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b"
                % (_STATUS_LINES[status], first, lines, len(body), self.request_id.encode(), body)
            )
            self._complete()
        else:
            pairs = [line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1]]
            self.respond(status, body, [(name, value) for name, value in pairs])

    def respond(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole response, head and body in one write: one wake-up of the client less (10 of 68 us a request)."""
        # RFC 9110, section 8.6: none with 204.
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        head = self._begin(status, [*headers, *length])
        self._connection.write(head if self.is_head else head + body)
        self._complete()

    def respond_json(self, status: int, value: object) -> None:
        self.respond(status, _encode(value), _JSON)

    def respond_problem(self, error: HubError) -> None:
        """Answer with problem details, or with OpenAI's error object under /v1 and where only the /v1 is missing."""
        is_openai = self.path.startswith("/v1/") or lacks_v1(self.path)
        form = openai_response if is_openai else problem_response
        status, headers, body = form(error, self.request_id)
        self.note(error)
        if not self.has_whole_body and self.head.expects_continue:
            headers.append(_CLOSE)  # it may never send the body that it was not asked for
        self.respond(status, body, headers)

    def note(self, error: HubError) -> None:
        """For the access log: why it went wrong."""
        self.code = error.code
        self.asked = self.asked or str(error.facts.get("model", ""))
        self.blamed = str(error.facts.get("instance", ""))

    def start(self, status: int, headers: Headers) -> None:
        """Begin a response; `write` the rest. Without a content-length it goes in chunks (RFC 9112, section 7.1)."""
        has_length = status in (204, 304) or any(name == b"content-length" for name, _ in headers)
        if not has_length and not self.is_head:
            if self.head.is_old:
                self.is_keep_alive = False  # HTTP/1.0 knows no chunks: the end of the connection is that of the body
            else:
                self._is_chunked = True
                headers = [*headers, (b"transfer-encoding", b"chunked")]
        self._connection.write(self._begin(status, headers))

    def push(self, chunk: bytes) -> None:
        """Send a piece of the body now, whether the client keeps up or not: see `is_slow`."""
        if chunk and not self.is_head:
            self._connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked else chunk)

    @property
    def is_slow(self) -> bool:
        """True while the client does not take what it gets."""
        return self._connection.is_write_paused

    async def keep_pace(self) -> None:
        """Wait while the client is slow."""
        if self._connection.is_write_paused:
            await self._connection.writable()

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body; waits while the client is slow."""
        await self.keep_pace()
        self.push(chunk)

    def end(self) -> None:
        """The body is complete."""
        if self._is_chunked:
            self._connection.write(b"0\r\n\r\n")
        self._complete()

    def _begin(self, status: int, headers: Headers) -> bytes:
        assert not self.status, "a request has one response"
        if _CLOSE in headers:
            self.is_keep_alive = False
        elif not self.is_keep_alive:
            headers.append(_CLOSE)
        lines = self._connection.date_line if self.is_page else self._connection.answer_lines
        head = head_bytes(status, lines, headers, self.request_id)
        self.status = status
        return head

    def _complete(self) -> None:
        self.is_complete = True
        self._parts.clear()
        self._connection.completed(self)
