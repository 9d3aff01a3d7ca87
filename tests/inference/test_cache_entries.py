"""The cache alone: keys that name one question, bounds that hold, and one asker at a time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.cache.cache import Cache, question_key
from autoglm.inference.cache.settings import CacheSettings
from autoglm.inference.call import Call
from inference.calls import call

TEXTS = st.text("ab:0", max_size=3)
QUESTIONS = st.tuples(
    TEXTS,
    st.lists(TEXTS.filter(bool), max_size=2),
    st.lists(TEXTS.filter(bool).map(str.encode), max_size=2),
    TEXTS,
    TEXTS.map(str.encode),
)


class Clock:
    at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


def cache(**settings: object) -> tuple[Cache, Clock]:
    clock = Clock()
    return Cache(CacheSettings.model_validate({"mode": "on", **settings}), clock), clock


def keep(kept: Cache, key: bytes, body: bytes = b"{}", tenant: str = "t") -> None:
    kept.keep(key, tenant=tenant, model="m", instance="i", content_type="x", body=body, is_stream=False)


@given(QUESTIONS, QUESTIONS)
def test_two_questions_share_a_key_only_when_all_their_parts_are_equal(
    left: tuple[str, list[str], list[bytes], str, bytes], right: tuple[str, list[str], list[bytes], str, bytes]
) -> None:
    """Tenant, rights, hints, API, body: no part can be written so that it looks like another one."""
    assert (question_key(*left) == question_key(*right)) is (left == right)


def test_an_entry_is_given_only_to_the_tenant_that_it_was_kept_for() -> None:
    """Were two keys to be equal, the tenant would still be compared."""
    kept, _ = cache()
    keep(kept, b"key", tenant="a")
    assert kept.find(b"key", "a") is not None
    assert kept.find(b"key", "b") is None


def test_an_entry_is_too_old_after_its_time() -> None:
    kept, clock = cache(ttl_s=60)
    keep(kept, b"key")
    clock.at_s += 59.9
    assert kept.find(b"key", "t") is not None
    clock.at_s += 0.1
    assert kept.find(b"key", "t") is None
    assert (len(kept), kept.size_bytes) == (0, 0)


def test_a_newer_answer_takes_the_place_of_an_older_one_and_its_time() -> None:
    kept, clock = cache(ttl_s=60)
    keep(kept, b"key", b"old")
    clock.at_s += 50
    keep(kept, b"key", b"new")
    clock.at_s += 50
    found = kept.find(b"key", "t")
    assert found is not None
    assert found.body == b"new"
    assert len(kept) == 1


def test_the_longest_unused_goes_first() -> None:
    kept, _ = cache(max_bytes=1 << 16, max_entry_bytes=20_000)
    for key in (b"a", b"b", b"c"):
        keep(kept, key, b"x" * 20_000)
    assert kept.find(b"a", "t") is not None
    keep(kept, b"d", b"x" * 20_000)
    assert [kept.find(key, "t") is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert kept.evictions == 1


def test_what_is_too_long_is_not_kept() -> None:
    kept, _ = cache(max_entry_bytes=1024)
    keep(kept, b"key", b"x" * 1025)
    assert len(kept) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30_000), st.booleans()), max_size=60))
def test_the_size_is_the_sum_of_what_is_kept_and_within_its_bound(steps: list[tuple[int, int, bool]]) -> None:
    kept, clock = cache(max_bytes=1 << 16, max_entry_bytes=25_000, ttl_s=10)
    for number, size_bytes, is_later in steps:
        clock.at_s += 4 * is_later
        if size_bytes % 3:
            keep(kept, b"%d" % number, b"x" * size_bytes)
        else:
            kept.find(b"%d" % number, "t")
        assert kept.size_bytes == sum(entry.size_bytes for entry in kept._kept.values()) <= 1 << 16


async def test_one_leads_and_the_others_follow_until_it_is_done() -> None:
    kept, _ = cache()
    leader = kept.lead(b"key", call())
    assert leader is not None
    assert kept.lead(b"key", call()) is None
    followers = [asyncio.create_task(kept.follow(b"key")) for _ in range(3)]
    await asyncio.sleep(0)
    followers[0].cancel()
    await asyncio.sleep(0)
    assert [follower.done() for follower in followers] == [True, False, False]
    kept.led(b"key", leader, has_left=True)
    assert await asyncio.gather(*followers[1:]) == [True, True]
    assert kept.lead(b"key", call()) is not None


@pytest.mark.parametrize(
    ("leading", "asking", "follows"),
    [
        (call(priority=5), call(priority=5), True),
        (call(priority=9), call(priority=5), True),
        (call(priority=5), call(priority=6), False),
        (call(), call(deadline_s=9.0), False),
        (call(deadline_s=9.0), call(deadline_s=8.0), False),
        (call(deadline_s=8.0), call(deadline_s=9.0), True),
        (call(deadline_s=8.0), call(), True),
    ],
)
async def test_nobody_waits_behind_who_is_less_urgent_and_has_not_started(
    leading: Call, asking: Call, *, follows: bool
) -> None:
    kept, _ = cache()
    first = kept.lead(b"key", leading)
    assert first is not None
    second = kept.lead(b"key", asking)
    assert (second is None) == follows
    if second is not None:
        kept.led(b"key", first, has_left=False)
        assert kept.lead(b"key", asking) is None  # the more urgent one still leads
        kept.led(b"key", second, has_left=False)
    else:
        kept.led(b"key", first, has_left=False)
    started = call()
    started.was_started = True
    assert kept.lead(b"key", started) is not None
    assert kept.lead(b"key", call(priority=9, deadline_s=1.0)) is None


def test_an_entry_cannot_be_larger_than_the_cache() -> None:
    with pytest.raises(ValueError, match="max_entry_bytes is larger than max_bytes"):
        CacheSettings(max_bytes=1 << 16, max_entry_bytes=1 << 17)
