"""JSON from vendors: it is from outside, and may be made to break who reads it."""

import json
import math
from typing import NoReturn

MAX_DEPTH = 50


def vendor_json(data: bytes | str) -> object:
    """Raises ValueError: no JSON in UTF-8, a number that is none or no float holds, or nested over MAX_DEPTH levels.

    Half a surrogate pair, as where an emoji was cut, becomes U+FFFD: it could not be written down.
    """
    try:
        return _clean(json.loads(data, parse_constant=_refuse), MAX_DEPTH)
    except RecursionError:
        raise ValueError("nested too deep") from None


def vendor_value(data: bytes | str) -> object:
    """None where it is no JSON."""
    try:
        return vendor_json(data)
    except ValueError:
        return None


def vendor_map(data: bytes | str) -> dict[str, object]:
    """Empty where it is no object of JSON."""
    return map_of(vendor_value(data))


def map_of(value: object) -> dict[str, object]:
    """Empty where it is none."""
    return value if isinstance(value, dict) else {}


def text_in(fields: object, name: str) -> str:
    """Empty where there is none."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def _clean(value: object, levels: int) -> object:
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict() if levels:
            return {_clean(name, 1): _clean(inner, levels - 1) for name, inner in value.items()}
        case list() if levels:
            return [_clean(inner, levels - 1) for inner in value]
        case dict() | list():
            raise ValueError("nested too deep")
        case float() if not math.isfinite(value):
            raise ValueError("a number that no float holds")
        case _:
            return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
