"""Whether a text fits a JSON schema that a client wrote, as far as that can be told at a bounded cost.

A schema is a program: references double what is checked at each step, and `unevaluated*` looks again at what other
words have seen. So it is counted first, with its references followed, and what would take too long is not checked.
Sources: JSON Schema 2020-12, core sections 8.2 and 11; RFC 6901 (JSON pointers).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import jsonschema_rs
import msgspec

MAX_NODES = 2_000
"""Members and elements of a schema, and characters of its patterns, each as often as references lead to it; a schema
that leads to itself has no end."""
MAX_TEXT_BYTES = 64 * 1024
"""Longer texts are not held against a schema."""
MAX_STEPS = 400_000
"""Nodes of the schema times values of the text, and what patterns take: about 10 ms, at the very worst 60."""

_NODES_PER_PATTERN = 100  # it is compiled first
_STEPS_PER_BYTE = 25  # of a text, for each pattern: a slow one takes 3.5 us a byte
_MAX_PATTERN_BYTES = 32 * 1024  # compiled
_MAX_POINTER = 256
_TOO_CLEVER = frozenset({"$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems"})


class _Size(NamedTuple):
    nodes: int
    patterns: int


def fits(text: str, schema: Any) -> bool | None:
    """False for what is no JSON. None when nothing can be said: the schema is no good, or would take too long.

    schema: as the client sent it, of any type; None where it sent none.
    """
    try:
        value = msgspec.json.decode(_unfenced(text))
    except msgspec.DecodeError:
        return False
    if schema is None or schema is True:
        return True
    text_bytes = len(text.encode("utf-8", "surrogatepass"))
    if not isinstance(schema, dict) or text_bytes > MAX_TEXT_BYTES:
        return None
    size = _size_of(schema)
    if size is None or _steps(size, text, text_bytes) > MAX_STEPS:
        return None
    try:
        # Nothing is fetched, patterns are matched in linear time, and formats are remarks, as in 2020-12.
        limits = jsonschema_rs.RegexOptions(size_limit=_MAX_PATTERN_BYTES)
        checker = jsonschema_rs.validator_for(schema, offline=True, pattern_options=limits, validate_formats=False)
        return checker.is_valid(value)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return None


def _unfenced(text: str) -> str:
    """What stands in a block of code, where the text is one."""
    text = text.strip()
    first, _, rest = text.partition("\n")
    is_block = len(text) > 6 and text.endswith("```") and first.rstrip() in ("```", "```json")
    return rest[:-3] if is_block else text


def _steps(size: _Size, text: str, text_bytes: int) -> int:
    values = 1 + text.count(",") + text.count("[") + text.count("{")  # rather too many than too few
    return size.nodes * values + size.patterns * text_bytes * _STEPS_PER_BYTE


def _size_of(schema: dict[str, Any]) -> _Size | None:
    """None for more than MAX_NODES, and for what cannot be counted. Every member counts, whatever it means."""
    nodes = patterns = 0
    has_names = has_references = False
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        nodes += len(node)
        if isinstance(node, dict):
            if not _TOO_CLEVER.isdisjoint(node):
                return None
            has_names = has_names or (node is not schema and _has_name(node))
            reference = node.get("$ref")
            if isinstance(reference, str):
                has_references = True
                target = _target_of(reference, schema)
                nodes += 1
                if isinstance(target, dict):
                    waiting.append(target)
                elif not isinstance(target, bool):
                    return None
            found = _patterns_in(node)
            patterns += len(found)
            nodes += sum(_NODES_PER_PATTERN + len(pattern) for pattern in found)
        waiting += [inner for inner in (node.values() if isinstance(node, dict) else node) if _is_node(inner)]
        if nodes > MAX_NODES or (has_names and has_references):  # a name changes what references mean
            return None
    return _Size(max(1, nodes), patterns)


def _is_node(value: Any) -> bool:
    return isinstance(value, dict | list)


def _has_name(node: Mapping[str, Any]) -> bool:
    return any(isinstance(node.get(word), str) for word in ("$id", "id"))


def _patterns_in(node: Mapping[str, Any]) -> list[str]:
    pattern, by_name = node.get("pattern"), node.get("patternProperties")
    found = [pattern] if isinstance(pattern, str) else []
    return [*found, *by_name] if isinstance(by_name, dict) else found


def _target_of(reference: str, schema: dict[str, Any]) -> Any:
    """What a JSON pointer within the schema leads to; None for other references, and where there is nothing."""
    if reference == "#":
        return schema
    if not reference.startswith("#/") or len(reference) > _MAX_POINTER:
        return None
    target: Any = schema
    for raw_step in unquote(reference[2:]).split("/"):
        step = raw_step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict):
            target = target.get(step)
        elif isinstance(target, list) and step.isdecimal() and len(step) < 6 and int(step) < len(target):
            target = target[int(step)]
        else:
            return None
    return target
