"""How long an instance takes: to the first token, and for each one after it. Learned from its answers.

    TTFT = a + b * uncached prompt tokens + c * tokens of prompts that are still without an answer there
    TPOT = d + e * requests that run there

Recursive least squares with forgetting (Haykin, "Adaptive Filter Theory", chapter on RLS), in plain Python: numpy
costs more than it saves for three numbers, and this is on the path of every request. A lone outlier moves the model
little (as in Huber 1964); several in a row on the same side are a change, which is followed at once.
"""

import math
from collections import deque
from typing import Literal, NamedTuple

_FORGETTING = 0.97  # the last ~33 answers count
_PRIOR_VARIANCE = (100.0, 10.0, 10.0)
"""Of the coefficients before anything was seen. What is unknown goes into the constant first."""
_CLIP = 3.0  # of the usual residual
_SAME_SIDE = 3
"""So many outliers in a row on one side are a change of the instance, no chance."""
_WINDUP = 10.0
"""Without news the variances would grow for ever (Astrom and Wittenmark, "Adaptive Control", estimator windup)."""
_KILO = 1e-3
"""Tokens are counted in thousands and requests in tens, so that all factors are about one."""
_DECI = 0.1
MOST_S = 86_400.0

UNKNOWN_FIRST_TOKEN_S = 1.0
UNKNOWN_TOKEN_S = 0.03
"""What is said of an instance without a record, where something must be said."""
_FIRST_PER_TOKEN = 10.0
"""How much longer the first token takes than a later one, where an answer came as a whole and nothing else tells."""
_WAITING = 16
_LOOK_S = 0.04

_Seen = tuple[Literal["first", "rest", "whole"], float, float, float, float, float]
"""What it is, then: uncached tokens, tokens ahead, seconds, tokens of the answer, requests that ran."""


class Prediction(NamedTuple):
    first_token_s: float
    finish_s: float


class LinearModel:
    """`y = t0 + t1 * u + t2 * v`, each coefficient at least 0. Give v = 0 always for a line in u.

    The covariance is symmetric: six of its nine numbers are kept.
    """

    __slots__ = ("_in_row", "_p00", "_p01", "_p02", "_p11", "_p12", "_p22", "_scale", "seen", "t0", "t1", "t2")

    def __init__(self) -> None:
        self.t0 = self.t1 = self.t2 = 0.0
        self.seen = 0
        self._p00, self._p11, self._p22 = _PRIOR_VARIANCE
        self._p01 = self._p02 = self._p12 = 0.0
        self._scale = 0.0
        """Running mean of the residual's size."""
        self._in_row = 0
        """Outliers in a row; negative for those below."""

    def at(self, u: float, v: float) -> float:
        return self.t0 + self.t1 * u + self.t2 * v

    def observe(self, u: float, v: float, y: float) -> None:
        """u, v and y: finite, at least 0."""
        predicted = self.t0 + self.t1 * u + self.t2 * v
        residual = y - predicted
        self.seen += 1
        if self.seen > 2:
            bound = _CLIP * self._scale + 1e-3 * predicted + 1e-6
            if -bound <= residual <= bound:
                self._in_row = 0
            else:
                above = residual > 0
                self._in_row = (
                    self._in_row + 1 if above and self._in_row >= 0 else 1 if above else min(self._in_row, 0) - 1
                )
                if abs(self._in_row) >= _SAME_SIDE:
                    self._in_row = 0
                    self._p00, self._p11, self._p22 = _PRIOR_VARIANCE
                    self._p01 = self._p02 = self._p12 = 0.0
                else:
                    residual = bound if above else -bound
        self._scale += (abs(residual) - self._scale) * (0.1 if self.seen > 10 else 1.0 / self.seen)
        # K = P x / (f + x' P x);  t = t + K r;  P = (P - K x' P) / f
        k0 = self._p00 + self._p01 * u + self._p02 * v
        k1 = self._p01 + self._p11 * u + self._p12 * v
        k2 = self._p02 + self._p12 * u + self._p22 * v
        weight = 1.0 / (_FORGETTING + k0 + k1 * u + k2 * v)
        step = residual * weight
        self.t0 = max(0.0, self.t0 + k0 * step)
        self.t1 = max(0.0, self.t1 + k1 * step)
        self.t2 = max(0.0, self.t2 + k2 * step)
        p00, p11, p22 = self._p00 - k0 * k0 * weight, self._p11 - k1 * k1 * weight, self._p22 - k2 * k2 * weight
        grows = 1.0 / _FORGETTING if p00 + p11 + p22 < _WINDUP else 1.0
        self._p00, self._p11, self._p22 = max(p00, 1e-9) * grows, max(p11, 1e-9) * grows, max(p22, 1e-9) * grows
        self._p01 = (self._p01 - k0 * k1 * weight) * grows
        self._p02 = (self._p02 - k0 * k2 * weight) * grows
        self._p12 = (self._p12 - k1 * k2 * weight) * grows


class LatencyModel:
    """Of one instance. What is seen waits until somebody asks for a prediction: most requests have no choice to make.

    Of more than _WAITING answers the newest are looked at, and that at most every _LOOK_S: beyond 400 answers a
    second the rest teaches nothing new.
    """

    __slots__ = ("_each", "_first", "_look_s", "_ranks", "_seen", "ahead_tokens", "is_known")

    def __init__(self) -> None:
        self._first = LinearModel()
        self._each = LinearModel()
        self._seen: deque[_Seen] = deque(maxlen=_WAITING)
        self._look_s = -math.inf
        """When the next look is due; monotonic."""
        self._ranks = (0.0, 0.0, 0.0, 0.0, 0.0)
        """The coefficients of both models per token and per request, for `rank_s`."""
        self.is_known = False
        """False until the first answer."""
        self.ahead_tokens = 0.0
        """Of the prompts that wait for their first token there now."""

    # --- predictions ---

    def predict(self, uncached_tokens: float, output_tokens: float, running: int) -> Prediction:
        """For one more request that would start now, beside `running` others."""
        if self._seen:
            self._look()
        if not self._first.seen:
            return Prediction(UNKNOWN_FIRST_TOKEN_S, UNKNOWN_FIRST_TOKEN_S + UNKNOWN_TOKEN_S * output_tokens)
        first_s = self._first.at(uncached_tokens * _KILO, self.ahead_tokens * _KILO)
        each_s = self._each.at((running + 1) * _DECI, 0.0)
        return Prediction(first_s, first_s + each_s * output_tokens)

    def rank_s(self, uncached_tokens: float, output_tokens: float, running: int, now_s: float) -> float:
        """The predicted finish, to compare instances by; 0 when nothing is known."""
        if now_s >= self._look_s and self._seen:
            self._look()
            self._look_s = now_s + _LOOK_S if self._first.seen >= _WAITING else -math.inf
        first_s, per_prompt_token_s, per_ahead_token_s, each_s, each_beside_s = self._ranks
        return (
            first_s
            + per_prompt_token_s * uncached_tokens
            + per_ahead_token_s * self.ahead_tokens
            + (each_s + each_beside_s * running) * output_tokens
        )

    def first_s(self, uncached_tokens: float) -> float:
        """The time to the first token, as `rank_s` has it; 0 when nothing is known."""
        first = self._first
        return first.t0 + (first.t1 * uncached_tokens + first.t2 * self.ahead_tokens) * _KILO

    def produced(self, rest_s: float, running: float) -> float:
        """How many tokens came in so much time after the first; infinite when nothing is known."""
        each_s = self._each.at(running * _DECI, 0.0)
        return 1.0 + rest_s / each_s if each_s > 0.0 else math.inf

    # --- what is seen ---

    def began(self, uncached_tokens: float, ahead_tokens: float, first_s: float) -> None:
        """The first token of a stream came. ahead_tokens: when the request started."""
        self.is_known = True
        self._seen.append(("first", uncached_tokens, ahead_tokens, first_s, 0.0, 0.0))

    def ended(self, rest_s: float, tokens: float, running: float) -> None:
        """A stream is over, `rest_s` after its first token. running: requests there, the mean of its time."""
        self.is_known = True
        self._seen.append(("rest", 0.0, 0.0, rest_s, tokens, running))

    def answered(
        self, uncached_tokens: float, ahead_tokens: float, took_s: float, tokens: float, running: float
    ) -> None:
        """An answer came as a whole."""
        self.is_known = True
        self._seen.append(("whole", uncached_tokens, ahead_tokens, took_s, tokens, running))

    def _look(self) -> None:
        for kind, uncached_tokens, ahead_tokens, took_s, tokens, running in self._seen:
            prompt, ahead, crowd = uncached_tokens * _KILO, ahead_tokens * _KILO, running * _DECI
            if not 0.0 <= took_s <= MOST_S:
                continue
            match kind:
                case "first":
                    self._first.observe(prompt, ahead, took_s)
                case "rest":
                    if tokens > 1.0:
                        self._each.observe(crowd, 0.0, took_s / (tokens - 1.0))
                case "whole":
                    self._split(prompt, ahead, took_s, max(0.0, tokens - 1.0), crowd)
        self._seen.clear()
        first, each = self._first, self._each
        later_s = each.t1 * _DECI
        self._ranks = (first.t0, first.t1 * _KILO, first.t2 * _KILO, each.t0 + later_s, later_s)

    def _split(self, prompt: float, ahead: float, took_s: float, later: float, crowd: float) -> None:
        """The time of a whole answer goes to both models, in the proportion that they predicted."""
        first_s, rest_s = self._first.at(prompt, ahead), self._each.at(crowd, 0.0) * later
        if first_s <= 0.0 or (later and rest_s <= 0.0):
            first_s, rest_s = _FIRST_PER_TOKEN, later
        share = first_s / (first_s + rest_s)
        self._first.observe(prompt, ahead, took_s * share)
        if later:
            self._each.observe(crowd, 0.0, took_s * (1.0 - share) / later)
