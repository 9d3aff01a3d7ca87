"""A restored backup: somebody says why, and the record counts as whole; what is lost after that shows as before."""

import shutil
from pathlib import Path

import pytest

from audited import ALICE, Site, act_times
from autoglm.auth.audit.chain import Restored
from autoglm.auth.audit.losses import open_losses
from autoglm.auth.tokens.signing import SigningKey

WHY = "the disk failed; Monday's backup is back"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "data")


def back_up(site: Site, name: str) -> None:
    shutil.copy(site.folder / "hub.db", site.folder / name)


def restore(site: Site, name: str) -> None:
    """The database alone; what lies outside of it knows better."""
    for file in site.folder.glob("hub.db*"):
        file.unlink()
    shutil.copy(site.folder / name, site.folder / "hub.db")


async def acknowledge(site: Site) -> int:
    """How many losses there were."""
    async with site.running() as (store, audit):
        losses = await open_losses(store.journal, audit.kept_heads, now_ms=site.clock.ms)
        for lost in losses:
            audit.acknowledge(lost, ALICE, WHY)
        await audit.written()
        return len(losses)


async def lost_monday(site: Site) -> None:
    """Entries 1 to 6 are in the backup, 7 to 22 are lost."""
    await act_times(site, 3)
    back_up(site, "monday.db")
    await act_times(site, 13)
    restore(site, "monday.db")


def restored(site: Site) -> list[Restored]:
    return site.verify()[0].restored


async def test_a_loss_that_is_acknowledged_is_told_and_no_alarm(site: Site) -> None:
    await lost_monday(site)
    found_ms = site.clock.ms
    await act_times(site, 1)
    assert [problem for _, problem in site.problems()] == ["truncated"]
    site.clock.ms += 60_000
    assert await acknowledge(site) == 1
    assert site.problems() == []
    [told] = restored(site)
    assert (told.kept_seq, told.lost, told.found_ms, told.acknowledged_ms) == (6, 15, found_ms, found_ms + 60_000)
    assert (told.who, told.why) == ("user:alice", WHY)
    await act_times(site, 20)  # other entries have the numbers of the lost ones now
    assert site.problems() == []
    assert await acknowledge(site) == 0


@pytest.mark.attack("log truncation")
async def test_a_second_loss_is_noticed_whichever_copy_is_put_back(site: Site) -> None:
    await lost_monday(site)
    await acknowledge(site)
    back_up(site, "tuesday.db")
    await act_times(site, 5)
    for older in ("monday.db", "tuesday.db"):
        shutil.copytree(site.folder, site.folder.parent / older)
        other = Site(site.folder.parent / older)
        other.key = site.key
        restore(other, older)
        await act_times(other, 1)
        problems = {problem for _, problem in other.problems()}
        assert problems, older
        assert problems <= {"truncated", "rewritten"}, older
        await acknowledge(other)
        assert other.problems() == [], older


@pytest.mark.attack("log truncation")
async def test_who_has_not_the_site_s_key_acknowledges_nothing(site: Site) -> None:
    await lost_monday(site)
    true_key, site.key = site.key, SigningKey.generate()
    await acknowledge(site)
    site.key = true_key
    await act_times(site, 1)
    kept = site.head_file.load()
    assert kept is not None
    site.head_file.save(kept.with_newest(kept.newest, true_key.public) if kept.newest else kept)
    found = [problem for _, problem in site.problems()]
    assert "forged_head" in found
    assert {"truncated", "rewritten"} & set(found)


async def test_an_acknowledgement_for_another_loss_explains_nothing(site: Site) -> None:
    await lost_monday(site)
    async with site.running() as (store, audit):
        [lost] = await open_losses(store.journal, audit.kept_heads, now_ms=0)
        audit.acknowledge(lost._replace(digest="0" * 64), ALICE, WHY)
    assert [problem for _, problem in site.problems()] == ["truncated"]


async def test_it_explains_as_well_when_who_said_it_was_erased(site: Site) -> None:
    await lost_monday(site)
    await acknowledge(site)
    [told] = restored(site)
    async with site.running() as (_, audit):
        audit.act("audit:erase", ALICE, kind="erase", erases=((told.seq, told.seq),))
    assert site.problems() == []
    assert (restored(site)[0].who, restored(site)[0].why) == ("", "")
