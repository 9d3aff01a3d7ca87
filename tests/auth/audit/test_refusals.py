"""Strangers are written down without a word of their own, and cannot fill the disk."""

from pathlib import Path

import pytest

from audited import ALICE, Site
from autoglm.auth.audit.entry import Entry, Personal
from autoglm.auth.audit.refusals import MORE, PER_BLOCK, PER_MINUTE, Refusals
from autoglm.core.errors import StorageFull


class Ticking:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(site: Site) -> list[tuple[Entry, Personal]]:
    return [(entry, personal) for entry, personal in site.entries() if entry.action == "authenticate"]


async def test_equal_ones_are_one_entry_and_their_count(site: Site) -> None:
    async with site.running() as (_, audit):
        refusals = Refusals(audit, Ticking())
        for number in range(10):
            refusals.note("mqtt", "192.0.2.1", "expired", request_id=f"r-{number}")
    first, others = refused(site)
    assert (first[0].count, first[0].request_id, first[0].reason, first[0].outcome) == (1, "r-0", "expired", "denied")
    assert (others[0].count, others[1].resource, others[1].client) == (9, "mqtt", "192.0.2.1")
    assert site.problems() == []


async def test_their_sum_is_not_written_each_second(site: Site) -> None:
    async with site.running() as (_, audit):
        refusals = Refusals(audit, Ticking())
        for _ in range(3):
            refusals.note("mqtt", "192.0.2.1", "expired")
            audit.decision(ALICE, "model:use", "glm", is_allowed=True)
        audit.close_sums(older_than_s=None)
        audit.close_sums(older_than_s=1e-9)
        await audit.written()
        assert [entry.count for entry, _ in refused(site)] == [1, 2]


@pytest.mark.attack("a stranger fills the disk with refusals")
async def test_a_flood_from_everywhere_is_a_bounded_number_of_entries(site: Site) -> None:
    clock = Ticking()
    async with site.running() as (_, audit):
        refusals = Refusals(audit, clock)
        for number in range(5000):
            refusals.note("/api/me", f"2001:db8:{number % 250:x}:{number}::1", "bad_signature")
    found = refused(site)
    assert len(found) == PER_MINUTE + 2
    assert sum(entry.count for entry, _ in found) == 5000
    assert [(entry.reason, personal.client) for entry, personal in found[-2:]] == [(MORE, ""), (MORE, "")]


@pytest.mark.attack("a stranger fills the disk with refusals")
async def test_who_floods_does_not_hide_the_others(site: Site) -> None:
    """Of one household (a /64) so many a minute, whatever address in it they come from."""
    clock = Ticking()
    async with site.running() as (_, audit):
        refusals = Refusals(audit, clock)
        for number in range(1000):
            refusals.note(f"/api/{number}", f"2001:db8::{number:x}", "bad_signature")
        refusals.note("/api/me", "192.0.2.9", "expired")
        clock.now_s += 60
        refusals.note("/api/me", "2001:db8::1", "expired")
    clients = [personal.client for entry, personal in refused(site) if entry.reason != MORE]
    assert len(clients) == PER_BLOCK + 2
    assert clients[-2:] == ["192.0.2.9", "2001:db8::1"]


async def test_a_full_disk_does_not_change_the_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site.running() as (_, audit):

        def full(*_: object, **__: object) -> None:
            raise StorageFull("hub.db")

        with monkeypatch.context() as patch:
            patch.setattr(audit, "decision", full)
            Refusals(audit, Ticking()).note("mqtt", "192.0.2.1", "expired")
    assert refused(site) == []
