"""On what occasion something is decided, for the audit: the request that runs. Set at the hub's edges."""

from contextvars import ContextVar
from typing import NamedTuple


class Occasion(NamedTuple):
    request_id: str
    client: str
    """Its address; empty where it is not known."""
    is_reading: bool = False
    """Whether the request changes nothing."""
    ids: tuple[str, ...] = ()
    """Of a token: by which else it could be revoked, as `jti:...` and `kid:...`."""


NOWHERE = Occasion("", "")
occasion: ContextVar[Occasion] = ContextVar("occasion", default=NOWHERE)
