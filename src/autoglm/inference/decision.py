"""The record of one choice for `auto`: what could be chosen, what was, and what came of it.

Kept in the store as it is here; `autoglm route explain`, `/api/decisions/{id}` and the replay read it.
"""

from typing import Literal

import msgspec

from autoglm.inference.features import Features

PreferenceSource = Literal["header", "key", "tenant", "settings"]


class Weights(msgspec.Struct, frozen=True):
    """The objective `quality * q - latency * max(0, T/SLO - 1) - cost * min(c/tau, 1)`; see `engine/objective.py`."""

    quality: float
    latency: float
    cost: float


class Arm(msgspec.Struct, frozen=True, order=True):
    """What can be chosen: a model, and the parameters that are set where the client left them open."""

    model: str
    profile: str = "plain"
    """`plain` sets nothing; see `engine/profiles.py`."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An arm as it was seen in the moment of the choice."""

    arm: Arm
    quality: float
    """Predicted, in [0, 1]."""
    deviation: float
    """One standard deviation of that prediction."""
    latency_s: float
    """Predicted time to the last byte, on the instance that would have got it."""
    cost: float
    """Predicted, in the currency of the settings, or in seconds of computing where no price is set."""
    output_tokens: float = 0.0
    """Predicted; the two above follow from it. 0 in records from before it was learned."""
    score: float
    """The objective."""
    propensity: float
    """The probability with which this arm was chosen; over all candidates they sum to 1."""
    ruled_out: str = ""
    """Why it could not be chosen (then its propensity is 0): below the quality floor, context too short, ..."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """Names it in `x-autoglm-decision`; a UUIDv7."""
    time_ms: int
    tenant: str
    prefer: str
    """`fast`, `balanced`, `best`, `cheap`, or a name from the settings."""
    weights: Weights
    features: Features
    candidates: tuple[Candidate, ...]
    chosen: int
    """Index into `candidates`."""
    is_exploration: bool
    preferred_by: PreferenceSource | None = None
    """Who said what matters; None in records from before that was kept."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a decision."""

    status: int
    instance: str = ""
    moved_to: str = ""
    """The model that answered, where the chosen arm could not: it may be the same model with another profile."""
    moved_profile: str = ""
    """The profile it answered with; empty where nothing was moved, and in records from before that was kept."""
    first_token_s: float = 0.0
    took_s: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    is_guess: bool = False
    """The instance told no usage: the tokens are the hub's guess, and so is what follows from them."""
    cost: float = 0.0
    signals: dict[str, float] = {}  # msgspec copies it
    """Automatic ones, each in [0, 1], 1 is good: `json_valid`, `tool_call_valid`, `not_refused`, `not_cut_off`, ..."""


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement that came later: thumbs, a score of a program, a retry by the user."""

    decision: str
    time_ms: int
    quality: float
    """In [0, 1]."""
    source: str
    """`person`, `program`, `retry`."""
