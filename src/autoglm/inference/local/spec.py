"""What a local instance is to be, and how it fares."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

Mode = Literal["chat", "embedding"]


class LocalSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One local instance. The defaults keep the 0.5B model at 0.97 GB of memory, 1.2 GB at most after long use."""

    name: str
    """Of the instance, for logs and errors."""
    model: str
    """The name that requests use."""
    path: Path
    context_tokens: int = 8192
    """For each slot; no more than the model was trained with is used.

    Each slot has its own share of memory. One pool for all (llama.cpp's kv_unified) would let a lone chat grow longer,
    but when it overflows, every running chat fails with "Context size has been exceeded" (tried with 4 at a time).
    """
    slots: int = 4
    """Requests at one time."""
    threads: int = 1
    """See `cores.share_threads`: two threads on cores that others use, too, are up to 20 times slower than one."""
    mode: Mode = "chat"
    host: str = "127.0.0.1"
    """The address to listen on."""
    prompt_cache_bytes: int = 128 * 1024 * 1024
    """Prompts kept beside the slots, so that a chat goes on quickly after others had its slot. llama.cpp takes 8 GB."""
    sleep_after_s: int | None = None
    """Without requests for so long, the worker gives its memory back and keeps its process; a request wakes it."""
    environment: Mapping[str, str] = {}
    """More variables for the child, such as LD_LIBRARY_PATH for a GPU build. It inherits none."""
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 5.0
    """Between the request to stop and the kill."""
    health_interval_s: float = 10.0
    health_timeout_s: float = 10.0
    """After 3 health checks in a row without an answer the child counts as hung and is replaced."""


class Starting(msgspec.Struct, frozen=True, kw_only=True, tag="starting"):
    """A child is loading the model."""


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """It takes requests. Address and key change with each start."""

    base_url: str
    """Up to and with /v1."""
    api_key: str
    """Requests without it get 401: other users of the machine can reach the port, too."""
    context_tokens: int
    """For each slot."""
    start_s: float
    pid: int = 0

    def __repr__(self) -> str:
        return f"Ready(base_url={self.base_url!r}, api_key=***, context_tokens={self.context_tokens})"


class Down(msgspec.Struct, frozen=True, kw_only=True, tag="down"):
    """It takes no requests."""

    reason: str
    """A sentence for people."""
    retry_in_s: float | None = None
    """None: it was stopped, or was to come up at once and did not, and stays so."""


LocalState = Starting | Ready | Down
