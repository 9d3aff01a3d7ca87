"""What is piped into a command."""

import sys

import click


def is_terminal() -> bool:
    """True when somebody could type: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def piped_text() -> str:
    """All of standard input, whatever the locale says as UTF-8; '' where there is none. Raises UsageError."""
    if sys.stdin is None or sys.stdin.closed:
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise click.UsageError("standard input is no UTF-8 text") from None
