"""What ways to choose among models would have scored and cost, by a table of each model's answer to each task."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from benchmarks.answers import Table
from benchmarks.tasks.task import Task

Choices = Mapping[str, str]
"""Task to model."""


class Point(NamedTuple):
    """Means over the tasks."""

    score: float
    cpu_s: float


def measured(choices: Choices, table: Table) -> Point:
    answers = [table[task, model] for task, model in choices.items()]
    return Point(fmean(answer.score for answer in answers), fmean(answer.cpu_s for answer in answers))


def single(model: str, tasks: Iterable[Task]) -> Choices:
    return {task.id: model for task in tasks}


def best_by_group(
    learn: Iterable[Task], measure: Iterable[Task], models: Sequence[str], table: Table, price: float = 0.0
) -> Choices:  # fmt: skip
    """For each kind and language the model with the best mean of `score - price * cpu_s` on the half to learn.

    A router that is told the kind, which ours is not. Of equally good ones the first, so let `models` go from the
    smallest to the largest.
    """
    worth: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for task in learn:
        for model in models:
            answer = table[task.id, model]
            worth[task.kind, task.language][model].append(answer.score - price * answer.cpu_s)
    best = {group: max(models, key=lambda model: fmean(by_model[model])) for group, by_model in worth.items()}
    return {task.id: best[task.kind, task.language] for task in measure}


def oracle(tasks: Iterable[Task], models: Sequence[str], table: Table) -> Choices:
    """For each task the cheapest model that solves it; the cheapest of all when none does. Nobody can do better."""

    def choice(task: Task) -> str:
        solving = [model for model in models if table[task.id, model].score == 1.0]
        return min(solving or models, key=lambda model: table[task.id, model].cpu_s)

    return {task.id: choice(task) for task in tasks}


def ceiling(tasks: Sequence[Task], models: Sequence[str], table: Table, cpu_s: float) -> float:
    """The best score that knowing all answers could reach at `cpu_s` a task or less; -1 when no choice is so cheap.

    A right answer is worth what the cheapest model asks for it beyond the cheapest answer of all; the budget buys the
    cheap ones first.
    """
    floors = {task.id: min(table[task.id, model].cpu_s for model in models) for task in tasks}
    extras = []
    for task in tasks:
        prices = [answer.cpu_s for model in models if (answer := table[task.id, model]).score == 1.0]
        if prices:
            extras.append(min(prices) - floors[task.id])
    left = cpu_s * len(tasks) - sum(floors.values())
    if left < 0.0:
        return -1.0
    solved = 0
    for extra in sorted(extras):
        left -= extra
        if left < 0.0:
            break
        solved += 1
    return solved / len(tasks)


def mix_at(cpu_s: float, singles: Sequence[Point]) -> float:
    """The best score that a coin can reach at this mean compute time, throwing requests at models unseen.

    It mixes two of the single models, or takes one of them with time to spare.
    """
    reached = [point.score for point in singles if point.cpu_s <= cpu_s]
    for cheap in singles:
        for dear in singles:
            if cheap.cpu_s < cpu_s < dear.cpu_s:
                share = (cpu_s - cheap.cpu_s) / (dear.cpu_s - cheap.cpu_s)
                reached.append(cheap.score + share * (dear.score - cheap.score))
    return max(reached, default=0.0)


def even_mix(singles: Sequence[Point]) -> Point:
    """Each model as often as the others, by chance."""
    return Point(fmean(point.score for point in singles), fmean(point.cpu_s for point in singles))


def shares(choices: Choices) -> dict[str, float]:
    """How much of the tasks each model got."""
    counted = Counter(choices.values())
    return {model: round(count / len(choices), 3) for model, count in sorted(counted.items())}
