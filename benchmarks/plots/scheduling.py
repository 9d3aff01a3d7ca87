"""Draws what came of the same requests by router: the first token over time, and how many were in time per scenario.

Reads `benchmarks/results/scheduling.json`, writes `scheduling.svg` and `scheduling-scenarios.svg` in
`docs/images`. Needs matplotlib (`bench` in pyproject.toml's dependency groups).
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `python benchmarks/plots/scheduling.py`

from benchmarks.plots.canvas import (
    FAINT,
    GREEN,
    GREY,
    IMAGES,
    OCHRE,
    ORANGE,
    OURS,
    PURPLE,
    figures_of,
    label,
    panels,
    save,
)

SHARES = (1, 5, *range(10, 100, 10), 95, 99)
"""Percent of the answered requests: the points of `ttft_curve_s`."""
STYLES: dict[str, tuple[str, str, str]] = {
    "round robin": (ORANGE, "--", "s"),
    "random": (PURPLE, ":", "x"),
    "cooldown": (PURPLE, "-.", "+"),
    "power of two": (GREEN, "-.", "^"),
    "least outstanding": (OCHRE, "-", "v"),
    "hub, no shedding": (OURS, "--", "o"),
    "hub": (OURS, "-", "o"),
}
"""Colour, line, marker."""
Place = tuple[float, float, str]
"""Seconds, percent, horizontal alignment."""
PLACES: dict[str, dict[str, Place]] = {
    "CV 3": {
        "hub": (0.33, 62.0, "right"),
        "least outstanding": (4.5, 100.0, "left"),
        "power of two": (5.0, 94.5, "left"),
        "round robin": (12.0, 79.0, "left"),
        "random": (1.2, 67.0, "left"),
    },
    "overload, CV 3": {
        "hub": (0.8, 62.0, "right"),
        "hub, no shedding": (33.0, 36.0, "left"),
        "round robin": (5.4, 54.0, "right"),
        "random": (980.0, 77.0, "right"),
        "power of two": (60.0, 64.0, "left"),
        "least outstanding": (60.0, 70.0, "left"),
    },
}
SCENARIOS = {
    "CV 1": "load 0.7, steady (CV 1)",
    "CV 3": "load 0.7, in bursts (CV 3)",
    "CV 5": "load 0.7, in bursts (CV 5)",
    "overload, CV 3": "load 1.1, in bursts (CV 3)",
    "burst": "ten times as many for a while",
    "becomes slow": "one becomes slow",
    "dead": "one dies",
    "hung": "one hangs",
    "flapping": "one dies and returns, often",
}
NAMES = {"cooldown": "random with cooldown", "hub, no shedding": "hub that refuses none"}
PAIR = "random, cooldown"
"""No instance fails there, so that a cooldown changes nothing."""


def main(folder: Path = IMAGES) -> int:
    figures = figures_of("scheduling")
    if figures is not None:
        over_time(figures, folder / "scheduling.svg")
        by_scenario(figures, folder / "scheduling-scenarios.svg")
    return 0


def over_time(figures: dict[str, Any], file: Path) -> None:
    figure, ((below, above),) = panels(1, 2, 3.9, sharey=True)
    below.set_title("below capacity: load 0.7, bursts (CV 3)")
    above.set_title("overload: load 1.1, bursts (CV 3)")
    for axes, name in ((below, "CV 3"), (above, "overload, CV 3")):
        runs = figures["scenarios"][name]
        for router, place in PLACES[name].items():
            color, line, _ = STYLES[router]
            run = runs[router]
            answered = 1.0 - (run["shed"] + run["failed"]) / figures["requests"]
            axes.plot(
                run["ttft_curve_s"], [share * answered for share in SHARES],
                color=color, linestyle=line, linewidth=2.6 if router == "hub" else 1.5,
                zorder=3 if "hub" in router else 2,
            )  # fmt: skip
            label(
                axes,
                place[0],
                place[1],
                PAIR if router == "random" else NAMES.get(router, router),
                color,
                ha=place[2],
                va="center",
            )
        axes.axvline(figures["objective_s"], color=GREY, linewidth=1.0)
        label(axes, figures["objective_s"] * 1.06, 2.0, f"objective: {figures['objective_s']:g} s", GREY, va="bottom")
        axes.set(xscale="log", xlim=(0.04, 1000), ylim=(0, 103), xlabel="time to first token, s")
        axes.set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
    below.set_ylabel("requests that have their first token, %")
    save(figure, file)


def by_scenario(figures: dict[str, Any], file: Path) -> None:
    figure, ((axes,),) = panels(1, 1, 4.2)
    scenarios = figures["scenarios"]
    for row, runs in enumerate(scenarios.values()):
        axes.plot([0, 100], [row, row], color=FAINT, linewidth=1.0, zorder=1)
        for router, (color, _, marker) in STYLES.items():
            is_full = router == "hub"
            axes.scatter(
                100 * runs[router]["attained"], row, marker=marker, s=70 if is_full else 30, linewidths=1.3,
                facecolors=color if is_full or marker in "x+" else "none", edgecolors=None if marker in "x+" else color,
                zorder=4 if is_full else 3, label=NAMES.get(router, router) if row == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(scenarios)), [SCENARIOS[name] for name in scenarios])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 101.5), xlabel=f"requests whose first token came within {figures['objective_s']:g} s, %")
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8.5, frameon=False)
    save(figure, file)


if __name__ == "__main__":
    sys.exit(main())
