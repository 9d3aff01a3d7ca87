"""A line for who waits at a terminal, so that a command that is silent does not look like one that hangs."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from autoglm.cli.screen import fitting

PATIENCE_S = 3.0
"""So long a silence needs no explanation."""


@contextmanager
def waiting_line(text: str) -> Iterator[None]:
    """Shows `text` on standard error once the block has taken PATIENCE_S, and clears it at the block's end. Only on a
    terminal.
    """
    if not sys.stderr.isatty():
        yield
        return
    lock = threading.Lock()
    has_ended = is_shown = False

    def show() -> None:
        nonlocal is_shown
        with lock:
            if not has_ended:
                is_shown = True
                click.echo(fitting(text), nl=False, err=True)

    timer = threading.Timer(PATIENCE_S, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            has_ended = True
            if is_shown:
                click.echo("\r\033[K", nl=False, err=True)
