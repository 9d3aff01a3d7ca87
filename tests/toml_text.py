"""Writes TOML, which the standard library only reads. Source: TOML 1.0, strings and inline tables."""

import math
from typing import Any


def toml_text(tree: dict[str, Any]) -> str:
    """The tree as a TOML document, every table inline."""
    return "".join(f"{_string(name)} = {_value(value)}\n" for name, value in tree.items())


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return ("-" if math.copysign(1, value) < 0 else "") + _magnitude(abs(value))
        case str():
            return _string(value)
        case list():
            return "[" + ", ".join(_value(entry) for entry in value) + "]"
        case dict():
            return "{" + ", ".join(f"{_string(name)} = {_value(entry)}" for name, entry in value.items()) + "}"
        case _:
            return str(value)


def _magnitude(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return str(value)
    text = repr(value)
    return text if "." in text or "e" in text else f"{text}.0"


def _string(text: str) -> str:
    """A basic string; what may not stand in one is written as an escape."""
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
