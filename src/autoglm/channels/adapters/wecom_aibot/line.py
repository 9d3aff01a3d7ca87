"""Keeps one connection of an AI bot up, and leaves the bot to another program that has taken it over."""

from collections.abc import Awaitable, Callable

import anyio
import structlog

from autoglm.channels.adapters.wecom_aibot.frames import Frame
from autoglm.channels.adapters.wecom_aibot.session import TAKEN_OVER, Lost, Session, connected
from autoglm.channels.adapters.wecom_aibot.settings import WeComAiBotSettings
from autoglm.channels.backoff import BackOff, drawn_s
from autoglm.channels.delivery import Delivery, Words, transient
from autoglm.core.clock import monotonic_s
from autoglm.core.tasks import one_task_group

log = structlog.get_logger()
Take = Callable[[Frame], Awaitable[None]]
TAKEN_OVER_RETRY_S = (5.0, 30.0, 60.0)
"""After the first, second and each further time in a row: two programs that fight for one bot serve nobody."""
STEADY_S = 300.0
"""A connection that lasted so long was a good one."""
_WAIT_S = 10.0


class Line:
    """`run` in a task."""

    def __init__(self, channel: str, settings: WeComAiBotSettings) -> None:
        self._channel = channel
        self._settings = settings
        self._session: Session | None = None
        self.why_not = transient("not_connected", Words("there is no connection to WeCom yet", "尚未连接企业微信"))
        """Why there is no session, where there is none."""
        self.connections = 0
        """How many WeCom has welcomed."""
        self._tried = anyio.Event()
        """Set when the attempt to connect that is under way has ended, well or not."""

    @property
    def is_up(self) -> bool:
        return self._session is not None

    async def run(self, take: Take) -> None:
        """Until cancelled. `take` gets each message and event."""
        pauses, taken_over = BackOff(), 0
        while True:
            began_s = monotonic_s()
            lost = await self._connect_once(take)
            lasted_s = monotonic_s() - began_s
            if lasted_s > STEADY_S:
                taken_over = 0
                pauses.reset()
            pause_s = pauses.pause_s()
            if lost.code == TAKEN_OVER.code:
                pause_s = drawn_s(TAKEN_OVER_RETRY_S[min(taken_over, len(TAKEN_OVER_RETRY_S) - 1)])
                taken_over += 1
            log.warning("connection_lost", channel=self._channel, code=lost.code, reason=without_doubt(lost).reason.en)
            await anyio.sleep(pause_s)

    async def _connect_once(self, take: Take) -> Delivery:
        """Until it is lost: why."""
        settings = self._settings
        was_up = False
        try:
            async with connected(settings.url, take, self._drop) as session, one_task_group() as tasks:
                tasks.start_soon(session.read)
                await session.subscribe(settings.bot_id, settings.secret.get_secret_value())
                self._session, was_up = session, True
                self.connections += 1
                self._tried.set()
                log.info("connection_subscribed", channel=self._channel)
                await session.beat(settings.ping_s)
        except Lost as error:
            lost = error.delivery
        except BaseExceptionGroup as group:  # the reader and a request learn of one end at once
            losses, rest = group.split(Lost)
            if rest is not None or losses is None:
                raise
            lost = _first(losses)
        if not was_up:
            self.why_not = without_doubt(lost)
            self._tried.set()
        return lost

    def _drop(self, lost: Delivery) -> None:
        """The connection ended. Those who send wait for the next attempt, unless another program has the bot."""
        if self._session is None:
            return
        self._session = None
        self.why_not = without_doubt(lost)
        if lost.code != TAKEN_OVER.code:
            self._tried = anyio.Event()

    async def session(self) -> Session | None:
        """The one there is, after the attempt that is under way; None: `why_not` says why."""
        if self._session is None:
            with anyio.move_on_after(_WAIT_S):
                await self._tried.wait()
        return self._session


def without_doubt(lost: Delivery) -> Delivery:
    """For a message that did not go out."""
    if not lost.is_in_doubt:
        return lost
    return transient(lost.code, Words("the connection to WeCom was lost", "与企业微信的连接已断开"))


def _first(group: BaseExceptionGroup[Lost]) -> Delivery:
    alone: BaseException = group
    while isinstance(alone, BaseExceptionGroup):
        alone = alone.exceptions[0]
    return alone.delivery if isinstance(alone, Lost) else TAKEN_OVER
