"""What came of like requests: for each arm, outcomes near this one, weighted by how near they are.

Requests with the same place and intent share a cell, so distances are computed once for all arms, and memory is
bounded by cells, not by outcomes. A wide and a narrow circle take the place of k: the narrow one counts as soon as it
holds enough, so dense regions answer for themselves and sparse ones borrow.
Source: nearest neighbours match learned routers (arXiv 2505.12601); kernel weights: Nadaraya 1964, Watson 1964.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autoglm.inference.engine.context import PLACE_WIDTH, Context

CELLS = 768
"""times PLACE_WIDTH stays below 9,216, from where OpenBLAS multiplies with more than one thread (measured 0.3.31)."""

_WIDE = np.float32(1.0 / (2.0 * 0.6**2))
"""The wide circle's kernel is exp(-d^2 * _WIDE); the narrow circle's is its fourth power, half as wide."""


class Nearby(NamedTuple):
    """Evidence near a request, one entry for each arm asked for, divided by the common scale."""

    wide: list[float]
    wide_sum: list[float]
    narrow: list[float]
    narrow_sum: list[float]
    """`wide` and `narrow` are weights of outcomes, the sums are weighted qualities."""


class Neighbours:
    """Cells of outcomes. Arms are rows 0, 1, ...; all figures are divided by a common scale that the owner keeps.

    In float32: half the time of float64, and a sum of 3,000 outcomes is still exact to 0.001.
    """

    def __init__(self, arms: int) -> None:
        self.used = 0
        self.intents = np.zeros(CELLS, dtype=np.int64)
        self.figures = np.zeros((arms, 2, CELLS), dtype=np.float32)
        """Weights of outcomes, and weighted qualities."""
        self._doubled = np.zeros((PLACE_WIDTH, CELLS), dtype=np.float32)
        self._norms = np.zeros(CELLS, dtype=np.float32)
        """Places times 2 * _WIDE, and their squared lengths times -_WIDE."""
        self._cells: dict[tuple[tuple[float, ...], int], int] = {}

    def nearby(self, context: Context, arms: Sequence[int]) -> Nearby:
        used = self.used
        place = np.array(context.place, dtype=np.float32)
        kernels = np.empty((2, used), dtype=np.float32)
        wide, narrow = kernels
        # -d^2 * _WIDE = 2 * _WIDE * <x, y> - _WIDE * |y|^2 - _WIDE * |x|^2
        np.matmul(place, self._doubled[:, :used], out=wide)
        wide += self._norms[:used]
        wide -= _WIDE * (place @ place)
        # Another intent adds 1 to d^2: 0.25 of the weight far away, 0.004 of it near.
        np.subtract(wide, _WIDE, out=wide, where=self.intents[:used] != context.intent)
        np.exp(wide, out=wide)
        np.multiply(wide, wide, out=narrow)
        narrow *= narrow
        wides, narrows = (kernels @ self.figures[arms].reshape(-1, CELLS)[:, :used].T).tolist()
        return Nearby(wides[::2], wides[1::2], narrows[::2], narrows[1::2])

    def add(self, context: Context, arm: int, weight: float, quality: float) -> None:
        """When all cells are taken, the one with the least evidence is given up."""
        key = (context.place, context.intent)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._take(key)
        self.figures[arm, 0, cell] += weight
        self.figures[arm, 1, cell] += weight * quality

    def correct(self, context: Context, arm: int, weight: float, total: float) -> None:
        """An outcome that was added weighs more by `weight`, its weighted quality by `total`."""
        cell = self._cells.get((context.place, context.intent))
        if cell is not None:  # else it was given up
            weights, totals = self.figures[arm]
            weights[cell] += weight
            totals[cell] = min(max(totals[cell] + total, 0.0), weights[cell])

    def scale(self, factor: float) -> None:
        """Bring all figures to a new common scale."""
        self.figures *= np.float32(factor)

    def total(self, arm: int) -> float:
        """All evidence of an arm, divided by the common scale."""
        return float(self.figures[arm, 0].sum())

    def forget(self, arm: int, keep: float, moved: float) -> None:
        """moved: added to the quality of each outcome that is kept."""
        self.figures[arm] *= np.float32(keep)
        weights, qualities = self.figures[arm]
        qualities += np.float32(moved) * weights
        np.clip(qualities, 0.0, weights, out=qualities)

    def grow(self, arms: int) -> None:
        more = np.zeros((arms - len(self.figures), 2, CELLS), dtype=np.float32)
        self.figures = np.concatenate((self.figures, more))

    def index(self, keys: Sequence[tuple[tuple[float, ...], int]]) -> None:
        """Take cells 0, 1, ... for these, before `figures` is filled from outside."""
        for key in keys:
            self._take(key)

    def keys(self) -> list[tuple[tuple[float, ...], int]]:
        """Of the cells, in their order."""
        return sorted(self._cells, key=self._cells.__getitem__)

    def _take(self, key: tuple[tuple[float, ...], int]) -> int:
        if self.used < CELLS:
            cell = self.used
            self.used += 1
        else:
            cell = int(np.argmin(self.figures[:, 0].sum(axis=0)))
            del self._cells[next(known for known, place in self._cells.items() if place == cell)]
            self.figures[:, :, cell] = 0.0
        place, intent = key
        column = np.array(place, dtype=np.float32)
        self._doubled[:, cell] = 2.0 * _WIDE * column
        self._norms[cell] = -_WIDE * (column @ column)
        self.intents[cell] = intent
        self._cells[key] = cell
        return cell
