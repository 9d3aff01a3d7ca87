"""A chooser that is told more than the hub can know: what of the targets is within reach of a choice by the prompt.

It sees the words of each prompt, the task's kind and its language, and of the half to learn the score and the time of
every model. Ridge regression in its dual form: scores and times of the other half are predicted from how alike two
prompts are (tf-idf of words and their pairs and triples, by the cosine; a task of the same kind and language counts as
half as alike again), and each task gets the model with the best `score - price * time`. All prices make a frontier.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers import MODELS, Table
from benchmarks.policies import Choices, Point, measured
from benchmarks.tasks.task import Halves, Task

PRICES = tuple(number / 300 for number in range(91))
"""Of a second of compute time, in points of score."""
RIDGE = 3.0
_SAME_KIND = 0.5
_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")

Floats = NDArray[np.float64]


def frontier(split: Halves, table: Table) -> list[Point]:
    """What it would score and cost at each price, from the dearest choice to the cheapest."""
    scores, times_s = predicted(split, table)
    return [measured(_choices(split.measure, scores - price * times_s), table) for price in PRICES]


def predicted(split: Halves, table: Table) -> tuple[Floats, Floats]:
    """(score, seconds) of each model on each task of the half to measure: (tasks, models)."""
    everything = (*split.learn, *split.measure)
    known = len(split.learn)
    alike = likeness(everything)
    solve = np.linalg.inv(alike[:known, :known] + RIDGE * np.eye(known))
    found = []
    for field in ("score", "cpu_s"):
        seen = np.array([[getattr(table[task.id, model], field) for model in MODELS] for task in split.learn])
        usual = seen.mean(axis=0)
        found.append(usual + alike[known:, :known] @ (solve @ (seen - usual)))
    return found[0], found[1]


def likeness(tasks: Sequence[Task]) -> Floats:
    """(tasks, tasks), symmetric and positive semidefinite."""
    counted = [Counter(_pieces(task.prompt)) for task in tasks]
    spread = Counter(piece for pieces in counted for piece in pieces)
    columns = {piece: column for column, piece in enumerate(spread)}
    weights = np.zeros((len(tasks), len(columns)))
    for row, pieces in enumerate(counted):
        for piece, count in pieces.items():
            weights[row, columns[piece]] = (1.0 + math.log(count)) * math.log(len(tasks) / spread[piece])
    weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-9)
    groups = np.array([f"{task.kind} {task.language}" for task in tasks])
    alike: Floats = weights @ weights.T + _SAME_KIND * (groups[:, None] == groups[None, :])
    return alike


def _pieces(prompt: str) -> list[str]:
    """Words, pairs and triples; of numbers only that they are there, of Chinese each character is a word."""
    words = ["0" if word.isdigit() else word for word in _WORD.findall(prompt.lower())]
    return [" ".join(words[start : start + size]) for size in (1, 2, 3) for start in range(len(words) - size + 1)]


def _choices(tasks: Sequence[Task], worth: Floats) -> Choices:
    return {task.id: MODELS[index] for task, index in zip(tasks, worth.argmax(axis=1).tolist(), strict=True)}
