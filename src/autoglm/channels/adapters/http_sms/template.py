"""Fills {to}, {text} and {id} into addresses and bodies so that no value can become anything but a value."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

PLACEHOLDERS = ("to", "text", "id")
_placeholder = re.compile(r"\{([A-Za-z_]\w*)\}")


def check_template(template: str, known: tuple[str, ...] = PLACEHOLDERS) -> None:
    """Raises ValueError when it has a placeholder that nothing fills."""
    for name in _placeholder.findall(template):
        if name not in known:
            raise ValueError(f"nothing fills {{{name}}}; there are {', '.join(f'{{{entry}}}' for entry in known)}")


def filled(template: str, values: Mapping[str, str], quoted: Callable[[str], str] = str) -> str:
    """In one pass: a value that reads like a placeholder stays what it is."""
    return _placeholder.sub(lambda found: quoted(values[found[1]]), template)


def filled_query(url: str, values: Mapping[str, str]) -> str:
    return filled(url, values, lambda value: quote(value, safe="", errors="replace"))


def filled_form(body: str, values: Mapping[str, str]) -> bytes:
    """Of application/x-www-form-urlencoded."""
    return filled(body, values, lambda value: quote_plus(value, errors="replace")).encode()


def filled_json(body: str, values: Mapping[str, str]) -> bytes:
    """The template is parsed first: values are put into its strings, and the whole is written anew."""
    return json.dumps(_in_strings(json.loads(body), values), ensure_ascii=False).encode("utf-8", "replace")


def _in_strings(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return filled(value, values)
        case list():
            return [_in_strings(entry, values) for entry in value]
        case dict():
            return {name: _in_strings(entry, values) for name, entry in value.items()}
        case _:
            return value


def at(value: object, path: str) -> str | None:
    """What is at `data.0.id` in JSON, as text: 7, true and "7" are "7", "true" and "7". None where no such value is."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step[:9]) < len(value):
            value = value[int(step[:9])]
        else:
            return None
    if value is None or isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else json.dumps(value)
