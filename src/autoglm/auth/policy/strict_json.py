"""JSON in which two readers cannot see two things: UTF-8, no key twice, no NaN, no number beyond all bounds."""

import json
import math
from collections.abc import Callable
from typing import Any


def parse_strictly(data: bytes, refuse: Callable[[str], Exception]) -> Any:
    """The value. Raises what `refuse` makes of the reason.

    The caller has bounded the size; depth is bounded by Python's stack, whose end is a reason as any other.
    """
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_without_repeats, parse_constant=_no_constant, parse_float=_finite
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise refuse(f"it is no strict JSON: {str(error)[:200]}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value
