"""A request's features as numbers: for the distance between two requests, and for the linear model."""

from functools import lru_cache
from hashlib import blake2b
from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoglm.inference.features import ABSTAINED, Features

Vector = NDArray[np.float64]

PLACE_WIDTH = 11
_BASE_WIDTH = 14
_INTENT_WIDTH = 18
LINEAR_WIDTH = _BASE_WIDTH + _INTENT_WIDTH
_NO_INTENT = (0.0,) * _INTENT_WIDTH

_MOST_TOKENS = 1 << 20
_MOST_TURNS = 1 << 10


class Context(NamedTuple):
    """What the learner sees of a request. Equal `place` and `intent` count as the same request."""

    place: tuple[float, ...]
    """Coordinates whose squared distance says how unlike two requests are, without their intents."""
    intent: int
    """A stable hash of its name (63 bits), so that no table of intents can grow; 0 when the hub abstained."""
    linear: Vector
    """(LINEAR_WIDTH,): constant, flags, logarithms of lengths, and the intent hashed to one signed entry."""


def context_of(features: Features) -> Context:
    """Any features give finite numbers; lengths are cut at 2^20 tokens and 2^10 turns."""
    tokens = log2(1 + min(max(features.prompt_tokens, 0), _MOST_TOKENS))
    turns = log2(1 + min(max(features.turns, 0), _MOST_TURNS))
    confidence = features.confidence if 0.0 <= features.confidence <= 1.0 else 0.0
    language = features.language
    place = (
        0.35 * (language == "zh"),
        0.35 * (language == "en"),
        0.35 * (language == "mixed"),
        0.6 * features.has_code,
        0.6 * features.has_mathematics,
        0.8 * features.has_image,
        0.8 * features.has_audio,
        0.5 * features.wants_tools,
        0.5 * features.wants_json,
        0.12 * round(tokens),  # whole doublings, so that like requests share a cell
        0.15 * round(turns),
    )
    entries = [
        1.0,
        language == "zh",
        language == "en",
        language == "mixed",
        features.has_code,
        features.has_mathematics,
        features.has_image or features.has_audio,
        features.wants_tools,
        features.wants_json,
        tokens / 10.0 - 0.7,
        max(tokens - 10.0, 0.0) / 5.0,
        turns / 4.0,
        confidence,
        features.intent == ABSTAINED,
        *_NO_INTENT,
    ]
    intent = stable_hash(features.intent) >> 1 if features.intent != ABSTAINED else 0
    if intent:
        entries[_BASE_WIDTH + intent % _INTENT_WIDTH] = 1.0 if intent & (1 << 40) else -1.0
    return Context(place, intent, np.array(entries))  # one array from a list: a third of the time of filling zeros


@lru_cache(maxsize=1024)
def stable_hash(text: str) -> int:
    """64 bits that are the same in every process (Python's own hash is not)."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def chance(seed: str) -> float:
    """A number in [0, 1) drawn from a decision's id: a replay draws the same. Not cached: each id comes once."""
    digest = blake2b(seed.encode(errors="surrogatepass"), digest_size=8, person=b"autoglm-choice").digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
