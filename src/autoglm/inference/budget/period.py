"""When a budget's hour, day or month begins and ends, by the clock of a time zone. Pure."""

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Per = Literal["hour", "day", "month"]

_HOUR_MS = 3_600_000


def period_of(per: Per, zone: ZoneInfo, at_ms: int) -> tuple[int, int]:
    """(start, end) in milliseconds of the Unix epoch of the period that holds `at_ms`: start <= at_ms < end.

    Days and months follow the zone's calendar, so that a day may have 23 or 25 hours.
    """
    local = datetime.fromtimestamp(at_ms / 1000, zone)
    if per == "hour":
        offset = local.utcoffset() or timedelta()
        offset_ms = int(offset.total_seconds() * 1000)
        start_ms = (at_ms + offset_ms) // _HOUR_MS * _HOUR_MS - offset_ms
        return start_ms, start_ms + _HOUR_MS
    first = datetime(local.year, local.month, local.day if per == "day" else 1)  # of the calendar
    following = first + timedelta(days=1 if per == "day" else 32)
    if per == "month":
        following = following.replace(day=1)
    return _instant_ms(first, zone), _instant_ms(following, zone)


def _instant_ms(midnight: datetime, zone: ZoneInfo) -> int:
    """Of two midnights of one date the first, of none (the clock was put forward over it) the moment of the change."""
    return round(midnight.replace(tzinfo=zone).timestamp() * 1000)
