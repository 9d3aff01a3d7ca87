"""A call on its way without a task: sent when it comes, answered when the reply comes (ADR 5)."""

from collections.abc import Callable

from autoglm.core.errors import UpstreamFailed
from autoglm.core.ports import Line, Reply
from autoglm.inference.call import Call
from autoglm.inference.slot import Slot


class Flight:
    """Holds a slot. To the connection it is the future of the reply, to the scheduler the task that waits for it.

    `landed` is called once, with the flight, when its head or an error is there; never after `abandon`.
    """

    __slots__ = ("_is_over", "_landed", "_line", "call", "error", "is_sent", "reply", "slot")

    def __init__(self, call: Call, slot: Slot, landed: Callable[["Flight"], None]) -> None:
        self.call = call
        self.slot = slot
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.is_sent = False
        self._landed = landed
        self._is_over = False
        self._line: Line | None = None

    def start(self, *, can_move: bool) -> None:
        """Send the call, if the instance has a connection that waits for work; else `is_sent` stays False.

        can_move: when the instance goes down meanwhile, the call may be sent elsewhere.
        """
        backend = self.slot.instance.backend
        if backend is not None:
            self._line = backend.launch(self.call.api, self.call.body, self)
            if self._line is not None:
                self.is_sent = True
                self.slot.waiting = self if can_move else None

    def abandon(self) -> None:
        """Nobody wants the reply any more. The instance stops, as its connection closes; the slot is the caller's."""
        line = self._line
        self._end()
        if line is not None:
            line.abort()

    # --- as a task that waits ---

    def cancel(self) -> None:
        """The instance went down: what it had is to be sent elsewhere."""
        self.abandon()
        self.error = UpstreamFailed(self.slot.instance.name, self.slot.instance.error or "it is down")
        self._landed(self)

    # --- as a future ---

    def done(self) -> bool:
        return self._is_over

    def cancelled(self) -> bool:
        return self._is_over and self.reply is None and self.error is None

    def set_result(self, reply: Reply) -> None:
        self._end()
        self.reply = reply
        self._landed(self)

    def set_exception(self, error: Exception) -> None:
        self._end()
        self.error = error
        self._landed(self)

    def _end(self) -> None:
        self._is_over = True
        self._line = None  # it serves others from now on
        self.slot.waiting = None
