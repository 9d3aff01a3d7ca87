"""What clients notice when instances die, hang, crawl and are taken out under load, and when the hub is killed.

A hub with its default settings before four model processes with four slots each, which answer after 50 ms. Clients on
connections of their own ask again as soon as they are answered, and never try twice, except after a kill of the hub.
- dead, idle: an instance is killed while nothing runs, then the load begins. Killed under load: another one.
- hung: SIGSTOP under load, until the hub says that it is down.
- slow: an instance answers after 500 ms from some moment on, with as many clients as slots, so that it gets all that it
  can take. Counted are the requests it got until it got less than half its fair share of the following 40.
- drain: each instance in turn is taken out under load, and comes back. Scale-in: one is drained and then killed.
- kill -9: the hub dies while sixteen requests wait for their first byte; the clients ask the next hub again.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/faults.py`

from benchmarks import routing_tables
from benchmarks.faulty_upstream import DELAY_S, MODEL, Upstream, running_upstreams
from benchmarks.hub import RunningHub, running_hub
from benchmarks.markdown import aligned
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine

SLOTS = 4
INSTANCES = 4
SLOWER = 10
PATIENCE_S = 60.0
NOTICE_S = 30.0


async def post(hub: RunningHub, path: str, body: object = None, method: str = "POST") -> tuple[int, bytes]:
    """On a connection of its own. Raises OSError, and EOFError when it ends before the reply does."""
    data = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.admin_key}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()


async def ask(hub: RunningHub, text: str) -> bool:
    """True when the right answer came."""
    question = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    status, body = await post(hub, "/v1/chat/completions", question)
    return status == 200 and json.loads(body)["choices"][0]["message"]["content"] == text


async def until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError after a minute."""
    started_s = time.monotonic()
    while not condition():
        if time.monotonic() - started_s > PATIENCE_S:
            raise TimeoutError(f"not so within {PATIENCE_S:.0f} s")
        await asyncio.sleep(0.01)


class Load:
    def __init__(self, hub: RunningHub, clients: int) -> None:
        self.failed = 0
        self.waits_s: list[float] = []
        self._hub = hub
        self._is_over = False
        self._clients = [asyncio.create_task(self._client(number)) for number in range(clients)]

    async def _client(self, number: int) -> None:
        while not self._is_over:
            started_s = time.monotonic()
            try:
                is_right = await ask(self._hub, f"{number}-{len(self.waits_s)}")
            except (OSError, EOFError):
                is_right = False
            self.failed += not is_right
            self.waits_s.append(time.monotonic() - started_s)

    async def pass_by(self, requests: int) -> None:
        wanted = len(self.waits_s) + requests
        await until(lambda: len(self.waits_s) >= wanted)

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._clients)


@asynccontextmanager
async def loaded(hub: RunningHub, clients: int) -> AsyncIterator[Load]:
    load = Load(hub, clients)
    await load.pass_by(clients * 5)
    yield load
    await load.end()


async def entry(hub: RunningHub, name: str) -> dict[str, Any]:
    instances = json.loads((await post(hub, "/api/pool", method="GET"))[1])["instances"]
    return next(found for found in instances if found["name"] == name)


async def state(hub: RunningHub, name: str, *wanted: str) -> float | None:
    """Seconds until it is in one of these states; None when it is not in time."""
    started_s = time.monotonic()
    while (took_s := time.monotonic() - started_s) < NOTICE_S:
        if (await entry(hub, name))["state"] in wanted:
            return took_s
        await asyncio.sleep(0.01)
    return None


async def retries(hub: RunningHub) -> int:
    """Attempts that failed, and were followed by another."""
    lines = (await post(hub, "/metrics", method="GET"))[1].decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("autoglm_retries_total")).split()[-1]))


async def back(hub: RunningHub, *upstreams: Upstream) -> None:
    """All of the pool is as at the start."""
    for upstream in upstreams:
        await state(hub, upstream.name, "ready", "cooling")
        await post(hub, f"/api/pool/{upstream.name}/resume")
        await state(hub, upstream.name, "ready")


async def dead(hub: RunningHub, victim: Upstream, other: Upstream, requests: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    before = await retries(hub)
    victim.kill()
    async with loaded(hub, 8) as load:
        await load.pass_by(requests)
    figures["idle"] = {"failed_attempts": await retries(hub) - before, "failed_requests": load.failed}
    victim.start()
    await back(hub, victim)
    before = await retries(hub)
    async with loaded(hub, 8) as load:
        other.kill()
        await load.pass_by(requests)
    figures["under_load"] = {"failed_attempts": await retries(hub) - before, "failed_requests": load.failed}
    other.start()
    await back(hub, other)
    return figures


async def hung(hub: RunningHub, victim: Upstream) -> dict[str, Any]:
    async with loaded(hub, 12) as load:
        stopped = len(load.waits_s)
        victim.signal(signal.SIGSTOP)
        noticed_s = await state(hub, victim.name, "down")
        await load.pass_by(60)
    victim.signal(signal.SIGCONT)
    await back(hub, victim)
    return {"noticed_s": noticed_s, "failed_requests": load.failed, "longest_wait_s": max(load.waits_s[stopped:])}


async def slow(hub: RunningHub, victim: Upstream) -> dict[str, Any]:
    """All slots are asked for all the time, so that the slow one gets what it can take until it is ejected."""
    async with loaded(hub, INSTANCES * SLOTS) as load:
        await load.pass_by(100)
        victim.delay(DELAY_S * SLOWER)
        since_s = time.monotonic()
        noticed_s = await state(hub, victim.name, "cooling")
        found = await entry(hub, victim.name)
        await load.pass_by(100)
    got = None if noticed_s is None else sum(0.0 < at_s - since_s < noticed_s for at_s in victim.arrivals_s())
    victim.delay(DELAY_S)
    await back(hub, victim)
    return {
        "requests_until_noticed": got, "noticed_s": noticed_s, "reason": found["error"], "failed_requests": load.failed
    }  # fmt: skip


async def drain(hub: RunningHub, upstreams: Sequence[Upstream]) -> dict[str, Any]:
    async with loaded(hub, 12) as load:
        for upstream in upstreams:
            await drained(hub, upstream)
            await load.pass_by(40)
            await post(hub, f"/api/pool/{upstream.name}/resume")
            await load.pass_by(40)
    lost_in_drain, asked = load.failed, len(load.waits_s)
    async with loaded(hub, 12) as load:
        await drained(hub, upstreams[-1])
        upstreams[-1].kill()
        await load.pass_by(100)
    return {"drain": {"requests": asked, "lost": lost_in_drain},
            "scale_in": {"requests": len(load.waits_s), "lost": load.failed}}  # fmt: skip


async def drained(hub: RunningHub, upstream: Upstream) -> None:
    await post(hub, f"/api/pool/{upstream.name}/drain")
    await state(hub, upstream.name, "drained")


async def killed(config: str, upstreams: Sequence[Upstream]) -> dict[str, Any]:
    """The hub is killed while each of the clients waits for its first byte."""
    clients = INSTANCES * SLOTS
    before = sum(len(upstream.arrivals_s()) for upstream in upstreams)
    for upstream in upstreams:
        upstream.delay(5.0)
    with running_hub(SCRATCH / "faults-killed", config) as hub:
        await back(hub, *upstreams)
        asking = [asyncio.create_task(ask(hub, f"question {number}")) for number in range(clients)]
        await until(lambda: sum(len(upstream.arrivals_s()) for upstream in upstreams) == before + clients)
        os.kill(hub.pid, signal.SIGKILL)
        first = await asyncio.gather(*asking, return_exceptions=True)
    for upstream in upstreams:
        upstream.delay(DELAY_S)
    with running_hub(SCRATCH / "faults-again", config) as hub:
        await back(hub, *upstreams)
        second = await asyncio.gather(*(ask(hub, f"question {number}") for number in range(clients)))
    clean = sum(isinstance(result, OSError | EOFError) for result in first)
    return {"requests": clients, "clean_errors": clean, "answered_on_retry": sum(second),
            "lost": clients - sum(second)}  # fmt: skip


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    requests = 60 if chosen.is_quick else 300
    figures: dict[str, Any] = {}
    with running_upstreams(INSTANCES) as upstreams:
        config = "".join(
            f'[[instance]]\nname = "{upstream.name}"\nprovider = "openai"\nbase_url = "{upstream.url}"\n'
            f'models = ["{MODEL}"]\nslots = {SLOTS}\n\n'
            for upstream in upstreams
        )
        figures["killed"] = asyncio.run(killed(config, upstreams))
        say(f"kill -9 of the hub: {figures['killed']}")
        with running_hub(SCRATCH / "faults", config) as hub:
            asyncio.run(_all(hub, upstreams, requests, figures))
    dead_figures, hung_figures, slow_figures = figures["dead"], figures["hung"], figures["slow"]
    wanted = [
        ("failed attempts on an instance that died idle", dead_figures["idle"]["failed_attempts"], 1, ""),
        ("failed requests of an instance that died idle", dead_figures["idle"]["failed_requests"], 0, ""),
        ("failed requests of an instance that died under load", dead_figures["under_load"]["failed_requests"], 0, ""),
        ("time until a hung instance is noticed", hung_figures["noticed_s"], 2.0, "s"),
        ("failed requests of a hung instance", hung_figures["failed_requests"], 0, ""),
        ("requests that a slow instance got until it was taken out", slow_figures["requests_until_noticed"], 20, ""),
        ("requests lost in drain", figures["drain"]["lost"], 0, ""),
        ("requests lost in scale-in", figures["scale_in"]["lost"], 0, ""),
        ("requests lost by kill -9 before the first byte, with one retry", figures["killed"]["lost"], 0, ""),
    ]
    targets = [
        # What was not noticed at all misses its target.
        Target(claim=claim, measured=float("inf") if measured is None else measured, bound=bound, unit=unit)
        for claim, measured, bound, unit in wanted
    ]
    say("\n" + aligned(routing_tables.faults(figures, "en")))
    return conclude("faults", chosen, machine, figures, targets)


async def _all(hub: RunningHub, upstreams: Sequence[Upstream], requests: int, figures: dict[str, Any]) -> None:
    await back(hub, *upstreams)
    figures["dead"] = await dead(hub, upstreams[0], upstreams[1], requests)
    say(f"dead: {figures['dead']}")
    figures["hung"] = await hung(hub, upstreams[2])
    say(f"hung: {figures['hung']}")
    figures["slow"] = await slow(hub, upstreams[3])
    say(f"slow: {figures['slow']}")
    figures |= await drain(hub, upstreams)
    say(f"drain: {figures['drain']}, scale-in: {figures['scale_in']}")


if __name__ == "__main__":
    sys.exit(main())
