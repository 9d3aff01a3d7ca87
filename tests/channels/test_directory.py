"""Channels that fail are started again, later each time, and soon again once they ran well."""

import pytest

from autoglm.channels import directory
from autoglm.channels.channel import Inbox
from autoglm.channels.directory import _keep_running
from autoglm.channels.outbox.carrier import Outgoing
from channels.outbox.office import settings
from channels.scripted_channel import ScriptedChannel


class FailingChannel(ScriptedChannel):
    """Fails so many times, after it ran for so many seconds each time; then it is done."""

    def __init__(self, ran_s: list[float]) -> None:
        super().__init__()
        self.ran_s = ran_s
        self.now_s = 0.0

    async def run(self, inbox: Inbox) -> None:
        if self.ran_s:
            self.now_s += self.ran_s.pop(0)
            raise RuntimeError("the vendor said something new")


async def test_a_channel_that_ran_well_is_started_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = FailingChannel([1.0, 1.0, 1.0, 3600.0, 1.0])
    asked: list[int] = []

    def pause_s(failures: int, first_s: float, longest_s: float) -> float:
        asked.append(failures)
        return 0.0

    monkeypatch.setattr(directory, "pause_s", pause_s)
    monkeypatch.setattr(directory, "monotonic_s", lambda: channel.now_s)
    await _keep_running(Outgoing(channel, settings()), None)  # type: ignore[arg-type]  # nothing comes in
    assert asked == [1, 2, 3, 1, 2]
