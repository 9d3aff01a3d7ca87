"""A lane: the messages that share one limit of a vendor, such as all of one robot.

In memory are numbers only, at most MAX_WAITING of them; what is beyond that is read from the log again when there is
room. Messages of one thread go in order: each waits for the one before it. Others do not wait for each other.
"""

import heapq
from collections import deque
from typing import NamedTuple

from autoglm.channels.delivery import Words
from autoglm.channels.outbox.window import Window

MAX_WAITING = 10_000
URGENT = 8
"""Messages of this priority and above are kept in memory beyond MAX_WAITING, as many again."""
_SEQ_BITS = 53
_SEQ = (1 << _SEQ_BITS) - 1


class Tried(NamedTuple):
    """What is known of a message that was tried before."""

    attempts: int = 0
    parts: int = 0
    """Of a message in several parts, those that the vendor has."""
    is_alone: bool = False
    """Not in a digest any more."""


class Lane:
    def __init__(self, channel: str, target: str, subject: str, window: Window) -> None:
        """target: empty when the lane is for all of a channel's. subject: where its messages are in the log."""
        self.channel, self.target, self.subject, self.window = channel, target, subject, window
        self.tried: dict[int, Tried] = {}
        self.running: dict[int, int] = {}
        """By number the priority."""
        self.left: int | None = None
        """From this number on, messages are in the log only, but for those in `_ahead`."""
        self.paused_until_s = 0.0
        """Nothing starts before then; monotonic."""
        self.pause_code = ""
        self.pause_reason = Words("", "")
        self.failures = 0
        """Attempts in turn that failed for what is no fault of the message. Those at the same time count as one."""
        self.failed_s = 0.0
        """When the last of them ended; monotonic."""
        self._ready: list[int] = []
        """A heap of `(9 - priority) << 53 | seq`."""
        self._later: list[tuple[float, int, int]] = []
        """A heap of (due_s, seq, priority)."""
        self._threads: dict[str, deque[tuple[int, int]]] = {}
        """By thread the messages that wait for the one before them, as (seq, priority)."""
        self._thread_of: dict[int, str] = {}
        self._ahead: set[int] = set()
        self._waiting = 0

    # --- in ---

    def add(self, seq: int, priority: int, thread: str | None) -> None:
        """A message of the log, in their order there. One that has no place is left in the log."""
        if self.left is not None or self._waiting >= MAX_WAITING:
            self.left = seq if self.left is None else min(self.left, seq)
            if priority < URGENT or self._waiting >= 2 * MAX_WAITING or thread is not None:
                return
            self._ahead.add(seq)
        self._place(seq, priority, thread)

    def _place(self, seq: int, priority: int, thread: str | None) -> None:
        self._waiting += 1
        if thread is not None:
            self._thread_of[seq] = thread
            if (followers := self._threads.get(thread)) is not None:
                followers.append((seq, priority))
                return
            self._threads[thread] = deque()
        heapq.heappush(self._ready, (9 - priority) << _SEQ_BITS | seq)

    def begin_refill(self) -> int | None:
        """The number to read on from, when there is room again; then give what is there to `refill`."""
        return self.left if self._waiting <= MAX_WAITING // 2 else None

    def refill(self, found: list[tuple[int, int, str | None]], *, left: int | None) -> None:
        """(seq, priority, thread) of the next messages from `left` on, and from where there may be further ones."""
        self.left = left
        for seq, priority, thread in found:
            if self._waiting >= MAX_WAITING:
                self.left = seq
                return
            if seq in self._ahead:
                self._ahead.discard(seq)
            else:
                self._place(seq, priority, thread)

    # --- out ---

    @property
    def waiting(self) -> int:
        """Messages in memory that are not settled, the running ones included."""
        return self._waiting

    @property
    def is_empty(self) -> bool:
        return not self._waiting and self.left is None

    @property
    def is_idle(self) -> bool:
        return self.is_empty and not self.running

    def pop(self, now_s: float, *, from_priority: int = 0) -> int | None:
        """The next message to try, None when none is due; it is running then. from_priority: no lesser ones."""
        self._wake(now_s)
        if not self._ready or 9 - (self._ready[0] >> _SEQ_BITS) < from_priority:
            return None
        return self._begin(heapq.heappop(self._ready))

    def gives_way(self, now_s: float, priority: int) -> bool:
        """Whether a message in parts lets go of its place: at the vendor's limit, or for what is more urgent."""
        self._wake(now_s)
        is_next = bool(self._ready) and 9 - (self._ready[0] >> _SEQ_BITS) > priority
        return is_next or self.window.wait_s(now_s) > 0

    def ready(self, now_s: float, limit: int) -> list[int]:
        """The next numbers in their order, without taking them."""
        self._wake(now_s)
        return [entry & _SEQ for entry in heapq.nsmallest(limit, self._ready)]

    def ready_count(self, now_s: float) -> int:
        self._wake(now_s)
        return len(self._ready)

    def take(self, seqs: set[int]) -> None:
        """These run now, together."""
        taken = [entry for entry in self._ready if entry & _SEQ in seqs]
        self._ready = [entry for entry in self._ready if entry & _SEQ not in seqs]
        heapq.heapify(self._ready)
        for entry in taken:
            self._begin(entry)

    def _begin(self, entry: int) -> int:
        seq = entry & _SEQ
        self.running[seq] = 9 - (entry >> _SEQ_BITS)
        return seq

    def next_due_s(self) -> float:
        """When the first of those that wait for their next attempt is due; infinity when none does."""
        return self._later[0][0] if self._later else float("inf")

    def retry(self, seq: int, due_s: float, tried: Tried | None) -> None:
        """It ran, and failed for now. tried: None where nothing new is known of it."""
        priority = self.running.pop(seq)
        if tried is not None:
            self.tried[seq] = tried
        heapq.heappush(self._later, (due_s, seq, priority))

    def put_back(self, seq: int, tried: Tried) -> None:
        """It ran, and was not tried after all."""
        priority = self.running.pop(seq)
        if tried != Tried():
            self.tried[seq] = tried
        heapq.heappush(self._ready, (9 - priority) << _SEQ_BITS | seq)

    def settle(self, seq: int) -> None:
        """Nothing is left to do for it; the next of its thread may go."""
        self.running.pop(seq, None)
        self.tried.pop(seq, None)
        self._waiting -= 1
        thread = self._thread_of.pop(seq, None)
        if thread is not None:
            followers = self._threads[thread]
            if followers:
                following, priority = followers.popleft()
                heapq.heappush(self._ready, (9 - priority) << _SEQ_BITS | following)
            else:
                del self._threads[thread]

    def hurry(self) -> None:
        """Try everything now, whatever it waits for but the vendor's limit."""
        self.paused_until_s, self.failures = 0.0, 0
        self._wake(float("inf"))

    def open_seqs(self) -> list[int]:
        """All that are not settled and in memory."""
        followers = [seq for waiting in self._threads.values() for seq, _ in waiting]
        ready = [entry & _SEQ for entry in self._ready]
        return [*ready, *followers, *(seq for _, seq, _ in self._later), *self.running]

    def _wake(self, now_s: float) -> None:
        while self._later and self._later[0][0] <= now_s:
            _, seq, priority = heapq.heappop(self._later)
            heapq.heappush(self._ready, (9 - priority) << _SEQ_BITS | seq)
