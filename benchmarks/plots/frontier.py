"""Draws score against compute time: each model alone, a coin, `auto` by preference, and the ceiling.

Reads `benchmarks/results/routing.json`, writes `docs/images/frontier.svg` and its Chinese twin. Needs matplotlib
(`bench` in pyproject.toml's dependency groups).
"""

import sys
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `python benchmarks/plots/frontier.py`

from benchmarks.plots.canvas import IMAGES, figures_of

Language = Literal["en", "zh"]
FILES: dict[Language, str] = {"en": "frontier.svg", "zh": "frontier.zh-CN.svg"}
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "x": "compute time, share of the best single model's",
        "y": "score, share of the best single model's",
        "model": "one model for all",
        "mix": "random mix of two models",
        "even": "each model by turns",
        "auto": "auto, by preference",
        "settings": "auto with a lower quality floor, shorter objective",
        "told": "told words, kind and all outcomes of the other half",
        "ceiling": "ceiling: all answers known beforehand",
        "target": "goal",
    },
    "zh": {
        "x": "计算时间（与最好的单一模型之比）",
        "y": "得分（与最好的单一模型之比）",
        "model": "只用一个模型",
        "mix": "随机混用两个模型",
        "even": "三个模型均匀随机",
        "auto": "auto（按偏好）",
        "settings": "auto（质量下限更低、时间目标更短）",
        "told": "已知用词、类别和另一半的全部结果",
        "ceiling": "上限：事先知道所有答案",
        "target": "目标",
    },
}


def main(folder: Path = IMAGES) -> int:
    figures = figures_of("routing")
    if figures is None:
        return 0
    mpl.rcParams.update(mpl.rcParamsDefault)
    # Text stays text, so that each reader's own fonts show it; ids and dates would change the file at each run.
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "frontier"
    mpl.rcParams["font.family"] = ["Noto Sans CJK SC", "sans-serif"]
    for language, file in FILES.items():
        draw(figures, WORDS[language], folder / file)
    return 0


def draw(figures: dict[str, Any], words: dict[str, str], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    models = figures["models"]
    ceiling = figures["ceiling"]
    axes.plot(
        [row["compute_share"] for row in ceiling], [row["score_share"] for row in ceiling],
        color="#999999", linestyle=":", label=words["ceiling"],
    )  # fmt: skip
    hull = sorted((row["compute_share"], row["score_share"]) for row in models.values())
    axes.plot(*zip(*hull, strict=True), color="#c0c0c0", label=words["mix"])
    _dots(axes, models, "o", "#555555", words["model"], is_below=True)
    _dots(axes, {"": figures["even_mix"]}, "x", "#999999", words["even"], is_below=True)
    others = figures["auto_with_other_settings"]
    axes.scatter(
        [row["compute_share"] for row in others], [row["score_share"] for row in others],
        marker="D", s=14, facecolors="none", edgecolors="#0b6bcb", label=words["settings"], zorder=2,
    )  # fmt: skip
    _dots(axes, figures["auto"], "D", "#0b6bcb", words["auto"], is_below=False)
    axes.plot(
        [row["compute_share"] for row in figures["told"]],
        [row["score_share"] for row in figures["told"]],
        color="#c2571a", linewidth=1.0, marker=".", label=words["told"],
    )  # fmt: skip
    for number, target in enumerate(figures["bounds"]):
        axes.plot(
            [0, target["compute_share"], target["compute_share"]],
            [target["score_share"], target["score_share"], 1.25],
            color="#2a8a4a", linewidth=0.8, linestyle="--", label=words["target"] if number == 0 else None,
        )  # fmt: skip
    axes.set(xlabel=words["x"], ylabel=words["y"], xlim=(0, 1.1), ylim=(0, 1.25))
    axes.grid(color="#eeeeee")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _dots(axes: Any, rows: dict[str, Any], marker: str, color: str, label: str, *, is_below: bool) -> None:
    axes.scatter(
        [row["compute_share"] for row in rows.values()], [row["score_share"] for row in rows.values()],
        marker=marker, color=color, label=label, zorder=3,
    )  # fmt: skip
    named: dict[tuple[float, float], list[str]] = {}
    for name, row in rows.items():  # those that lie on one another share a label
        named.setdefault((round(row["compute_share"], 2), round(row["score_share"], 2)), []).append(name)
    for place, names in named.items():
        below_points = -22 if place[0] > 0.8 else -8
        axes.annotate(
            ", ".join(names), place, xytext=(8, below_points if is_below else 9), textcoords="offset points",
            ha="right" if place[0] > 0.8 or not is_below else "left", fontsize=8, color=color, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
