"""What an instance's answers teach of its speed, whatever they look like."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.inference.latency import MOST_S, LatencyModel, LinearModel

ODD = st.one_of(st.floats(), st.floats(0, 1e7), st.just(math.nan), st.just(math.inf))


class Server:
    """Answers as the model in latency.py says, with noise; seeded."""

    def __init__(self, seed: int = 0, speed: float = 1.0) -> None:
        self.dice = random.Random(seed)
        self.speed = speed

    def teach(self, model: LatencyModel, times: int) -> None:
        for _ in range(times):
            uncached, ahead = self.dice.uniform(0, 4000), self.dice.choice([0.0, 0.0, 3000.0])
            running, tokens = self.dice.randint(1, 8), self.dice.randint(20, 400)
            noise = self.dice.uniform(0.95, 1.05)
            model.began(uncached, ahead, self.first_s(uncached, ahead) * noise)
            model.ended((tokens - 1) * self.each_s(running) * noise, tokens, running)

    def first_s(self, uncached: float, ahead: float = 0.0) -> float:
        return (0.1 + uncached / 5000 + ahead / 10_000) / self.speed

    def each_s(self, running: float) -> float:
        return (0.02 + 0.002 * running) / self.speed

    def finish_s(self, uncached: float, tokens: float, running: int) -> float:
        """Of one that starts beside `running` others."""
        return self.first_s(uncached) + self.each_s(running + 1) * tokens


@pytest.mark.parametrize("seed", range(5))
def test_it_learns_what_prompts_queues_and_company_cost(seed: int) -> None:
    model, server = LatencyModel(), Server(seed)
    server.teach(model, 8)
    model.predict(0, 0, 0)
    for _ in range(20):
        server.teach(model, 8)
        model.predict(0, 0, 0)
    for uncached, tokens, running in [(0, 100, 0), (4000, 100, 0), (1000, 300, 7)]:
        prediction = model.predict(uncached, tokens, running)
        assert prediction.first_token_s == pytest.approx(server.first_s(uncached), rel=0.15)
        assert prediction.finish_s == pytest.approx(server.finish_s(uncached, tokens, running), rel=0.1)
    model.ahead_tokens = 3000.0
    assert model.predict(1000, 10, 0).first_token_s == pytest.approx(server.first_s(1000, 3000), rel=0.15)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("speed", [0.4, 2.5])
def test_a_change_of_speed_is_seen_within_twenty_answers(seed: int, speed: float) -> None:
    model, server = LatencyModel(), Server(seed)
    for _ in range(30):
        server.teach(model, 8)
        model.predict(0, 0, 0)
    server.speed = speed
    for _ in range(20):
        server.teach(model, 1)
        model.predict(0, 0, 0)
    assert model.predict(1000, 200, 3).finish_s == pytest.approx(server.finish_s(1000, 200, 3), rel=0.3)
    if speed < 1.0:
        assert model.predict(1000, 200, 3).first_token_s == pytest.approx(server.first_s(1000), rel=0.3)


@pytest.mark.parametrize("outlier_s", [0.0, 0.001, 60.0, 3600.0])
def test_a_lone_outlier_moves_the_prediction_little(outlier_s: float) -> None:
    model, server = LatencyModel(), Server()
    for _ in range(10):
        server.teach(model, 8)
        model.predict(0, 0, 0)
    before_s = model.predict(1000, 0, 0).first_token_s
    model.began(1000, 0, outlier_s)
    assert model.predict(1000, 0, 0).first_token_s == pytest.approx(before_s, rel=0.3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["began", "ended", "answered"]), ODD, ODD, ODD, ODD), max_size=60))
def test_whatever_comes_predictions_stay_finite_and_are_never_negative(
    seen: list[tuple[str, float, float, float, float]],
) -> None:
    model = LatencyModel()
    for kind, took_s, tokens, running, uncached in seen:
        if kind == "began":
            model.began(uncached, tokens, took_s)
        elif kind == "ended":
            model.ended(took_s, tokens, running)
        else:
            model.answered(uncached, 0.0, took_s, tokens, running)
        first_s, finish_s = model.predict(1000, 100, 3)
        assert 0.0 <= first_s <= finish_s < math.inf


def test_the_first_answer_makes_it_known() -> None:
    assert not LatencyModel().is_known
    model = LatencyModel()
    model.began(100, 0, 0.5)
    assert model.is_known


def test_nothing_known_still_predicts() -> None:
    model = LatencyModel()
    assert 0 < model.predict(100, 100, 0).first_token_s < model.predict(100, 100, 0).finish_s < MOST_S
    model.began(100, 0, 0.5)
    assert model.predict(100, 0, 0).first_token_s == pytest.approx(0.5, rel=0.05)


def test_whole_answers_teach_their_time_though_not_their_first_token() -> None:
    model, dice = LatencyModel(), random.Random(1)
    for _ in range(200):
        tokens = dice.randint(10, 200)
        model.answered(100, 0, 0.3 + tokens * 0.02, tokens, 1)
        model.predict(0, 0, 0)
    for tokens in (20, 100, 200):
        assert model.predict(100, tokens, 0).finish_s == pytest.approx(0.3 + tokens * 0.02, rel=0.25)


def test_much_of_the_same_does_not_make_it_wild() -> None:
    """Without news the covariance of plain recursive least squares grows for ever."""
    model = LinearModel()
    for _ in range(20_000):
        model.observe(1.0, 0.0, 0.5)
    assert max(model._p00, model._p11, model._p22) < 1000
    model.observe(1.2, 0.1, 0.6)
    assert model.at(1.0, 0.0) == pytest.approx(0.5, rel=0.1)


def test_what_nobody_asks_about_takes_no_memory() -> None:
    model = LatencyModel()
    for _ in range(10_000):
        model.answered(100, 0, 0.5, 20, 1)
    assert len(model._seen) <= 16
