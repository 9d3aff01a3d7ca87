"""Sets aiohttp up to our rules: no redirects, cookies, decompression, environment, or retries of its own."""

import asyncio
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
from yarl import URL

from autoglm.core.errors import UpstreamFailed
from autoglm.inference.upstream.endpoint import Endpoint

_READ_BUFFER_BYTES = 128 * 1024  # aiohttp stops reading at twice this
_FIELD_LIMIT_BYTES = 64 * 1024


class Disconnected(Exception):
    """The connection ended before the head of the reply was complete.

    It is no aiohttp error, because of those aiohttp repeats a GET, even on a connection that was new.
    """

    def __init__(self, has_answered: bool) -> None:
        super().__init__()
        self.has_answered = has_answered


class Exchange:
    """What aiohttp's hooks tell about one request."""

    def __init__(self, silence_s: float) -> None:
        self.has_answered = False
        """Part of a head arrived."""
        self.is_queued = False
        self.is_reused = False
        self.limit: asyncio.Timeout | None = None
        self._silence_s = silence_s

    def on_progress(self) -> None:
        """The connection is there, or took a part of the body: the patience for the head starts anew."""
        if self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + self._silence_s)


class Sessions:
    """`pooled` for all requests; `fresh`, which keeps no connections, for the one retry after a stale one."""

    def __init__(self, endpoint: Endpoint, trust: ssl.SSLContext | bool) -> None:
        """Needs a running loop. trust: see `load_trust`."""
        self._base = f"{'https' if endpoint.origin.is_tls else 'http'}://{endpoint.origin.place}"
        self.pooled = _open_session(endpoint, trust, keepalive_timeout=endpoint.idle_s)
        self.fresh = _open_session(endpoint, trust, force_close=True)

    def url(self, target: str) -> URL:
        return URL(self._base + target, encoded=True)

    async def aclose(self) -> None:
        await self.pooled.close()
        await self.fresh.close()


def load_trust(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """Reads ca_file; True means the system's authorities, False none. Raises UpstreamFailed."""
    if not endpoint.verify:
        return False
    if endpoint.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=endpoint.ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = f"TLS: ca_file {endpoint.ca_file} holds no certificates that can be read ({error.strerror or error})"
        raise UpstreamFailed(endpoint.name, reason) from error


def _open_session(endpoint: Endpoint, trust: ssl.SSLContext | bool, **pooling: Any) -> ClientSession:
    return ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust, limit=endpoint.max_connections, **pooling),
        headers={**endpoint.fixed_headers, "Accept-Encoding": "identity"},
        skip_auto_headers=("Accept", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=None, connect=endpoint.connect_timeout_s),
        proxy=endpoint.proxy,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=_READ_BUFFER_BYTES,
        max_line_size=_FIELD_LIMIT_BYTES,
        max_field_size=_FIELD_LIMIT_BYTES,
        middlewares=(_tell_disconnects,),
        trace_configs=[_hooks()],
    )


async def _tell_disconnects(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except aiohttp.ServerDisconnectedError as error:
        raise Disconnected(has_answered=not isinstance(error.message, str)) from None
    except aiohttp.ClientOSError:
        raise Disconnected(has_answered=False) from None


def _hooks() -> aiohttp.TraceConfig:
    async def on_queued(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.is_queued = True

    async def on_unqueued(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.is_queued = False

    async def on_reused(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.is_reused = True
        context.trace_request_ctx.on_progress()

    async def on_progress(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.on_progress()

    hooks = aiohttp.TraceConfig()
    hooks.on_connection_queued_start.append(on_queued)
    hooks.on_connection_queued_end.append(on_unqueued)
    hooks.on_connection_reuseconn.append(on_reused)
    hooks.on_connection_create_end.append(on_progress)
    hooks.on_request_chunk_sent.append(on_progress)
    return hooks
