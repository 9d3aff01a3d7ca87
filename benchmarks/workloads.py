"""Traffic for the simulations: gamma arrivals, lengths and conversations by Zipf's law, bursts, tenants. All seeded."""

import random
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate

from benchmarks.simulated_model import (
    FIRST_S,
    PROMPT_TOKENS_PER_S,
    SLOTS,
    TOKEN_S,
    TOKEN_S_PER_REQUEST,
    Ask,
)

CONVERSATIONS = 400
LONGEST_TOKENS = 6000
"""A conversation that is longer starts anew."""


class Zipf:
    """Draws 1 to n, k with a probability in proportion to k ** -exponent."""

    def __init__(self, n: int, exponent: float) -> None:
        self._sums = list(accumulate(k**-exponent for k in range(1, n + 1)))

    def draw(self, dice: random.Random) -> int:
        return bisect_left(self._sums, dice.random() * self._sums[-1]) + 1


_POPULARITY = Zipf(CONVERSATIONS, 0.9)
_QUESTION = Zipf(50, 1.0)
_ANSWER = Zipf(60, 1.0)


class Talk:
    """Conversations that grow turn by turn."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._lengths: dict[int, int] = {}
        self._names = list(range(CONVERSATIONS))
        self._next = CONVERSATIONS

    def ask(self, at_s: float, **fields: object) -> Ask:
        place = _POPULARITY.draw(self._dice) - 1
        prompt_tokens = self._lengths.get(place, 0) + 40 * _QUESTION.draw(self._dice)
        output_tokens = 20 * _ANSWER.draw(self._dice)
        ask = Ask(at_s, prompt_tokens, output_tokens, self._names[place], **fields)  # type: ignore[arg-type]  # its own
        self._lengths[place] = prompt_tokens + output_tokens
        if self._lengths[place] > LONGEST_TOKENS:
            self._lengths[place] = 0
            self._names[place] = self._next
            self._next += 1
        return ask


def capacity_per_s(asks: list[Ask], speeds: list[float]) -> float:
    """Requests a second that instances of these speeds can serve with all slots taken and nothing cached."""
    held_s = [
        FIRST_S + ask.prompt_tokens / PROMPT_TOKENS_PER_S + ask.output_tokens * (TOKEN_S + TOKEN_S_PER_REQUEST * SLOTS)
        for ask in asks
    ]
    return sum(speeds) * SLOTS * len(asks) / sum(held_s)


def steady(count: int, load: float, cv: float, seed: int, speeds: list[float], **fields: object) -> list[Ask]:
    """Arrivals whose gaps have this coefficient of variation, at `load` times what the pool can serve."""
    return _arriving(count, load, cv, seed, speeds, lambda _: 1.0, **fields)


def burst(count: int, load: float, seed: int, speeds: list[float], *, times: float = 10.0) -> list[Ask]:
    """Steady traffic; from a third of it on, for a fiftieth of its time, `times` as much."""
    span = (1 / 3, 1 / 3 + 1 / 50)
    return _arriving(count, load, 1.0, seed, speeds, lambda share: times if span[0] <= share < span[1] else 1.0)


def _arriving(
    count: int, load: float, cv: float, seed: int, speeds: list[float], pace: Callable[[float], float], **fields: object
) -> list[Ask]:  # fmt: skip
    dice = random.Random(seed)
    talk = Talk(dice)
    asks = [talk.ask(0.0, **fields) for _ in range(count)]
    mean_gap_s = 1.0 / (load * capacity_per_s(asks, speeds))
    whole_s = count * mean_gap_s
    at_s = 0.0
    for ask in asks:
        at_s += dice.gammavariate(1.0 / cv**2, mean_gap_s * cv**2) / pace(min(1.0, at_s / whole_s))
        ask.at_s = at_s
    return asks


def merged(*streams: list[Ask]) -> list[Ask]:
    """Their conversations stay apart."""
    for number, stream in enumerate(streams):
        for ask in stream:
            ask.conversation += 1_000_000 * number
    return sorted((ask for stream in streams for ask in stream), key=lambda ask: ask.at_s)
