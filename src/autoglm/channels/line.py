"""A WebSocket to a vendor that the hub opens and keeps open, for messages to come in by without a public address."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import structlog

from autoglm.channels.backoff import BackOff
from autoglm.channels.channel import LinkState
from autoglm.channels.delivery import Words
from autoglm.core.errors import AddressRefused
from autoglm.core.guard import AddressGuard, check_address

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

FRAME_BYTES = 1 << 20
OPEN_S = 10.0
CLOSE_S = 1.0
ALIVE_S = 30.0
"""A ping so often, and so long for its answer: a line that is cut without a word is noticed within twice that."""

log = structlog.get_logger()


class NoLine(Exception):
    """There is no connection to be had now: `reason` says why, without secrets."""

    def __init__(self, code: str, reason: Words) -> None:
        super().__init__(reason.en)
        self.code, self.reason = code, reason


def is_socket_address(url: str, *, is_encrypted: bool) -> bool:
    """Whether a vendor's address is one of a WebSocket. is_encrypted: no other one will do."""
    try:
        place = urlsplit(url)
        return place.scheme in (("wss",) if is_encrypted else ("wss", "ws")) and bool(place.hostname)
    except ValueError:  # such as half an IPv6 address
        return False


async def check_place(guard: AddressGuard | None, url: str) -> None:
    """Raises NoLine for a place that the guard refuses: where to connect to is what somebody's answer said."""
    try:
        if guard is not None:
            await check_address(guard, url)
    except AddressRefused as error:
        raise NoLine(error.code, Words(str(error), "服务方给出的连接地址不是公网地址，本机不连接")) from None


class Line:
    """`trouble` (code, reason) says what is wrong; None while it is up, and before the first attempt."""

    def __init__(self, channel: str, vendor_en: str, vendor_zh: str) -> None:
        self.log = log.bind(channel=channel)
        self._vendor = (vendor_en, vendor_zh)
        self.trouble: tuple[str, Words] | None = None
        self.state = LinkState(is_up=False, connections=0)

    async def keep(self, once: Callable[[], Awaitable[bool]]) -> None:
        """Calls `once` for each connection, until cancelled; it tells whether the connection brought anything.

        once raises NoLine, and what `opened` and its connection raise.
        """
        from websockets.exceptions import WebSocketException

        pauses = BackOff()
        while True:
            try:
                if await once():
                    pauses.reset()
            except NoLine as error:
                self._lost(error.code, error.reason)
            except (OSError, TimeoutError, WebSocketException) as error:
                name, (en, zh) = type(error).__name__, self._vendor
                words = Words(f"the connection to {en} is cut ({name})", f"到{zh}的连接已断开（{name}）")
                self._lost("line_cut", words)
            await anyio.sleep(pauses.pause_s())

    @asynccontextmanager
    async def opened(self, url: str) -> AsyncIterator["ClientConnection"]:
        """Frames are bounded to FRAME_BYTES, and 16 wait. Closing takes CLOSE_S at most, also when cancelled."""
        from websockets.asyncio.client import connect

        attempt = connect(
            url, open_timeout=OPEN_S, close_timeout=CLOSE_S, ping_interval=ALIVE_S, ping_timeout=ALIVE_S,
            max_size=FRAME_BYTES, max_queue=16, proxy=None,
        )  # fmt: skip
        attempt.process_redirect = stays  # type: ignore[method-assign]  # no option for it
        socket = await attempt
        self.trouble = None
        self.state = LinkState(is_up=True, connections=self.state.connections + 1)
        self.log.info("line_opened")
        try:
            yield socket
        finally:
            self.state = self.state._replace(is_up=False)
            with anyio.CancelScope(shield=True):
                await socket.close()

    def _lost(self, code: str, reason: Words) -> None:
        self.trouble = (code, reason)
        self.log.warning("line_lost", code=code, reason=reason.en)


def stays(exc: Exception) -> Exception | str:
    """Redirects are not followed: they could lead anywhere."""
    return exc
