"""What a field takes, in words, read off the type that a body is decoded into."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from msgspec import inspect

_STEPS = re.compile(r"\[[^\]]*\]|[^.\[]+")
_GOT = re.compile(r"got `(\w+)`$")
_WRONG = re.compile(r"Invalid (?:enum )?value (.*)$", re.DOTALL)
_KINDS = {
    "int": "a whole number", "float": "a decimal number", "str": "text", "bool": "true or false", "null": "null",
    "array": "a list", "object": "an object",
}  # fmt: skip
_type_info = lru_cache(64)(inspect.type_info)


def expectation(kind: Any, path: str, reason: str, *, is_name: bool = False) -> str:
    """ "must be a whole number from 0 to 9, not text", for what msgspec calls ``Expected `int`, got `str` ``.

    kind: the type of the whole. path: as msgspec has it, without the `$.`. reason: msgspec's own words. is_name: it is
    about a name in the object at the path. Empty where the type says nothing.
    """
    types = list(_plain(_type_info(kind)))
    for step in _STEPS.findall(path):
        types = [inner for entry in types for inner in _within(entry, step)]
    if is_name:
        types = [entry.key_type for entry in types if isinstance(entry, inspect.DictType)]
    values = [repr(value) for entry in types if isinstance(entry, inspect.LiteralType) for value in entry.values]
    listed = [f"one of {', '.join(dict.fromkeys(values))}"] if len(values) > 1 else values
    words = " or ".join(dict.fromkeys([*listed, *filter(None, map(_word, types))]))
    if not words:
        return ""
    got, wrong = _GOT.search(reason), _WRONG.match(reason)
    unlike = f", not {wrong[1][:40]}" if wrong else f", not {_KINDS[got[1]]}" if got and got[1] in _KINDS else ""
    return f"{'each name in it ' if is_name else ''}must be {words}{unlike}"


def _plain(entry: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union, each without what is only for the schema."""
    match entry:
        case inspect.Metadata():
            yield from _plain(entry.type)
        case inspect.UnionType():
            for inner in entry.types:
                yield from _plain(inner)
        case _:
            yield entry


def _within(entry: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """The types of what lies one step further: `name`, `[0]`, or `[...]` for any value of a dict."""
    match entry:
        case inspect.StructType() if step == entry.tag_field:
            yield inspect.LiteralType((entry.tag,))
        case inspect.StructType():
            for field in entry.fields:
                if field.encode_name == step:
                    yield from _plain(field.type)
        case inspect.ListType() if step.startswith("["):
            yield from _plain(entry.item_type)
        case inspect.DictType() if step.startswith("["):
            yield from _plain(entry.value_type)


def _word(entry: inspect.Type) -> str:
    word, size = "", ""
    match entry:
        case inspect.IntType() | inspect.FloatType():
            word = "a whole number" if isinstance(entry, inspect.IntType) else "a number"
            size = _range(entry.ge, entry.le)
        case inspect.StrType():
            word, size = "text", _size("of", entry, "characters")
        case inspect.ListType():
            word, size = "a list", _size("of", entry, "entries")
        case inspect.DictType():
            word, size = "an object", _size("with", entry, "entries")
        case inspect.StructType():
            word = "an object"
        case inspect.BoolType():
            word = "true or false"
    return word + size


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f" of at most {high}"
    return f" of at least {low}" if high is None else f" from {low} to {high}"


def _size(link: str, entry: inspect.StrType | inspect.ListType | inspect.DictType, unit: str) -> str:
    low, high = entry.min_length, entry.max_length
    if low is None and high is None:
        return ""
    bounds = f"at most {high}" if low is None else f"at least {low}" if high is None else f"{low} to {high}"
    return f" {link} {bounds} {unit}"
