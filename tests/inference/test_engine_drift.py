"""A change of an arm is noticed soon, and noise seldom is taken for one."""

import random

import pytest

from autoglm.inference.engine.drift import Drift


def until_alarm(change: float, seed: int, most: int = 1000) -> int:
    """Coins that come up with 0.7, then 0.7 + change, while 0.7 is predicted."""
    drift, chance = Drift(), random.Random(seed)
    for outcome in range(most):
        if drift.observe((chance.random() < 0.7 + change) - 0.7) != 0.0:
            return outcome + 1
    return most


@pytest.mark.parametrize("change", [-0.4, 0.3])
def test_a_change_is_noticed_within_some_sixty_outcomes(change: float) -> None:
    delays = sorted(until_alarm(change, seed) for seed in range(50))
    assert delays[45] < 80


def test_noise_alone_seldom_raises_an_alarm() -> None:
    assert sum(until_alarm(0.0, seed) < 1000 for seed in range(50)) <= 3


def test_a_small_error_of_the_prediction_is_no_drift_even_if_it_stays() -> None:
    drift = Drift()
    assert not any(drift.observe(-0.14) for _ in range(10_000))


def test_after_an_alarm_it_starts_again() -> None:
    drift = Drift()
    alarms = [drift.observe(-1.0) for _ in range(20)]
    assert [moved for moved in alarms if moved] == [pytest.approx(-1.0), pytest.approx(-1.0)]
    assert drift.alarms == 2
    assert not drift.observe(-1.0)


@pytest.mark.parametrize("change", [-0.4, 0.3])
def test_an_alarm_tells_how_far_the_arm_has_moved(change: float) -> None:
    sizes = []
    for seed in range(50):
        drift, chance = Drift(), random.Random(seed)
        sizes.append(
            next(moved for _ in range(1000) if (moved := drift.observe((chance.random() < 0.7 + change) - 0.7)))
        )
    assert sum(sizes) / len(sizes) == pytest.approx(change, abs=0.12)
