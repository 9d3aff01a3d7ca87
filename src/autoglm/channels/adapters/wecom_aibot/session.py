"""One connection of an AI bot: requests with their answers, and what WeCom says by itself.

On asyncio, as the library `websockets` is.
"""

import asyncio
import importlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from autoglm.channels import web
from autoglm.channels.adapters.wechat.answers import of_code
from autoglm.channels.adapters.wecom_aibot.frames import (
    DISCONNECTED,
    EVENT,
    MAX_FRAME_BYTES,
    MESSAGE,
    PING,
    REASONS,
    SUBSCRIBE,
    VENDOR,
    BadFrame,
    Frame,
    frame_text,
    parse_frame,
)
from autoglm.channels.delivery import Delivery, Words, failed, transient
from autoglm.channels.line import stays

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_CLOSE_TIMEOUT_S = 1.0
TAKEN_OVER = transient(
    "taken_over",
    Words(
        "another program connected as this bot, and WeCom keeps one connection a bot: stop one of them",
        "另有程序以同一机器人建立了连接，而企业微信只保留一个连接：请停掉其中一个",
    ),
)


class Lost(Exception):
    """There is no connection (any more): `delivery` says why, in doubt for a request that went out."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason.en)
        self.delivery = delivery


class Session:
    """Made by `connected`. `take` gets each message and event; while it waits, nothing else is read."""

    def __init__(
        self, socket: "ClientConnection", take: Callable[[Frame], Awaitable[None]], ended: Callable[[Delivery], None]
    ) -> None:
        self._socket = socket
        self._take = take
        self._ended = ended
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self._answering: dict[str, asyncio.Lock] = {}

    async def ask(self, cmd: str, body: dict[str, Any] | None = None, *, req_id: str = "") -> Frame:
        """The answer, whatever its errcode. Raises Lost.

        req_id: of the message that this responds to; one at a time, as their answers have no name but that.
        """
        if not req_id:
            return await self._ask(cmd, body, f"{cmd}_{uuid.uuid4().hex}")
        lock = self._answering.setdefault(req_id, asyncio.Lock())
        try:
            async with lock:
                return await self._ask(cmd, body, req_id)
        finally:
            if not lock.locked():
                self._answering.pop(req_id, None)

    async def subscribe(self, bot_id: str, secret: str) -> None:
        """Raises Lost. A code that is not known says nothing against the messages: they wait."""
        answer = await self.ask(SUBSCRIBE, {"bot_id": bot_id, "secret": secret})
        if answer.errcode:
            found = of_code(answer.errcode, VENDOR, REASONS)
            if found.is_settled:
                words = Words(
                    f"WeCom refuses the connection (errcode {answer.errcode})",
                    f"企业微信拒绝连接（errcode {answer.errcode}）",
                )
                found = failed("auth", found.code, words)
            raise Lost(found)

    async def read(self) -> None:
        """Until the connection ends: raises Lost, and lets those know who wait for an answer."""
        lost = Lost(_cut())
        try:
            while True:
                await self._handle(parse_frame(await self._socket.recv()))
        except self._closed:
            raise lost from None
        except BadFrame:
            lost = Lost(_unreadable())
            raise lost from None
        except Lost as error:
            lost = error
            raise
        finally:
            self._ended(lost.delivery)  # first: who is told of it now must not ask this session again
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Lost(lost.delivery))
            self._waiting.clear()

    async def beat(self, every_s: float) -> None:
        """Signs of life, until one is not answered: raises Lost."""
        while True:
            await asyncio.sleep(every_s)
            try:
                async with asyncio.timeout(every_s):
                    await self.ask(PING)
            except TimeoutError:
                self._ended(_cut())
                raise Lost(_cut()) from None
            except Lost as error:
                self._ended(error.delivery)
                raise

    async def _ask(self, cmd: str, body: dict[str, Any] | None, req_id: str) -> Frame:
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[req_id] = future
        try:
            async with asyncio.timeout(web.TIMEOUT_S):
                try:
                    await self._socket.send(frame_text(cmd, req_id, body))
                except self._closed:
                    raise Lost(_not_sent()) from None
                return await future
        except TimeoutError:
            words = Words("no answer in time; it may have been delivered", "等待应答超时，消息可能已送达")
            raise Lost(transient("timeout", words, is_in_doubt=True)) from None
        finally:
            self._waiting.pop(req_id, None)
            if future.done() and not future.cancelled():
                future.exception()  # or asyncio tells of one that nobody fetched

    async def _handle(self, frame: Frame) -> None:
        if frame.cmd not in (MESSAGE, EVENT):
            future = self._waiting.get(frame.req_id)
            if future is None or future.done():
                return
            if frame.errcode is None:
                future.set_exception(Lost(_unreadable()))
            else:
                future.set_result(frame)
            return
        if frame.cmd == EVENT and _event_type(frame) == DISCONNECTED:
            # The vendor may leave the socket open, with answered pings and no more messages: it is of no use.
            raise Lost(TAKEN_OVER)
        await self._take(frame)

    @property
    def _closed(self) -> type[Exception]:
        from websockets.exceptions import ConnectionClosed

        return ConnectionClosed


@asynccontextmanager
async def connected(
    url: str, take: Callable[[Frame], Awaitable[None]], ended: Callable[[Delivery], None]
) -> AsyncIterator[Session]:
    """A connection that is not subscribed yet; `ended` is called as soon as it is of no use. Raises Lost."""
    await asyncio.to_thread(importlib.import_module, "websockets.asyncio.client")
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    attempt = connect(
        url, open_timeout=web.CONNECT_TIMEOUT_S, close_timeout=_CLOSE_TIMEOUT_S, ping_interval=None,
        max_size=MAX_FRAME_BYTES, compression=None, proxy=None, user_agent_header="autoglm-hub",
    )  # fmt: skip
    attempt.process_redirect = stays  # type: ignore[method-assign]  # no option for it
    try:
        socket = await attempt
    except TimeoutError:
        raise Lost(transient("connect_timeout", Words("no connection to WeCom in time", "连接企业微信超时"))) from None
    except WebSocketException:
        words = Words("WeCom's address takes no WebSocket", "企业微信地址不接受 WebSocket")
        raise Lost(transient("handshake", words)) from None
    except OSError:
        raise Lost(transient("refused", Words("WeCom's host takes no connection", "企业微信主机拒绝连接"))) from None
    try:
        yield Session(socket, take, ended)
    finally:
        with anyio.move_on_after(2 * _CLOSE_TIMEOUT_S, shield=True):
            await socket.close()


def _event_type(frame: Frame) -> str:
    event = frame.body.get("event")
    return str(event.get("eventtype", "")) if isinstance(event, dict) else ""


def _cut() -> Delivery:
    words = Words(
        "the connection to WeCom was cut before the answer; it may have been delivered",
        "应答前与企业微信的连接中断，消息可能已送达",
    )
    return transient("cut", words, is_in_doubt=True)


def _unreadable() -> Delivery:
    words = Words(
        "WeCom sent what cannot be read; it may have been delivered", "无法解析企业微信的数据，消息可能已送达"
    )
    return transient("unreadable", words, is_in_doubt=True)


def _not_sent() -> Delivery:
    return transient("not_connected", Words("there is no connection to WeCom just now", "当前没有与企业微信的连接"))
