"""Wrong keys use up an address's attempts, and nobody else's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoglm.auth import strangers as module
from autoglm.auth.authenticator import Authenticator
from autoglm.auth.settings import KeySettings
from autoglm.auth.strangers import LOOPBACK_FACTOR, MAX_BLOCKS, MAX_WELCOME, Strangers, block_of
from autoglm.auth.trust import TrustParts, open_trust
from autoglm.core.errors import TooManyFailures, Unauthorized
from autoglm.policy_fetch import http_fetch
from autoglm.store import StoreSettings, open_store


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def auth(tmp_path: Path, clock: Clock) -> AsyncIterator[Authenticator]:
    """Of a hub with one key, which somebody chose badly."""
    key = KeySettings.model_validate({"name": "weak", "value": "sk-1234", "scopes": ["send:message"]})
    async with (
        open_store(tmp_path, StoreSettings()) as store,
        open_trust(
            tmp_path, TrustParts(keys=[key]), store.keyvalue, store.journal, fetching=http_fetch
        ) as trust,  # fmt: skip
    ):
        trust.authenticator.strangers = Strangers(30, clock)
        yield trust.authenticator


def failures_until_refused(strangers: Strangers, client: str, most: int = 1000) -> int:
    for number in range(most):
        try:
            strangers.failed(client)
        except TooManyFailures:
            return number
    return most


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("127.0.0.1", "::1", True),
        ("127.0.0.1", "127.9.9.9", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("2001:db8::1", "32.1.13.184", False),
    ],
)
def test_addresses_count_by_whoever_may_have_them(one: str, other: str, is_same: bool) -> None:
    assert (block_of(one) == block_of(other)) == is_same


@pytest.mark.attack("guessing of keys and logins")
def test_an_address_that_fails_too_often_waits_and_tries_again(clock: Clock) -> None:
    strangers = Strangers(30, clock)
    assert failures_until_refused(strangers, "192.0.2.1") == 30
    with pytest.raises(TooManyFailures) as caught:
        strangers.check("192.0.2.1")
    assert caught.value.facts["retry_after_s"] == pytest.approx(2.0)
    strangers.check("192.0.2.2")
    clock.now_s += 2.0
    strangers.check("192.0.2.1")
    assert failures_until_refused(strangers, "192.0.2.1") == 1
    clock.now_s += 3600
    assert failures_until_refused(strangers, "192.0.2.1") == 30, "no more than a minute's worth is kept"


def test_to_try_while_refused_does_not_make_the_wait_longer(clock: Clock) -> None:
    strangers = Strangers(30, clock)
    failures_until_refused(strangers, "192.0.2.1")
    for _ in range(100):
        with pytest.raises(TooManyFailures):
            strangers.failed("192.0.2.1")
    clock.now_s += 2.1
    strangers.check("192.0.2.1")


@pytest.mark.attack("lock-out of others by failing in their name")
def test_whoever_was_verified_before_is_let_in_from_there(clock: Clock) -> None:
    strangers = Strangers(30, clock)
    strangers.met("192.0.2.1", "robot")
    failures_until_refused(strangers, "192.0.2.1")
    assert ("192.0.2.1", "robot") in strangers.welcome
    with pytest.raises(TooManyFailures):
        strangers.met("192.0.2.1", "newcomer")
    assert ("192.0.2.1", "newcomer") not in strangers.welcome


def test_this_machine_has_more_attempts_and_no_address_has_no_limit(clock: Clock) -> None:
    strangers = Strangers(3, clock)
    assert failures_until_refused(strangers, "127.0.0.1") == 3 * LOOPBACK_FACTOR
    assert failures_until_refused(strangers, "") == 1000


@pytest.mark.attack("memory filled by addresses that fail")
def test_addresses_without_end_do_not_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BLOCKS", 100)
    monkeypatch.setattr(module, "MAX_WELCOME", 100)
    strangers = Strangers(30, clock)
    for number in range(1000):
        clock.now_s += 0.001
        strangers.failed(f"10.0.{number // 256}.{number % 256}")
        strangers.met("192.0.2.1", str(number))
    assert len(strangers._buckets) == len(strangers.welcome) == 100
    assert failures_until_refused(strangers, "10.0.3.231") == 29, "the newest is remembered"
    assert max(MAX_BLOCKS, MAX_WELCOME) <= 10_000


@pytest.mark.attack("guessing of keys and logins")
async def test_a_right_guess_is_answered_as_a_wrong_one_once_there_were_too_many(
    auth: Authenticator, clock: Clock
) -> None:
    for number in range(30):
        with pytest.raises(Unauthorized):
            auth.by_header(b"Bearer sk-%d" % number, "192.0.2.1")
    for guess in (b"Bearer sk-99", b"Bearer sk-1234", b"Basic x"):
        with pytest.raises(TooManyFailures):
            auth.by_header(guess, "192.0.2.1")
    with pytest.raises(TooManyFailures):
        auth.by_key(b"sk-1234", "192.0.2.1")
    assert auth.by_header(b"Bearer sk-1234", "192.0.2.2").name == "weak"
    assert auth.by_key(b"sk-1234", "192.0.2.2").name == "weak"


async def test_who_shows_nothing_guesses_nothing(auth: Authenticator) -> None:
    for _ in range(100):
        with pytest.raises(Unauthorized):
            auth.by_header(None, "192.0.2.1")
