"""What is kept of somebody's right where something goes on by itself, such as pushes to his browser."""

from typing import Literal

import msgspec

RightState = Literal["holds", "rests", "over"]
"""rests: not now, as by a policy that may change again. over: it does not come back."""


class LastingRight(msgspec.Struct, frozen=True, kw_only=True):
    """By what somebody was known when he began it. It goes on as long as that counts, and no longer."""

    credential: str = ""
    """As revocations name it; empty for what was begun before this was kept."""
    mark: str = ""
    """Of this very key, where another may get its name; empty where none can."""
    scopes: tuple[str, ...] = ()
    limit: tuple[str, ...] | None = None
    """Beyond which roles give nothing either."""
    ends_at_ms: int | None = None
    """Where nothing but its end says when it is over."""


UNKNOWN_RIGHT = LastingRight()


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who had something done that is done later, such as a task; it is asked then whether he still may."""

    address: str
    right: LastingRight
