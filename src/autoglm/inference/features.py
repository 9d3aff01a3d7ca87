"""What the hub understood of a request: the facts that choose model, parameters and instance."""

from typing import Literal

import msgspec

Language = Literal["zh", "en", "mixed", "other", "none"]
"""`none`: there is no text."""

ABSTAINED = ""
INTENT_PATTERN = "^[a-z0-9][a-z0-9_-]{0,63}$"
"""Of an intent's name."""


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """Small and free of the user's words, so that it can be kept with a decision and shown."""

    api: str
    """Such as `/chat/completions`."""
    language: Language = "none"
    has_code: bool = False
    has_mathematics: bool = False
    has_image: bool = False
    has_audio: bool = False
    wants_tools: bool = False
    wants_json: bool = False
    prompt_tokens: int = 0
    """An estimate, before any tokenizer has seen it."""
    turns: int = 0
    """Messages of the conversation."""
    intent: str = ABSTAINED
    """The intent's name; empty when nothing was sure enough."""
    confidence: float = 0.0
    """Of the intent, in [0, 1]; 1 for a hint."""
    source: Literal["hint", "rule", "classifier", "none"] = "none"
    """What named the intent."""
