"""The pictures in the docs show the saved figures."""

import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks.outcome import RESULTS
from benchmarks.plots import engine, frontier, scaling, scheduling
from benchmarks.plots.canvas import IMAGES, spread

PICTURES = [
    (scheduling, "scheduling", ("scheduling.svg", "scheduling-scenarios.svg")),
    (scaling, "scaling", ("scaling.svg",)),
    (engine, "engine", ("engine.svg",)),
]
_NAMES = re.compile(r'(?:id|clip-path|xlink:href)="[^"]*"|url\(#[^)]*\)')
"""Digests of coordinates: what rounds elsewhere in the last digit has another one."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def shape(picture: str) -> tuple[list[str], list[float]]:
    """What is drawn, apart from where; and where."""
    anonymous = _NAMES.sub("", picture)
    return _NUMBER.split(anonymous), [float(number) for number in _NUMBER.findall(anonymous)]


@pytest.mark.parametrize(("script", "benchmark", "files"), PICTURES)
def test_a_picture_is_what_its_script_draws(
    script: ModuleType, benchmark: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    """After another result was saved: `python -m benchmarks.plots`."""
    assert script.main(tmp_path) == 0
    is_measured = (RESULTS / f"{benchmark}.json").exists()
    assert {file.name for file in tmp_path.iterdir()} == (set(files) if is_measured else set())
    assert all((IMAGES / name).exists() == is_measured for name in files)
    for file in tmp_path.iterdir():
        what, where = shape(file.read_text())
        wanted, places = shape((IMAGES / file.name).read_text())
        assert what == wanted
        assert where == pytest.approx(places, abs=0.02)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_frontier_names_the_same_and_is_well_formed(language: frontier.Language, tmp_path: Path) -> None:
    """Where its words stand follows from the fonts of the machine that draws it."""
    frontier.main(tmp_path)
    drawn, kept = (ElementTree.parse(folder / frontier.FILES[language]) for folder in (tmp_path, IMAGES))
    words = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert frontier.WORDS[language]["ceiling"] in words
    assert words == [node.text for node in kept.iter("{http://www.w3.org/2000/svg}text")]


def test_a_run_of_the_engine_is_drawn(tmp_path: Path) -> None:
    """A model that comes later has no regret, and its line begins when it comes."""
    rewards = {"oracle": 1.0, "engine": 0.9, "linucb": 0.8, "epsilon_greedy": 0.7, "random": 0.5}
    curves = {name: [reward] * 75 for name, reward in rewards.items()}
    curves |= {"always small": [0.6] * 75, "always large": [0.6] * 75, "always newcomer": [0.0] * 50 + [0.95] * 25}
    figures = {"steps": 3000, "changes_at": 2000, "worlds": {name: {"curves": curves} for name in engine.WORLDS}}
    engine.draw(figures, tmp_path / "engine.svg")
    assert ElementTree.parse(tmp_path / "engine.svg").getroot().tag.endswith("svg")


def test_a_curve_is_a_share_of_the_oracles() -> None:
    places, shares = engine.smoothed([1.0, 2.0, 3.0, 0.0], [2.0, 2.0, 4.0, 4.0])
    assert places == [1.5, 2.5]
    assert shares == [75.0, 50.0]


def test_labels_keep_their_order_and_their_distance() -> None:
    places = spread({"c": 9.0, "a": 1.0, "b": 1.2}, 1.0)
    assert places == {"a": 1.0, "b": 2.0, "c": 9.0}
