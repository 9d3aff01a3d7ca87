"""Requests in time, fairness and faults: the hub's scheduler against usual load balancers, in virtual time.

The real scheduler, dispatcher and health probes before eight simulated instances of eight slots each (see
simulated_model.py), one of them at 0.4 of the others' speed; where one has a fault, the others are equal. The
objective: the first token within 2 s. A request that was refused counts as missed. All is seeded: a run gives the
same figures wherever it runs. Without --quick each scenario has 6,000 requests.
"""

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/scheduling.py`

from autoglm.core.errors import HubError
from autoglm.inference.instance import Instance
from autoglm.inference.queue import LIFT_EVERY
from autoglm.inference.settings import SchedulerSettings
from benchmarks import workloads
from benchmarks.outcome import Target, conclude, options, say, this_machine
from benchmarks.routers import (
    AtRandom,
    Cooldown,
    Direct,
    Hub,
    LeastOutstanding,
    PowerOfTwo,
    RoundRobin,
    Router,
    running_hub,
)
from benchmarks.simulated_model import SLOTS, Ask, SimulatedModel
from benchmarks.virtual_time import run_virtually

OBJECTIVE_S = 2.0
INSTANCES = 8
SLOW = 0.4
NOTICED = 1.8
"""An instance of 0.4 of the speed takes 2.5 times as long: with this much predicted, that is seen."""
AGING_S = 2.0
"""For the scenario of priorities, so that the bound is reached within it."""
SHED = frozenset({"overloaded", "queue_full"})

Schedule = list[tuple[float, float | None]]
EQUAL: list[Schedule] = [[(0.0, 1.0)]] * INSTANCES
ONE_SLOW: list[Schedule] = [*EQUAL[1:], [(0.0, SLOW)]]
BASELINES: dict[str, type[Direct]] = {
    "round robin": RoundRobin,
    "random": AtRandom,
    "power of two": PowerOfTwo,
    "least outstanding": LeastOutstanding,
    "cooldown": Cooldown,
}


class Notice(NamedTuple):
    """How the hub came to see that an instance had a fault."""

    after_s: float | None
    """Since the first request that met the fault; None: never."""
    after_requests: int
    """That it got since the fault."""


class Scenario(NamedTuple):
    asks: Callable[[], list[Ask]]
    """Made anew for each router, since what became of them is noted in them."""
    schedules: list[Schedule]
    settings: SchedulerSettings = SchedulerSettings(first_token_s=OBJECTIVE_S)
    fault_s: float = 0.0
    """When the first of the instances gets its fault; 0: never."""


def speeds(schedules: list[Schedule]) -> list[float]:
    return [schedule[0][1] or 0.0 for schedule in schedules]


def scenarios(count: int) -> dict[str, Scenario]:
    """count: requests of each."""

    def steady(load: float, cv: float, schedules: list[Schedule] = ONE_SLOW, **settings: Any) -> Scenario:
        made = SchedulerSettings(**{"first_token_s": OBJECTIVE_S, **settings})
        return Scenario(lambda: workloads.steady(count, load, cv, 1, speeds(schedules)), schedules, made)

    span_s = workloads.steady(count, 0.6, 3.0, 1, [1.0] * INSTANCES)[-1].at_s

    def faulty(*faults: tuple[float, float | None]) -> Scenario:
        """One of equal instances; each fault from a share of the time on."""
        schedule: Schedule = [(0.0, 1.0), *((share * span_s, speed) for share, speed in faults)]
        return steady(0.6, 3.0, [schedule, *EQUAL[1:]])._replace(fault_s=faults[0][0] * span_s)

    flapping = [(step / 40, None if step % 2 else 1.0) for step in range(10, 30)]
    return {
        "CV 1": steady(0.7, 1.0),
        "CV 3": steady(0.7, 3.0),
        "CV 5": steady(0.7, 5.0),
        "overload, CV 3": steady(1.1, 3.0),
        "burst": Scenario(lambda: workloads.burst(count, 0.5, 1, speeds(ONE_SLOW)), ONE_SLOW),
        "becomes slow": faulty((0.3, SLOW)),
        "dead": faulty((0.3, None)),
        "hung": faulty((0.3, 0.0), (0.6, 1.0)),
        "flapping": faulty(*flapping),
    }


async def simulate(scenario: Scenario, router: str, seed: int = 1) -> tuple[list[Ask], Notice | None]:
    asks = scenario.asks()
    models = [SimulatedModel(f"i{n}", asks, schedule) for n, schedule in enumerate(scenario.schedules)]
    loop = asyncio.get_running_loop()
    started_s = loop.time()

    async def one(index: int, ask: Ask, way: Router) -> None:
        ask.arrived_s = loop.time()
        try:
            await way.serve(index, ask)
        except HubError as error:
            ask.code = error.code

    notice = None
    async with _router(router, models, scenario.settings, seed) as way, asyncio.TaskGroup() as tasks:
        if scenario.fault_s and isinstance(way, Hub):
            watched = way.scheduler.instances[models[0].name]
            notice = tasks.create_task(_notice(watched, models[0], started_s + scenario.fault_s))
        for index, ask in enumerate(asks):
            await asyncio.sleep(max(0.0, started_s + ask.at_s - loop.time()))
            tasks.create_task(one(index, ask, way))
    return asks, notice.result() if notice is not None else None


async def _notice(instance: Instance, model: SimulatedModel, fault_s: float) -> Notice | None:
    """Wait until the hub sends nothing more there, or takes it for much slower than before; None: nothing met it."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(fault_s - loop.time())
    before_s, sent, ejections = _typical_s(instance), model.sent, instance.ejections
    met_s: float | None = None
    for _ in range(12_000):
        await asyncio.sleep(0.05)
        if model.sent == sent:
            continue
        met_s = met_s or loop.time()
        # One that hangs is out while it is only suspected; a suspicion of one that is slow is over in a moment.
        is_out = instance.ejections > ejections or not (instance.state == "ready" if model.speed else instance.is_open)
        if is_out or _typical_s(instance) > NOTICED * before_s:
            return Notice(round(loop.time() - met_s, 2), model.sent - sent)
    return None if met_s is None else Notice(None, model.sent - sent)


def _typical_s(instance: Instance) -> float:
    return instance.latency.predict(500.0, 250.0, SLOTS // 2).finish_s


@asynccontextmanager
async def _router(
    name: str, models: Sequence[SimulatedModel], settings: SchedulerSettings, seed: int
) -> AsyncIterator[Router]:
    if name in BASELINES:
        yield BASELINES[name](models, seed)
        return
    if name == "hub, no shedding":
        settings = settings.model_copy(update={"first_token_s": None, "max_queue": 100_000, "max_wait_s": 3600.0})
    async with running_hub(models, settings) as hub:
        yield hub


def percentile(values: list[float], share: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def summary(asks: list[Ask]) -> dict[str, Any]:
    """What the table shows of one run."""
    first = [ask.first_token_s for ask in asks if ask.first_token_s is not None]
    in_time = [ask for ask in asks if ask.first_token_s is not None and ask.first_token_s <= OBJECTIVE_S]
    span_s = asks[-1].at_s
    prompts = sum(ask.prompt_tokens for ask in asks if ask.first_token_s is not None)
    return {
        "attained": round(len(in_time) / len(asks), 4),
        "ttft_p50_s": percentile(first, 0.5),
        "ttft_p99_s": percentile(first, 0.99),
        "goodput_per_s": round(len([ask for ask in in_time if ask.is_complete]) / span_s, 3),
        "shed": len([ask for ask in asks if ask.code in SHED]),
        "failed": len([ask for ask in asks if ask.first_token_s is None and ask.code not in SHED]),
        "cut": len([ask for ask in asks if ask.first_token_s is not None and not ask.is_complete]),
        "failed_attempts_max": max(ask.failed_attempts for ask in asks),
        "cached": round(sum(ask.cached_tokens for ask in asks if ask.first_token_s is not None) / max(1, prompts), 3),
        "ttft_curve_s": [percentile(first, share / 100) for share in (1, 5, *range(10, 100, 10), 95, 99)],
    }


def table(name: str, runs: dict[str, dict[str, Any]]) -> None:
    say(f"\n{name}")
    heads = {
        "in time": 9,
        "p50 s": 8,
        "p99 s": 9,
        "good/s": 8,
        "shed": 6,
        "failed": 8,
        "cut": 5,
        "tries": 7,
        "cached": 8,
    }
    say(" " * 20 + "".join(head.rjust(width) for head, width in heads.items()))
    for router, run in runs.items():
        p50, p99 = run["ttft_p50_s"] or 0.0, run["ttft_p99_s"] or 0.0
        say(
            f"{router:20}{run['attained']:9.1%}{p50:8.2f}{p99:9.2f}{run['goodput_per_s']:8.2f}{run['shed']:6}"
            f"{run['failed']:8}{run['cut']:5}{run['failed_attempts_max']:7}{run['cached']:8.1%}"
        )


def backlog(count: int) -> dict[str, Any]:
    """Four equal tenants ask for more than all that there is, each in another way: what each gets, in weighted tokens.

    Measured while all four have something waiting: from a tenth of the arrivals to their end.
    """

    def asks() -> list[Ask]:
        pool = speeds(EQUAL)
        return workloads.merged(
            workloads.steady(count // 4, 0.5, 1.0, 1, pool, tenant="steady"),
            workloads.steady(count // 2, 1.0, 1.0, 2, pool, tenant="twice as many"),
            workloads.steady(count // 4, 0.5, 5.0, 3, pool, tenant="in bursts"),
            _lengthened(workloads.steady(count // 8, 0.25, 1.0, 4, pool, tenant="long answers"), 3),
        )

    settings = SchedulerSettings(max_queue=100_000, max_wait_s=3600.0)
    runs: dict[str, Any] = {}
    for router in ("least outstanding", "hub"):
        done, _ = run_virtually(simulate(Scenario(asks, EQUAL, settings), router))
        end_s = done[-1].at_s
        got: dict[str, float] = {}
        for ask in done:
            if ask.is_complete and 0.1 * end_s <= ask.sent_s - done[0].arrived_s + done[0].at_s <= end_s:
                spent = settings.input_weight * ask.prompt_tokens + settings.output_weight * ask.tokens_out
                got[ask.tenant] = got.get(ask.tenant, 0.0) + spent
        runs[router] = {"tokens": got, "gap": max(got.values()) / min(got.values()) - 1.0}
        say(f"backlog, {router}: {', '.join(f'{name} {tokens:,.0f}' for name, tokens in got.items())} weighted tokens")
    return runs


def _lengthened(asks: list[Ask], times: int) -> list[Ask]:
    for ask in asks:
        ask.output_tokens *= times
    return asks


def heavy_and_light(count: int) -> dict[str, Any]:
    """One tenant asks for 1.5 times what there is, another for a twentieth: how many of the light one's are in time."""

    def asks() -> list[Ask]:
        pool = speeds(EQUAL)
        return workloads.merged(
            workloads.steady(count, 1.5, 3.0, 1, pool, tenant="heavy"),
            workloads.steady(count // 30, 0.05, 1.0, 2, pool, tenant="light"),
        )

    runs: dict[str, Any] = {}
    for router in ("round robin", "least outstanding", "hub"):
        done, _ = run_virtually(simulate(Scenario(asks, EQUAL), router))
        runs[router] = {
            tenant: summary([ask for ask in done if ask.tenant == tenant])["attained"] for tenant in ("heavy", "light")
        }
        say(f"heavy and light, {router}: {runs[router]['light']:.1%} of the light tenant's in time")
    return runs


def classes(count: int) -> dict[str, Any]:
    """A flood of the highest class, 1.3 times what there is, and a few of the lowest: was each served in its bound?

    The bound of `inference/queue.py`: of those that came more than `10 * aging_s` after it, at most LIFT_EVERY - 1 pass
    it for itself and for each of its class that came before it and still waited. So it waits at most so long, and then
    as long as the flood.
    """

    def asks() -> list[Ask]:
        pool = speeds(EQUAL)
        return workloads.merged(
            workloads.steady(count, 1.3, 1.0, 1, pool, tenant="high", priority=9),
            workloads.steady(max(20, count // 100), 0.013, 1.0, 2, pool, tenant="low", priority=0),
        )

    settings = SchedulerSettings(max_queue=100_000, max_wait_s=3600.0, aging_s=AGING_S)
    done, _ = run_virtually(simulate(Scenario(asks, EQUAL, settings), "hub"))
    high = [ask for ask in done if ask.priority == 9]
    low = [ask for ask in done if ask.priority == 0]
    waits = [ask.sent_s - ask.arrived_s for ask in low]
    high_wait_s = max(ask.sent_s - ask.arrived_s for ask in high)
    worst = max(waits) / (10 * AGING_S + high_wait_s)
    for ask in low:
        older = [one for one in low if one.arrived_s < ask.arrived_s and one.sent_s > ask.arrived_s]
        passed = sum(one.arrived_s > ask.arrived_s + 10 * AGING_S and one.sent_s < ask.sent_s for one in high)
        worst = max(worst, passed / ((LIFT_EVERY - 1) * (len(older) + 1)))
    figures = {"low": len(low), "low_wait_max_s": max(waits), "share_of_bound": worst}
    say(f"classes: the lowest waited {max(waits):.1f} s at most, the flood {high_wait_s:.1f} s")
    return figures | {"high_wait_max_s": high_wait_s}


def targets(figures: dict[str, Any]) -> list[Target]:
    runs, notices = figures["scenarios"], figures["notices"]
    slow = runs["CV 3"]
    faulty = [runs[name]["hub"] for name in ("dead", "flapping")]
    times = slow["round robin"]["ttft_p99_s"] / slow["hub"]["ttft_p99_s"]

    def noticed(name: str, field: str) -> float | None:
        """None when no request met it, so that nothing was tried."""
        found = notices[name]
        if found is None:
            return None
        return math.inf if found["after_s"] is None else float(found[field])

    return [
        Target(claim="in time at CV 3 below capacity", measured=slow["hub"]["attained"], bound=0.97, unit="",
               relation="at least"),
        Target(claim="in time in overload", measured=runs["overload, CV 3"]["hub"]["attained"], bound=0.8, unit="",
               relation="at least"),
        Target(claim="p99 of the first token, one slow instance, below round robin's", measured=times, bound=50.0,
               unit="times", relation="at least"),
        Target(claim="dead or flapping: failed requests", measured=float(sum(run["failed"] for run in faulty)),
               bound=0.0, unit=""),
        Target(claim="dead or flapping: failed attempts of a request",
               measured=float(max(run["failed_attempts_max"] for run in faulty)), bound=1.0, unit=""),
        Target(claim="hung: noticed after the first request that met it", measured=noticed("hung", "after_s"),
               bound=2.0, unit="s"),
        Target(claim="slow: noticed after", measured=noticed("becomes slow", "after_requests"), bound=20.0,
               unit="requests"),
        Target(claim="equal tenants under backlog, the most over the least", measured=figures["backlog"]["hub"]["gap"],
               bound=0.1, unit=""),
        Target(claim="a light tenant beside a heavy one: in time",
               measured=figures["heavy_and_light"]["hub"]["light"], bound=0.97, unit="", relation="at least"),
        Target(claim="the lowest class under a flood: share of its bound",
               measured=figures["classes"]["share_of_bound"], bound=1.0, unit=""),
    ]  # fmt: skip


def main() -> int:
    chosen = options(__doc__ or "")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # the faults are meant
    machine = this_machine()
    count = 1500 if chosen.is_quick else 6000
    figures: dict[str, Any] = {"requests": count, "objective_s": OBJECTIVE_S, "scenarios": {}, "notices": {}}
    for name, scenario in scenarios(count).items():
        runs = {}
        for router in (*BASELINES, "hub, no shedding", "hub"):
            asks, notice = run_virtually(simulate(scenario, router))
            runs[router] = summary(asks)
            if scenario.fault_s and router == "hub":
                figures["notices"][name] = notice._asdict() if notice is not None else None
        figures["scenarios"][name] = runs
        table(name, runs)
    for name, notice in figures["notices"].items():
        say(f"{name}: noticed {notice}")
    figures["backlog"] = backlog(count)
    figures["heavy_and_light"] = heavy_and_light(count)
    figures["classes"] = classes(count)
    return conclude("scheduling", chosen, machine, figures, targets(figures))


if __name__ == "__main__":
    sys.exit(main())
