"""Sets up logging: readable on a terminal, JSON otherwise. All of it goes to standard error."""

import logging
import sys
from typing import TextIO, cast

import structlog

from autoglm.cli.patient import PatientStream
from autoglm.core.standard_error import StandardError


def set_up_patient_logs(*, is_terminal: bool) -> PatientStream:
    """For the hub: whoever reads its log, or does not, never holds it up. Returns the stream; `drain` it in the end."""
    stream = PatientStream(sys.stderr)
    _set_up(cast(TextIO, stream), is_terminal=is_terminal, level=logging.INFO)
    return stream


def quiet_logs() -> None:
    """For commands that end by themselves: only what somebody should look at, and never on standard output."""
    _set_up(cast(TextIO, StandardError()), is_terminal=sys.stderr.isatty(), level=logging.WARNING)


def _set_up(stream: TextIO, *, is_terminal: bool, level: int) -> None:
    """structlog for our own events, and the standard library's records (uvicorn, asyncio) in the same form."""
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
        logger_factory=structlog.WriteLoggerFactory(stream),
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
