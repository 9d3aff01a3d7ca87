"""What the connections of one server share."""

import asyncio
from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError
from autoglm.core.turn import Turn
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.head import KnownHeads


class House:
    """Places, tasks, and what needs to be looked up only once."""

    def __init__(
        self,
        begin: Callable[[Exchange, HubError | None], None],
        upgrade: Callable[[asyncio.Transport, bytes], asyncio.Protocol],
        max_connections: int,
    ) -> None:
        """begin: answers an exchange, with this error if there is one, at once or by `Exchange.spawn`. Never raises.

        upgrade: takes a connection over as a WebSocket; gets the head of the request. Raises ValueError, having done
        nothing, when it cannot be read.
        """
        self.begin = begin
        self.upgrade = upgrade
        self.max_connections = max_connections
        self.connections: set[asyncio.Protocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.known_heads = KnownHeads()
        self.turn = Turn()
        self.now_s = monotonic_s()
        """Renewed by the server's rounds, ten times a second: for patience that is counted in seconds."""
        self.date_line = b""
        """The header that says when a response was made (RFC 9110, section 6.6.1), renewed each second."""
