"""The figures of `routing.py` once more, end to end: a hub in a process of its own, its headers and its feedback.

The hub's users learn it first: each task of the one half goes to `auto` with three keys, of which each may use one
model only, and `POST /api/feedback` says what the grader gave, as an operator's trial run would. Then the other half
goes to `auto`, and to `auto` with `x-autoglm-prefer: fast`, with keys that may use all; `x-autoglm-model` says who
answered. Exploration is as the settings have it.

The models are played by `recorded_models.py` at a twentieth of their time, so that this takes minutes and needs no
model file; with `--real` the hub runs the three models itself, and the compute time is measured anew.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/routing_hub.py`

from benchmarks import routing_tables
from benchmarks.answers import (
    MODELS,
    TABLE,
    Refused,
    Table,
    body_of,
    config_of,
    cpu_s,
    get,
    load_table,
    post,
    text_of,
    worker_pid,
)
from benchmarks.hub import RunningHub, running_hub
from benchmarks.markdown import aligned
from benchmarks.outcome import SCRATCH, conclude, options, say, this_machine
from benchmarks.policies import Point, measured, shares, single
from benchmarks.recorded_models import recorded_models
from benchmarks.routing import BOUNDS, SEED, goals, targets
from benchmarks.samples import now_s
from benchmarks.tasks.grading import score
from benchmarks.tasks.task import Task, halves, load_tasks

PACE = 0.05
"""Of the recorded models, as a share of the real ones' time."""
SLO_S = 10.0
"""The hub's default; it is scaled with the pace, for it is a time, too."""
THROUGH = " through a hub"
_INSTANCE = """
[[instance]]
name = "{model}"
provider = "openai"
base_url = "{url}"
models = ["{model}"]
slots = 1
"""
_KEY = """
[[key]]
name = "{name}"
value = "sk-{name}"
scopes = ["{scope}"]
"""
Spent = Callable[[str], float]
"""Processor time of a model's worker so far."""


Answered = tuple[dict[str, Any], Mapping[str, str]]
"""Document and headers."""


class Reply(NamedTuple):
    model: str
    decision: str
    score: float
    cpu_s: float


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--real", action="store_true")
    own, rest = parser.parse_known_args()
    chosen = options(__doc__ or "", rest, needs_models=True)
    machine = this_machine()
    tasks, table = load_tasks(), load_table()
    missing = sum((task.id, model) not in table for task in tasks for model in MODELS)
    absent = [f"{missing} answers in {TABLE.name}"] if missing else []
    if own.real:
        files = [chosen.models / f"{model}.gguf" for model in MODELS]
        absent += [f"{file.name} in {chosen.models}" for file in files if not file.exists()]
    if absent:
        return conclude("routing_hub", chosen, machine, {}, targets(None, THROUGH), absent)
    start = real(chosen.models) if own.real else recorded(tasks, table)
    with start as (hub, spent):
        figures = run(hub, spent, tasks, table, step=4 if chosen.is_quick else 1)
    figures["models_are"] = "real" if own.real else "recorded"
    say("\n" + aligned(routing_tables.routing_hub(figures, "en")))
    figures["goals_missed"] = goals(figures["auto"], THROUGH)
    return conclude("routing_hub", chosen, machine, figures, targets(figures["auto"], THROUGH))


@contextmanager
def recorded(tasks: Sequence[Task], table: Table) -> Iterator[tuple[RunningHub, Spent | None]]:
    with recorded_models(tasks, table, PACE) as url:
        instances = "".join(_INSTANCE.format(model=model, url=url) for model in MODELS)
        config = instances + f"\n[engine]\nslo_s = {SLO_S * PACE}\n" + keys()
        with running_hub(SCRATCH / "routing", config) as hub:
            yield hub, None


@contextmanager
def real(models: Path) -> Iterator[tuple[RunningHub, Spent | None]]:
    with running_hub(SCRATCH / "routing", config_of(models) + f"\n[engine]\nslo_s = {SLO_S}\n" + keys()) as hub:
        workers = {model: worker_pid(hub, models / f"{model}.gguf") for model in MODELS}
        yield hub, lambda model: cpu_s(workers[model])


def keys() -> str:
    """One for each model, and one for each way to ask: who asks the same twice is taken to be unhappy."""
    scopes = {model: f"model:use:{model}" for model in MODELS} | {prefer: "model:use:*" for prefer, _, _ in BOUNDS}
    return "".join(_KEY.format(name=name, scope=scope) for name, scope in scopes.items())


def run(hub: RunningHub, spent: Spent | None, tasks: Sequence[Task], table: Table, step: int) -> dict[str, Any]:
    """step: take each n-th task only."""
    wait_until_it_understands(hub)
    learn, measure = (half[::step] for half in halves(tasks, SEED))
    for number, task in enumerate(learn, 1):
        for model in MODELS:
            reply = ask(hub, task, f"sk-{model}", "", spent, table)
            verdict = {"decision": reply.decision, "quality": reply.score}
            owner = {"Authorization": f"Bearer sk-{model}"}
            once_noted(partial(post, hub, verdict, owner, "/api/feedback"))
        if number % 20 == 0:
            say(f"learned {number} of {len(learn)}")
    best = max(measured(single(model, measure), table) for model in MODELS)
    figures: dict[str, Any] = {
        "tasks": {"learned": len(learn), "measured": len(measure)},
        "best_single": {"score": round(best.score, 4), "cpu_s": round(best.cpu_s, 3)},
        "auto": {},
    }
    for prefer, _, _ in BOUNDS:
        header = "" if prefer == "balanced" else prefer  # `auto` goes by `balanced` when the request does not say
        replies = {task.id: ask(hub, task, f"sk-{prefer}", header, spent, table) for task in measure}
        answers = replies.values()
        point = Point(fmean(reply.score for reply in answers), fmean(reply.cpu_s for reply in answers))
        figures["auto"][prefer] = {
            "score": round(point.score, 4),
            "cpu_s": round(point.cpu_s, 3),
            "score_share": round(point.score / best.score, 4),
            "compute_share": round(point.cpu_s / best.cpu_s, 4),
            "models": shares({id: reply.model for id, reply in replies.items()}),
        }
        say(f"auto, prefer {prefer}: {figures['auto'][prefer]}")
    return figures


def wait_until_it_understands(hub: RunningHub) -> None:
    """It learns its intents when `auto` is first asked for, in a thread. Raises RuntimeError after two minutes."""
    until_s = now_s() + 120.0
    admin = {"Authorization": f"Bearer {hub.admin_key}"}
    task = next(task for task in load_tasks() if task.kind == "classification")
    while now_s() < until_s:
        _, answered = post(hub, body_of(task, "auto"), admin)
        if decision := answered.get("x-autoglm-decision"):  # none before the hub has loaded what it learned
            account, _ = once_noted(partial(get, hub, f"/api/decisions/{decision}", admin))
            if account["decision"]["features"]["source"] == "classifier":
                return
        time.sleep(0.5)
    raise RuntimeError("the hub has not learned its intents in two minutes")


def once_noted(call: Callable[[], Answered]) -> Answered:
    """Call again while the decision is not found: the hub notes it after its answer has left. Raises Refused."""
    until_s = now_s() + 5.0
    while True:
        try:
            return call()
        except Refused as refused:
            if refused.status != 404 or now_s() > until_s:
                raise
            time.sleep(0.01)


def ask(hub: RunningHub, task: Task, key: str, prefer: str, spent: Spent | None, table: Table) -> Reply:
    before = {model: spent(model) for model in MODELS} if spent is not None else {}
    headers = {"Authorization": f"Bearer {key}"} | ({"x-autoglm-prefer": prefer} if prefer else {})
    document, answered = post(hub, body_of(task, "auto"), headers)
    model = answered["x-autoglm-model"]
    cost_s = spent(model) - before[model] if spent is not None else table[task.id, model].cpu_s
    return Reply(model, answered["x-autoglm-decision"], score(task, text_of(document)), cost_s)


if __name__ == "__main__":
    sys.exit(main())
