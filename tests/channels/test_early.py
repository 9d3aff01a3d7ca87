"""Reports of tickets that nobody knows yet: kept for a while, and made once."""

import pytest

from autoglm.channels import early
from autoglm.channels.early import KEPT_S, MOST, EarlyReports


async def report() -> None:
    """Nothing: the test looks for the reports themselves."""


def test_a_report_waits_for_its_ticket_on_its_channel_and_is_made_once() -> None:
    reports = EarlyReports()
    reports.keep("c", "t-1", report)
    assert (reports.take("c", "t-2"), reports.take("d", "t-1")) == ([], [])
    assert (reports.take("c", "t-1"), reports.take("c", "t-1")) == ([report], [])


def test_who_finds_the_ticket_after_all_makes_the_report_unless_it_was_made() -> None:
    reports = EarlyReports()
    first, second = reports.keep("c", "t-1", report), reports.keep("c", "t-2", report)
    assert reports.withdraw("c", first)
    assert reports.take("c", "t-1") == []
    assert reports.take("c", "t-2") == [report]
    assert not reports.withdraw("c", second)


def test_a_report_that_others_have_pushed_out_while_its_ticket_was_looked_for_is_made() -> None:
    reports = EarlyReports()
    first = reports.keep("c", "t-1", report)
    for number in range(MOST):
        reports.keep("c", f"{number}", report)
    assert reports.withdraw("c", first)


def test_a_flood_on_one_channel_pushes_out_nothing_of_another() -> None:
    reports = EarlyReports()
    reports.keep("c", "t-1", report)
    for number in range(MOST):
        reports.keep("flooded", f"{number}", report)
    assert reports.take("c", "t-1") == [report]


def test_they_are_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(early, "monotonic_s", lambda: now_s)
    reports = EarlyReports()
    reports.keep("c", "old", report)
    now_s += KEPT_S - 1
    reports.keep("c", "young", report)
    now_s += 2
    for number in range(MOST - 1):
        reports.keep("c", f"{number}", report)
    assert [bool(reports.take("c", name)) for name in ("old", "young", "0")] == [False, True, True]
    for number in range(MOST):
        reports.keep("c", f"new-{number}", report)
    assert [bool(reports.take("c", name)) for name in ("1", "new-0")] == [False, True]
