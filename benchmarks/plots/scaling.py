"""Draws half an hour of scaling: what was asked, how many workers there were, and how many requests waited.

Reads `benchmarks/results/scaling.json` (the course of the first seed), writes `docs/images/scaling.svg`. Needs
matplotlib (`bench` in pyproject.toml's dependency groups).
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `python benchmarks/plots/scaling.py`

from benchmarks.plots.canvas import GREY, IMAGES, OCHRE, ORANGE, OURS, figures_of, label, panels, save

STYLES: dict[str, tuple[str, str, str]] = {
    "one_all_the_time": ("one all the time", OCHRE, ":"),
    "all_the_time": ("ten all the time", GREY, "-."),
    "stable_only": ("without a panic window", ORANGE, "--"),
    "stable_and_panic": ("hub", OURS, "-"),
}
BURST_MIN = (9.5, 13.5)
"""What the right column shows larger."""
PLACES: dict[str, tuple[tuple[str, float, float], ...]] = {
    "workers": (("all_the_time", 1.0, 10.3), ("stable_and_panic", 3.0, 3.5), ("one_all_the_time", 18.7, 1.2)),
    "workers, burst": (("stable_only", 10.25, 7.3), ("stable_and_panic", 12.62, 8.2), ("one_all_the_time", 12.2, 1.2)),
    "waiting": (("one_all_the_time", 15.0, 300.0), ("stable_and_panic", 6.8, 40.0)),
    "waiting, burst": (
        ("one_all_the_time", 11.3, 450.0),
        ("stable_only", 10.72, 60.0),
        ("stable_and_panic", 10.37, 8.0),
    ),
}


def main(folder: Path = IMAGES) -> int:
    figures = figures_of("scaling")
    if figures is not None:
        draw(figures, folder / "scaling.svg")
    return 0


def draw(figures: dict[str, Any], file: Path) -> None:
    courses, point_s = figures["courses"], figures["point_s"]
    figure, axes = panels(
        3, 2, 5.8, sharex="col", sharey="row", gridspec_kw={"height_ratios": [0.8, 1.6, 1.6], "width_ratios": [1.3, 1]}
    )
    arrived = courses["stable_and_panic"]["arrived"]
    minutes = [number * point_s / 60 for number in range(len(arrived) + 1)]
    for column, suffix in enumerate(("", ", burst")):
        demand, workers, waiting = axes[:, column]
        demand.stairs([count / point_s for count in arrived], minutes, color="#444444", fill=True, alpha=0.55)
        for panel, field in ((workers, "workers"), (waiting, "waiting")):
            for name, (_, color, line) in STYLES.items():
                if name == "all_the_time" and field == "waiting":
                    continue  # hidden behind the others
                panel.stairs(
                    courses[name][field], minutes, color=color, linestyle=line, baseline=None,
                    linewidth=2.4 if name == "stable_and_panic" else 1.5,
                    zorder=2 if name == "stable_and_panic" else 3,
                )  # fmt: skip
            for name, x, y in PLACES[field + suffix]:
                label(panel, x, y, *STYLES[name][:2], va="bottom")
    demand, workers, waiting = axes[:, 0]
    demand.set_title("requests a second")
    axes[0, 1].set_title("the burst, larger")
    workers.set_title("workers, starting and leaving ones too")
    waiting.set_title("requests waiting for a slot (most in 10 s)")
    workers.set(ylim=(0, 11.9), yticks=[0, 5, 10])
    waiting.set_yscale("symlog", linthresh=1.0, linscale=0.4)
    waiting.set(ylim=(0, 3000), xlabel="minutes", xlim=(0, minutes[-1]))
    waiting.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    axes[2, 1].set(xlabel="minutes", xlim=BURST_MIN)
    save(figure, file)


if __name__ == "__main__":
    sys.exit(main())
