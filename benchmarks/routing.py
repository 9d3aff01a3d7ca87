"""Whether `auto` finds the model that is good enough for each request, on real models: score against compute time.

Three models of the catalogue have answered 440 tasks (`answers.py`; the table is checked in, so no model is needed
here). The hub's own intent reader and learner see one half of the tasks, with the score of each model's answer, as an
operator's trial run would give them; on the other half they choose, exploration off, by the preferences that
`x-autoglm-prefer` names, and the answers in the table say what that scored and cost. Beside it: each model alone, a
coin, the best model of each kind and language (which only one who is told the kind can choose), and the oracle. The
same again learned as a bandit: only the chosen model's outcome is seen, in one pass.

Time and cost of a model are forecast as the hub does it, by its own classes: from the tokens of the prompt and the
length that the engine expects of the answer, by the latency model.

What of the bounds is within reach is measured, too (ADR 10): `told` is a regression on the words of the prompts that is
told each task's kind and language, and the score and the time of every model on the half to learn. No chooser of the
hub's sees as much.
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
from autoglm.inference.engine.lengths import Lengths
from autoglm.inference.engine.objective import FLOORS, PREFERENCES
from autoglm.inference.features import Features
from autoglm.inference.latency import LatencyModel
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
from benchmarks.told import frontier

SEED = 1
OTHER_SPLITS = 20
"""Further ways to halve the tasks, to see how much the figures owe to one of them."""

BOUNDS = (("balanced", 0.97, 0.70), ("fast", 0.85, 0.35))
"""Preference (`auto` goes by `balanced`), least share of the best model's score, largest share of its compute time.

The shares of compute time are goals; no choice by the prompt reaches them (ADR 10).
"""

_BEYOND_TOLD = 0.1
"""What the hub may need beyond one who is told everything: it learns from like requests, not from the words."""

DEFAULTS = EngineSettings()
OTHER_SETTINGS = ((0.6, 10.0), (0.6, 3.0), (0.4, 10.0), (0.4, 3.0), (0.2, 1.0))
"""Quality floor and time objective in seconds; the defaults are 0.8 and 10."""

PRICES = tuple(number / 100 for number in range(61))
"""Of a second of compute time, in points of score."""

FeaturesOf = Callable[[Task], Features]
Forecast = Callable[[Features], dict[str, float]]
"""Seconds by model."""


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
        return conclude(
            "routing",
            chosen,
            machine,
            {},
            targets(None) + targets_of_told(None),
            [f"{missing} answers in {TABLE.name}"],
        )
    read = reader(tasks)
    figures = compare(halves(tasks, SEED), table, read)
    splits = 3 if chosen.is_quick else OTHER_SPLITS
    figures["other_splits"] = spread([halves(tasks, SEED + 1 + number) for number in range(splits)], table, read)
    report(figures)
    figures["goals_missed"] = goals(figures["auto"])
    return conclude("routing", chosen, machine, figures, targets(figures["auto"]) + targets_of_told(figures))


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
        "told": told_everything(split, table, best),
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
    forecasts, scale = forecast(learn, table, read), cost_scale(learn, table)
    for task in learn:
        arm = decide(learner, read(task), forecasts, prefer, DEFAULTS, seed=task.id, scale=scale)
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
    forecasts, scale = forecast(split.learn, table, read), cost_scale(split.learn, table)
    choices = {
        task.id: decide(learner, read(task), forecasts, prefer, engine, seed=task.id, scale=scale).model
        for task in split.measure
    }
    return Routed(choices, measured(choices, table))


def decide(
    learner: Learner, features: Features, forecasts: Forecast, prefer: str, engine: EngineSettings, *, seed: str,
    scale: float,
) -> Arm:  # fmt: skip
    arms = [Option(arm=Arm(model), latency_s=took_s, cost=took_s) for model, took_s in forecasts(features).items()]
    choice = learner.decide(
        features, arms, PREFERENCES[prefer], seed=seed, slo_s=engine.slo_s, floor=FLOORS[prefer],
        cost_scale=scale,
    )  # fmt: skip
    return choice.candidates[choice.chosen].arm


def forecast(learn: Iterable[Task], table: Table, read: FeaturesOf) -> Forecast:
    """What an answer of each model takes, in seconds of a processor of its own."""
    latency = {model: LatencyModel() for model in MODELS}
    lengths = Lengths()
    for task in learn:
        for model in MODELS:
            answer = table[task.id, model]
            tokens = read(task).prompt_tokens
            latency[model].answered(tokens, 0.0, answer.cpu_s, answer.tokens_out, 1.0)
            latency[model].predict(tokens, answer.tokens_out, 0)  # it learns when it is asked
            lengths.add(read(task), Arm(model), answer.tokens_out)

    def of(features: Features) -> dict[str, float]:
        return {
            model: latency[model].predict(features.prompt_tokens, lengths.expected(features, Arm(model)), 0).finish_s
            for model in MODELS
        }

    return of


def cost_scale(learn: Iterable[Task], table: Table) -> float:
    """Twice the usual cost, as in the hub."""
    return 2 * fmean(table[task.id, model].cpu_s for task in learn for model in MODELS)


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
    points = (measured(best_by_group(split.learn, split.measure, MODELS, table, price), table) for price in PRICES)
    return _front((point.cpu_s / best.cpu_s, point.score / best.score) for point in points)


def told_everything(split: Halves, table: Table, best: Point) -> list[dict[str, float]]:
    """The frontier of `told.py`, as `told_the_kind`."""
    return _front((point.cpu_s / best.cpu_s, point.score / best.score) for point in frontier(split, table))


def least_compute(front: Sequence[Mapping[str, float]], score_share: float) -> float:
    """Of a frontier, the least share of compute time for that share of the score; the best model alone has it at 1."""
    return min((row["compute_share"] for row in front if row["score_share"] >= score_share), default=1.0)


def _front(points: Iterable[tuple[float, float]]) -> list[dict[str, float]]:
    """(compute, score), without those that another one beats in both."""
    front: list[dict[str, float]] = []
    for compute_share, score_share in sorted({(round(cpu, 4), round(score, 4)) for cpu, score in points}):
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
    """The two preferences of the targets over other halves: means, and how many would meet both bounds.

    `told`: the compute time that one who is told everything needs for the score.
    """
    compared = [compare(split, table, read) for split in splits]
    found: dict[str, Any] = {"splits": len(compared)}
    for prefer, score_bound, compute_bound in BOUNDS:
        rows = [figures["auto"][prefer] for figures in compared]
        found[prefer] = {
            "score_share": round(fmean(row["score_share"] for row in rows), 3),
            "compute_share": round(fmean(row["compute_share"] for row in rows), 3),
            "above_mix": round(fmean(row["above_mix"] for row in rows), 3),
            "told": round(fmean(least_compute(figures["told"], score_bound) for figures in compared), 3),
            "told_score_at_goal": round(
                fmean(
                    max(
                        (row["score_share"] for row in figures["told"] if row["compute_share"] <= compute_bound),
                        default=0.0,
                    )
                    for figures in compared
                ),
                3,
            ),
            "met": sum(row["score_share"] >= score_bound and row["compute_share"] <= compute_bound for row in rows),
        }
    return found


def targets(rows: Mapping[str, Mapping[str, Any]] | None, where: str = "") -> list[Target]:
    """rows: by preference; None when there are none to judge. where: words to tell one benchmark's claims apart."""
    found = []
    for prefer, score_bound, _ in BOUNDS:
        row = rows[prefer] if rows else {}
        found.append(
            Target(
                claim=f"{_name(prefer)}{where}: score as a share of the best single model's",
                measured=row.get("score_share"),
                bound=score_bound,
                unit="",
                relation="at least",
            )
        )
    return found


def targets_of_told(figures: Mapping[str, Any] | None) -> list[Target]:
    """`fast` against the frontier of one who was told everything: the mean over many halves, for one says little."""
    splits = figures["other_splits"] if figures else None
    _, score_bound, _ = next(bound for bound in BOUNDS if bound[0] == "fast")
    return [
        Target(
            claim="auto, prefer fast, mean over other halves: compute time beyond what one who is told everything"
            f" needs for {score_bound:.0%} of the score, as a share of the best single model's",
            measured=round(splits["fast"]["compute_share"] - splits["fast"]["told"], 3) if splits else None,
            bound=_BEYOND_TOLD,
            unit="",
        ),
        Target(
            claim="auto, prefer fast, mean over other halves: score above a coin that mixes models at the same time",
            measured=splits["fast"]["above_mix"] if splits else None,
            bound=0.0,
            unit="",
            relation="at least",
        ),
    ]


def goals(rows: Mapping[str, Mapping[str, Any]], where: str = "") -> int:
    """How many are missed, each said; ADR 10 tells why no choice by the prompt gets to that compute time."""
    missed = 0
    for prefer, score_bound, compute_bound in BOUNDS:
        row = rows[prefer]
        is_met = row["score_share"] >= score_bound and row["compute_share"] <= compute_bound
        missed += not is_met
        say(
            f"goal {'met' if is_met else 'missed'}: {_name(prefer)}{where}: {row['score_share']:.1%} of the best single"
            f" model's score at {row['compute_share']:.1%} of its compute time, wished for {score_bound:.0%} at"
            f" {compute_bound:.0%}"
        )
    return missed


def _name(prefer: str) -> str:
    return "auto" if prefer == "balanced" else f"auto, prefer {prefer}"


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
