"""Sets up logging: readable on a terminal, JSON otherwise. All of it goes to standard error."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


class _Unfailing:
    """Standard error, whose failures are not ours: a full disk or a closed pipe must not stop the hub."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def set_up_logs(*, is_terminal: bool, level: int = logging.INFO) -> None:
    """structlog for our own events, and the standard library's records (uvicorn, asyncio) in the same form."""
    stream = _Unfailing()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_terminal else "iso", utc=not is_terminal, key="time"),
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if is_terminal:
        # structlog's own choice, rich, would print local variables, and with them keys and messages.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=True, pad_event_to=24, exception_formatter=plain)
    tail: list[structlog.typing.Processor] = [] if is_terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *tail, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def quiet_logs() -> None:
    """For commands that end by themselves: only what somebody should look at, and never on standard output."""
    set_up_logs(is_terminal=sys.stderr.isatty(), level=logging.WARNING)
