"""Linear support vector machines, one for each class against the rest, trained together by dual coordinate descent.

Source: Hsieh, Chang, Lin, Keerthi and Sundararajan 2008, "A dual coordinate descent method for large-scale linear SVM",
algorithm 1 with the squared hinge loss. All classes visit the samples in the same order, so that one step reads and
writes a sample's rows for all of them at once.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

_STEPS_IN_A_ROW = 16
"""About 0.5 ms. Then another thread may have the interpreter: the hub serves requests while it learns."""


class Sample(NamedTuple):
    """A sparse vector of length 1, or empty."""

    rows: Indices
    """(m,) which features, each once."""
    values: Floats
    """(m,)"""


class Machines(NamedTuple):
    weights: Floats
    """(features, classes)"""
    bias: Floats
    """(classes,)"""


def train(
    samples: Sequence[Sample], classes: npt.NDArray[np.intp], *, features: int, count: int,
    cost: float = 2.0, passes: int = 6, tolerance: float = 0.01, seed: int = 0,
) -> Machines:  # fmt: skip
    """classes: (samples,) the class of each sample, below `count`. cost: C of the paper, for all samples.

    Makes `passes` over all samples, each in an order of its own; multipliers of a sample that would move by less than
    `tolerance` together stay. The same input gives the same weights.
    """
    # The multipliers carry the sign of their sample, so that a weight is the sum of multiplier times value; that of the
    # sample's own class is never below 0, those of the others never above. The last row is the bias: a feature of 1.
    weights = np.zeros((features + 1, count), dtype=np.float32)
    multipliers = np.zeros((len(samples), count), dtype=np.float32)
    softness = 1 / (2 * cost)
    step = np.float32(1 / (2 + softness))  # a sample's square is 1, and 1 more for the bias
    kept = np.float32(1 - step * softness)
    with_bias = [Sample(np.append(rows, features), np.append(values, np.float32(1))) for rows, values in samples]
    numbers = classes.tolist()
    smallest = tolerance * tolerance
    random = np.random.default_rng(seed)
    for _ in range(passes):
        for turn, index in enumerate(random.permutation(len(samples)).tolist()):
            if turn % _STEPS_IN_A_ROW == 0:
                time.sleep(0)
            rows, values = with_bias[index]
            number, old = numbers[index], multipliers[index]
            own = weights.take(rows, axis=0)
            new = old * kept - (values @ own) * step - step
            of_own_class = new[number] + 2 * step
            np.minimum(new, 0, out=new)
            new[number] = max(of_own_class, 0)
            change = new - old
            if change @ change < smallest:
                continue
            own += values[:, None] * change
            weights[rows] = own
            multipliers[index] = new
    return Machines(weights[:-1], weights[-1])
