"""A channel that behaves as a test tells it to: for the outbox, whose vendors are all there is of the outside."""

from collections import deque
from collections.abc import Callable, Sequence

import anyio

from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, no_target
from autoglm.channels.delivery import Delivery, Words, accepted, permanent
from autoglm.channels.pieces import cut
from autoglm.core.envelope import Envelope, text_of

Answer = Callable[[Parcel], Delivery]


class ScriptedChannel:
    """Satisfies `Channel`. `sent` has (target, text, key) of all that was taken; `answers` what comes of the next."""

    def __init__(self, limits: Limits | None = None, *, piece_bytes: int = 2000) -> None:
        self._limits = limits or Limits(parallel=4)
        self._piece_bytes = piece_bytes
        self.sent: list[tuple[str, str, str]] = []
        self.tried: list[str] = []
        """The texts of all attempts."""
        self.answers: deque[Delivery] = deque()
        self.by_text: dict[str, Delivery] = {}
        """What comes of a text, each time."""
        self.gate: anyio.Event | None = None
        """While it is there, no answer comes before it is set."""
        self.running = 0
        self.most_running = 0

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.sent]

    def limits(self, target: str) -> Limits:
        return self._limits

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target == "nobody":
            raise no_target("c", target, ["t"])
        text = text_of(envelope.content)
        if not text:
            raise Cannot(permanent("empty", Words("there is nothing in it", "消息为空")))
        return [Parcel(target=target, body=piece) for piece in cut(text, self._piece_bytes)]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        text = str(parcel.body)
        self.tried.append(text)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self.by_text.get(text) or (self.answers.popleft() if self.answers else accepted())
            if answer.outcome in ("accepted", "delivered"):
                self.sent.append((parcel.target, text, key))
            return answer
        finally:
            self.running -= 1

    async def check(self) -> Health:
        return Health(ok=True, reason=Words("fine", "正常"))

    async def run(self, inbox: Inbox) -> None:
        pass

    async def aclose(self) -> None:
        pass
