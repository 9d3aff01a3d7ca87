"""The windows of all lanes: a vendor goes on counting when a lane has ended, and when the hub has."""

from collections.abc import Iterable, Mapping

from autoglm.channels.channel import Limits
from autoglm.channels.outbox.attempts import Attempt
from autoglm.channels.outbox.carrier import Outgoing
from autoglm.channels.outbox.window import Window
from autoglm.core.clock import monotonic_s, now_ms

_PRUNE_AT = 5_000

Key = tuple[str, str]
"""(channel, target); no target where all of the channel's are one lane."""


class Windows:
    """In memory are, beside those of today's lanes, the starts that some vendor still counts."""

    def __init__(self) -> None:
        self._starts: dict[Key, tuple[float, tuple[float, ...]]] = {}
        """Of lanes that are not there now: how long the vendor counts their last attempts, and when those were;
        monotonic."""
        self._prune_at = _PRUNE_AT
        self._shared: dict[str, Window] = {}
        """By channel."""

    def open(self, key: Key, limits: Limits | None) -> Window:
        """For a lane that begins; limits: None for a channel that is in the settings no more."""
        window = Window(()) if limits is None else Window(limits.windows, self._shared_by(key[0], limits))
        _, starts = self._starts.pop(key, (0.0, ()))
        window.recall(starts)
        return window

    def close(self, key: Key, window: Window) -> None:
        """The lane has ended; what it started counts on."""
        now_s = monotonic_s()
        if (used_for_s := window.used_for_s(now_s)) > 0:
            self._starts[key] = (now_s + used_for_s, window.starts())
        if len(self._starts) > self._prune_at:
            self._starts = {key: entry for key, entry in self._starts.items() if entry[0] > now_s}
            self._prune_at = max(_PRUNE_AT, 2 * len(self._starts))

    def recall(self, attempts: Iterable[Attempt], channels: Mapping[str, Outgoing]) -> None:
        """The vendors still count what an earlier run sent. attempts: the oldest first."""
        now, now_s = now_ms(), monotonic_s()
        for attempt in attempts:
            outgoing = channels.get(attempt.channel)
            if outgoing is None:
                continue
            limits = outgoing.channel.limits(attempt.target)
            age_s = max(0.0, (now - attempt.time) / 1000)
            if (shared := self._shared_by(attempt.channel, limits)) is not None:
                shared.take(now_s - age_s)
            if any(age_s < seconds for _, seconds in limits.windows):
                key = (attempt.channel, "" if limits.per == "channel" else attempt.target)
                _, starts = self._starts.get(key, (0.0, ()))
                longest_s = max(seconds for _, seconds in limits.windows)
                self._starts[key] = (now_s - age_s + longest_s, (*starts, now_s - age_s))

    def _shared_by(self, channel: str, limits: Limits) -> Window | None:
        """What all lanes of a channel have together."""
        return self._shared.setdefault(channel, Window(limits.shared)) if limits.shared else None
