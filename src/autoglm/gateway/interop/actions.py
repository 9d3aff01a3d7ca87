"""The buttons of an ntfy publication: `view, Open, https://...; http, Stop, https://..., body=...`, or JSON.

Source: docs.ntfy.sh/publish, "Action buttons".
"""

import re
from typing import Any, Literal

import msgspec

from autoglm.core.envelope import decode_body
from autoglm.core.errors import InvalidField

MAX_ACTIONS = 3
_PLACES = ("action", "label", "url")
"""What a value without a name is, by its place."""
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_section = re.compile(
    r"""\s*+(?:(?P<name>[-.\w]++)\s*+=\s*+)?+
    (?:"(?P<double>(?:[^"\\]|\\.)*+)"|'(?P<single>(?:[^'\\]|\\.)*+)'|(?P<plain>(?!["'])[^,;]*+))
    \s*(?P<end>[,;]|$)""",
    re.VERBOSE | re.DOTALL,
).match


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    action: Literal["view", "http", "broadcast"]
    label: str
    url: str = ""
    """What is opened, or called."""
    clear: bool = False
    """The notification goes away when the button was pressed."""
    method: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    intent: str = ""
    extras: dict[str, str] = {}


_decoder = msgspec.json.Decoder(list[Action])


def parse_actions(text: str) -> list[Action]:
    """Raises InvalidField, InvalidJson."""
    text = text.strip()
    if text.startswith("["):
        actions = decode_body(text.encode(), _decoder)
    else:
        actions = [_converted(fields) for fields in _parsed(text)] if text else []
    check_actions(actions)
    return actions


def check_actions(actions: list[Action]) -> None:
    """Raises InvalidField."""
    if len(actions) > MAX_ACTIONS:
        raise InvalidField("actions", f"there are {len(actions)}, and {MAX_ACTIONS} are the limit")
    for number, action in enumerate(actions, 1):
        if not action.label:
            raise InvalidField("actions", f"number {number} has no label")
        if action.action in ("view", "http") and not action.url:
            raise InvalidField("actions", f"number {number}, {action.label[:40]!r}, has no url")


def _parsed(text: str) -> list[dict[str, Any]]:
    """The fields of each action in the short form."""
    found: list[dict[str, Any]] = []
    at, fields, place = 0, dict[str, Any](), 0
    while True:
        section = _section(text, at)
        if section is None:
            raise InvalidField("actions", f"cannot be read from {text[at : at + 40]!r} on")
        value = section["plain"]
        if value is None:
            value = re.sub(r"\\(.)", r"\1", section["double"] or section["single"] or "")
        _put(fields, section["name"] or "", value.strip(), place)
        at, place = section.end(), place + 1
        if section["end"] == ",":
            continue
        found.append(fields)
        fields, place = {}, 0
        if not text[at:].strip():
            return found


def _put(fields: dict[str, Any], name: str, value: str, place: int) -> None:
    if not name:
        if place >= len(_PLACES):
            raise InvalidField("actions", f"{value[:40]!r} has no name, such as body=")
        name = _PLACES[place]
    group, dot, inner = name.partition(".")
    if dot and group in ("headers", "extras"):
        fields.setdefault(group, {})[inner] = value
    elif name == "clear":
        if value.lower() not in _BOOLEANS:
            raise InvalidField("actions", f"clear is {value[:40]!r}; it must be true or false")
        fields["clear"] = _BOOLEANS[value.lower()]
    elif name in Action.__struct_fields__ and name not in ("headers", "extras"):
        fields[name] = value.lower() if name == "action" else value
    else:
        raise InvalidField("actions", f"there is no field {name[:40]!r}")


def _converted(fields: dict[str, Any]) -> Action:
    try:
        return msgspec.convert(fields, Action)
    except msgspec.ValidationError as error:
        raise InvalidField("actions", f"{error}") from None
