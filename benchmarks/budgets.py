"""What budgets, the cache and spans cost a request: CPU time of the hub, and the time that a client waits.

Hubs of one kind each run beside each other on core 0, one of them under load at a time; wrk and a mock of a model share
core 1, as in gateway.py. `idle` has a budget and a cache for others. What it adds to a request that neither concerns is
one look, `Admission.permit`, and less than the noise of a load: that look is timed in this process, and judged.
`budget` waits for the disk before each end: its requests share the syncs, so the time of a client says more there than
the CPU. Figures are medians over the rounds; what is added is the difference within each round.
"""

import asyncio
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/budgets.py`

from autoglm.auth.principal import Principal
from autoglm.gateway.admission import Admission
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.ledger import BudgetLedger
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.inference.cache.cache import Cache
from autoglm.inference.cache.settings import CacheSettings
from autoglm.inference.call import Call
from autoglm.store import open_store
from autoglm.store.settings import StoreSettings
from benchmarks import gateway, routing_tables, wrk
from benchmarks.hub import running_hub
from benchmarks.markdown import aligned
from benchmarks.mock_upstream import running_mock
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.processes import priority
from benchmarks.samples import middle

KINDS = {
    "none": "",
    "idle": '[cache]\nmode = "on_request"\n[[budget]]\nname = "b"\nkey = "admin"\ntokens = 1000000000000\n',
    "budget": '[[budget]]\nname = "b"\nkey = "*"\ntokens = 1000000000000000\n',
    "cache": '[cache]\nmode = "on"\n',
    "spans": '[telemetry]\notlp_endpoint = "{collector}"\n',
}
FULL_ROUNDS, QUICK_ROUNDS = 9, 2
IDLE_US = 2.0
"""What a request may pay for budgets and a cache that do not concern it."""
LOOKS, LOOK_ROUNDS = 20_000, 30


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    phases: dict[str, list[gateway.Phase]] = {name: [] for name in KINDS}
    with priority(), running_mock(gateway.LOAD_CORE) as mock, collector() as url, ExitStack() as stack:
        hubs = {}
        for name, extra in KINDS.items():
            config = gateway.CONFIG.format(upstream=mock.url) + extra.format(collector=url)
            hub = stack.enter_context(running_hub(SCRATCH / f"budgets-{name}", config, core=gateway.GATEWAY_CORE))
            gateway.wait_until_it_answers(name, hub.port)
            hubs[name] = gateway.Running(name, hub.port, hub.pid)
            wrk.finish(gateway.load(hubs[name], gateway.PLAIN))
        for number in range(QUICK_ROUNDS if chosen.is_quick else FULL_ROUNDS):
            for name in KINDS if number % 2 == 0 else reversed(KINDS):
                phase = gateway.phase(hubs[name], mock, gateway.PLAIN)
                phases[name].append(phase)
                say(f"round {number + 1} {name:7} {cost_us(phase):6.1f} us/request {phase.load.p50_ms:6.2f} ms p50")
    if failures := sum(phase.load.refused + phase.load.broken for rounds in phases.values() for phase in rounds):
        raise RuntimeError(f"{failures} requests failed; see {SCRATCH}/budgets-*.log")
    figures = {name: summary(rounds, phases["none"]) for name, rounds in phases.items()}
    for name, figure in figures.items():
        say(f"{name:7} {figure}")
    look_us = asyncio.run(idle_look_us())
    figures["idle"]["look_us"] = look_us
    claim = "CPU that a budget and a cache cost a request that neither concerns"
    target = Target(claim=claim, measured=look_us, bound=IDLE_US, unit="us")
    say("\n" + aligned(routing_tables.budgets(figures, "en")))
    return conclude("budgets", chosen, machine, figures, [target])


def cost_us(phase: gateway.Phase) -> float:
    """CPU time of the hub for a request. A kept answer never reaches the mock: wrk's count serves for all."""
    return phase.cpu_us / max(1.0, phase.load.per_s * (gateway.PLAIN.seconds - 2 * gateway.EDGE_S))


def summary(rounds: list[gateway.Phase], none: list[gateway.Phase]) -> dict[str, float | None]:
    costs = [cost_us(phase) for phase in rounds]
    return {
        "us_per_request": middle(costs, 1),
        "added_us": middle((cost - cost_us(other) for cost, other in zip(costs, none, strict=True)), 1),
        "requests_per_s": middle((phase.load.per_s for phase in rounds), 0),
        "p50_ms": middle((phase.load.p50_ms for phase in rounds), 2),
        "p99_ms": middle((phase.load.p99_ms for phase in rounds), 2),
    }


async def idle_look_us() -> float:
    """What the look at a request costs that neither the budget nor the cache of `idle` concerns; the fastest round."""
    folder = SCRATCH / "budgets-look"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    async with open_store(folder, StoreSettings()) as store:
        settings = BudgetSettings(name="b", key="another", tokens=10**12)
        budgets = Budgets([settings], {}, BudgetLedger(store.keyvalue))
        await budgets.open()
        admission = Admission(budgets, Cache(CacheSettings(mode="on_request")))
        principal = Principal("benchmark", "keys/benchmark", ["model:use:*"])
        call = Call("/chat/completions", b'{"model":"glm-4","messages":[{"role":"user","content":"hi"}]}')
        headers = {
            b"host": b"127.0.0.1",
            b"authorization": b"Bearer sk-benchmark",
            b"content-type": b"application/json",
        }
        if admission.permit(headers, principal, call) is not None:
            raise RuntimeError("the budget is for another key, and yet it concerns this one")
        rounds = []
        for _ in range(LOOK_ROUNDS):
            before_s = process_time()
            for _ in range(LOOKS):
                admission.permit(headers, principal, call)
            rounds.append((process_time() - before_s) / LOOKS * 1e6)
    return round(min(rounds), 2)


@contextmanager
def collector() -> Iterator[str]:
    """The address of one that takes all spans and looks at none."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
