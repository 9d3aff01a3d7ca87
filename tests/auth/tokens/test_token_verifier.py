"""The verifier's memory: fast for what is known, and blind to nothing that changes."""

from collections.abc import Callable

import pytest

from auth.tokens.forge import (
    DAY_MS,
    HUB,
    NOW_MS,
    PINS,
    SITE,
    SKEW_MS,
    STRANGER,
    TTL_MS,
    header,
    payload,
    refusal,
    signed,
    token,
)
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.token import verified
from autoglm.auth.tokens.verifier import TokenVerifier

GOOD = token().encode()


def a_verifier(pins: Pins = PINS, max_cached: int = 100) -> TokenVerifier:
    return TokenVerifier(pins, audience=SITE, skew_ms=SKEW_MS, max_ttl_ms=DAY_MS, max_cached=max_cached)


@pytest.fixture
def signatures_checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The tokens whose signature was looked at; the check itself stays."""
    seen: list[bytes] = []
    real: Callable[..., object] = verified

    def counted(token: bytes, *args: object, **options: object) -> object:
        seen.append(token)
        return real(token, *args, **options)

    monkeypatch.setattr("autoglm.auth.tokens.verifier.verified", counted)
    return seen


def test_a_known_token_costs_no_signature(signatures_checked: list[bytes]) -> None:
    verifier = a_verifier()
    first = verifier.verify(GOOD, NOW_MS)
    assert all(verifier.verify(bytes(bytearray(GOOD)), NOW_MS + 1000) is first for _ in range(5))
    assert signatures_checked == [GOOD]


@pytest.mark.attack("expired")
def test_a_known_token_ends_in_time() -> None:
    verifier = a_verifier()
    verifier.verify(GOOD, NOW_MS)
    assert verifier.verify(GOOD, NOW_MS + TTL_MS + SKEW_MS - 1).jti == "jti-of-this-token"
    assert refusal(lambda: verifier.verify(GOOD, NOW_MS + TTL_MS + SKEW_MS)) == "expired"
    assert refusal(lambda: verifier.verify(GOOD, NOW_MS - SKEW_MS - 1)) == "not_yet"


@pytest.mark.attack("a token by a revoked key")
def test_a_known_token_does_not_outlive_its_key() -> None:
    verifier = a_verifier(Pins([Pin(HUB.public, SITE, not_after_ms=NOW_MS + 5)]))
    verifier.verify(GOOD, NOW_MS)
    assert refusal(lambda: verifier.verify(GOOD, NOW_MS + 5)) == "key_ended"
    verifier = a_verifier()
    for pins, reason in (
        (Pins([Pin(HUB.public, SITE, is_revoked=True)]), "key_revoked"),
        (Pins([Pin(HUB.public, "ward-4")]), "wrong_issuer"),
        (Pins([Pin(STRANGER.public, SITE)]), "unknown_key"),
    ):
        verifier.repin(PINS)
        verifier.verify(GOOD, NOW_MS)
        verifier.repin(pins)
        assert refusal(lambda: verifier.verify(GOOD, NOW_MS)) == reason


@pytest.mark.attack("a cache that strangers fill")
def test_only_what_verified_is_remembered(signatures_checked: list[bytes]) -> None:
    verifier = a_verifier()
    verifier.verify(GOOD, NOW_MS)
    for number in range(500):
        refusal(lambda number=number: verifier.verify(GOOD + b"%d" % number, NOW_MS))  # type: ignore[misc]
    expired = signed(header(), payload(exp=NOW_MS // 1000 - 100, iat=NOW_MS // 1000 - 200))
    assert [refusal(lambda: verifier.verify(expired, NOW_MS)) for _ in range(2)] == ["expired"] * 2
    verifier.verify(GOOD, NOW_MS)
    assert signatures_checked.count(GOOD) == 1
    assert signatures_checked.count(expired) == 2


def test_the_memory_is_bounded_and_drops_what_ended_first(signatures_checked: list[bytes]) -> None:
    verifier = a_verifier(max_cached=3)
    short = token(ends_at_ms=NOW_MS + 60_000, jti="a-short-lived-token").encode()
    long = [token(jti=f"a-long-lived-token-{number}").encode() for number in range(4)]
    for one in (long[0], short, long[1]):
        verifier.verify(one, NOW_MS)
    later_ms = NOW_MS + 60_000 + SKEW_MS
    verifier.verify(long[2], later_ms)  # in the place of the short one
    for one in long[:3]:
        verifier.verify(one, later_ms)
    assert len(signatures_checked) == 4
    verifier.verify(long[3], later_ms)  # in the place of the oldest
    verifier.verify(long[1], later_ms)
    assert len(signatures_checked) == 5
    verifier.verify(long[0], later_ms)
    assert len(signatures_checked) == 6
