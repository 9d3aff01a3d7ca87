"""Forged tokens, each shown at each entry together with an honest proof by the device's own key."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from auth.tokens.forge import as_json, padded, resigned, spliced, stray_bits, without
from autoglm.auth.tokens.compact import decode_base64url, encode_base64url
from autoglm.core.clock import now_ms
from forged.entries import LONGEST_MS, NO_TOKEN, SKEW_MS, Entry, OfHub, enrolled, refused
from forged.holder import THIEF, Holder, Json
from forged.trial import Forge, refuses_tokens, said_to
from gateway.wire import call

pytestmark = pytest.mark.xdist_group("forged")

EC, RSA = ECKey.generate_key("P-256"), RSAKey.generate_key(2048)


def parts(holder: Holder) -> tuple[bytes, bytes, bytes]:
    first, second, third = holder.token.split(b".")
    return first, second, third


def coded(part: Json | bytes) -> bytes:
    return encode_base64url(as_json(part)).encode()


# --- who signed it ---


def unsigned(alg: str, signature: bytes = b"") -> Forge:
    return lambda holder: coded(holder.header(alg=alg)) + b"." + coded(holder.payload()) + b"." + signature


@pytest.mark.attack("alg none")
def test_a_token_without_a_signature(entry: Entry) -> None:
    refuses_tokens(entry, {
        "none": (unsigned("none"), "malformed"),
        "None": (unsigned("None"), "malformed"),
        "none, with a signature": (lambda holder: unsigned("none", parts(holder)[2])(holder), "wrong_algorithm"),
        "our own, without a signature": (unsigned("Ed25519"), "malformed"),
    })  # fmt: skip


def by_secret(secret: Callable[[Holder], bytes], alg: str = "HS256", *, is_named: bool = True) -> Forge:
    """Of a verifier that takes the public key, which everybody has, for a shared secret."""

    def forge(holder: Holder) -> bytes:
        key = OctKey.import_key(secret(holder))
        made = jws.serialize_compact(holder.header(alg=alg), as_json(holder.payload()), key, algorithms=[alg]).encode()
        return made if is_named else b".".join([coded(holder.header()), *made.split(b".")[1:]])

    return forge


def by_other(key: ECKey | RSAKey, alg: str) -> Forge:
    return lambda holder: jws.serialize_compact(
        holder.header(alg=alg), as_json(holder.payload()), key, algorithms=[alg]
    ).encode()


@pytest.mark.attack("alg confusion")
def test_another_algorithm(entry: Entry) -> None:
    refuses_tokens(entry, {
        "HS256 by the key's bytes": (by_secret(lambda holder: holder.site.public.raw), "wrong_algorithm"),
        "HS256 by the key as text": (by_secret(lambda holder: holder.site.public.x.encode()), "wrong_algorithm"),
        "HS256 by the key as JWK": (by_secret(lambda holder: as_json(holder.site.public.jwk)), "wrong_algorithm"),
        "HS512": (by_secret(lambda holder: holder.site.public.raw, "HS512"), "wrong_algorithm"),
        "HS256 that says Ed25519": (by_secret(lambda holder: holder.site.public.raw, is_named=False), "bad_signature"),
        "HS256 of the shared secret's form": (
            lambda holder: jws.serialize_compact(
                {"alg": "HS256", "typ": "JWT"}, as_json(holder.payload()), OctKey.import_key(holder.site.public.raw),
                algorithms=["HS256"],
            ).encode(), "wrong_algorithm"
        ),
        "ES256": (by_other(EC, "ES256"), "wrong_algorithm"),
        "RS256": (by_other(RSA, "RS256"), "wrong_algorithm"),
        "EdDSA": (lambda holder: holder.with_header(alg="EdDSA"), "wrong_algorithm"),
        "a list": (lambda holder: holder.with_header(alg=["Ed25519"]), "wrong_algorithm"),
    })  # fmt: skip


def with_own_key(**members: object) -> Forge:
    return lambda holder: holder.issued(holder.header(**members), by=THIEF)


@pytest.mark.attack("jwk, jku and x5u injection")
def test_a_token_that_brings_its_own_key(entry: Entry) -> None:
    refuses_tokens(entry, {
        "jwk": (with_own_key(jwk=THIEF.public.jwk), "malformed"),
        "jwk, and its kid": (with_own_key(jwk=THIEF.public.jwk, kid=THIEF.kid), "malformed"),
        "jwk in the place of kid": (
            lambda holder: holder.issued(without(holder.header(jwk=THIEF.public.jwk), "kid"), by=THIEF), "malformed"
        ),
        "jku": (with_own_key(jku="https://evil.example/keys"), "malformed"),
        "x5u": (with_own_key(x5u="https://evil.example/certificate"), "malformed"),
        "x5c": (with_own_key(x5c=["MIIB"]), "malformed"),
        "jwk beside the right key": (lambda holder: holder.with_header(jwk=THIEF.public.jwk), "malformed"),
    })  # fmt: skip


def with_kid(kid: object) -> Forge:
    return lambda holder: holder.issued(holder.header(kid=kid), by=THIEF)


@pytest.mark.attack("kid injection (path, SQL)")
def test_a_name_for_another_key(entry: Entry) -> None:
    refuses_tokens(entry, {
        "path": (with_kid("../../../../dev/null"), "unknown_key"),
        "file": (with_kid("/proc/self/environ"), "unknown_key"),
        "SQL": (with_kid("x' UNION SELECT 'key"), "unknown_key"),
        "always true": (with_kid("' OR '1'='1"), "unknown_key"),
        "command": (with_kid("; sleep 9"), "unknown_key"),
        "address": (with_kid("http://127.0.0.1/key"), "unknown_key"),
        "empty": (with_kid(""), "unknown_key"),
        "asterisk": (with_kid("*"), "unknown_key"),
        "NUL": (with_kid("\0"), "malformed"),
        "list": (with_kid(["x"]), "unknown_key"),
        "object": (with_kid({}), "unknown_key"),
        "null": (with_kid(None), "unknown_key"),
        "the thief's own": (with_kid(THIEF.kid), "unknown_key"),
        "the device's": (lambda holder: holder.issued(holder.header(kid=holder.key.kid), by=holder.key), "unknown_key"),
        "the hub's": (lambda holder: holder.issued(by=THIEF), "bad_signature"),
    })  # fmt: skip


@pytest.mark.attack("malleable signature")
def test_a_signature_in_a_second_form(entry: Entry) -> None:
    """Of the same S, modulo the order of the group (RFC 8032, section 5.1.7)."""
    first, second, third = parts(entry.holder)
    signature = decode_base64url(third)
    order = 2**252 + 27742317777372353535851937790883648493
    other = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    forged = b".".join([first, second, encode_base64url(signature[:32] + other).encode()])
    assert said_to(entry, lambda _: forged) == refused("bad_signature")


@pytest.mark.attack("a changed token")
def test_claims_that_were_changed_afterwards(entry: Entry) -> None:
    refuses_tokens(entry, {
        "more rights": (
            lambda holder: b".".join([parts(holder)[0], coded(holder.payload(scope="admin:*")), parts(holder)[2]]),
            "bad_signature",
        ),
        "another holder": (
            lambda holder: b".".join([parts(holder)[0], coded(holder.payload(sub="user:admin")), parts(holder)[2]]),
            "bad_signature",
        ),
        "another end": (
            lambda holder: b".".join([
                parts(holder)[0], coded(holder.payload(exp=holder.payload()["exp"] + 1)), parts(holder)[2]
            ]), "bad_signature",
        ),
        "another's signature": (
            lambda holder: b".".join([*parts(holder)[:2], holder.with_claims(pv=99).split(b".")[2]]), "bad_signature"
        ),
    })  # fmt: skip


# --- how it is written ---


@pytest.mark.attack("crit")
def test_extensions(entry: Entry) -> None:
    refuses_tokens(entry, {
        "exp": (lambda holder: holder.with_header(crit=["exp"]), "malformed"),
        "unknown": (lambda holder: holder.with_header(crit=["x"], x=1), "malformed"),
        "empty": (lambda holder: holder.with_header(crit=[]), "malformed"),
        "zip": (lambda holder: holder.with_header(zip="DEF"), "malformed"),
        "nested": (lambda holder: holder.with_header(cty="JWT"), "malformed"),
    })  # fmt: skip


def unencoded(holder: Holder) -> bytes:
    """RFC 7797: the payload is signed as it is, and left out."""
    head = coded(holder.header(b64=False, crit=["b64"]))
    return head + b".." + encode_base64url(holder.site.sign(head + b"." + as_json(holder.payload()))).encode()


@pytest.mark.attack("b64 false and detached payloads")
def test_a_payload_that_is_elsewhere(entry: Entry) -> None:
    refuses_tokens(entry, {
        "b64 false": (lambda holder: holder.with_header(b64=False, crit=["b64"]), "malformed"),
        "b64 false without crit": (lambda holder: holder.with_header(b64=False), "malformed"),
        "unencoded and detached": (unencoded, "malformed"),
        "detached": (lambda holder: parts(holder)[0] + b".." + parts(holder)[2], "malformed"),
    })  # fmt: skip


def encrypted(holder: Holder) -> bytes:
    head = coded({"alg": "dir", "enc": "A128GCM", "kid": holder.site.kid, "typ": "at+jwt"})
    return b".".join([head, b"", parts(holder)[2][:16], parts(holder)[1], parts(holder)[2][:22]])


@pytest.mark.attack("JWE and other forms in the place of JWS")
def test_another_form(entry: Entry) -> None:
    refuses_tokens(entry, {
        "JWE": (encrypted, "malformed"),
        "five parts": (lambda holder: b".".join([*parts(holder), *parts(holder)[1:]]), "malformed"),
        "a part more": (lambda holder: holder.token + b".", "malformed"),
        "two parts": (lambda holder: b".".join(parts(holder)[:2]), "malformed"),
        "two tokens": (lambda holder: holder.token + b"," + holder.token, "malformed"),
    })  # fmt: skip


@pytest.mark.attack("JWE and other forms in the place of JWS")
def test_the_json_form(entry: Entry) -> None:
    first, second, third = (part.decode() for part in parts(entry.holder))
    forged = json.dumps({"payload": second, "protected": first, "signature": third}).encode()
    said = said_to(entry, lambda _: forged)
    assert said == (NO_TOKEN if entry.name == "mqtt-3.1.1" else refused("malformed"))


@pytest.mark.attack("duplicate JSON keys")
def test_a_key_that_stands_twice(entry: Entry) -> None:
    refuses_tokens(entry, {
        "another holder first": (
            lambda holder: holder.issued(body=spliced(as_json(holder.payload()), b'"sub":"user:admin"')), "malformed"
        ),
        "more rights first": (
            lambda holder: holder.issued(body=spliced(as_json(holder.payload()), b'"scope":"admin:*"')), "malformed"
        ),
        "an escaped name": (
            lambda holder: holder.issued(body=spliced(as_json(holder.payload()), b'"\\u0065xp":9999999999')),
            "malformed",
        ),
        "further down": (
            lambda holder: holder.issued(
                body=as_json(holder.payload()).replace(b'"cnf": {', b'"cnf": {"jkt":"' + b"A" * 43 + b'",')
            ), "malformed"
        ),
        "alg": (lambda holder: holder.issued(spliced(as_json(holder.header()), b'"alg":"none"')), "malformed"),
        "kid": (lambda holder: holder.issued(spliced(as_json(holder.header()), b'"kid":"x"')), "malformed"),
    })  # fmt: skip


def plain_alphabet(holder: Holder) -> bytes:
    """With + and / in the place of - and _, one of which a signature in this many has."""
    for number in range(1000):
        token = holder.with_claims(pv=number)
        first, second, third = token.split(b".")
        if (changed := third.replace(b"-", b"+").replace(b"_", b"/")) != third:
            return b".".join([first, second, changed])
    raise AssertionError("none has one")


@pytest.mark.attack("non-canonical base64")
def test_base64_in_another_form(entry: Entry) -> None:
    refuses_tokens(entry, {
        "padded header": (
            lambda holder: resigned(coded(holder.header()) + b"=" * 4, coded(holder.payload()), holder.site),
            "malformed",
        ),
        "padded signature": (lambda holder: holder.token + b"==", "malformed"),
        "stray bits in the header": (
            lambda holder: resigned(stray_bits(padded(as_json(holder.header()))), coded(holder.payload()), holder.site),
            "malformed",
        ),
        "stray bits in the payload": (
            lambda holder: resigned(coded(holder.header()), stray_bits(padded(as_json(holder.payload()))), holder.site),
            "malformed",
        ),
        "stray bits in the signature": (
            lambda holder: b".".join([*parts(holder)[:2], stray_bits(parts(holder)[2])]), "malformed"
        ),
        "the other alphabet": (plain_alphabet, "malformed"),
        "a blank inside": (lambda holder: holder.token[:60] + b" " + holder.token[60:], "malformed"),
        "a letter too many": (lambda holder: holder.token + b"AAA", "malformed"),
    })  # fmt: skip


@pytest.mark.attack("oversized token")
def test_a_token_that_is_too_large(entry: Entry) -> None:
    words = " ".join(f"model:use:{'m' * 60}{number}" for number in range(100))
    refuses_tokens(entry, {
        "blanks": (lambda holder: holder.issued(body=as_json(holder.payload()) + b" " * 7000), "malformed"),
        "many rights": (lambda holder: holder.with_claims(scope=words), "malformed"),
        "nested": (lambda holder: holder.issued(body=b"[" * 2000 + b"]" * 2000), "malformed"),
    })  # fmt: skip


# --- what it says ---


@pytest.mark.attack("wrong typ")
def test_another_type(entry: Entry) -> None:
    refuses_tokens(entry, {
        "JWT": (lambda holder: holder.with_header(typ="JWT"), "wrong_type"),
        "a proof's": (lambda holder: holder.with_header(typ="dpop+jwt"), "wrong_type"),
        "media type": (lambda holder: holder.with_header(typ="application/at+jwt"), "wrong_type"),
        "none": (lambda holder: holder.issued(without(holder.header(), "typ")), "wrong_type"),
        "null": (lambda holder: holder.with_header(typ=None), "wrong_type"),
    })  # fmt: skip


@pytest.mark.attack("wrong aud")
def test_another_audience_or_issuer(entry: Entry) -> None:
    refuses_tokens(entry, {
        "another hub": (lambda holder: holder.with_claims(aud="ward-4"), "wrong_audience"),
        "in capitals": (lambda holder: holder.with_claims(aud=holder.payload()["aud"].upper()), "wrong_audience"),
        "asterisk": (lambda holder: holder.with_claims(aud="*"), "wrong_audience"),
        "ours among others": (lambda holder: holder.with_claims(aud=[holder.payload()["aud"], "ward-4"]), "malformed"),
        "none": (lambda holder: holder.issued(body=without(holder.payload(), "aud")), "malformed"),
        "another issuer": (lambda holder: holder.with_claims(iss="ward-4"), "wrong_issuer"),
    })  # fmt: skip


def at(**ahead_ms: int) -> Forge:
    """A token with these times from now."""
    return lambda holder: holder.with_claims(**{name: (now_ms() + ms) // 1000 for name, ms in ahead_ms.items()})


@pytest.mark.attack("expired")
@pytest.mark.attack("nbf")
@pytest.mark.attack("a token from the future")
@pytest.mark.attack("a token that lives for ever")
@pytest.mark.attack("missing exp")
@pytest.mark.attack("boolean, float or huge times")
def test_a_time_that_is_not_now(entry: Entry) -> None:
    refuses_tokens(entry, {
        "expired": (at(iat=-3_600_000, exp=-SKEW_MS - 1000), "expired"),
        "nbf": (at(nbf=SKEW_MS + 5000), "not_yet"),
        "from the future": (at(iat=SKEW_MS + 5000, exp=SKEW_MS + 900_000), "not_yet"),
        "ends before it begins": (at(iat=0, exp=-1000), "malformed"),
        "lives too long": (at(iat=0, exp=LONGEST_MS + 2000), "too_long_lived"),
        "lives for ever": (lambda holder: holder.with_claims(exp=253_402_300_799), "too_long_lived"),
        "no exp": (lambda holder: holder.issued(body=without(holder.payload(), "exp")), "malformed"),
        "no iat": (lambda holder: holder.issued(body=without(holder.payload(), "iat")), "malformed"),
        "exp is null": (lambda holder: holder.with_claims(exp=None), "malformed"),
        "exp is true": (lambda holder: holder.with_claims(exp=True), "malformed"),
        "exp is a float": (lambda holder: holder.with_claims(exp=float(holder.payload()["exp"])), "malformed"),
        "exp is text": (lambda holder: holder.with_claims(exp=str(holder.payload()["exp"])), "malformed"),
        "exp is huge": (lambda holder: holder.with_claims(exp=10**400), "malformed"),
    })  # fmt: skip


@pytest.mark.attack("a token bound to no key")
def test_claims_that_are_missing_or_too_many(entry: Entry) -> None:
    refuses_tokens(entry, {
        "no cnf": (lambda holder: holder.issued(body=without(holder.payload(), "cnf")), "malformed"),
        "cnf is null": (lambda holder: holder.with_claims(cnf=None), "malformed"),
        "cnf is empty": (lambda holder: holder.with_claims(cnf={}), "malformed"),
        "a key in cnf": (lambda holder: holder.with_claims(cnf={"jwk": holder.key.public.jwk}), "malformed"),
        "a kid beside": (lambda holder: holder.with_claims(cnf={"jkt": holder.key.kid, "kid": "x"}), "malformed"),
        "no jti": (lambda holder: holder.issued(body=without(holder.payload(), "jti")), "malformed"),
        "another claim": (lambda holder: holder.with_claims(admin=True), "malformed"),
        "an unknown right": (lambda holder: holder.with_claims(scope="send:message root"), "malformed"),
    })  # fmt: skip


@pytest.mark.attack("a stolen token without its key")
def test_a_token_that_is_bound_to_another_key(entry: Entry) -> None:
    bound = {"jkt": THIEF.kid}
    assert said_to(entry, lambda holder: holder.with_claims(cnf=bound)) == refused("wrong_key", "proof")


# --- whom it is for: what a hub knows beside the token ---


@pytest.mark.attack("a token in another's name")
@pytest.mark.parametrize("subject", ["user:admin", "device:other", "site:hub"])
def test_a_name_that_is_not_the_device_s(door: OfHub, subject: str) -> None:
    assert said_to(door, lambda holder: holder.with_claims(sub=subject)) == refused("revoked")


@pytest.mark.attack("a revoked device goes on")
@pytest.mark.parametrize("how", ["jti", "jkt", "name", "removed"])
def test_a_token_whose_holder_was_revoked(
    door: OfHub, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, name = door.hub, f"lost-{how}-{door.name}"
    lost = enrolled(hub, tmp_path, name)
    monkeypatch.setattr(door, "holder", lost)
    jti, jkt = lost.payload()["jti"], lost.key.kid
    ids = {"jti": f"jti:{jti}", "jkt": f"jkt:{jkt}", "name": f"device:{name}"}

    def revoked(holder: Holder) -> bytes:
        if how == "removed":
            assert call(hub.port, hub.key, "DELETE", f"/api/devices/{name}").status == 204
        else:
            assert call(hub.port, hub.key, "POST", "/api/revocations", {"id": ids[how]}).status == 200
        return holder.token

    assert said_to(door, revoked) == refused("revoked")
