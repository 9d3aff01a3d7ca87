"""Serves the console's built page: Starlette's static files, with the headers that keep a page honest."""

import asyncio
import ipaddress
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from autoglm.core.errors import UnknownPath
from autoglm.gateway.exchange import ClientLeft, Exchange
from autoglm.gateway.headers import PAGE_HEADERS
from autoglm.gateway.router import answer_without_handler
from autoglm.gateway.settings import GatewaySettings

_STRICT = (b"strict-transport-security", b"max-age=31536000")
_NO_PAGE = """<!doctype html><meta charset="utf-8"><title>AutoGLM Hub</title>
<h1>AutoGLM Hub is running</h1>
<p>The console's page is not built. Run <code>make console</code> in the project's folder and load
this page again, or use <code>autoglm ask</code>.</p>
<p>控制台页面尚未构建。请在项目目录运行 <code>make console</code>，再刷新本页；或使用 <code>autoglm ask</code>。</p>
""".encode()


class Page:
    """Answers what is not the API."""

    def __init__(self, folder: Path, *, strict_hosts: frozenset[bytes] = frozenset()) -> None:
        """folder: with the built console; may be missing. strict_hosts: see the function of that name."""
        self._strict_hosts = strict_hosts
        self._folder = folder
        self._files = StaticFiles(directory=folder, html=True, check_dir=False)

    async def serve(self, exchange: Exchange) -> None:
        """Raises UnknownPath, MethodNotAllowed."""
        exchange.route = "/"
        is_index = exchange.path in ("/", "/index.html")
        if exchange.method not in ("GET", "HEAD"):
            if not is_index:
                raise UnknownPath(exchange.path[:200])
            # POST and PUT of "/" are an endpoint, and do not come here.
            methods = ["GET", "POST", "PUT"] if exchange.path == "/" else ["GET"]
            await answer_without_handler(methods, exchange)(exchange, {})
            return
        if is_index and not (self._folder / "index.html").exists():
            exchange.is_page = True
            headers = [(b"content-type", b"text/html; charset=utf-8"), *self._headers(exchange)]
            exchange.respond(200, _NO_PAGE, headers)
            return
        if not self._folder.is_dir():
            raise UnknownPath(exchange.path[:200])
        try:
            await self._files(_scope(exchange), _nothing, _sender(exchange, self._headers(exchange)))
        except (HTTPException, ValueError):  # a NUL in the path is a ValueError of the file system's calls
            raise UnknownPath(exchange.path[:200]) from None

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        host = exchange.headers.get(b"host", b"").rpartition(b":")
        name = (host[0] or host[2]).lower()
        return [*PAGE_HEADERS, _STRICT] if name in self._strict_hosts else PAGE_HEADERS


def strict_hosts(settings: GatewaySettings) -> frozenset[bytes]:
    """The DNS names for which browsers shall not speak plain HTTP for a year (RFC 6797): those that were given for TLS.

    Never an address (section 8.1.1), and never localhost, where other programs listen without TLS.
    """
    names = (name.lower() for name in settings.tls_names if settings.has_tls and not name.startswith("*."))
    return frozenset(name.encode() for name in names if name != "localhost" and not _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# --- ASGI, as far as files need it ---------------------------------------------------------------------


def _scope(exchange: Exchange) -> MutableMapping[str, Any]:
    head = exchange.head
    return {
        "type": "http", "method": head.method, "path": head.path, "raw_path": head.raw_path, "root_path": "",
        "query_string": head.query, "headers": list(head.headers.items()),
    }  # fmt: skip


async def _nothing() -> MutableMapping[str, Any]:
    """Files need no body. Starlette waits here for the client to leave, and gives up once all is sent."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody sets this future")


def _sender(exchange: Exchange, headers: list[tuple[bytes, bytes]]) -> Any:
    async def send(message: MutableMapping[str, Any]) -> None:
        if exchange.has_left:
            raise ClientLeft
        if message["type"] == "http.response.start":
            exchange.is_page = True
            exchange.start(message["status"], [*message["headers"], *headers])
            return
        await exchange.write(message.get("body", b""))
        if not message.get("more_body"):
            exchange.end()

    return send
