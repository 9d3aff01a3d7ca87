"""Deltas: the words of an answer while it is written, handed to whoever listens right now and never stored."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec


class Delta(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    reply_to: str
    """The id of the message that is being answered."""
    from_: str
    to: str
    index: int
    """Counts from 0; starts anew when the answer had to be started anew."""
    text: str


Listener = Callable[[Delta], None]


class Deltas:
    """Hands each delta to the listeners of its recipient. Listeners must not block; they bound their own queues."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}

    def publish(self, delta: Delta) -> None:
        for listener in tuple(self._listeners.get(delta.to, ())):
            listener(delta)

    @contextmanager
    def listening(self, address: str, listener: Listener) -> Iterator[None]:
        listeners = self._listeners.setdefault(address, set())
        listeners.add(listener)
        try:
            yield
        finally:
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(address, None)
