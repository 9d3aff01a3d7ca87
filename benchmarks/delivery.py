"""Whether each event ends in a true receipt, and what that costs: eight channels whose far ends misbehave.

Four webhooks that deduplicate, two servers of ntfy, two SMS gateways that say everything with HTTP 200 and a code.

Faults: 5% of the requests are throttled, 3% fail for now (half of these after the message was taken, with the
connection cut), 1% of the events are refused each time; half of the receivers vanish twice, and the hub is killed
with signal 9 three times while events come in and go out. Counted at the receivers, by the event's number: lost is what
neither arrived nor was refused; duplicates are compared with the requests that the hub itself says it cannot know the
end of. A run in which no further event ends for a minute is over, and says how many have not.
Backlog: all receivers are away while the events come; then they take so many a minute. Memory is the resident set.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/delivery.py`

from benchmarks.hub import RunningHub, running_hub
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.processes import priority, usage
from benchmarks.receivers import COUNT, DEDUPLICATING, Faults, Receiver

FAULTS = Faults(throttled=0.05, transient=0.03, permanent=0.01)
SEED = 20261127
SENDERS = 32
KILLS = (0.15, 0.4, 0.7)
"""At which shares of all events that have ended."""
OUTAGES = (0.25, 0.55)
OUTAGE_S = 4.0
PER_MINUTE = 2_500
_SENDER = "device:bench"
_DOUBTS = ("cut", "timeout", "interrupted")
_FINAL = ("sent", "delivered", "failed", "expired")
_RSS_EVERY_S = 0.5
_STALLED_S = 60.0


class Lengths(NamedTuple):
    events: int
    backlog: int


FULL, QUICK = Lengths(100_000, 100_000), Lengths(3_000, 5_000)


def config(receivers: list[Receiver], port: int, per_minute: int) -> str:
    head = f"""
[gateway]
port = {port}
[engine]
learns = false
[outbox]
first_retry_s = 0.2
max_retry_s = 2.0
"""
    channels = "".join(
        f"""
[[channel]]
name = "c-{number}"
kind = "{receiver.form.kind}"
per_minute = {per_minute}
overflow = "wait"
{receiver.form.settings.format(port=receiver.port)}
[[route]]
name = "to-{number}"
match = {{ labels = {{ channel = "{number}" }} }}
to = ["channel:c-{number}/far"]
"""
        for number, receiver in enumerate(receivers)
    )
    return head + channels


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    lengths = QUICK if chosen.is_quick else FULL
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with priority():
        faults = asyncio.run(measure_faults(lengths.events))
        backlog = asyncio.run(measure_backlog(lengths.backlog))
    targets = [
        Target(
            claim="events that ended in no receipt, or in several", measured=faults["without_receipt"], bound=0, unit=""
        ),
        Target(claim="events lost", measured=faults["lost"], bound=0, unit=""),
        Target(claim="messages both refused and taken", measured=faults["untrue"], bound=0, unit=""),
        Target(
            claim="duplicates where the receiver deduplicates", measured=faults["duplicates_deduplicating"], bound=0,
            unit="",
        ),
        Target(
            claim="duplicates elsewhere, for each request whose end nobody knows",
            measured=round(faults["duplicates_others"] / max(1, faults["doubts_others"]), 3), bound=1.0, unit="",
        ),
        Target(claim="memory rise of the backlog", measured=backlog["rise_mb"], bound=50.0, unit="MB"),
        Target(
            claim="the most requests in a minute, as a share of the limit", measured=backlog["share_of_limit"],
            bound=1.0, unit="",
        ),
    ]  # fmt: skip
    return conclude("delivery", chosen, machine, {"faults": faults, "backlog": backlog}, targets)


# --- a hub that is killed, and those who speak with it ---


class Site:
    """A hub at a fixed port, its receivers, and what its receipts have said so far."""

    def __init__(self, folder: Path, receivers: list[Receiver], per_minute: int) -> None:
        self.receivers = receivers
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.config = config(receivers, self.port, per_minute)
        self.ends: dict[str, str] = {}
        """By message its last state."""
        self.doubts: dict[str, int] = {}
        """By channel the requests whose end the hub does not know."""
        self.cpu_s = 0.0
        self._ended = -1, 0.0
        """How many events have ended, and since when."""
        self._seq = 0
        self._stack = contextlib.ExitStack()
        self.hub: RunningHub | None = None

    def start(self) -> None:
        self._stack = contextlib.ExitStack()
        fresh = self.hub is None
        self.hub = self._stack.enter_context(running_hub(self.folder, self.config, is_fresh=fresh))

    def stop(self, *, kills: bool = False) -> None:
        assert self.hub is not None
        self.cpu_s += usage(self.hub.pid).cpu_ns / 1e9
        if kills:
            os.kill(self.hub.pid, signal.SIGKILL)
        self._stack.close()

    def goes_on(self, count: int) -> bool:
        """Whether further events are to end, and do."""
        now_s = asyncio.get_running_loop().time()
        if len(self.ends) != self._ended[0]:
            self._ended = len(self.ends), now_s
        return len(self.ends) < count and now_s - self._ended[1] < _STALLED_S

    async def post(self, numbers: Iterator[int]) -> None:
        """Send events one after the other on one connection; again under the same id where that breaks."""
        reader = writer = None
        for number in numbers:
            event = {"id": f"e-{number}", "content": f"event {number}", "labels": {"channel": str(number % COUNT)}}
            body = json.dumps({**event, "from": _SENDER}).encode()
            while True:
                try:
                    if writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(self._head("POST /api/events", len(body)) + body)
                    status = await _answer(reader)
                    if status in (200, 202):
                        break
                    await asyncio.sleep(0.05)
                except (OSError, asyncio.IncompleteReadError):
                    writer = None
                    await asyncio.sleep(0.05)
        if writer is not None:
            writer.close()

    async def follow(self) -> None:
        """Note each receipt, over the hub's deaths, until cancelled."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async for line in self._stream():
                    self._note(line)
            await asyncio.sleep(0.05)

    async def _stream(self) -> AsyncIterator[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            writer.write(self._head(f"GET /api/messages/stream?to={_SENDER}&after={self._seq}", 0))
            await reader.readuntil(b"\r\n\r\n")
            while line := await reader.readline():
                yield line
        finally:
            writer.close()

    def _note(self, line: bytes) -> None:
        if not line.startswith(b"data: "):
            return
        step = json.loads(line[6:])
        self._seq = max(self._seq, step.get("seq", 0))
        if "state" not in step:
            return
        if step["state"] in _FINAL:
            self.ends[step["message"]] = step["state"]
        elif step.get("code") in _DOUBTS:
            self.doubts[step["by"]] = self.doubts.get(step["by"], 0) + 1

    def _head(self, line: str, size: int) -> bytes:
        assert self.hub is not None
        return (
            f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.hub.admin_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
        ).encode()


async def _answer(reader: Any) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    return int(head.split(" ", 2)[1])


# --- faults ---


async def measure_faults(count: int) -> dict[str, Any]:
    receivers = [Receiver(number, FAULTS, SEED) for number in range(COUNT)]
    for receiver in receivers:
        await receiver.listen()
    site = Site(SCRATCH / "delivery-faults", receivers, 1_000_000)
    site.start()
    numbers = iter(range(count))
    tasks = [asyncio.create_task(site.post(numbers)) for _ in range(SENDERS)]
    following = asyncio.create_task(site.follow())
    troubles = sorted([*((share, "kill") for share in KILLS), *((share, "outage") for share in OUTAGES)])
    outages: list[asyncio.Task[None]] = []
    while site.goes_on(count):
        await asyncio.sleep(0.05)
        if troubles and len(site.ends) >= troubles[0][0] * count:
            share, trouble = troubles.pop(0)
            say(f"{len(site.ends):7,} of {count:,} have ended: {trouble}")
            if trouble == "kill":
                site.stop(kills=True)
                await asyncio.to_thread(site.start)
            else:
                half = receivers[share > OUTAGES[0] :: 2]
                outages.append(asyncio.create_task(_outage(half)))
    await asyncio.gather(*outages, *(task for task in tasks if task.done()))
    for task in tasks:
        task.cancel()  # one is left where the run stalled
    following.cancel()
    site.stop()
    for receiver in receivers:
        await receiver.vanish()
    return _judged(count, site)


async def _outage(receivers: list[Receiver]) -> None:
    for receiver in receivers:
        await receiver.vanish()
    await asyncio.sleep(OUTAGE_S)
    for receiver in receivers:
        await receiver.listen()


def _judged(count: int, site: Site) -> dict[str, Any]:
    receivers = site.receivers
    taken = sum(len(receiver.taken) for receiver in receivers)
    refused = sum(len(receiver.refused) for receiver in receivers)
    states = list(site.ends.values())
    figures: dict[str, Any] = {
        "events": count,
        "arrived": taken,
        "refused": refused,
        "without_receipt": abs(count - len(states)),
        "lost": sum(len(receiver.missing(range(number, count, COUNT))) for number, receiver in enumerate(receivers)),
        "untrue": sum(len(receiver.refused & receiver.taken.keys()) for receiver in receivers)
        + abs(states.count("failed") - refused),
        "requests": sum(len(receiver.starts_s) for receiver in receivers),
        "hub_cpu_us_per_event": round(1e6 * site.cpu_s / count, 1),
    }
    for name, part in (("deduplicating", receivers[:DEDUPLICATING]), ("others", receivers[DEDUPLICATING:])):
        figures[f"duplicates_{name}"] = sum(receiver.duplicates for receiver in part)
        addresses = [f"channel:c-{receivers.index(receiver)}/far" for receiver in part]
        figures[f"doubts_{name}"] = sum(site.doubts.get(address, 0) for address in addresses)
    say("  ".join(f"{name} {value:,}" for name, value in figures.items()))
    return figures


# --- a backlog ---


async def measure_backlog(count: int) -> dict[str, Any]:
    receivers = [Receiver(number, Faults(), SEED) for number in range(COUNT)]
    for receiver in receivers:
        await receiver.listen()
        await receiver.vanish()
    site = Site(SCRATCH / "delivery-backlog", receivers, PER_MINUTE)
    site.start()
    assert site.hub is not None
    await site.post(iter(range(COUNT)))  # what is loaded once
    await asyncio.sleep(2.0)
    before = most = usage(site.hub.pid).rss_bytes
    numbers = iter(range(COUNT, count))
    posting = [asyncio.create_task(site.post(numbers)) for _ in range(SENDERS)]
    following = asyncio.create_task(site.follow())
    begun_s = None
    while begun_s is None or site.goes_on(count):
        await asyncio.sleep(_RSS_EVERY_S)
        most = max(most, usage(site.hub.pid).rss_bytes)
        if begun_s is None and all(task.done() for task in posting):
            say(f"backlog of {count:,}: {(most - before) / 1e6:.1f} MB more than before; now they listen")
            begun_s = asyncio.get_running_loop().time()
            for receiver in receivers:
                await receiver.listen()
    assert begun_s is not None
    drain_s = asyncio.get_running_loop().time() - begun_s
    following.cancel()
    site.stop()
    busiest = max(receiver.most_in(60.0) for receiver in receivers)
    for receiver in receivers:
        await receiver.vanish()
    figures = {
        "events": count,
        "rss_before_mb": round(before / 1e6, 1),
        "rise_mb": round((most - before) / 1e6, 1),
        "drain_s": round(drain_s, 1),
        "least_drain_s": round(60.0 * max(0, count / COUNT - PER_MINUTE) / PER_MINUTE, 1),
        "share_of_limit": round(busiest / PER_MINUTE, 3),
    }
    say("  ".join(f"{name} {value:,}" for name, value in figures.items()))
    return figures


if __name__ == "__main__":
    sys.exit(main())
