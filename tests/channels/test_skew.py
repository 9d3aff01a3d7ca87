"""This clock against a vendor's, by the Date of its answer."""

import time

import pytest

from autoglm.channels.skew import ahead_s, clock_words
from autoglm.channels.web import Answer

NOON_S = 1_792_065_600.0
DATES = ["Thu, 15 Oct 2026 12:00:00 GMT", "Thu, 15 Oct 2026 12:00:00 -0000", "Thu Oct 15 12:00:00 2026"]


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("date", DATES)
def test_a_date_is_utc_wherever_this_machine_stands(monkeypatch: pytest.MonkeyPatch, zone: str, date: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert ahead_s(Answer(200, {"Date": date}, b""), NOON_S + 90) == 90
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("date", ["", "soon", "Thu, 99 Oct 2026 12:00:00 GMT"])
def test_no_date_says_nothing_of_the_clock(date: str) -> None:
    assert clock_words(Answer(200, {"Date": date}, b""), NOON_S, allowed_s=60.0) is None
