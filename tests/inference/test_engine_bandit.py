"""The lines of the bandit: what is kept after a drift says what it said, at the new level."""

import random

import pytest

from autoglm.inference.engine.bandit import Lines
from autoglm.inference.engine.context import context_of
from autoglm.inference.features import Features


def test_what_is_kept_of_a_line_is_moved_as_the_arm_has_moved() -> None:
    lines, chance = Lines(2), random.Random(1)
    kinds = [context_of(Features(api="/chat/completions", intent=name)).linear for name in ("code", "chat")]
    for _ in range(2000):
        index = chance.randrange(2)
        lines.add(1, kinds[index], 1.0, (0.3, -0.1)[index], 1.0)
    before = [lines.predict([1], kind)[0][0] for kind in kinds]
    assert before == [pytest.approx(0.3, abs=0.01), pytest.approx(-0.1, abs=0.01)]
    lines.forget(1, 0.1, -0.25)
    after = [lines.predict([1], kind)[0][0] for kind in kinds]
    assert after == [pytest.approx(0.05, abs=0.03), pytest.approx(-0.35, abs=0.03)]
    (evidence,) = lines.predict([1], kinds[0])[1]
    assert evidence < 200
