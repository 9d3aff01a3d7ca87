"""A vendor is down for a day, and events go on. The clock is the test's: it goes from one attempt to the next."""

from pathlib import Path

import anyio.lowlevel

from autoglm.channels.channel import Limits, Parcel
from autoglm.channels.delivery import Delivery, Words, transient
from autoglm.channels.receipts import Receipt
from autoglm.channels.settings import OutboxSettings
from channels.clock import Clock
from channels.outbox.office import Office, office, settings
from channels.scripted_channel import ScriptedChannel
from eventually import until

HALF_A_DAY_S, QUARTER_S, HOUR_MS = 43_200, 900, 3_600_000
MOST_ATTEMPTS = 2 * HALF_A_DAY_S // 30 + 20
"""A lane whose attempts fail in turn rests for half a minute at least; a start of the hub tries some more at once."""
REFUSED = transient("refused", Words("the vendor refuses the connection", "服务方拒绝连接"))


class Vendor(ScriptedChannel):
    is_down = True

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        if self.is_down:
            self.tried.append(str(parcel.body))
            return REFUSED
        return await super().send(parcel, key)


class Day:
    """What was posted to the vendor, by what is to become of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.thread: list[str] = []
        self.alone: list[str] = []
        self.brief: list[str] = []

    async def half(self, hub: Office) -> None:
        for _ in range(HALF_A_DAY_S // QUARTER_S):
            number = len(self.thread)
            expires_at = self.clock.now_ms() + HOUR_MS
            self.thread.append(await hub.post(f"press {number:02}", thread="press-7"))
            self.alone.append(await hub.post(f"alone {number:02}"))
            self.brief.append(await hub.post("brief", expires_at=expires_at))
            (end,) = await hub.ends(await hub.post("elsewhere", "channel:d/t"))  # before the clock goes on
            assert (end.state, end.attempt) == ("sent", 1)
            await self.pass_s(hub, QUARTER_S)

    async def pass_s(self, hub: Office, seconds: float) -> None:
        """From one attempt to the next."""
        end_s = self.clock.monotonic_s() + seconds
        while (left_s := end_s - self.clock.monotonic_s()) > 0:
            await until(lambda: _rest_s(hub) > 0)
            self.clock.pass_s(min(left_s, _rest_s(hub) + 0.01))
            await anyio.lowlevel.checkpoint()

    async def end_of(self, hub: Office, id: str) -> Receipt:
        """The only one, and within its time."""
        envelope, _ = await hub.mailbox.get(id)
        (end,) = [step for step in await hub.steps(id) if step.state != "queued"]
        assert envelope.expires_at is None or end.time <= envelope.expires_at
        assert end.state != "expired" or end.time == envelope.expires_at
        return end


def _rest_s(hub: Office) -> float:
    """How long nothing will be tried at the vendor; 0 while something is."""
    found = [state for state in hub.outbox.states() if state.channel == "c"]
    return min((0.0 if state.running else state.next_try_s for state in found), default=float(HALF_A_DAY_S))


async def test_nothing_is_lost_or_out_of_order_when_a_vendor_is_down_for_a_day(tmp_path: Path, clock: Clock) -> None:
    vendor, day = Vendor(Limits(parallel=4)), Day(clock)
    channels = (vendor, settings("c")), (ScriptedChannel(), settings("d"))
    async with office(tmp_path, *channels, outbox=OutboxSettings()) as hub:
        await day.half(hub)  # at noon the hub is killed
    async with office(tmp_path, *channels, outbox=OutboxSettings()) as hub:
        await day.half(hub)
        assert len(vendor.tried) <= MOST_ATTEMPTS
        vendor.is_down = False
        while hub.outbox.states():
            await day.pass_s(hub, QUARTER_S)
        lasting = [await day.end_of(hub, id) for id in (*day.thread, *day.alone)]
        brief = [await day.end_of(hub, id) for id in day.brief]
    assert {end.state for end in lasting} == {"sent"}
    assert {end.state for end in brief[:-4]} == {"expired"}  # an hour after they came; the last four may have gone out
    assert [text for text in vendor.texts if text.startswith("press")] == [f"press {n:02}" for n in range(96)]
    assert sorted(text for text in vendor.texts if text.startswith("alone")) == [f"alone {n:02}" for n in range(96)]
