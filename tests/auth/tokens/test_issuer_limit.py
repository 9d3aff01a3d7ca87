"""How much another hub's word counts: the address must be one of its own, and scopes end where both end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from auth.tokens.forge import DAY_MS, HUB, NOW_MS, SITE, SKEW_MS, STRANGER, check, claims, refusal
from autoglm.auth.policy.snapshot import parse_pins
from autoglm.auth.scopes import any_covers, common, flaw
from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.issuers import pins_of
from autoglm.auth.tokens.limit import Limit, limit_of
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.settings import IssuerSettings
from autoglm.auth.tokens.token import issue
from autoglm.auth.tokens.verifier import TokenVerifier
from autoglm.core.errors import PolicyRefused

ACTIONS = [
    ("send:message", "device:a"), ("send:message", "device:ab"), ("send:message", "user:a"), ("model:use", "glm-4"),
    ("model:use", "glm-4-air"), ("admin", "policy"), ("admin", "*"), ("read:metrics", ""), ("tenant", "x"),
]  # fmt: skip
SCOPES = [
    "admin:*", "admin:policy", "send:message", "send:message:*", "send:message:device:*", "send:message:device:a",
    "send:message:device:a*", "send:message:user:a", "model:use:*", "model:use:glm-4", "model:use:glm-*",
    "read:metrics", "tenant:*", "tenant:x",
]  # fmt: skip
_some_scopes = st.lists(st.sampled_from(SCOPES), max_size=6)


@given(_some_scopes, _some_scopes, st.sampled_from(ACTIONS))
def test_common_scopes_allow_what_both_allow_and_nothing_else(
    some: list[str], others: list[str], action: tuple[str, str]
) -> None:
    found = common(some, others)
    assert flaw(found) is None
    assert any_covers(found, *action) == (any_covers(some, *action) and any_covers(others, *action))


def signed(limit: Limit | None, **changes: Any) -> Claims:
    return check(issue(HUB, claims(**changes)).encode(), pins=Pins([Pin(HUB.public, SITE, limit=limit)]))


WARD_4 = Limit(("send:message:device:w4-*", "model:use:glm-4"), ("device:w4-*", "user:carol"))


@pytest.mark.attack("another hub in a third one's name")
@pytest.mark.parametrize("subject", ["device:press-7", "device:w4", "user:admin", "user:carol2", "site:ward-4"])
def test_a_hub_speaks_for_the_addresses_of_its_own_alone(subject: str) -> None:
    assert refusal(lambda: signed(WARD_4, subject=subject)) == "wrong_subject"
    assert signed(WARD_4, subject="device:w4-press").subject == "device:w4-press"
    assert signed(WARD_4, subject="user:carol").subject == "user:carol"


@pytest.mark.attack("an issuer gives more than it may")
def test_a_token_says_no_more_than_its_issuer_may() -> None:
    wide = signed(WARD_4, subject="user:carol", scopes=("admin:*",))
    assert (wide.scopes, wide.limit) == (WARD_4.scopes, WARD_4.scopes)
    mixed = signed(WARD_4, subject="user:carol", scopes=("send:message", "model:use:glm-5", "read:audit"))
    assert mixed.scopes == ("send:message:device:w4-*",)
    narrow = signed(WARD_4, subject="user:carol", scopes=("send:message:device:w4-9",))
    assert narrow.scopes == ("send:message:device:w4-9",)
    assert signed(WARD_4, subject="user:carol", scopes=("admin:devices",)).scopes == ()


def test_what_is_known_of_a_token_has_the_limit_of_the_pins_that_hold_now() -> None:
    token = issue(HUB, claims(subject="user:carol", scopes=("model:use:glm-4",))).encode()
    verifier = TokenVerifier(
        Pins([Pin(HUB.public, SITE)]), audience=SITE, skew_ms=SKEW_MS, max_ttl_ms=DAY_MS
    )  # fmt: skip
    assert verifier.verify(token, NOW_MS).limit is None
    verifier.repin(Pins([Pin(HUB.public, SITE, limit=WARD_4)]))
    assert verifier.verify(token, NOW_MS).limit == WARD_4.scopes
    verifier.repin(Pins([Pin(HUB.public, SITE, limit=Limit((), ("user:dan",)))]))
    assert refusal(lambda: verifier.verify(token, NOW_MS)) == "wrong_subject"


def test_where_nothing_is_said_a_hub_speaks_for_itself_only() -> None:
    said = limit_of("ward-4", None, None)
    assert said == Limit(("send:message:site:ward-4/*", "read:message:site:ward-4/*"), ("site:ward-4",))
    assert limit_of("ward-*", None, None) == Limit((), ())  # no name of a site, and no pattern by accident
    assert limit_of("ward-4", (), ("device:w4-*",)) == Limit((), ("device:w4-*",))
    (pin,) = pins_of([IssuerSettings(name="ward-4", public_key=STRANGER.public.x)])
    assert pin.limit == said


def test_of_two_pins_for_one_key_what_both_let_through_counts() -> None:
    one = Pin(STRANGER.public, "ward-4", limit=Limit(("send:message", "model:use:glm-4"), ("device:w4-*", "user:a")))
    other = Pin(STRANGER.public, "ward-4", limit=Limit(("send:message:device:*",), ("device:*",)))
    assert Pins([one, other]).get(STRANGER.kid).limit == Limit(("send:message:device:*",), ("device:w4-*",))
    # A list of all sites' keys names this hub's own as well, which has no limit here.
    listed = Pin(STRANGER.public, "ward-4", limit=limit_of("ward-4", None, None))
    assert Pins([Pin(STRANGER.public, "ward-4"), listed]).get(STRANGER.kid).limit is None


@pytest.mark.parametrize("field", [{"scopes": ["send:mesage"]}, {"addresses": ["*"]}, {"addresses": ["group:all"]}])
def test_a_limit_that_is_none_is_refused_where_it_is_written(field: dict[str, list[str]]) -> None:
    entry = {"name": "ward-4", "public_key": STRANGER.public.x, **field}
    with pytest.raises(ValidationError, match=r"is no address|unknown scope"):
        IssuerSettings.model_validate(entry)
    pin = {"kid": "k", "issuer": "ward-4", "public_key": STRANGER.public.x, **field}
    with pytest.raises(PolicyRefused, match=r"is no address|unknown scope"):
        parse_pins(json.dumps([pin]).encode())
    good = {**pin, "scopes": ["send:message"], "addresses": ["device:w4-*"]}
    assert parse_pins(json.dumps([good]).encode())[0].addresses == ("device:w4-*",)
