"""An answer on its way from an instance to whoever asked, with the slot that it holds."""

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import UpstreamFailed, UpstreamTimeout
from autoglm.core.ports import Reply, Sink
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.slot import Slot


class Answer:
    """An answer that has begun. `first` is in hand; `chunk` gives the rest. Call `finish` once, however it ends."""

    __slots__ = (
        "_is_complete", "_reply", "_scheduler", "_slot", "call", "content_type", "first", "first_byte_s", "instance",
        "is_too_long", "is_whole", "status",
    )  # fmt: skip

    def __init__(
        self, slot: Slot, scheduler: Scheduler, reply: Reply, *, first: bytes, is_whole: bool, first_byte_s: float = 0.0
    ) -> None:
        self.call = slot.call
        self.instance: Instance = slot.instance
        self.status = reply.status
        self.content_type = reply.headers.get("content-type", "application/json")
        self.first = first
        self.is_whole = is_whole
        """True when `first` is all there is."""
        self.is_too_long = False
        """It refuses the request because the model's context is too short for it."""
        self.first_byte_s = first_byte_s
        self._reply: Reply | None = reply
        self._scheduler = scheduler
        self._slot = slot
        self._is_complete = False

    @property
    def waited_s(self) -> float:
        """From the call's arrival to the start of the attempt that answered it."""
        return self._slot.started_s - self.call.arrived_s

    @property
    def took_s(self) -> float:
        """Since the instance got the call."""
        return monotonic_s() - self._slot.started_s

    async def chunk(self) -> bytes | None:
        """The next bytes, None at the end. Raises UpstreamFailed, UpstreamTimeout; the instance then is marked."""
        assert self._reply is not None
        try:
            chunk = await self._reply.chunk()
        except (UpstreamFailed, UpstreamTimeout) as error:
            self.instance.failed(self._slot, str(error))
            self.instance.suspect()
            raise
        if chunk is None:
            self._is_complete = True
        return chunk

    async def forward(self, sink: Sink) -> None:
        """Give the sink all chunks to come. Raises as `chunk` does."""
        assert self._reply is not None
        try:
            await self._reply.forward(sink)
        except (UpstreamFailed, UpstreamTimeout) as error:
            self.instance.failed(self._slot, str(error))
            self.instance.suspect()
            raise
        self._is_complete = True

    def broke(self, reason: str) -> UpstreamFailed:
        """The answer came to an end, but is none: marks the instance, returns the error to raise."""
        self._is_complete = False
        self.instance.failed(self._slot, reason)
        return UpstreamFailed(self.instance.name, reason)

    def settle(self, tokens_in: int = 0, tokens_out: int = 0) -> Reply | None:
        """Free the slot, and settle what it cost: the tokens that the instance told, 0 where it did not.

        Enough for an answer that `is_whole`; else close the reply that this returns.
        """
        reply, self._reply = self._reply, None
        if reply is not None:
            if self._is_complete:
                self.instance.completed(self._slot)
            self._scheduler.release(self._slot, tokens_in, tokens_out)
        return reply

    async def finish(self, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """As `settle`; an upstream that is not done is closed at once, so that it stops generating."""
        reply = self.settle(tokens_in, tokens_out)
        if reply is not None:
            await reply.aclose()
