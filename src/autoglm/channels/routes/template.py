"""The text of a message by a route's template: Jinja2 in its sandbox, bounded."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from autoglm.channels.pieces import truncated
from autoglm.channels.routes.event import Event
from autoglm.core.errors import InvalidField

if TYPE_CHECKING:
    from jinja2 import Template

MAX_TEXT_BYTES = 64 * 1024


def rendered(source: str, events: Sequence[Event], *, language: str = "zh", field: str = "template") -> str:
    """`event` is the first of `events`; `count` and `language` beside them. Raises InvalidField where it fails."""
    from jinja2 import TemplateError

    try:
        text = _compiled(source).render(event=events[0], events=events, count=len(events), language=language)
    except TemplateError as error:
        raise InvalidField(field, f"the template fails: {error}") from None
    except Exception as error:  # noqa: BLE001  # a filter raises what it likes, such as AttributeError for a number
        raise InvalidField(field, f"the template fails: {type(error).__name__}: {error}"[:300]) from None
    return truncated(text, MAX_TEXT_BYTES)


def check_template(source: str, field: str) -> None:
    """Raises InvalidField when it is none."""
    from jinja2 import TemplateSyntaxError

    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        raise InvalidField(field, f"line {error.lineno}: {error.message}") from None


def plain_text(events: Sequence[Event]) -> str:
    """Without a template: the event's title and text; of several, a line for each."""
    if len(events) == 1:
        event = events[0]
        over = "[已恢复 / resolved] " if event.state == "resolved" else ""
        head = f"{over}{event.title}".strip()
        return truncated("\n".join(part for part in (head, event.content) if part), MAX_TEXT_BYTES)
    lines = [f"[{len(events)} 个事件 / {len(events)} events]", *(f"- {_line(event)}" for event in events)]
    return truncated("\n".join(lines), MAX_TEXT_BYTES)


def _line(event: Event) -> str:
    text = " ".join(f"{event.title} {event.content}".split())
    return f"[已恢复 / resolved] {text}" if event.state == "resolved" else text


@lru_cache(256)
def _compiled(source: str) -> "Template":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Texts of strangers are values here, never templates; channels that show HTML escape it themselves.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    return environment.from_string(source)
