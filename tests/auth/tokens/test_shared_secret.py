"""HS256: off without a secret, marked where it is on, and no way around the tokens that are bound to a key."""

import base64
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws, jwt
from joserfc.jwk import OctKey

from auth.tokens.forge import DAY_MS, DEVICE, HUB, NOW_MS, SITE, Json, as_json, header, payload, refusal, token, without
from auth.tokens.runs import a_run, proof
from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.shared_secret import SharedSecret
from autoglm.core.errors import SettingsError

SECRET = secrets.token_bytes(32)
ISSUER = "old-controller"
SHARED = SharedSecret(SECRET, ISSUER)


def said(**changes: object) -> Json:
    return without(without(payload(iss=ISSUER), "cnf"), "pv") | changes


def made(head: Json | None = None, body: Json | None = None, secret: bytes = SECRET, alg: str = "HS256") -> bytes:
    """By another library, as a program out there would."""
    whole = {"alg": alg, "typ": "JWT"} if head is None else head
    body = said() if body is None else body
    return jws.serialize_compact(whole, as_json(body), OctKey.import_key(secret), algorithms=[alg]).encode()


def check(compact: bytes, now_ms: int = NOW_MS) -> Claims:
    return SHARED.verify(compact, audience=SITE, now_ms=now_ms, skew_ms=60_000, max_ttl_ms=DAY_MS)


def test_what_a_plain_program_makes_is_taken_and_marked() -> None:
    plain = jwt.encode({"alg": "HS256", "typ": "JWT"}, said(), OctKey.import_key(SECRET))
    found = check(plain.encode())
    assert (found.subject, found.is_shared_secret, found.jkt, found.kid) == ("device:press-7", True, None, "shared")
    assert check(made({"alg": "HS256", "typ": "JWT", "kid": "shared"})).is_shared_secret


@pytest.mark.attack("alg confusion")
def test_it_is_off_without_a_secret() -> None:
    bearer = b"Bearer " + made()
    assert refusal(lambda: a_run().verify(bearer, None, "GET", "/", NOW_MS)) == "missing"
    found = a_run(shared_secret=SHARED).verify(bearer, None, "GET", "/", NOW_MS)
    assert found.claims.is_shared_secret
    assert found.body_sha256 is None


@pytest.mark.attack("alg confusion")
def test_no_token_of_one_kind_passes_for_the_other() -> None:
    run = a_run(shared_secret=SHARED)
    for typ in ("JWT", "at+jwt"):
        forged = made(header(alg="HS256", typ=typ), payload())
        assert refusal(lambda forged=forged: run.verify(b"DPoP " + forged, proof(token()), "POST", "/", NOW_MS)) == (  # type: ignore[misc]
            "wrong_algorithm"
        )
    assert refusal(lambda: run.verify(b"Bearer " + token().encode(), None, "GET", "/", NOW_MS)) == "wrong_algorithm"
    bound = made(body=said(cnf={"jkt": DEVICE.kid}))
    assert refusal(lambda: run.verify(b"Bearer " + bound, None, "GET", "/", NOW_MS)) == "missing"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({"alg": "HS256", "typ": "at+jwt"}, "wrong_type"), ({"alg": "HS256"}, "wrong_type"),
        ({"alg": "HS256", "typ": "JWT", "kid": HUB.kid}, "unknown_key"),
        ({"alg": "HS256", "typ": "JWT", "kid": "../shared"}, "unknown_key"),
        ({"alg": "HS256", "typ": "JWT", "cty": "JWT"}, "malformed"),
        ({"alg": "HS256", "typ": "JWT", "jku": "https://evil.example"}, "malformed"),
    ],
)  # fmt: skip
def test_its_header_has_one_form(head: Json, reason: str) -> None:
    assert refusal(lambda: check(made(head))) == reason


def test_it_is_checked_like_any_other() -> None:
    assert refusal(lambda: check(made(secret=secrets.token_bytes(32)))) == "bad_signature"
    assert refusal(lambda: check(made(alg="HS512"))) == "wrong_algorithm"
    assert refusal(lambda: check(made(body=said(iss=SITE)))) == "wrong_issuer"
    assert refusal(lambda: check(made(body=said(aud="ward-4")))) == "wrong_audience"
    assert refusal(lambda: check(made(body=said(exp=NOW_MS // 1000 + 86_401)))) == "too_long_lived"
    assert refusal(lambda: check(made(), now_ms=NOW_MS + DAY_MS)) == "expired"
    assert refusal(lambda: check(made(body=said(nbf=NOW_MS // 1000 + 600)))) == "not_yet"
    head, body, mac = made().split(b".")
    assert refusal(lambda: check(head + b"." + body + b"." + mac[:40])) == "bad_signature"
    for name in said():
        assert refusal(lambda name=name: check(made(body=without(said(), name)))) == "malformed"  # type: ignore[misc]


# --- the secret ---


@pytest.mark.parametrize("secret", [b"", b"short", bytes(range(31)), b"a" * 64, b"abcabc" * 20])
def test_a_weak_secret_is_refused(secret: bytes) -> None:
    with pytest.raises(SettingsError, match="32 bytes"):
        SharedSecret(secret, ISSUER)


def forms() -> dict[str, bytes]:
    raw, public = HUB.public.raw, Ed25519PublicKey.from_public_bytes(HUB.public.raw)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "raw": raw, "raw and more": b"x" + raw + b"\n", "base64url": HUB.public.x.encode(),
        "base64": base64.b64encode(raw),
        "hex": raw.hex().encode(), "capital hex": raw.hex().upper().encode(), "JWK": as_json(HUB.public.jwk),
        "thumbprint": HUB.kid.encode(), "PEM": pem, "PEM without its end": pem.strip()[:-10],
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "body of PEM": pem.splitlines()[1],
    }  # fmt: skip


@pytest.mark.attack("alg confusion")
@pytest.mark.parametrize("form", forms())
def test_a_public_key_in_any_form_is_no_secret(form: str) -> None:
    with pytest.raises(SettingsError, match="public key"):
        SharedSecret(forms()[form], ISSUER, [DEVICE.public, HUB.public])


@pytest.mark.parametrize("form", ["raw", "base64url", "hex", "thumbprint"])
def test_a_secret_is_held_against_keys_that_are_pinned_later(form: str) -> None:
    early = SharedSecret(forms()[form], ISSUER, [DEVICE.public])
    with pytest.raises(SettingsError, match="public key"):
        early.check_against([DEVICE.public, HUB.public])


def test_any_public_key_as_pem_is_refused_pinned_or_not() -> None:
    for form in ("PEM", "DER", "PEM without its end"):
        with pytest.raises(SettingsError, match="public key"):
            SharedSecret(forms()[form], ISSUER)


def test_the_secret_is_shown_nowhere() -> None:
    assert repr(SHARED) == "SharedSecret(issuer='old-controller')"
