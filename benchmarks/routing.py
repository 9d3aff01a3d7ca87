"""Whether `auto` finds the model that is good enough for each request, on real models: score against compute time.

Three models of the catalogue have answered 440 tasks (`answers.py`; the table is checked in, so no model is needed
here). The hub's own intent reader and learner see one half of the tasks, with the score of each model's answer, as an
operator's trial run would give them; on the other half they choose, exploration off, by the preferences that
`x-autoglm-prefer` names, and the answers in the table say what that scored and cost. Beside it: each model alone, a
coin, the best model of each kind and language (which only one who is told the kind can choose), and the oracle. The
same again learned as a bandit: only the chosen model's outcome is seen, in one pass.

Time and cost of a model are forecast as the hub does it: the mean of what its answers took, one figure for a model.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/routing.py`

from autoglm.inference.decision import Arm
from autoglm.inference.engine.learner import Learner, LearnerSettings, Option
from autoglm.inference.engine.objective import FLOORS, PREFERENCES
from autoglm.inference.features import Features
from autoglm.inference.settings import EngineSettings
from benchmarks.answers import MODELS, TABLE, Table, body_of, load_table
from benchmarks.outcome import Target, conclude, options, say, this_machine
from benchmarks.policies import (
    Choices,
    Point,
    best_by_group,
    ceiling,
    even_mix,
    measured,
    mix_at,
    oracle,
    shares,
    single,
)
from benchmarks.tasks.task import Halves, Task, halves, load_tasks

SEED = 1
OTHER_SPLITS = 20
"""Further ways to halve the tasks, to see how much the figures owe to one of them."""

BOUNDS = (("balanced", 0.97, 0.70), ("fast", 0.85, 0.35))
"""Preference (`auto` goes by `balanced`), least share of the best model's score, largest share of its compute time."""

DEFAULTS = EngineSettings()
OTHER_SETTINGS = ((0.6, 10.0), (0.6, 3.0), (0.4, 10.0), (0.4, 3.0), (0.2, 1.0))
"""Quality floor and time objective in seconds; the defaults are 0.8 and 10."""

PRICES = tuple(number / 100 for number in range(61))
"""Of a second of compute time, in points of score."""

FeaturesOf = Callable[[Task], Features]


class Routed(NamedTuple):
    """One way to learn and one preference, on the half to measure."""

    choices: Choices
    point: Point


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    tasks, table = load_tasks(), load_table()
    missing = sum((task.id, model) not in table for task in tasks for model in MODELS)
    if missing:
        return conclude("routing", chosen, machine, {}, targets(None), [f"{missing} answers in {TABLE.name}"])
    read = reader(tasks)
    figures = compare(halves(tasks, SEED), table, read)
    splits = 3 if chosen.is_quick else OTHER_SPLITS
    figures["other_splits"] = spread([halves(tasks, SEED + 1 + number) for number in range(splits)], table, read)
    report(figures)
    return conclude("routing", chosen, machine, figures, targets(figures["auto"]))


def reader(tasks: Iterable[Task]) -> FeaturesOf:
    """What the hub understands of each task's request; each is read once."""
    from autoglm.inference.intent.reader import IntentReader

    intents = IntentReader()
    intents.prepare()
    known = {task.id: intents.read(msgspec.json.encode(body_of(task, "auto")), "/chat/completions") for task in tasks}
    return lambda task: known[task.id]


def compare(split: Halves, table: Table, read: FeaturesOf) -> dict[str, Any]:
    singles = {model: measured(single(model, split.measure), table) for model in MODELS}
    points = list(singles.values())
    best = max(points)
    told = best_by_group(split.learn, split.measure, MODELS, table)
    perfect = oracle(split.measure, MODELS, table)
    figures: dict[str, Any] = {
        "tasks": {"learned": len(split.learn), "measured": len(split.measure)},
        "models": {model: _point(point, best, points) for model, point in singles.items()},
        "scores_by_group": by_group(split.measure, table),
        "even_mix": _point(even_mix(points), best, points),
        "best_by_group": _point(measured(told, table), best, points) | {"models": shares(told)},
        "told_the_kind": told_the_kind(split, table, best),
        "ceiling": ceilings(split.measure, table, best),
        "bounds": [{"prefer": prefer, "score_share": score, "compute_share": cpu} for prefer, score, cpu in BOUNDS],
        "oracle": _point(measured(perfect, table), best, points) | {"models": shares(perfect)},
    }
    for name, teach in (("auto", taught), ("auto_as_bandit", explored)):
        figures[name] = {}
        for prefer in PREFERENCES:
            routed = route(teach(split.learn, table, read, prefer), split, table, read, prefer)
            figures[name][prefer] = _point(routed.point, best, points) | {"models": shares(routed.choices)}
    figures["auto_with_other_settings"] = with_other_settings(split, table, read, best, points)
    return figures


def taught(learn: Sequence[Task], table: Table, read: FeaturesOf, prefer: str) -> Learner:
    """Each task of the half was tried with each model."""
    del prefer  # the same for all
    learner = Learner(quiet())
    for task in learn:
        for model in MODELS:
            learner.learn(read(task), Arm(model), table[task.id, model].score)
    return learner


def explored(learn: Sequence[Task], table: Table, read: FeaturesOf, prefer: str) -> Learner:
    """Each task came once, and only the chosen model's outcome is known; explores as the hub does."""
    learner = Learner(LearnerSettings(quality_floor=DEFAULTS.quality_floor))
    forecasts = forecast(learn, table)
    for task in learn:
        arm = decide(learner, read(task), forecasts, prefer, DEFAULTS, seed=task.id)
        learner.learn(read(task), arm, table[task.id, arm.model].score)
    return Learner.restore(learner.state(), quiet())


def quiet(engine: EngineSettings = DEFAULTS) -> LearnerSettings:
    """As the hub sets it, but without exploration."""
    return LearnerSettings(explore_share=0.0, young_share=0.0, quality_floor=engine.quality_floor)


def with_other_settings(
    split: Halves, table: Table, read: FeaturesOf, best: Point, singles: Sequence[Point]
) -> list[dict[str, Any]]:  # fmt: skip
    """How far an operator can move `auto` along the frontier: a lower floor of quality, a shorter time objective."""
    state = taught(split.learn, table, read, "").state()
    found = []
    for floor, slo_s in OTHER_SETTINGS:
        engine = EngineSettings(quality_floor=floor, slo_s=slo_s)
        learner = Learner.restore(state, quiet(engine))
        for prefer in PREFERENCES:
            routed = route(learner, split, table, read, prefer, engine)
            about = {"quality_floor": floor, "slo_s": slo_s, "prefer": prefer}
            found.append(about | _point(routed.point, best, singles) | {"models": shares(routed.choices)})
    return found


def route(
    learner: Learner, split: Halves, table: Table, read: FeaturesOf, prefer: str, engine: EngineSettings = DEFAULTS
) -> Routed:  # fmt: skip
    forecasts = forecast(split.learn, table)
    choices = {
        task.id: decide(learner, read(task), forecasts, prefer, engine, seed=task.id).model for task in split.measure
    }  # fmt: skip
    return Routed(choices, measured(choices, table))


def decide(
    learner: Learner, features: Features, forecasts: Mapping[str, float], prefer: str, engine: EngineSettings, *,
    seed: str,
) -> Arm:  # fmt: skip
    arms = [Option(arm=Arm(model), latency_s=took_s, cost=took_s) for model, took_s in forecasts.items()]
    choice = learner.decide(
        features, arms, PREFERENCES[prefer], seed=seed, slo_s=engine.slo_s, floor=FLOORS[prefer],
        cost_scale=2 * fmean(forecasts.values()),
    )  # fmt: skip
    return choice.candidates[choice.chosen].arm


def forecast(learn: Iterable[Task], table: Table) -> dict[str, float]:
    """What an answer of each model takes, in seconds of a processor of its own."""
    ids = [task.id for task in learn]
    return {model: fmean(table[id, model].cpu_s for id in ids) for model in MODELS}


def ceilings(tasks: Sequence[Task], table: Table, best: Point) -> list[dict[str, float]]:
    """What no choice can exceed, over compute time from the cheapest on; both as shares of the best single model's."""
    found = []
    for percent in range(5, 105, 5):
        reached = ceiling(tasks, MODELS, table, percent / 100 * best.cpu_s)
        if reached >= 0.0:
            found.append({"compute_share": percent / 100, "score_share": round(reached / best.score, 4)})
    return found


def told_the_kind(split: Halves, table: Table, best: Point) -> list[dict[str, float]]:
    """`best_by_group` for one price of compute time after another, without those that another one beats in both."""
    found = set()
    for price in PRICES:
        point = measured(best_by_group(split.learn, split.measure, MODELS, table, price), table)
        found.add((round(point.cpu_s / best.cpu_s, 4), round(point.score / best.score, 4)))
    front: list[dict[str, float]] = []
    for compute_share, score_share in sorted(found):
        if not front or score_share > front[-1]["score_share"]:
            front.append({"compute_share": compute_share, "score_share": score_share})
    return front


def by_group(tasks: Iterable[Task], table: Table) -> dict[str, dict[str, float]]:
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(f"{task.kind} {task.language}", []).append(task.id)
    return {
        group: {model: round(fmean(table[id, model].score for id in ids), 3) for model in MODELS}
        for group, ids in sorted(groups.items())
    }


def spread(splits: Iterable[Halves], table: Table, read: FeaturesOf) -> dict[str, Any]:
    """The two preferences of the targets over other halves: means, and how many would meet both bounds."""
    figures = [compare(split, table, read)["auto"] for split in splits]
    found: dict[str, Any] = {"splits": len(figures)}
    for prefer, score_bound, compute_bound in BOUNDS:
        rows = [figure[prefer] for figure in figures]
        found[prefer] = {
            "score_share": round(fmean(row["score_share"] for row in rows), 3),
            "compute_share": round(fmean(row["compute_share"] for row in rows), 3),
            "above_mix": round(fmean(row["above_mix"] for row in rows), 3),
            "met": sum(row["score_share"] >= score_bound and row["compute_share"] <= compute_bound for row in rows),
        }
    return found


def targets(rows: Mapping[str, Mapping[str, Any]] | None, where: str = "") -> list[Target]:
    """rows: by preference; None when there are none to judge. where: words to tell one benchmark's claims apart."""
    found = []
    for prefer, score_bound, compute_bound in BOUNDS:
        name = "auto" if prefer == "balanced" else f"auto, prefer {prefer}"
        row = rows[prefer] if rows else {}
        found += [
            Target(
                claim=f"{name}{where}: score as a share of the best single model's",
                measured=row.get("score_share"),
                bound=score_bound,
                unit="",
                relation="at least",
            ),
            Target(
                claim=f"{name}{where}: compute time as a share of the best single model's",
                measured=row.get("compute_share"),
                bound=compute_bound,
                unit="",
            ),
        ]
    return found


def report(figures: dict[str, Any]) -> None:
    """A table for people."""
    say(f"{'':32}{'score':>8}{'cpu s':>8}{'of best':>9}{'compute':>9}{'above mix':>11}")
    rows = {
        **figures["models"],
        "even mix": figures["even_mix"],
        **{f"auto, {prefer}": row for prefer, row in figures["auto"].items()},
        **{
            f"  floor {row['quality_floor']} slo {row['slo_s']:.0f} {row['prefer']}": row
            for row in figures["auto_with_other_settings"]
        },
        **{f"bandit, {prefer}": row for prefer, row in figures["auto_as_bandit"].items()},
        "best by group (told)": figures["best_by_group"],
        "oracle": figures["oracle"],
    }
    for name, row in rows.items():
        say(
            f"{name:32}{row['score']:8.3f}{row['cpu_s']:8.2f}{row['score_share']:9.1%}{row['compute_share']:9.1%}"
            f"{row['above_mix']:+11.3f}"
        )


def _point(point: Point, best: Point, singles: Sequence[Point]) -> dict[str, Any]:
    return {
        "score": round(point.score, 4),
        "cpu_s": round(point.cpu_s, 3),
        "score_share": round(point.score / best.score, 4),
        "compute_share": round(point.cpu_s / best.cpu_s, 4),
        "above_mix": round(point.score - mix_at(point.cpu_s, singles), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
