"""What the connections of one server share."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError
from autoglm.core.turn import Turn
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.head import KnownHeads
from autoglm.gateway.headers import API_LINES
from autoglm.gateway.hosts import Hosts
from autoglm.gateway.proxies import Proxies


class House:
    """Places, tasks, and what needs to be looked up only once."""

    def __init__(
        self,
        begin: Callable[[Exchange, HubError | None], None],
        upgrade: Callable[[asyncio.Transport, bytes, str], asyncio.Protocol],
        max_connections: int,
        *,
        hosts: Hosts,
        proxies: Proxies | None = None,
    ) -> None:
        """begin: answers an exchange, with this error if there is one, at once or by `Exchange.spawn`. Never raises.

        upgrade: takes a connection over as a WebSocket; gets the head of the request, and the client's address. Raises
        ValueError, having done nothing, when it cannot be read. proxies: None where every client comes by itself.
        """
        self.begin = begin
        self.upgrade = upgrade
        self.max_connections = max_connections
        self.hosts = hosts
        self.proxies = proxies
        self.connections: set[asyncio.Protocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.known_heads = KnownHeads()
        self.turn = Turn()
        self.now_s = monotonic_s()
        """Renewed by the server's rounds, ten times a second: for patience that is counted in seconds."""
        self.date_line = b""
        """The header that says when a response was made (RFC 9110, section 6.6.1), renewed each second."""
        self.answer_lines = b""
        """The same, with what every answer but the page has: made once, since it costs the measured path nothing so."""
        self.set_date(time.time())

    def set_date(self, at_s: float) -> None:
        """at_s: of the Unix epoch."""
        self.date_line = f"date: {formatdate(at_s, usegmt=True)}\r\n".encode()
        self.answer_lines = self.date_line + API_LINES
