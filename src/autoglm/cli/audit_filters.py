"""The options by which `autoglm audit` picks entries, and the times that they take."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from autoglm.auth.audit.entry import KINDS, OUTCOMES
from autoglm.core.clock import now_ms

_BACK = re.compile(r"(\d{1,6})([smhd])")
_BACK_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Moment(click.ParamType[int]):
    """`2026-11-28`, `2026-11-28T13:00`, with an offset or in local time, or `2h` ago, in milliseconds of the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if back := _BACK.fullmatch(str(value).strip()):
            return now_ms() - int(back[1]) * _BACK_MS[back[2]]
        try:
            return int(datetime.fromisoformat(str(value).strip()).astimezone().timestamp() * 1000)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2026-11-28, 2026-11-28T13:00 or 2h (ago)", param, ctx)


_FILTERS = (
    click.option("--who", metavar="ADDRESS", help="Whose: such as user:alice."),
    click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="May be repeated."),
    click.option("--action", "actions", multiple=True, metavar="ACTION", help="Such as send:message; may be repeated."),
    click.option("--outcome", "outcomes", multiple=True, type=click.Choice(OUTCOMES), help="May be repeated."),
    click.option("--since", "since_ms", type=Moment(), help="Not before: 2026-11-28, 2026-11-28T13:00, or 2h ago."),
    click.option("--until", "until_ms", type=Moment(), help="Before this time."),
    click.option("--text", default="", metavar="TEXT", help="Anywhere in an entry."),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command
