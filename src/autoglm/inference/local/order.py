"""What parent and worker tell each other: one order down, events up, each a line of JSON."""

import msgspec

from autoglm.inference.local.spec import Mode


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The one line on the worker's stdin. stdin stays open: its end tells the worker that its parent is gone."""

    parent_pid: int
    path: str
    model: str
    api_key: str
    host: str = "127.0.0.1"
    context_tokens: int
    slots: int
    threads: int
    mode: Mode
    prompt_cache_bytes: int
    sleep_after_s: int | None = None


class ServerReady(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ready"):
    """The server listens and the model is loaded."""

    url: str
    """Without /v1."""
    context_tokens: int
    """For each slot, after the model's own limit."""


class ServerFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="failed"):
    """The worker gives up and ends."""

    reason: str
    is_missing_package: bool = False


Event = ServerReady | ServerFailed
