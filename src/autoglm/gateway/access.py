"""The access log: one line a request, formatted cheaply and written in batches.

structlog would cost as much as the rest of a request; these lines have the same form (JSON, or text on a terminal).
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from time import gmtime, strftime, time
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
def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode().replace("\\", "\\\\").replace('"', '\\"')


@lru_cache(4)
def _iso(at_ms: int) -> str:
    """In UTC, as structlog's lines have it. Cached: a busy hub writes many lines in a millisecond."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(4)
def _second(at_s: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at_s))


def json_line(at_s: float, exchange: Exchange, took_s: float) -> str:
    """One JSON object. Its strings are the hub's own words or checked names; what a client chose is escaped."""
    path = _escaped(exchange.path[:200])
    caller = exchange.principal.name if exchange.principal else ""
    at = _iso(int(at_s * 1e3))
    code, model, instance = "", exchange.model, exchange.instance
    if exchange.code:
        code = f'"code": "{exchange.code}", '
        instance = instance or exchange.blamed
    if exchange.asked and not model:
        model = _escaped(exchange.asked[:200])
    return (
        f'{{"event": "request_served", "time": "{at}", "method": "{exchange.method}", "path": "{path}", '
        f'"status": {exchange.status}, {code}"took_ms": {took_s * 1e3:.1f}, "key": "{caller}", "model": "{model}", '
        f'"instance": "{instance}", "tokens_in": {exchange.tokens_in}, "tokens_out": {exchange.tokens_out}, '
        f'"request_id": "{exchange.request_id}"}}\n'
    )


def text_line(at_s: float, exchange: Exchange, took_s: float) -> str:
    """For people at a terminal."""
    path = exchange.path[:200].encode("unicode_escape").decode()
    code = f" {exchange.code}" if exchange.code else ""
    model = exchange.model or exchange.asked[:200].encode("unicode_escape").decode()
    instance = exchange.instance or exchange.blamed
    where = f" {model}" if model else ""
    where += f" on {instance}" if instance else ""
    tokens = f" {exchange.tokens_out} tokens" if exchange.tokens_out else ""
    return f"  {exchange.method:<5} {path} {exchange.status}{code} {took_s * 1e3:.0f} ms{where}{tokens}\n"


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
