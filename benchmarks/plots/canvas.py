"""How all pictures look, and that the same figures always give the same file.

The page is white, since a reader's may be dark. Letters are drawn as paths in matplotlib's own font, so that a picture
needs no font and looks alike everywhere. Colours: Okabe and Ito's palette, told apart by the colour-blind; those of
lines with a label are dark enough to be read as text.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec

mpl.use("svg")
import matplotlib.pyplot as plt

from benchmarks.outcome import RESULTS, Outcome, say

IMAGES = Path(__file__).parents[2] / "docs" / "images"
OURS = "#0060a8"
GREY = "#767676"
FAINT = "#e4e4e4"
ORANGE = "#c45500"
GREEN = "#00785a"
PURPLE = "#9c4a82"
OCHRE = "#9a6a00"
WIDE_IN = 8.4
"""Inches; GitHub shows it at about its real size."""


def figures_of(benchmark: str) -> dict[str, Any] | None:
    """The saved figures; None, which it says, when it has not been measured yet."""
    file = RESULTS / f"{benchmark}.json"
    if not file.exists():
        say(f"not drawn, not measured yet: python benchmarks/{benchmark}.py --save")
        return None
    return msgspec.json.decode(file.read_bytes(), type=Outcome).figures


def panels(rows: int, columns: int, height_in: float, **more: Any) -> tuple[Any, Any]:
    """A white page with so many axes: (figure, array of axes)."""
    mpl.rcParams.update(mpl.rcParamsDefault)
    mpl.rcParams.update(
        {
            "svg.fonttype": "path",
            "svg.hashsalt": "autoglm",
            "font.family": "DejaVu Sans",
            "font.size": 9.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.titlelocation": "left",
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": FAINT,
            "xtick.color": "#444444",
            "ytick.color": "#444444",
            "lines.solid_capstyle": "round",
        }
    )
    return plt.subplots(rows, columns, figsize=(WIDE_IN, height_in), layout="constrained", squeeze=False, **more)


def label(axes: Any, x: float, y: float, text: str, color: str, **more: Any) -> None:
    """Beside its line, on a shade of the page, so that a grid or another line does not strike it out."""
    axes.text(
        x, y, text, color=color, fontsize=8.5,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}, **more,
    )  # fmt: skip


def spread(ends: Mapping[str, float], gap: float) -> dict[str, float]:
    """Where to write each name, so that all are at least `gap` apart and in the order of their lines' ends."""
    places: dict[str, float] = {}
    last = -math.inf
    for name in sorted(ends, key=ends.__getitem__):
        places[name] = last = max(ends[name], last + gap)
    return places


def save(figure: Any, file: Path) -> None:
    """Without a date, so that it changes only when its figures do."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None}, facecolor="white")
    plt.close(figure)
