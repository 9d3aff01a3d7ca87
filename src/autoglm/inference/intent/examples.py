"""The examples of all intents: the hub's own, those of the settings, and those that were taught."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from autoglm.inference.features import INTENT_PATTERN

is_intent_name = re.compile(INTENT_PATTERN.removesuffix("$")).fullmatch
MIN_EXAMPLES = 3
"""Of an intent that is new."""
MAX_EXAMPLE_CHARACTERS = 500

_FILE = Path(__file__).with_name("default_intents.toml")

Examples = Mapping[str, tuple[str, ...]]
"""Texts by the name of their intent."""


class _Table(msgspec.Struct):
    name: str
    description: str
    examples: tuple[str, ...]


class _File(msgspec.Struct):
    intent: tuple[_Table, ...]


def default_examples() -> dict[str, tuple[str, ...]]:
    """The hub's own intents. Reads a file of 60 KiB: 10 ms."""
    read = msgspec.convert(tomllib.loads(_FILE.read_text("utf-8")), _File)
    return {table.name: table.examples for table in read.intent}


def merged(*layers: Examples) -> dict[str, tuple[str, ...]]:
    """All layers together. A text belongs to the intent of the last layer that has it, so that teaching corrects.

    Intents that lose their last example that way are left out.
    """
    owners: dict[str, str] = {}
    for layer in layers:
        for name, texts in layer.items():
            for text in texts:
                owners[text] = name
    together: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for text, name in owners.items():
        together[name].append(text)
    return {name: tuple(texts) for name, texts in together.items() if texts}


def cleaned(texts: Iterable[str]) -> tuple[str, ...]:
    """Without blanks around them, each once, none that is empty."""
    return tuple(dict.fromkeys(text for text in map(str.strip, texts) if text))
