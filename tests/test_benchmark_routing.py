"""The routing benchmark counts rightly, and its checked-in table holds what the models answered and no more."""

import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks.answers import MODELS, Answer, Table, load_table
from benchmarks.policies import Point, best_by_group, ceiling, even_mix, measured, mix_at, oracle, shares, single
from benchmarks.routing import goals, least_compute, told_everything
from benchmarks.tasks.grading import score
from benchmarks.tasks.task import ByPython, Halves, Task, load_tasks, shuffled
from benchmarks.told import predicted

SMALL, MIDDLE, LARGE = MODELS
COSTS_S = {SMALL: 1.0, MIDDLE: 2.0, LARGE: 4.0}
TASKS = load_tasks()


def table_of(tasks: list[Task], solved: dict[str, set[int]]) -> Table:
    """Each model solves the tasks with the numbers that `solved` names."""
    return {
        (task.id, model): Answer(
            task=task.id, model=model, score=float(number in solved[model]), cpu_s=COSTS_S[model], wall_s=1.0,
            tokens_in=1, tokens_out=1, is_cut_off=False, reply="",
        )
        for number, task in enumerate(tasks) for model in MODELS
    }  # fmt: skip


FOUR = list(TASKS[:4])
TABLE = table_of(FOUR, {SMALL: {0}, MIDDLE: {0, 1}, LARGE: {1, 2}})


def test_a_choice_is_scored_and_paid_task_by_task() -> None:
    assert measured(single(LARGE, FOUR), TABLE) == Point(0.5, 4.0)
    assert measured({FOUR[0].id: SMALL, FOUR[2].id: LARGE}, TABLE) == Point(1.0, 2.5)


def test_the_oracle_takes_the_cheapest_that_solves_it_and_the_cheapest_where_none_does() -> None:
    choices = oracle(FOUR, MODELS, TABLE)
    assert [choices[task.id] for task in FOUR] == [SMALL, MIDDLE, LARGE, SMALL]
    assert shares(choices) == {LARGE: 0.25, MIDDLE: 0.25, SMALL: 0.5}


@pytest.mark.parametrize(("cpu_s", "reached"), [(0.9, -1.0), (1.0, 0.25), (1.3, 0.5), (1.9, 0.5), (2.0, 0.75)])
def test_the_ceiling_buys_the_cheapest_right_answers_first(cpu_s: float, reached: float) -> None:
    assert ceiling(FOUR, MODELS, TABLE, cpu_s) == reached


def test_a_coin_mixes_two_models_by_the_time_it_may_take() -> None:
    singles = [Point(0.2, 1.0), Point(0.3, 2.0), Point(0.8, 4.0)]
    assert mix_at(0.5, singles) == 0.0
    assert mix_at(1.0, singles) == 0.2
    assert mix_at(2.5, singles) == pytest.approx(0.5)  # of the smallest and the largest
    assert mix_at(9.0, singles) == 0.8
    assert even_mix(singles).score == pytest.approx(1.3 / 3)


def test_the_best_of_a_group_is_found_on_the_half_to_learn() -> None:
    of_one_group = [task for task in TASKS if (task.kind, task.language) == (FOUR[0].kind, FOUR[0].language)][:6]
    table = table_of(of_one_group, {SMALL: {4, 5}, MIDDLE: {0, 1, 2}, LARGE: {0, 1, 2, 4, 5}})
    choices = best_by_group(of_one_group[:4], of_one_group[4:], MODELS, table)
    assert set(choices.values()) == {MIDDLE}  # as good as the largest on the first four, and cheaper


def test_the_checked_in_table_has_each_answer_once_and_for_todays_tasks() -> None:
    table = load_table()
    assert set(table) == {(task.id, model) for task in TASKS for model in MODELS}
    assert all(answer.cpu_s > 0 and answer.tokens_in > 0 for answer in table.values())


def test_the_checked_in_scores_are_what_the_graders_give() -> None:
    """Of the code tasks, each of which starts a process, a sample."""
    table = load_table()
    code = [task for task in TASKS if isinstance(task.grade, ByPython)]
    rest = [task for task in TASKS if not isinstance(task.grade, ByPython)]
    for task in (*rest, *shuffled(code, seed=3)[:10]):
        for model in MODELS:
            assert score(task, table[task.id, model].reply) == table[task.id, model].score, (task.id, model)


def test_who_is_told_everything_predicts_what_the_words_tell() -> None:
    """Of tasks of one kind, the small model solves those on adding and none on dividing: the words tell them apart."""
    kind = [task for task in TASKS if task.kind == "arithmetic" and task.language == "en"][:40]
    words = ["add these" if number % 2 else "divide those" for number in range(40)]
    tasks = [msgspec.structs.replace(task, prompt=f"{word} {task.id}") for task, word in zip(kind, words, strict=True)]
    table = table_of(tasks, {SMALL: set(range(1, 40, 2)), MIDDLE: set(), LARGE: set(range(40))})
    split = Halves(tuple(tasks[:20]), tuple(tasks[20:]))
    scores, times_s = predicted(split, table)
    assert scores[1::2, 0].min() > 0.7
    assert scores[::2, 0].max() < 0.3
    assert times_s == pytest.approx(times_s * 0 + [COSTS_S[model] for model in MODELS])
    best = measured(single(LARGE, split.measure), table)
    reached = told_everything(split, table, best)
    assert least_compute(reached, 1.0) == pytest.approx((1.0 + 4.0) / 2 / 4.0)
    assert least_compute(reached[:1], 1.0) == 1.0


def test_a_goal_that_is_missed_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    goals({"balanced": {"score_share": 0.98, "compute_share": 0.6}, "fast": {"score_share": 0.9, "compute_share": 0.6}})
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("goal met: auto: 98.0%")
    assert second.startswith("goal missed: auto, prefer fast: 90.0%")
