"""Reads parameters and small bodies of requests, with errors that name the field."""

import re
from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from autoglm.core.address import check_address
from autoglm.core.envelope import decode_body
from autoglm.core.errors import InvalidField, did_you_mean

T = TypeVar("T")
_is_integer = re.compile(r"[0-9]{1,16}").fullmatch
_is_number = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?").fullmatch


_decoders: dict[Any, tuple[msgspec.json.Decoder[Any], tuple[str, ...]]] = {}


def decode(body: bytes, kind: type[T]) -> T:
    """Parse a body into a struct. Raises InvalidJson, InvalidField."""
    known = _decoders.get(kind)
    if known is None:
        names = tuple(field.encode_name for field in msgspec.structs.fields(kind))  # type: ignore[arg-type]  # a struct
        known = _decoders[kind] = msgspec.json.Decoder(kind), names
    value: T = decode_body(body, *known)
    return value


def only(query: dict[str, str], known: Collection[str]) -> None:
    """Raises InvalidField for a parameter that there is not: a misspelt `wait` would ask without a pause."""
    for name in query:
        if name not in known:
            names = ", ".join(known) or "none"
            hint = did_you_mean(name, list(known))
            raise InvalidField(name[:40], f"there is no such parameter.{hint} Known here: {names}")


def text(query: dict[str, str], name: str, *, most: int) -> str:
    """Empty when absent. most: characters. Raises InvalidField."""
    value = query.get(name, "")
    if len(value) > most:
        raise InvalidField(name, f"may have {most} characters at most")
    return value


def integer(query: dict[str, str], name: str, default: int, *, low: int = 0, high: int = 2**53 - 1) -> int:
    text = query.get(name)
    return default if text is None else whole_number(text, name, low=low, high=high)


def whole_number(text: str, name: str, *, low: int = 0, high: int = 2**53 - 1) -> int:
    if _is_integer(text) is None or not low <= int(text) <= high:
        raise InvalidField(name, f"must be a whole number from {low} to {high}, not {text[:40]!r}")
    return int(text)


def seconds(query: dict[str, str], name: str, *, high: float) -> float:
    text = query.get(name, "0")
    if _is_number(text) is None or float(text) > high:
        raise InvalidField(name, f"must be seconds from 0 to {high:g}, not {text[:40]!r}")
    return float(text)


def address(query: dict[str, str], name: str = "to") -> str:
    """A checked address from the query. Raises InvalidField when it is missing or none."""
    text = query.get(name)
    if text is None:
        raise InvalidField(name, "is missing; say whose messages: ?to=user:alice")
    check_address(text, field=name)
    return text
