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

    Makes `passes` over all samples, each in an order of its own; a multiplier that would move by less than `tolerance`
    stays. The same input gives the same weights.
    """
    weights = np.zeros((features, count), dtype=np.float32)
    bias = np.zeros(count, dtype=np.float32)
    signs = np.full((len(samples), count), -1.0, dtype=np.float32)
    signs[np.arange(len(samples)), classes] = 1.0
    multipliers = np.zeros_like(signs)
    softness = np.float32(1 / (2 * cost))
    # A sample's square is 1, and 1 more for the bias, which is the weight of a feature that is always 1.
    step = np.float32(1 / (2 + softness))
    random = np.random.default_rng(seed)
    for _ in range(passes):
        for turn, index in enumerate(random.permutation(len(samples)).tolist()):
            if turn % _STEPS_IN_A_ROW == 0:
                time.sleep(0)
            rows, values = samples[index]
            sign, old = signs[index], multipliers[index]
            own = weights.take(rows, axis=0)
            gradient = sign * (values @ own + bias) - 1 + softness * old
            new = np.maximum(old - gradient * step, 0)
            change = (new - old) * sign
            if max(change.max(), -change.min()) < tolerance:
                continue
            own += values[:, None] * change
            weights[rows] = own
            bias += change
            multipliers[index] = new
    return Machines(weights, bias)
