"""Draws how the engine learns: reward of each request and regret so far, through a drift and past a newcomer.

Reads `benchmarks/results/engine.json`, writes `docs/images/engine.svg`. Needs matplotlib (`bench` in pyproject.toml's
dependency groups).
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `python benchmarks/plots/engine.py`

from benchmarks.plots.canvas import GREEN, GREY, IMAGES, OCHRE, OURS, PURPLE, figures_of, panels, save, spread

STYLES: dict[str, tuple[str, str, str]] = {
    "random": ("random", PURPLE, ":"),
    "epsilon_greedy": ("epsilon-greedy", OCHRE, "-."),
    "linucb": ("LinUCB", GREEN, "--"),
    "engine": ("engine", OURS, "-"),
}
WORLDS = {
    "drift": "at 2,000 the best model (small) gets worse",
    "newcomer": "at 2,000 a better model (newcomer) comes",
}
"""Of `benchmarks/worlds.py`."""
FIXED = {"drift": ("always small", "always large"), "newcomer": ("always small", "always newcomer")}
"""The best one before the change and the best one after it."""
WINDOW = 3
"""Points of a curve that are drawn as one."""


def main(folder: Path = IMAGES) -> int:
    figures = figures_of("engine")
    if figures is not None:
        draw(figures, folder / "engine.svg")
    return 0


def draw(figures: dict[str, Any], file: Path) -> None:
    figure, axes = panels(2, 2, 6.2, sharex=True, sharey="row")
    for column, (name, title) in enumerate(WORLDS.items()):
        curves = figures["worlds"][name]["curves"]
        width = figures["steps"] / len(curves["engine"])
        upper, lower = axes[:, column]
        upper.set_title(title)
        lines = STYLES | {key: (key, GREY, "-") for key in FIXED[name]}
        shares, regrets = {}, {}
        for key, style in lines.items():
            start = next(number for number, reward in enumerate(curves[key]) if reward)  # 0: not there yet
            steps, share = smoothed(curves[key][start:], curves["oracle"][start:])
            _line(upper, [(start + step) * width for step in steps], share, style)
            shares[key] = share[-1]
            if start == 0:
                regret = list(accumulate((width * (most - got) for most, got in _pairs(curves, key)), initial=0.0))
                _line(lower, [number * width for number in range(len(regret))], regret, style)
                regrets[key] = regret[-1]
        for panel, ends in ((upper, shares), (lower, regrets)):
            gap = 0.05 * (panel.get_ylim()[1] - panel.get_ylim()[0])
            for key, y in spread(ends, gap).items():
                panel.text(figures["steps"] * 1.02, y, lines[key][0], color=lines[key][1], fontsize=8.5, va="center")
            panel.axvline(figures["changes_at"], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        upper.set(xlim=(0, figures["steps"]))
        lower.set(xlabel="requests", ylim=(0, None))
    axes[0, 0].set_ylabel("reward, % of the oracle's")
    axes[1, 0].set_ylabel("regret against the oracle, sum")
    save(figure, file)


def smoothed(run: Sequence[float], oracle: Sequence[float]) -> tuple[list[float], list[float]]:
    """Places in the curve, and percent of the oracle's reward, each over WINDOW neighbouring points."""
    starts = range(len(run) - WINDOW + 1)
    shares = [100 * sum(run[start : start + WINDOW]) / sum(oracle[start : start + WINDOW]) for start in starts]
    return [start + WINDOW / 2 for start in starts], shares


def _pairs(curves: dict[str, list[float]], key: str) -> Iterable[tuple[float, float]]:
    return zip(curves["oracle"], curves[key], strict=True)


def _line(axes: Any, x: Sequence[float], y: Sequence[float], style: tuple[str, str, str]) -> None:
    name, color, line = style
    is_ours = name == "engine"
    width = 2.4 if is_ours else 1.0 if color == GREY else 1.5
    axes.plot(x, y, color=color, linestyle=line, linewidth=width, zorder=4 if is_ours else 3)


if __name__ == "__main__":
    sys.exit(main())
