"""Progress bars for long work: one line that is written anew on a terminal, a line for each step otherwise."""

import sys
from types import TracebackType
from typing import Self

import click

from autoglm.cli.screen import fitting, size

_BAR_COLUMNS = 30


class Bar:
    """On standard error. A context manager; leaving it ends the line."""

    def __init__(self, title: str, *, unit: str = "") -> None:
        """unit: of what is counted, where that is not bytes."""
        self._title, self._unit = title, unit
        self._is_terminal = sys.stderr.isatty()
        self._step: str | None = None
        self._percent = -1

    def show(self, step: str, done_bytes: int, total_bytes: int) -> None:
        """total_bytes: 0 when it is not known. Called as often as one likes; draws when there is news."""
        percent = int(100 * min(done_bytes / total_bytes, 1.0)) if total_bytes > 0 else 0
        is_new_step, self._step = step != self._step, step
        if not self._is_terminal:
            if is_new_step:
                click.echo(f"{self._title}: {step}", err=True)
            return
        if is_new_step or percent != self._percent:
            self._percent = percent
            self._draw(step, percent, done_bytes, total_bytes)

    def _draw(self, step: str, percent: int, done_bytes: int, total_bytes: int) -> None:
        filled = _BAR_COLUMNS * percent // 100
        amounts = (
            f"{done_bytes} of {total_bytes} {self._unit}"
            if self._unit
            else f"{size(done_bytes)} of {size(total_bytes)}"
        )
        figures = f"{percent:3d} %  {amounts}" if total_bytes > 0 else ""
        line = f"{self._title} [{'█' * filled}{'·' * (_BAR_COLUMNS - filled)}] {figures}  {step}"
        click.echo(f"\r\033[K{fitting(line)}", nl=False, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal and self._step is not None:
            click.echo("", err=True)
