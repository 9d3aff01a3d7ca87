"""What messages cost: durable ones a second, the way to a reader who waits, and the memory of those who wait.

Durable: 128 senders each await that their message is on disk before they send the next one, to the mailbox in this
process, and by POST to /api/messages. Beside them, in turns, with the same bytes a row and on the same disk, raw
SQLite: 128 senders who await their rows in a table with unique ids and an index by recipient, and one bare table in
groups of 128 (see raw_sqlite.py; why the first is the measure: docs/adr/0006-what-durable-messages-are-measured-by.md).
Delay: a thousand readers wait by long polling, messages go to random ones of them at an even rate. Memory: the hub's
resident set with 2,000 waiting readers, less that with none.
"""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/messages.py`

from benchmarks import mailbox, raw_sqlite, wrk
from benchmarks.hub import RunningHub, running_hub
from benchmarks.long_poll import Delays, Order
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.processes import priority, running, usage
from benchmarks.samples import middle, percentile

SENDERS = 128
TEXT_BYTES = 200
SCRIPT = Path(__file__).with_name("messages.lua")
KEY = "sk-benchmark"
CONFIG = f"""
[[key]]
name = "benchmark"
value = "{KEY}"
scopes = ["send:message", "read:message"]
rate_per_minute = 10000000
"""
RSS_SETTLE_S = 1.0


class Lengths(NamedTuple):
    rounds: int
    durable_s: int
    raw_s: float
    delayed_messages: int
    per_s: float
    delay_readers: int
    memory_readers: int


FULL = Lengths(5, 4, 2.0, 4000, 200.0, 1000, 2000)
QUICK = Lengths(2, 2, 1.0, 400, 200.0, 200, 500)


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    lengths = QUICK if chosen.is_quick else FULL
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with priority():
        durable = measure_durable(lengths)
        delay = measure_delay(lengths)
        memory = measure_memory(lengths)
    targets = [
        Target(
            claim="durable messages a second, as a share of the rows that as many senders await of raw SQLite",
            measured=durable["share_of_awaited"],
            bound=0.5,
            unit="",
            relation="at least",
        ),
        Target(claim="memory of a waiting reader", measured=memory["kib_per_reader"], bound=30.0, unit="KiB"),
    ]
    return conclude("messages", chosen, machine, {"durable": durable, "delay": delay, "memory": memory}, targets)


# --- durable messages -----------------------------------------------------------------------------------


def measure_durable(lengths: Lengths) -> dict[str, Any]:
    row = row_like_a_message()
    bare: list[float] = []
    awaited: list[float] = []
    mailed: list[float] = []
    posted: list[wrk.Load] = []
    cpu_us: list[float] = []
    with running_hub(SCRATCH / "messages", CONFIG) as hub:
        post(hub, "warm-up", 1)
        for number in range(lengths.rounds):
            bare.append(raw_sqlite.rows_per_s(SCRATCH / "raw.db", row, lengths.raw_s))
            awaited.append(raw_sqlite.awaited_rows_per_s(SCRATCH / "raw.db", row, lengths.raw_s))
            mailed.append(mailbox.messages_per_s(SCRATCH / "mailbox", TEXT_BYTES, SENDERS, lengths.raw_s))
            before = usage(hub.pid)
            posted.append(post(hub, f"round-{number}", lengths.durable_s))
            cpu_us.append((usage(hub.pid).cpu_ns - before.cpu_ns) / 1000 / posted[-1].requests)
            say(
                f"round {number + 1} messages/s: mailbox {mailed[-1]:.0f}, HTTP {posted[-1].per_s:.0f} with "
                f"{cpu_us[-1]:.1f} us CPU; rows/s: awaited {awaited[-1]:.0f}, bare {bare[-1]:.0f}"
            )
        check_kept(hub, sum(load.requests for load in posted))
    posted_per_s = [load.per_s for load in posted]
    return {
        "mailbox_per_s": middle(mailed),
        "awaited_rows_per_s": middle(awaited),
        "share_of_awaited": middle(shares(mailed, awaited), 3),
        "share_of_awaited_rounds": [round(share, 3) for share in shares(mailed, awaited)],
        "messages_per_s": middle(posted_per_s),
        "http_share_of_awaited": middle(shares(posted_per_s, awaited), 3),
        "raw_rows_per_s": middle(bare),
        "http_share_of_raw": middle(shares(posted_per_s, bare), 3),
        "cpu_us_per_message": middle(cpu_us, 1),
        "p50_ms": middle(load.p50_ms for load in posted),
        "p99_ms": middle(load.p99_ms for load in posted),
        "body_bytes": len(row),
        "senders": SENDERS,
    }


def shares(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what disturbs one round disturbs both of it."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def post(hub: RunningHub, prefix: str, seconds: int) -> wrk.Load:
    arguments = [KEY, prefix, str(TEXT_BYTES)]
    load = wrk.finish(wrk.start(f"{hub.url}/api/messages", SCRIPT, arguments, connections=SENDERS, seconds=seconds))
    if load.refused or load.broken:
        raise RuntimeError(f"{load.refused} messages were refused and {load.broken} connections broke")
    return load


def row_like_a_message() -> bytes:
    """As many bytes as the hub keeps of a message of messages.lua."""
    envelope = {"to": "user:reader-10", "content": "x" * TEXT_BYTES, "id": "round-0-100000", "from": "device:benchmark"}
    return msgspec.json.encode({**envelope, "timestamp": time.time_ns() // 1_000_000})


def check_kept(hub: RunningHub, acknowledged: int) -> None:
    """The log must have numbered at least as many messages as were acknowledged."""
    body = msgspec.json.encode({"id": "the-last-one", "to": "user:reader-0", "content": "count"})
    request = urllib.request.Request(f"{hub.url}/api/messages", body, {"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        seq = msgspec.json.decode(answer.read())["seq"]
    if seq <= acknowledged:
        raise RuntimeError(f"{acknowledged} messages were acknowledged, and the next one has number {seq}")


# --- readers who wait -----------------------------------------------------------------------------------


def measure_delay(lengths: Lengths) -> dict[str, Any]:
    with running_hub(SCRATCH / "messages", CONFIG) as hub:
        order = Order(
            port=hub.port,
            key=KEY,
            readers=lengths.delay_readers,
            messages=lengths.delayed_messages,
            per_s=lengths.per_s,
        )
        with waiting_readers(order) as output:
            delays = msgspec.json.decode(output.readline(), type=Delays)
    if delays.lost:
        raise RuntimeError(f"{delays.lost} messages did not arrive")
    milliseconds = [delay_s * 1000 for delay_s in delays.seconds]
    figures = {
        "p50_ms": round(percentile(milliseconds, 0.5), 2),
        "p99_ms": round(percentile(milliseconds, 0.99), 2),
        "messages": len(milliseconds),
        "per_s": lengths.per_s,
        "readers": lengths.delay_readers,
    }
    say(f"from the POST to one of {lengths.delay_readers} waiting readers: {figures}")
    return figures


def measure_memory(lengths: Lengths) -> dict[str, Any]:
    with running_hub(SCRATCH / "messages", CONFIG) as hub:
        with waiting_readers(Order(port=hub.port, key=KEY, readers=10)):
            settled_rss_bytes(hub.pid)  # loads what only the first readers need
        alone_bytes = settled_rss_bytes(hub.pid)
        with waiting_readers(Order(port=hub.port, key=KEY, readers=lengths.memory_readers)):
            crowded_bytes = settled_rss_bytes(hub.pid)
    kib = (crowded_bytes - alone_bytes) / 1024 / lengths.memory_readers
    say(f"{lengths.memory_readers} waiting readers: {kib:.1f} KiB each")
    return {
        "kib_per_reader": round(kib, 1),
        "readers": lengths.memory_readers,
        "rss_mb_alone": round(alone_bytes / 1e6, 1),
        "rss_mb_crowded": round(crowded_bytes / 1e6, 1),
    }


@contextmanager
def waiting_readers(order: Order) -> Iterator[IO[str]]:
    """Readers that have all asked; what their process prints from then on. They leave with the context."""
    command = [sys.executable, "-m", "benchmarks.long_poll"]
    log_file, root, pipe = SCRATCH / "long_poll.log", Path(__file__).parents[1], subprocess.PIPE
    with running(command, log_file, stdin=pipe, stdout=pipe, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise RuntimeError(f"the readers failed:\n{log_file.read_text()[-2000:]}")
        yield process.stdout


def settled_rss_bytes(pid: int) -> int:
    """The resident set once it has not grown for a second."""
    largest, since_s = 0, time.monotonic()
    while time.monotonic() - since_s < RSS_SETTLE_S:
        now_bytes = usage(pid).rss_bytes
        if now_bytes > largest:
            largest, since_s = now_bytes, time.monotonic()
        time.sleep(0.1)
    return usage(pid).rss_bytes


if __name__ == "__main__":
    sys.exit(main())
