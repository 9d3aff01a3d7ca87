"""Whether an event is what a route asks for, and why not. Pure: the same answer each time, and words for people."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from autoglm.channels.routes.event import Event
from autoglm.channels.routes.settings import Hours, Match

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def mismatch(match: Match, event: Event, now_ms: int) -> str:
    """The first reason for which the event does not match; empty when it does."""
    return next(_mismatches(match, event, now_ms), "")


def _mismatches(match: Match, event: Event, now_ms: int) -> Iterator[str]:
    if match.kinds and event.kind not in match.kinds:
        yield f"its kind is {event.kind}, not {' or '.join(match.kinds)}"
    for name, wanted in match.labels.items():
        value = event.labels.get(name, "")
        if not value_fits(wanted, value):
            yield f"its label {name} is {value!r}, and {wanted!r} is asked for"
    if event.priority < match.min_priority:
        yield f"its priority is {event.priority}, below {match.min_priority}"
    if match.senders and not any(_like(event.from_, pattern) for pattern in match.senders):
        yield f"it comes from {event.from_}"
    if match.addressees and not any(_like(event.to or "", pattern) for pattern in match.addressees):
        yield f"it is for {event.to or 'nobody by name'}"
    if match.hours is not None and not is_within(match.hours, now_ms):
        yield f"it is not between {match.hours.from_} and {match.hours.to} {match.hours.zone}"


def value_fits(wanted: str, value: str) -> bool:
    """A label's value against what is asked for: `crit*`, `!3`, "" for an absent one."""
    if wanted.startswith("!"):
        return not _like(value, wanted[1:])
    return _like(value, wanted)


def is_within(hours: Hours, now_ms: int) -> bool:
    """Whether these hours are now. What begins on a day and ends after midnight belongs to the day of its beginning."""
    now = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(hours.zone))
    clock, begins, ends = now.time(), hours.begins, hours.ends
    if begins < ends:
        is_now, began = begins <= clock < ends, now
    else:
        is_now = clock >= begins or clock < ends
        began = now if clock >= begins else now - timedelta(days=1)
    return is_now and (not hours.days or _DAYS[began.weekday()] in hours.days)


def _like(value: str, pattern: str) -> bool:
    """`*` stands for anything; all else for itself."""
    return fnmatchcase(value, pattern.replace("[", "[[]").replace("?", "[?]"))
