"""What a request through the hub costs, beside nginx, vLLM's and SGLang's routers, and no gateway at all.

CPU time of the gateway's whole process tree, as the scheduler counts it (/proc/PID/schedstat), for each request and for
each streamed chunk. CPU time is what one core divides among its requests; requests a second on a shared machine are
noise. The gateways have core 0, wrk and a mock of a model server share core 1. All gateways run from the start to the
end, one of them under load at a time, for two or three seconds, in many rounds of turning order: so whatever else the
machine does hits all alike. Figures are medians over the rounds, ratios are medians of each round's ratio.

The hub does all that it does in use: key, rate limit, breaker, least-loaded choice, usage, metrics, access log (to a
file). nginx does none of this; it shows what forwarding alone costs.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/gateway.py`

from benchmarks import wrk
from benchmarks.hub import running_hub
from benchmarks.mock_upstream import CHUNKS, MockUpstream, running_mock
from benchmarks.outcome import SCRATCH, Machine, Options, Target, conclude, options, say, this_machine
from benchmarks.peers import ALL, Peer, running_peer
from benchmarks.processes import priority, usage
from benchmarks.samples import middle, ratio

OURS = "autoglm-hub"
DIRECT = "direct"
GATEWAY_CORE, LOAD_CORE = 0, 1
PATH = "/v1/chat/completions"
KEY = "sk-benchmark"
SCRIPT = Path(__file__).with_name("chat.lua")
START_TIMEOUT_S = 60.0
CONFIG = f"""
[[instance]]
name = "mock"
provider = "openai"
base_url = "{{upstream}}/v1"
models = ["glm-4"]
slots = 256

[[key]]
name = "benchmark"
value = "{KEY}"
scopes = ["model:use:*"]
rate_per_minute = 10000000
"""


PACED_TO_NGINX = round(20 / 11.6, 2)
"""The target is 20 us a chunk where nginx costs 11.6; a processor's speed is not ours to claim."""

FULL_ROUNDS, QUICK_ROUNDS = 9, 2
EDGE_S = 0.4
"""Left out at both ends of a load, while connections open and close."""


class Kind(NamedTuple):
    """A kind of load; see chat.lua."""

    name: str
    connections: int
    seconds: int


PLAIN, FRESH = Kind("plain", 32, 2), Kind("fresh", 32, 2)
BURST, PACED = Kind("burst", 16, 2), Kind("paced", 100, 3)


class Cost(msgspec.Struct, frozen=True):
    """Of one gateway in one round, microseconds of CPU time."""

    us_per_request: float
    us_per_request_fresh: float
    """When each request has a header that no other one has."""
    us_per_chunk_burst: float
    us_per_chunk_paced: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    failures: int
    """Refused or broken requests, of all phases."""


class Running(NamedTuple):
    """A gateway under load, or the mock itself."""

    name: str
    port: int
    pid: int


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    here = [peer for peer in ALL if peer.is_here()]
    absent = [peer.name for peer in ALL if not peer.is_here()]
    names = [DIRECT, OURS, *(peer.name for peer in here)]
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    with priority(), running_mock(LOAD_CORE) as mock, ExitStack() as stack:
        all_running = [stack.enter_context(gateway(name, here, mock)) for name in names]
        for running in all_running:
            wrk.finish(load(running, PLAIN))  # connections, caches, lazy code
        for number in range(QUICK_ROUNDS if chosen.is_quick else FULL_ROUNDS):
            for running in all_running if number % 2 == 0 else reversed(all_running):
                cost = measure(running, mock)
                costs[running.name].append(cost)
                say(
                    f"round {number + 1} {running.name:14} {cost.us_per_request:6.1f} us/request, fresh"
                    f" {cost.us_per_request_fresh:6.1f} us  chunk burst"
                    f" {cost.us_per_chunk_burst:5.2f} us, paced {cost.us_per_chunk_paced:5.2f} us"
                    f"  {cost.requests_per_s:8.0f}/s  failures {cost.failures}"
                )
    return finish(chosen, machine, costs, absent)


def finish(chosen: Options, machine: Machine, costs: dict[str, list[Cost]], absent: list[str]) -> int:
    """Raises RuntimeError when requests through the hub failed: then its figures are worth nothing."""
    if failures := sum(cost.failures for cost in costs[OURS]):
        raise RuntimeError(f"{failures} requests through the hub failed; see {SCRATCH / 'gateway.log'}")
    figures = {name: summary(rounds) for name, rounds in costs.items()}
    fresh = {name: ratio_to(costs[OURS], rounds, "us_per_request_fresh") for name, rounds in costs.items()}
    ratios = {name: ratio_to(costs[OURS], rounds) for name, rounds in costs.items() if name not in (OURS, DIRECT)}
    nginx = figures["nginx"]["us_per_chunk_paced"] if "nginx" in figures else None
    paced_to_nginx = ratio(figures[OURS]["us_per_chunk_paced"], nginx)
    targets = [
        Target(claim="CPU a request, to vllm-router's", measured=ratios.get("vllm-router"), bound=1.0, unit="x"),
        Target(claim="CPU a request, to sglang-router's", measured=ratios.get("sglang-router"), bound=0.5, unit="x"),
        Target(
            claim=f"CPU a chunk, streams of a chunk every 10 ms, to nginx's ({nginx} us)",
            measured=paced_to_nginx,
            bound=PACED_TO_NGINX,
            unit="x",
        ),
    ]
    return conclude(
        "gateway", chosen, machine, {"gateways": figures, "ours_to": ratios, "fresh_to": fresh}, targets, absent
    )


def ratio_to(ours: list[Cost], theirs: list[Cost], figure: str = "us_per_request") -> float | None:
    """The median over the rounds of ours to theirs."""
    pairs = zip(ours, theirs, strict=True)
    return middle((ratio(getattr(one, figure), getattr(other, figure)) for one, other in pairs), 3)


def summary(rounds: list[Cost]) -> dict[str, Any]:
    """Medians, and the rounds of the leading figures, which show how steady the machine was."""
    medians = {
        name: middle(getattr(cost, name) for cost in rounds) for name in Cost.__struct_fields__ if name != "failures"
    }
    return {
        **medians,
        "failures": sum(cost.failures for cost in rounds),
        "us_per_request_rounds": [cost.us_per_request for cost in rounds],
        "us_per_chunk_paced_rounds": [cost.us_per_chunk_paced for cost in rounds],
    }


@contextmanager
def gateway(name: str, peers: list[Peer], mock: MockUpstream) -> Iterator[Running]:
    """Start a gateway; it answers when this hands it out. Raises RuntimeError when it does not answer properly."""
    if name == DIRECT:
        yield Running(name, mock.port, mock.pid)
    elif name == OURS:
        with running_hub(SCRATCH / "gateway", CONFIG.format(upstream=mock.url), core=GATEWAY_CORE) as hub:
            wait_until_it_answers(name, hub.port)
            yield Running(name, hub.port, hub.pid)
    else:
        peer = next(peer for peer in peers if peer.name == name)
        with running_peer(peer, mock.url, core=GATEWAY_CORE) as (process, port):
            wait_until_it_answers(name, port)
            yield Running(name, port, process.pid)


def wait_until_it_answers(name: str, port: int) -> None:
    """A whole answer and a whole stream: a gateway that drops chunks must not look fast."""
    give_up_s = time.monotonic() + START_TIMEOUT_S
    seen = b""
    while time.monotonic() < give_up_s:
        try:
            seen = ask(port, is_stream=False)
            if b"quick brown" in seen:
                break
        except (OSError, HTTPException) as error:
            seen = repr(error).encode()
        time.sleep(0.1)
    else:
        raise RuntimeError(f"{name} did not answer within {START_TIMEOUT_S:.0f} s; last: {seen[:300]!r}")
    streamed = ask(port, is_stream=True)
    if streamed.count(b'" token"') != CHUNKS or b"[DONE]" not in streamed:
        raise RuntimeError(f"{name} does not stream all chunks: {streamed[-300:]!r}")


def ask(port: int, *, is_stream: bool) -> bytes:
    body = msgspec.json.encode(
        {"model": "glm-4", "messages": [{"role": "user", "content": "Are you there?"}], "stream": is_stream}
    )
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        connection.request("POST", PATH, body, headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def measure(running: Running, mock: MockUpstream) -> Cost:
    plain, fresh, burst, paced = (phase(running, mock, kind) for kind in (PLAIN, FRESH, BURST, PACED))
    return Cost(
        us_per_request=round(plain.cpu_us / max(1, plain.requests), 2),
        us_per_request_fresh=round(fresh.cpu_us / max(1, fresh.requests), 2),
        us_per_chunk_burst=round(burst.cpu_us / max(1, burst.chunks), 2),
        us_per_chunk_paced=round(paced.cpu_us / max(1, paced.chunks), 2),
        requests_per_s=round(plain.load.per_s),
        p50_ms=plain.load.p50_ms,
        p99_ms=plain.load.p99_ms,
        rss_mb=round(usage(running.pid).rss_bytes / 1e6, 1),
        failures=sum(part.load.refused + part.load.broken for part in (plain, fresh, burst, paced)),
    )


class Phase(NamedTuple):
    cpu_us: float
    requests: int
    chunks: int
    load: wrk.Load


def phase(running: Running, mock: MockUpstream, kind: Kind) -> Phase:
    """Load a gateway; CPU time and answers are counted within."""
    process = load(running, kind)
    time.sleep(EDGE_S)
    before, sent_before = usage(running.pid), mock.sent()
    time.sleep(kind.seconds - 2 * EDGE_S)
    after, sent = usage(running.pid), mock.sent()
    return Phase(
        cpu_us=(after.cpu_ns - before.cpu_ns) / 1000,
        requests=sent.requests - sent_before.requests,
        chunks=sent.chunks - sent_before.chunks,
        load=wrk.finish(process),
    )


def load(running: Running, kind: Kind) -> "subprocess.Popen[str]":
    url, arguments = f"http://127.0.0.1:{running.port}{PATH}", [KEY, kind.name]
    return wrk.start(url, SCRIPT, arguments, connections=kind.connections, seconds=kind.seconds, core=LOAD_CORE)


if __name__ == "__main__":
    sys.exit(main())
