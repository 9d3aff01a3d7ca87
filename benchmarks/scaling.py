"""What scaling local workers costs and brings, under a virtual clock: waits in a burst against worker-seconds.

The hub's own decisions (`autoglm.inference.scaling.desired`) drive simulated workers: a start takes a while, each
worker has 4 slots, requests wait in one queue and start wherever a slot is free (late binding), a worker that is no
longer wanted takes nothing new and stops when its requests have ended. Half an hour: quiet, a burst of ten times as
many requests for two minutes, quiet, ten minutes of nothing, and a crowd that comes to a hub without a worker.

Beside it, on the same requests: as many workers as there may be all the time, one all the time, and the stable window
alone. Nothing here is measured on a machine; how long real starts take, `autoglm pool --json` tells as `load_s`.
"""

import heapq
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/scaling.py`

from autoglm.inference.scaling.desired import Bounds, Sample, desired_replicas, kept_s
from autoglm.inference.scaling.settings import ScalingSettings
from benchmarks import routing_tables
from benchmarks.markdown import aligned
from benchmarks.outcome import Target, conclude, options, say, this_machine
from benchmarks.samples import percentile

START_S = 4.0
"""Of a worker; measured for 98 to 491 MB: 0.8 to 4.5 s."""
SLOTS = 4
MOST = 10
SERVE_S = 2.0
"""Mean of a request's time in its slot; exponential."""
QUIET_PER_S = 1.4
"""One worker is enough for it: 2.8 slots in use, as the target says."""
TICK_S = 0.1
BURST_S = (600.0, 720.0)
CROWD_S = 1700.0
END_S = 1800.0
SETTINGS = ScalingSettings()
POINT_S = 10.0
"""Between the points of a saved course."""
CALM = SETTINGS.model_copy(update={"panic_threshold": 1e9})
BOUNDS = Bounds(replicas_min=0, replicas_max=MOST, slots=SLOTS)

Policy = Callable[[list[Sample], float, float], int]
"""(samples, now, for how long nothing was asked) -> workers."""


class Request(NamedTuple):
    at_s: float
    serve_s: float


class Worker:
    """A slot's end is known when its request begins."""

    def __init__(self, ready_s: float) -> None:
        self.ready_s = ready_s
        self.ends_s: list[float] = []
        self.is_leaving = False


class Point(NamedTuple):
    """One stretch of POINT_S of a course, for plots."""

    arrived: int
    waiting: int
    """The most that waited for a slot."""
    workers: int
    """The most that there were, those that start or leave included: what it costs."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one policy."""

    waits: list[tuple[float, float]]
    """(arrival, wait for a slot) of each request, seconds."""
    worker_s: float
    unanswered: int
    most: int
    broken: int
    """Requests that ran on workers as these were sent away: they end, because a worker is drained first."""
    points: list[Point]


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    seeds = range(3 if chosen.is_quick else 20)
    arrivals = [list(requests(random.Random(seed))) for seed in seeds]
    best = [run(list(row), all_the_time) for row in arrivals]
    courses = {name: [run(list(row), policy) for row in arrivals] for name, policy in POLICIES.items()}
    figures = {name: over_seeds(rows, best) for name, rows in courses.items()}
    say(aligned(routing_tables.scaling({"policies": figures}, "en")))
    ours = figures["stable_and_panic"]
    targets = [
        Target(
            claim="a burst of 10 times: the longest wait for a slot (bound: a start and the panic window)",
            measured=ours["burst_longest_wait_s"], bound=START_S + SETTINGS.panic_window_s, unit="s",
        ),
        Target(
            claim="seconds from its begin until waits are those of all workers (bound: two starts and panic windows)",
            measured=ours["recovered_s"], bound=2 * (START_S + SETTINGS.panic_window_s), unit="s",
        ),
        Target(
            claim="longest wait of a crowd that comes to a hub without a worker, beyond one start",
            measured=ours["crowd_longest_wait_s"] - START_S, bound=2.0, unit="s",
        ),
        Target(
            claim="worker-seconds, as a share of all workers all the time",
            measured=ours["share_of_most"], bound=0.4, unit="",
        ),
        Target(claim="requests without an answer", measured=ours["unanswered"], bound=0, unit=""),
    ]  # fmt: skip
    saved = {
        "policies": figures,
        "start_s": START_S,
        "most": MOST,
        "point_s": POINT_S,
        "courses": {name: course_of(rows[0].points) for name, rows in courses.items()},
    }
    return conclude("scaling", chosen, machine, saved, targets)


def course_of(points: list[Point]) -> dict[str, tuple[int, ...]]:
    """Of the first seed."""
    return dict(zip(Point._fields, zip(*points, strict=True), strict=True))


def stable_and_panic(samples: list[Sample], now_s: float, quiet_s: float) -> int:
    return desired_replicas(samples, now_s, BOUNDS, SETTINGS, quiet_s=quiet_s)


def stable_only(samples: list[Sample], now_s: float, quiet_s: float) -> int:
    """Without an eye on bursts."""
    return desired_replicas(samples, now_s, BOUNDS, CALM, quiet_s=quiet_s)


def all_the_time(_samples: list[Sample], _now_s: float, _quiet_s: float) -> int:
    return MOST


def one_all_the_time(_samples: list[Sample], _now_s: float, _quiet_s: float) -> int:
    return 1


POLICIES: dict[str, Policy] = {
    "stable_and_panic": stable_and_panic,
    "stable_only": stable_only,
    "all_the_time": all_the_time,
    "one_all_the_time": one_all_the_time,
}


def over_seeds(courses: list[Course], best: list[Course]) -> dict[str, Any]:
    """Waits over all seeds; of what must not happen, the sum; of recoveries, the worst.

    best: with all workers all the time, on the same requests.
    """
    burst = [wait for course in courses for at_s, wait in course.waits if BURST_S[0] <= at_s < BURST_S[1]]
    quiet = [wait for course in courses for at_s, wait in course.waits if at_s < BURST_S[0]]
    return {
        "burst_wait_p50_s": round(percentile(burst, 0.5), 2),
        "burst_wait_p99_s": round(percentile(burst, 0.99), 2),
        "burst_longest_wait_s": round(max(burst), 2),
        "quiet_wait_p99_s": round(percentile(quiet, 0.99), 2),
        "recovered_s": round(max(recovered_s(*pair) for pair in zip(courses, best, strict=True)), 1),
        "crowd_longest_wait_s": round(
            max(wait for course in courses for at_s, wait in course.waits if at_s >= CROWD_S), 2
        ),
        "share_of_most": round(sum(course.worker_s for course in courses) / (len(courses) * MOST * END_S), 3),
        "against_one": round(sum(course.worker_s for course in courses) / (len(courses) * END_S), 2),
        "most_workers": max(course.most for course in courses),
        "would_break_without_drain": sum(course.broken for course in courses),
        "unanswered": sum(course.unanswered for course in courses),
        "requests": sum(len(course.waits) for course in courses),
    }


def recovered_s(course: Course, best: Course) -> float:
    """From the begin of the burst to the last arrival within it that waited a second longer than it had to."""
    late = [
        at_s
        for (at_s, wait_s), (_, least_s) in zip(course.waits, best.waits, strict=False)
        if BURST_S[0] <= at_s < BURST_S[1] and wait_s > least_s + 1.0
    ]
    return max(late, default=BURST_S[0]) - BURST_S[0]


def requests(chance: random.Random) -> Iterator[Request]:
    """Arrivals of a Poisson process whose rate changes, by thinning; then ten at the same moment."""
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(10 * QUIET_PER_S)) < CROWD_S - 600:
        rate = 10 * QUIET_PER_S if BURST_S[0] <= at_s < BURST_S[1] else QUIET_PER_S
        if chance.random() < rate / (10 * QUIET_PER_S):
            yield Request(at_s, chance.expovariate(1 / SERVE_S))
    for _ in range(SLOTS):
        yield Request(CROWD_S, chance.expovariate(1 / SERVE_S))


def run(arrivals: list[Request], policy: Policy) -> Course:
    """Each policy begins with one worker that is ready."""
    workers = [Worker(0.0)]
    queue: list[Request] = []
    samples: list[Sample] = []
    waits: list[tuple[float, float]] = []
    worker_s, most, broken, next_sample_s, quiet_since_s, wanted = 0.0, 1, 0, 0.0, 0.0, 1
    points: list[Point] = []
    arrived, waiting, present = 0, 0, 0
    heapq.heapify(arrivals)
    for tick in range(int(END_S / TICK_S)):
        now_s = tick * TICK_S
        for worker in workers:
            worker.ends_s = [end_s for end_s in worker.ends_s if end_s > now_s]
        workers = [worker for worker in workers if worker.ends_s or not worker.is_leaving]
        while arrivals and arrivals[0].at_s <= now_s:
            queue.append(heapq.heappop(arrivals))
            arrived += 1
        running = sum(len(worker.ends_s) for worker in workers)
        if running or queue:
            quiet_since_s = now_s
        if now_s >= next_sample_s:
            next_sample_s = now_s + 1.0
            ready = sum(worker.ready_s <= now_s and not worker.is_leaving for worker in workers)
            samples.append(Sample(now_s, running + len(queue), ready))
            samples = [sample for sample in samples if sample.at_s >= now_s - kept_s(SETTINGS)]
            wanted = policy(samples, now_s, now_s - quiet_since_s)
        staying = [worker for worker in workers if not worker.is_leaving]
        if not staying and queue:
            wanted = max(1, wanted)  # as the hub does it: whoever waits is reason enough
        if staying or queue:
            workers += [Worker(now_s + START_S) for _ in range(wanted - len(staying))]
        for worker in staying[wanted:][::-1]:
            if worker.ready_s <= now_s:
                worker.is_leaving = True
                broken += len(worker.ends_s)
        for worker in workers:
            while queue and not worker.is_leaving and worker.ready_s <= now_s and len(worker.ends_s) < SLOTS:
                request = queue.pop(0)
                waits.append((request.at_s, now_s - request.at_s))
                worker.ends_s.append(now_s + request.serve_s)
        worker_s += len(workers) * TICK_S
        most = max(most, len(workers))
        waiting, present = max(waiting, len(queue)), max(present, len(workers))
        if (tick + 1) % round(POINT_S / TICK_S) == 0:
            points.append(Point(arrived, waiting, present))
            arrived = waiting = present = 0
    return Course(
        waits=waits, worker_s=worker_s, unanswered=len(queue) + len(arrivals), most=most, broken=broken, points=points
    )


if __name__ == "__main__":
    sys.exit(main())
