"""HTTP to vendors: one request, no redirects, bounded in time and size; what goes wrong becomes a Delivery."""

import asyncio
import importlib
import io
import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from autoglm.channels.delivery import Delivery, Words, permanent, throttled, too_large, transient, unauthorized
from autoglm.channels.slow_links import time_for_s
from autoglm.core.guard import AddressGuard
from autoglm.version import __version__

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 10.0
ANSWER_LIMIT_BYTES = 1 << 20
LINE_BYTES = 8 << 20
"""Of an answer that goes on."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes


class NoAnswer(Exception):
    """No vendor answered: `delivery` says why, and whether the request may have arrived."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason.en)
        self.delivery = delivery


def vendor_guard(base_url: str, usual: str) -> AddressGuard | None:
    """For where a vendor's own answers lead: to public hosts. usual: the vendor's address on the internet.

    None for another address, which an operator named: such a server stands in the site, and leads to its neighbours.
    """
    return AddressGuard() if base_url == usual else None


class Web:
    """One for each channel: `aclose` it. Each request has a connection of its own unless keep_alive_s is given: on one
    that has gone stale a request would be in doubt, and robots send a few a minute.
    """

    def __init__(
        self, *, guard: AddressGuard | None = None, keep_alive_s: float = 0.0,
        ssl_context: ssl.SSLContext | None = None, timeout_s: float | None = None,
    ) -> None:  # fmt: skip
        self._guard = guard
        self._keep_alive_s = keep_alive_s
        self._ssl = ssl_context
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None,
        limit_bytes: int = ANSWER_LIMIT_BYTES,
    ) -> Answer:  # fmt: skip
        """Raises NoAnswer. An answer longer than limit_bytes is cut there, whether it comes packed or not.

        A large body may take longer: see slow_links.
        """
        session = await self._opened()
        import aiohttp

        total_s = self._timeout_s or TIMEOUT_S
        # Looking up the name and connecting end well before the whole: what ends later has gone out, and is in doubt.
        connect_s = min(CONNECT_TIMEOUT_S, total_s / 2)
        whole_s = total_s + time_for_s(len(body or b""))
        timeout = aiohttp.ClientTimeout(total=whole_s, connect=connect_s, sock_connect=connect_s)
        try:
            self._check_literal(url)
            async with session.request(
                method, url, headers=headers, data=None if body is None else io.BytesIO(body), allow_redirects=False,
                ssl=self._ssl or True, timeout=timeout,
            ) as answer:  # fmt: skip
                data = await _read(answer.content, limit_bytes)
                coding = answer.headers.get("Content-Encoding", "").strip().lower()
                return Answer(answer.status, answer.headers, _unpacked(data, coding, limit_bytes))
        except (_Refused, aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswer(_failure(error, aiohttp)) from None

    @asynccontextmanager
    async def lines(
        self, url: str, *, headers: Mapping[str, str] | None = None, idle_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A GET whose answer goes on: its lines, until the vendor ends it. Use with `async with`.

        Raises NoAnswer: no 200, cut, nothing for idle_s, a line over LINE_BYTES.
        """
        session = await self._opened()
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_s)
        try:
            self._check_literal(url)
            async with session.get(
                url, headers=headers, allow_redirects=False, ssl=self._ssl or True, timeout=timeout
            ) as answer:
                if answer.status != 200:
                    found = Answer(answer.status, answer.headers, await _read(answer.content, ANSWER_LIMIT_BYTES))
                    words = Words("the vendor gives no stream", "服务方未提供数据流")
                    raise NoAnswer(of_status(found) or permanent(f"http_{answer.status}", words))
                yield _Lines(answer.content)
        except (_Refused, aiohttp.ClientError) as error:
            raise NoAnswer(_failure(error, aiohttp)) from None

    async def aclose(self) -> None:
        async with self._opening:
            if self._session is not None:
                await self._session.close()
                await asyncio.sleep(0)  # the loop closes the sockets in its next round
                self._session = None

    async def _opened(self) -> "aiohttp.ClientSession":
        async with self._opening:
            if self._session is None:
                loaded: Any = await asyncio.to_thread(importlib.import_module, "aiohttp")
                resolver = None if self._guard is None else _resolver(self._guard)
                connector = loaded.TCPConnector(
                    force_close=self._keep_alive_s == 0.0, resolver=resolver, use_dns_cache=False,
                    **({"keepalive_timeout": self._keep_alive_s} if self._keep_alive_s else {}),
                )  # fmt: skip
                self._session = loaded.ClientSession(
                    connector=connector, trust_env=False, auto_decompress=False,
                    headers={"User-Agent": f"autoglm-hub/{__version__}", "Accept-Encoding": "identity"},
                    cookie_jar=loaded.DummyCookieJar(),
                )  # fmt: skip
            return cast("aiohttp.ClientSession", self._session)

    def _check_literal(self, url: str) -> None:
        """aiohttp asks no resolver for a numeric host."""
        from yarl import URL

        if self._guard is None:
            return
        try:
            host = URL(url).raw_host or ""  # raw: what aiohttp connects to
            address = str(ipaddress.ip_address(host))
        except ValueError:  # a name, or no address at all: aiohttp says so
            return
        if (reason := self._guard.refusal(host, address)) is not None:
            raise _Refused(reason)


class _Lines:
    """Those of a stream; what goes wrong while it is read is a NoAnswer."""

    def __init__(self, stream: "aiohttp.StreamReader") -> None:
        self._stream = stream

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> bytes:
        import aiohttp
        from aiohttp.http_exceptions import LineTooLong

        try:
            line = await self._stream.readline(max_line_length=LINE_BYTES)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswer(_failure(error, aiohttp)) from None
        except LineTooLong:
            words = Words("a line of the vendor's stream is too long", "服务方数据流中的一行过长")
            raise NoAnswer(transient("long_line", words)) from None
        if not line:
            raise StopAsyncIteration
        return line


class _Refused(OSError):
    def __init__(self, reason: Words) -> None:
        super().__init__(reason.en)
        self.reason = reason


def _resolver(guard: AddressGuard) -> "AbstractResolver":
    """Checks the addresses that are connected to, so that a name cannot change between the check and the connection."""
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.resolver import ThreadedResolver

    class Guarded(AbstractResolver):
        def __init__(self) -> None:
            self._names = ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await self._names.resolve(host, port, family)
            for entry in found:  # one forbidden address is enough: others of the name are its owner's as well
                if (reason := guard.refusal(host, entry["host"])) is not None:
                    raise _Refused(reason)
            return found

        async def close(self) -> None:
            await self._names.close()

    return Guarded()


async def _read(stream: "aiohttp.StreamReader", limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < limit_bytes and (part := await stream.read(limit_bytes - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _unpacked(data: bytes, coding: str, limit_bytes: int) -> bytes:
    """What a server packed that was asked not to, as far as limit_bytes: a small answer may hold a huge one.

    Bytes that are not what they are said to be stay as they are: they are unreadable one way or the other.
    """
    if coding not in ("gzip", "x-gzip", "deflate"):
        return data
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(data, limit_bytes)  # 32: gzip or zlib
    except zlib.error:
        return data


_FAILURES: tuple[tuple[str, str, Words], ...] = (
    ("ClientConnectorDNSError", "no_name", Words("the vendor's host name does not resolve", "无法解析服务方主机名")),
    ("ClientSSLError", "tls", Words("the TLS connection failed; check the certificate", "TLS 连接失败，请检查证书")),
    (
        "ConnectionTimeoutError",
        "connect_timeout",
        Words("no connection to the vendor's host in time", "连接服务方主机超时"),
    ),
    (
        "ClientConnectorError",
        "refused",
        Words("the vendor's host does not take connections", "服务方主机拒绝连接"),
    ),
)
"""By aiohttp's class of what goes wrong before the request goes out, the nearer class first: code and words."""


def _failure(error: Exception, aiohttp: Any) -> Delivery:
    """Words without the url: robots carry their secrets there."""
    for cause in (error, error.__cause__, getattr(error, "os_error", None)):
        if isinstance(cause, _Refused):
            return permanent("address_refused", cause.reason)
    if isinstance(error, aiohttp.InvalidURL):
        words = Words("the address in the settings is none that a request can go to", "配置中的地址无法请求")
        return permanent("bad_url", words)
    for name, code, words in _FAILURES:
        if isinstance(error, getattr(aiohttp, name)):
            return transient(code, words)
    if isinstance(error, TimeoutError):
        code, words = "timeout", Words("no answer in time; it may have been delivered", "等待应答超时，消息可能已送达")
    elif isinstance(error, aiohttp.ClientResponseError):
        code = "unreadable"
        words = Words("the answer is no HTTP; it may have been delivered", "应答不是有效的 HTTP，消息可能已送达")
    else:
        code = "cut"
        words = Words(
            "the connection was cut before the answer; it may have been delivered", "应答前连接中断，消息可能已送达"
        )
    return transient(code, words, is_in_doubt=True)


def of_status(answer: Answer) -> Delivery | None:
    """What an HTTP status says by itself; None for 2xx, where the body has to tell.

    Source: RFC 9110, section 15; RFC 6585, section 4 (429).
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    code = f"http_{status}"
    if status == 429:
        return throttled_by(answer, code)
    if status in (401, 403):
        return unauthorized(
            code,
            Words(f"the vendor refuses this hub's credentials (HTTP {status})", f"服务方拒绝本机凭据（HTTP {status}）"),
        )
    if status == 413:
        return too_large(
            code, Words("the message is over the vendor's limit (HTTP 413)", "消息超过服务方上限（HTTP 413）")
        )
    if status >= 500 or status in (408, 425):
        return _fails_for_now(answer, code)
    words = Words(f"the vendor refuses the message (HTTP {status})", f"服务方拒绝该消息（HTTP {status}）")
    if 300 <= status < 400:
        words = Words(
            f"the address has moved (HTTP {status}), and redirects are not followed; set the new one",
            f"服务方要求重定向（HTTP {status}），本机不跟随重定向，请改用新地址",
        )
    return permanent(code, words)


def _fails_for_now(answer: Answer, code: str) -> Delivery:
    status = answer.status
    if status in (502, 504):  # of a gateway, which does not know what became of the request
        words = Words(
            f"no good answer from behind the vendor's gateway (HTTP {status}); it may have been delivered",
            f"服务方网关未得到有效应答（HTTP {status}），消息可能已送达",
        )
        return transient(code, words, retry_after_s(answer), is_in_doubt=True)
    words = Words(f"the vendor's service fails for now (HTTP {status})", f"服务方暂时故障（HTTP {status}）")
    return transient(code, words, retry_after_s(answer))


def throttled_by(answer: Answer, code: str) -> Delivery:
    return throttled(
        code, Words("too many messages for the vendor", "发送过于频繁，被服务方限流"), retry_after_s(answer)
    )


def retry_after_s(answer: Answer) -> float | None:
    """Of the header Retry-After, in seconds or as a date (RFC 9110, section 10.2.3); at most a day."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), 86_400.0)
    try:
        return min(max(0.0, http_date_s(text) - time.time()), 86_400.0)
    except (ValueError, OverflowError):
        return None


def http_date_s(text: str) -> float:
    """Of the Unix epoch. Raises ValueError, OverflowError. Source: RFC 9110, section 5.6.7."""
    at = parsedate_to_datetime(text)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()  # asctime and -0000 mean UTC
