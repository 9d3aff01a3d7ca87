"""The client for TLS and for HTTP proxies, on aiohttp. Its import takes 270 ms, so it waits for the first request."""

import asyncio
import io
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from autoglm.core.errors import HubError, UpstreamFailed, UpstreamTimeout
from autoglm.core.ports import Line, Waiter
from autoglm.inference.upstream.endpoint import Endpoint, header_line, header_lines
from autoglm.inference.upstream.reply import Reply

if TYPE_CHECKING:
    import aiohttp

    from autoglm.inference.upstream.session import Sessions

_LARGE_BODY_BYTES = 1024 * 1024
"""aiohttp writes a larger one in parts only when it comes as a file."""


class SecureReply(Reply):
    __slots__ = ("__weakref__", "_is_dropped", "_read_timeout_s", "_response", "_whole")

    def __init__(self, instance: str, response: "aiohttp.ClientResponse", read_timeout_s: float) -> None:
        self.instance = instance
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.complete = False
        self._response = response
        self._read_timeout_s = read_timeout_s
        self._is_dropped = False
        self._whole: bytes | None = None
        response.content.on_eof(self._on_eof)
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = read_timeout_s
            connection.protocol.start_timeout()

    async def chunk(self) -> bytes | None:
        if self._is_dropped:
            if self.complete:
                return None
            raise UpstreamFailed(self.instance, "its answer was closed before the end")
        try:
            return await self._response.content.readany() or None
        except BaseException as error:
            self.drop()
            failure = self._failure(error)
            if failure is None:
                raise
        raise failure

    def body_if_complete(self) -> bytes | None:
        if not self.complete:
            return None
        if self._whole is None:
            self._whole = b"" if self._is_dropped else self._response.content.read_nowait()
        return self._whole

    async def aclose(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._is_dropped = True
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.abort()  # close() would first wait for TLS to say goodbye
        self._response.close()

    def _on_eof(self) -> None:
        self.complete = True

    def _failure(self, error: BaseException) -> HubError | None:
        """None for what is not the instance's fault: cancellation."""
        import aiohttp

        match error:
            case TimeoutError():
                return UpstreamTimeout(self.instance, "further part of its answer", self._read_timeout_s)
            case aiohttp.ClientError() | OSError():
                return UpstreamFailed(self.instance, "it closed the connection in the middle of its answer")
        return None


class _Request(NamedTuple):
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes | None
    silence_s: float


class SecureUpstream:
    """Satisfies `Upstream`. aiohttp's errors hold the request with its key, so they are never chained to ours."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._sessions: Sessions | None = None
        self._replies: WeakSet[SecureReply] = WeakSet()
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | bytes = b"",
        *,
        content_type: str = "application/json",
        first_byte_timeout_s: float | None = None,
        is_retry: bool = False,
    ) -> SecureReply:
        assert not is_retry, "nothing is launched here"
        return await self.request(
            "POST", path, body, headers, content_type=content_type, first_byte_timeout_s=first_byte_timeout_s
        )

    def launch(self, path: str, body: bytes, waiter: Waiter[Any]) -> Line | None:
        return None

    @property
    def heard_s(self) -> float:
        return -math.inf

    async def get(
        self, path: str, headers: Mapping[str, str] | bytes = b"", *, first_byte_timeout_s: float | None = None
    ) -> SecureReply:
        return await self.request("GET", path, b"", headers, first_byte_timeout_s=first_byte_timeout_s)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | bytes = b"",
        *,
        content_type: str = "",
        first_byte_timeout_s: float | None = None,
    ) -> SecureReply:
        """content_type: empty for a request without a body."""
        lines = headers if isinstance(headers, bytes) else header_lines(headers)
        if content_type:
            lines += header_line("Content-Type", content_type)
        silence_s = self._endpoint.first_byte_timeout_s if first_byte_timeout_s is None else first_byte_timeout_s
        target = self._endpoint.target(path)
        request = _Request(method, target, _pairs(lines), body if content_type else None, silence_s)
        sessions = self._sessions or await self._open()
        if self._is_closed:
            raise UpstreamFailed(self._endpoint.name, "this hub has closed its connections")
        reply = await self._send(request, sessions, is_retry=False) or await self._send(
            request, sessions, is_retry=True
        )
        assert reply is not None, "a retry has no stale connection"
        return reply

    async def aclose(self) -> None:
        self._is_closed = True
        for reply in list(self._replies):
            reply.drop()
        async with self._opening:
            if self._sessions is not None:
                await self._sessions.aclose()

    async def _open(self) -> "Sessions":
        async with self._opening:
            if self._sessions is None:
                make_sessions = await asyncio.to_thread(_load, self._endpoint)
                self._sessions = make_sessions()
            return self._sessions

    async def _send(self, request: _Request, sessions: "Sessions", *, is_retry: bool) -> SecureReply | None:
        """None when a connection of the pool was stale: see `Upstream` for why a retry is safe then."""
        import aiohttp

        from autoglm.inference.upstream.diagnosis import diagnose
        from autoglm.inference.upstream.session import Disconnected, Exchange

        endpoint, body = self._endpoint, request.body
        session = sessions.fresh if is_retry else sessions.pooled
        exchange = Exchange(request.silence_s)
        failure: HubError
        try:
            async with asyncio.timeout(None) as exchange.limit:
                response = await session.request(
                    request.method,
                    sessions.url(request.target),
                    headers=request.headers,
                    data=io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY_BYTES else body,
                    allow_redirects=False,
                    trace_request_ctx=exchange,
                )
        except Disconnected as gone:
            if exchange.is_reused and not gone.has_answered:
                return None
            moment = "within the head of its answer" if gone.has_answered else "before answering"
            failure = UpstreamFailed(endpoint.name, f"it closed the connection {moment}")
        except aiohttp.ConnectionTimeoutError:
            what = "free connection" if exchange.is_queued else f"connection at {endpoint.origin.place}"
            failure = UpstreamTimeout(endpoint.name, what, endpoint.connect_timeout_s)
        except TimeoutError:
            failure = UpstreamTimeout(endpoint.name, "answer", request.silence_s)
        except (aiohttp.ClientError, OSError) as error:
            failure = diagnose(endpoint, error)
        else:
            if response.status != 101:
                reply = SecureReply(endpoint.name, response, endpoint.read_timeout_s)
                self._replies.add(reply)
                return reply
            response.close()
            failure = UpstreamFailed(endpoint.name, "it answered 101 Switching Protocols, which nobody asked for")
        raise failure


def _load(endpoint: Endpoint) -> "Callable[[], Sessions]":
    """Imports aiohttp and reads certificates, which would hold the loop up; sessions are then made on the loop."""
    from autoglm.inference.upstream.session import Sessions, load_trust

    return partial(Sessions, endpoint, load_trust(endpoint))


def _pairs(lines: bytes) -> list[tuple[str, str]]:
    """What `header_lines` made, as aiohttp wants it."""
    split = (line.partition(": ") for line in lines.decode("latin-1").split("\r\n"))
    return [(name, value) for name, _, value in split if name]
