"""Which instance has the start of a conversation in its cache: the next turn there costs only what is new.

The names follow vLLM's "automatic prefix caching"; the load guard is that of bounded-load consistent hashing
(Mirrokni et al. 2018): affinity must not make a hot spot.
"""

import msgspec

from autoglm.inference.call import Call

MAX_PREFIXES = 16_384
WORTH_BYTES = 1024
"""Shorter bodies are not looked at: 250 tokens are read sooner than a detour pays."""
LONG_BYTES = 256 * 1024
"""The messages of longer bodies are not told apart: 31 MiB of empty ones would take 2 s and 800 MB."""
_LEADING_BYTES = 16 * 1024
"""So much of them then names the conversation."""
_LEADING = 4
"""Messages that are looked at, up to the first of the user."""
_SPREAD = 1.5
_SPARE = 2
"""The home of a prefix may run 1.5 times what the least busy runs, or two requests more."""


class _Start(msgspec.Struct):
    messages: list[msgspec.Raw] = []  # msgspec copies it
    prompt_cache_key: str = ""
    user: str = ""


class _LongStart(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    prompt_cache_key: str = ""
    user: str = ""


_decode = msgspec.json.Decoder(_Start).decode
_decode_long = msgspec.json.Decoder(_LongStart).decode


def prefix_of(call: Call) -> int:
    """A number for the conversation's start, its model and tenant; 0 when there is none, or it is short.

    `prompt_cache_key`, OpenAI's own hint, names it; else the messages up to the first of the user do, together with
    `user`. Of a long body the beginning of the messages does.
    """
    if len(call.body) < WORTH_BYTES:
        return 0
    try:
        start = _decode(call.body) if len(call.body) <= LONG_BYTES else _decode_long(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0  # of another shape: the instance will say what it thinks of it
    if start.prompt_cache_key:
        return hash((call.tenant, call.model, start.prompt_cache_key)) or 1
    leading: list[bytes] = []
    if isinstance(start, _LongStart):
        messages = bytes(start.messages)
        return hash((call.tenant, call.model, start.user, messages[:_LEADING_BYTES])) or 1 if messages else 0
    for message in start.messages[:_LEADING]:
        leading.append(bytes(message))
        # Quotes within a text are escaped: this is a role.
        if b'"user"' in leading[-1]:
            break
    if not leading:
        return 0
    return hash((call.tenant, call.model, start.user, *leading)) or 1


class PrefixTable:
    """The homes of the prefixes that were seen lately; the one longest unused is forgotten first."""

    __slots__ = ("_homes",)

    def __init__(self) -> None:
        self._homes: dict[int, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._homes)

    def home_of(self, prefix: int) -> tuple[str, float]:
        """(instance, tokens of the conversation that it has seen); ("", 0) when unknown."""
        return self._homes.get(prefix, ("", 0.0))

    def note(self, prefix: int, instance: str, tokens: float) -> None:
        """The conversation went on there, and then was `tokens` long."""
        homes = self._homes
        homes.pop(prefix, None)
        homes[prefix] = (instance, tokens)
        if len(homes) > MAX_PREFIXES:
            del homes[next(iter(homes))]


def may_stay(running: int, least: int) -> bool:
    """True while a conversation's home, where `running` requests run, does hardly more than the least busy instance."""
    return running <= max(_SPREAD * least, least + _SPARE)
