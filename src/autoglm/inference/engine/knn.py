"""What came of like requests: for each arm, outcomes near this one, weighted by how near they are.

Requests with the same place and intent share a cell, so distances are computed once for all arms, and memory is
bounded by cells, not by outcomes. A wide and a narrow circle take the place of k: the narrow one counts as soon as it
holds enough, so dense regions answer for themselves and sparse ones borrow.
Source: nearest neighbours match learned routers (arXiv 2505.12601); kernel weights: Nadaraya 1964, Watson 1964.
"""

from typing import NamedTuple

import numpy as np

from autoglm.inference.engine.context import PLACE_WIDTH, Context, Vector

CELLS = 768
"""times PLACE_WIDTH stays below 9,216, from where OpenBLAS multiplies with more than one thread (measured 0.3.31)."""

_WIDE = 1.0 / (2.0 * 0.6**2)
"""The wide circle's kernel is exp(-d^2 * _WIDE); the narrow circle's is its fourth power, half as wide."""

_OTHER_INTENT = 1.0
"""Squared distance between two intents: weight 0.25 in the wide circle, 0.004 in the narrow one."""

_SMALLEST = 1e-9
"""A cell with less evidence is empty."""


class Nearby(NamedTuple):
    """Evidence near a request, one entry for each arm asked for."""

    wide: Vector
    wide_sum: Vector
    narrow: Vector
    narrow_sum: Vector
    """`wide` and `narrow` are weights of outcomes, the sums are weighted qualities."""
    pooled: float
    pooled_sum: float
    """The same over all arms, in the wide circle."""


class Neighbours:
    """Cells of outcomes. Arms are rows 0, 1, ...; all figures are divided by a common scale that the owner keeps."""

    def __init__(self, arms: int) -> None:
        self.used = 0
        self.places = np.zeros((PLACE_WIDTH, CELLS))
        self.norms = np.zeros(CELLS)
        self.intents = np.zeros(CELLS, dtype=np.int64)
        self.weights = np.zeros((arms, CELLS))
        self.sums = np.zeros((arms, CELLS))
        self._cells: dict[tuple[tuple[float, ...], int], int] = {}

    def nearby(self, context: Context, arms: list[int]) -> Nearby:
        used = self.used
        place = np.array(context.place)
        distance = self.norms[:used] - 2.0 * (place @ self.places[:, :used])
        distance += place @ place
        distance += _OTHER_INTENT * (self.intents[:used] != context.intent)
        wide = np.exp(distance * -_WIDE)
        narrow = wide * wide
        narrow *= narrow
        kernels = np.stack((wide, narrow), axis=1)
        weights = self.weights[arms, :used] @ kernels
        sums = self.sums[arms, :used] @ kernels
        return Nearby(
            weights[:, 0], sums[:, 0], weights[:, 1], sums[:, 1], float(weights[:, 0].sum()), float(sums[:, 0].sum())
        )

    def add(self, context: Context, arm: int, weight: float, quality: float) -> None:
        """When all cells are taken, the one with the least evidence is given up."""
        key = (context.place, context.intent)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._take(key)
        self.weights[arm, cell] += weight
        self.sums[arm, cell] += weight * quality

    def scale(self, factor: float) -> None:
        """Bring all figures to a new common scale."""
        self.weights *= factor
        self.sums *= factor

    def forget(self, arm: int, keep: float) -> None:
        self.weights[arm] *= keep
        self.sums[arm] *= keep

    def grow(self, arms: int) -> None:
        more = arms - len(self.weights)
        self.weights = np.concatenate((self.weights, np.zeros((more, CELLS))))
        self.sums = np.concatenate((self.sums, np.zeros((more, CELLS))))

    def index(self) -> None:
        """Find the cells again after the arrays were filled from outside."""
        for cell in range(self.used):
            self.norms[cell] = float(np.dot(self.places[:, cell], self.places[:, cell]))
        self._cells = {
            (tuple(self.places[:, cell].tolist()), int(self.intents[cell])): cell for cell in range(self.used)
        }

    def _take(self, key: tuple[tuple[float, ...], int]) -> int:
        if self.used < CELLS:
            cell = self.used
            self.used += 1
        else:
            cell = int(np.argmin(self.weights.sum(axis=0)))
            del self._cells[(tuple(self.places[:, cell].tolist()), int(self.intents[cell]))]
            self.weights[:, cell] = 0.0
            self.sums[:, cell] = 0.0
        place, intent = key
        self.places[:, cell] = place
        self.norms[cell] = float(np.dot(self.places[:, cell], self.places[:, cell]))
        self.intents[cell] = intent
        self._cells[key] = cell
        return cell
