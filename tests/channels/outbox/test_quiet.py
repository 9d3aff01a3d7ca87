"""Quiet hours, over midnight and over a change of the clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from autoglm.channels.outbox.quiet import quiet_for_s
from autoglm.channels.settings import QuietHours


def quiet_s(begins: str, ends: str, now: str, zone: str = "Asia/Shanghai") -> float:
    quiet = QuietHours.model_validate({"from": begins, "to": ends, "zone": zone})
    at = datetime.fromisoformat(now).replace(tzinfo=ZoneInfo(zone))
    return quiet_for_s(quiet, round(at.timestamp() * 1000))


@pytest.mark.parametrize(
    ("begins", "ends", "now", "expected_s"),
    [
        ("22:00", "07:00", "2026-11-27T21:59:59", 0.0),
        ("22:00", "07:00", "2026-11-27T22:00:00", 9 * 3600.0),
        ("22:00", "07:00", "2026-11-28T06:59:00", 60.0),
        ("22:00", "07:00", "2026-11-28T07:00:00", 0.0),
        ("12:00", "13:00", "2026-11-27T12:30:00", 1800.0),
        ("12:00", "13:00", "2026-11-27T13:30:00", 0.0),
        ("12:00", "12:00", "2026-11-27T12:00:00", 24 * 3600.0),
    ],
)
def test_quiet_lasts_until_its_end(begins: str, ends: str, now: str, expected_s: float) -> None:
    assert quiet_s(begins, ends, now) == expected_s


def test_the_night_of_the_change_is_an_hour_shorter() -> None:
    """Berlin, 29 March 2026: 02:00 becomes 03:00."""
    assert quiet_s("22:00", "07:00", "2026-03-28T22:00:00", "Europe/Berlin") == 8 * 3600.0


def test_without_quiet_hours_there_are_none() -> None:
    assert quiet_for_s(None, 0) == 0.0
