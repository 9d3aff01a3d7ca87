"""The access log: one line a request, formatted cheaply and written in batches.

structlog would cost as much as the rest of a request; these lines have the same form (JSON, or text on a terminal).
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from time import time
from typing import Protocol

from autoglm.gateway.exchange import Exchange

_FLUSH_S = 0.25
_MAX_LINES = 1000


class Sink(Protocol):
    """A text stream, such as sys.stdout."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


Format = Callable[[float, Exchange, float], str]


@lru_cache(1024)
def _escaped(path: str) -> str:
    return path.encode("unicode_escape").decode().replace("\\", "\\\\").replace('"', '\\"')


def json_line(at_s: float, exchange: Exchange, took_s: float) -> str:
    """One JSON object. All strings in it are the hub's own words or checked names, but the path: it is escaped."""
    path = _escaped(exchange.path[:200])
    caller = exchange.principal.name if exchange.principal else ""
    return (
        f'{{"event": "request_served", "time": {at_s:.3f}, "method": "{exchange.method}", "path": "{path}", '
        f'"status": {exchange.status}, "took_ms": {took_s * 1e3:.1f}, "key": "{caller}", "model": "{exchange.model}", '
        f'"instance": "{exchange.instance}", "tokens_in": {exchange.tokens_in}, "tokens_out": {exchange.tokens_out}, '
        f'"request_id": "{exchange.request_id}"}}\n'
    )


def text_line(at_s: float, exchange: Exchange, took_s: float) -> str:
    """For people at a terminal."""
    path = exchange.path[:200].encode("unicode_escape").decode()
    tokens = f" {exchange.tokens_out} tokens" if exchange.tokens_out else ""
    where = f" {exchange.model} on {exchange.instance}" if exchange.instance else ""
    return f"  {exchange.method:<5} {path} {exchange.status} {took_s * 1e3:.0f} ms{where}{tokens}\n"


class AccessLog:
    """Collects lines and writes them every quarter of a second, or when many have come together."""

    def __init__(self, stream: Sink, form: Format) -> None:
        self._stream: Sink = stream
        self._form = form
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange, took_s: float) -> None:
        self._lines.append(self._form(time(), exchange, took_s))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        elif len(self._lines) >= _MAX_LINES:
            self.flush()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe or a full disk must not stop the hub; /metrics still counts
            self._stream = _Nowhere()


class _Nowhere:
    """Where lines go once the stream is gone."""

    def write(self, text: str, /) -> int:
        return len(text)

    def flush(self) -> None:
        return None
