"""What a broker answered, and what is to be believed only when it has answered once more."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paho.mqtt.client import Client

NOTHING = "autoglm/nothing"
"""A filter that nobody subscribed to."""


class Fence:
    """Of one link: a request whose answer confirms the answers before it. Mosquitto saves at the end of each turn of
    its loop, after it has sent the answers of the turn: those are safe when it answers something that was sent after
    them. As many answers as came meanwhile share one request.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._mid: int | None = None
        """Of the request that is on its way."""
        self._count = 0
        """Of those that wait, what its answer confirms."""

    def add(self, client: "Client", then: Callable[[], None]) -> None:
        """An answer came. then: called when it is confirmed, in the order of the answers, if the connection lasts."""
        self._waiting.append(then)
        if self._mid is None:
            self._ask(client)

    def on_unsubscribed(self, client: "Client", mid: int) -> None:
        if mid != self._mid:
            return
        for then in [self._waiting.popleft() for _ in range(self._count)]:
            then()
        self._mid = None
        if self._waiting:
            self._ask(client)

    def end(self) -> None:
        """The connection is gone, and with it what waits."""
        self._waiting.clear()
        self._mid = None

    def _ask(self, client: "Client") -> None:
        _, self._mid = client.unsubscribe(NOTHING)
        self._count = len(self._waiting)
