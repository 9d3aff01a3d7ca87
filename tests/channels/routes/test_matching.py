"""Whether an event matches, and the reason in words."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from autoglm.channels.routes.event import Event, event_of
from autoglm.channels.routes.matching import is_within, mismatch, value_fits
from autoglm.channels.routes.settings import Hours, Match
from channels.outbox.test_digest import message

NOON_MS = round(datetime(2026, 11, 27, 12, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)
EVENT = Event(
    content="x", from_="device:press-7", to="group:ops", kind="alert", labels={"line": "3", "severity": "critical"},
    priority=7,
)  # fmt: skip


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ({}, ""),
        ({"kinds": ["alert", "log"]}, ""),
        ({"kinds": ["event", "log"]}, "its kind is alert, not event or log"),
        ({"labels": {"severity": "crit*", "line": "!4", "hall": ""}}, ""),
        ({"labels": {"line": "4"}}, "its label line is '3', and '4' is asked for"),
        ({"labels": {"hall": "*1"}}, "its label hall is '', and '*1' is asked for"),
        ({"min_priority": 7}, ""),
        ({"min_priority": 8}, "its priority is 7, below 8"),
        ({"senders": ["device:press-*"]}, ""),
        ({"senders": ["device:oven-*"]}, "it comes from device:press-7"),
        ({"addressees": ["group:ops"]}, ""),
        ({"addressees": ["user:*"]}, "it is for group:ops"),
        ({"hours": {"from": "11:00", "to": "13:00"}}, ""),
        ({"hours": {"from": "13:00", "to": "11:00"}}, "it is not between 13:00 and 11:00 Asia/Shanghai"),
    ],
)
def test_a_match_or_the_reason_why_not(match: dict[str, Any], reason: str) -> None:
    assert mismatch(Match.model_validate(match), EVENT, NOON_MS) == reason


@pytest.mark.parametrize(
    ("wanted", "value", "fits"),
    [
        ("a*", "abc", True), ("a*", "b", False), ("!a*", "b", True), ("!a*", "ab", False), ("", "", True),
        ("", "a", False), ("!", "", False), ("!", "a", True), ("a?c", "abc", False), ("a?c", "a?c", True),
        ("[ab]", "a", False), ("[ab]", "[ab]", True), ("*", "", True),
    ],
)  # fmt: skip
def test_only_the_star_stands_for_anything(wanted: str, value: str, fits: bool) -> None:
    assert value_fits(wanted, value) is fits


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "is_night"),
    [
        ("2026-11-27T21:59", False),  # a Friday
        ("2026-11-27T22:00", True),
        ("2026-11-28T05:59", True),  # it began on Friday
        ("2026-11-28T06:00", False),
        ("2026-11-28T22:00", False),
        ("2026-11-27T05:00", False),  # it began on Thursday
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(now: str, is_night: bool) -> None:
    hours = Hours.model_validate({"from": "22:00", "to": "06:00", "days": ["fri"]})
    assert is_within(hours, at(now)) is is_night


def test_a_message_of_a_channel_becomes_an_event() -> None:
    labels = {"title": "Press", "line": "3", "state": "resolved"}
    event = event_of(message("It runs", kind="alert", labels=labels, to="model:auto", id="m"))
    assert event is not None
    assert (event.title, event.state, event.labels, event.to) == ("Press", "resolved", {"line": "3"}, None)
    assert event_of(message("hello")) is None
