"""Proofs of possession: a token counts only with one, made by its holder's key for this very request."""

import hashlib
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.tokens.forge import DEVICE, HUB, NOW_MS, SKEW_MS, STRANGER, Json, refusal, signed, token, without
from auth.tokens.runs import ORIGIN, PATH, WINDOW_MS, proof, proof_header, proof_payload
from autoglm.auth.tokens.proof import VerifiedProof, body_matches, make_proof, verify_proof
from autoglm.auth.tokens.target import ConnectionTarget, RequestTarget, Target, normal_origin
from autoglm.core.errors import InvalidField, TokenRefused, Unauthorized

TOKEN = token()
REQUEST = RequestTarget("POST", PATH, frozenset({ORIGIN}))


def check(compact: bytes, target: Target = REQUEST, *, of: str = TOKEN, now_ms: int = NOW_MS) -> VerifiedProof:
    return verify_proof(
        compact, target=target, token=of.encode(), jkt=DEVICE.kid, now_ms=now_ms, skew_ms=SKEW_MS, window_ms=WINDOW_MS
    )


def proof_refusal(compact: bytes, target: Target = REQUEST, **circumstances: object) -> str:
    with pytest.raises(TokenRefused) as raised:
        check(compact, target, **circumstances)  # type: ignore[arg-type]  # as the test gives them
    assert raised.value.what == "proof"
    return raised.value.reason


def forged(**changes: object) -> bytes:
    return signed(proof_header(), proof_payload(TOKEN, **changes), DEVICE)


bodies = st.binary(max_size=200)
paths = st.text(string.ascii_letters + string.digits + "/%~:@._-", max_size=60).map(lambda path: "/" + path)
GOOD = proof(TOKEN)


@given(bodies, paths, st.sampled_from(["GET", "POST", "DELETE", "PROPFIND"]), st.none() | st.just("a-nonce_1"))
def test_what_is_proven_is_verified(body: bytes, path: str, method: str, nonce: str | None) -> None:
    made = make_proof(
        DEVICE, method=method, url=f"{ORIGIN}{path}?a=1#b", token=TOKEN, body=body, now_ms=NOW_MS, nonce=nonce
    )
    found = check(made.encode(), RequestTarget(method, f"{path}?b=2", frozenset({ORIGIN})))
    assert (found.jkt, found.iat_ms, found.nonce) == (DEVICE.kid, NOW_MS, nonce)
    assert body_matches(found.body_sha256, body)
    assert len(found.jti) >= 16


@given(st.integers(0, len(GOOD) * 8 - 1))
@settings(max_examples=300)
def test_no_bit_of_a_proof_may_change(bit: int) -> None:
    flipped = bytearray(GOOD)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unauthorized):
        check(bytes(flipped))


def test_two_proofs_differ_in_their_id() -> None:
    assert check(proof(TOKEN)).jti != check(proof(TOKEN)).jti


# --- by whom ---


@pytest.mark.attack("a stolen token without its key")
def test_a_token_counts_with_its_holders_key_only() -> None:
    assert check(GOOD).jkt == DEVICE.kid
    for other in (STRANGER, HUB):
        assert proof_refusal(proof(TOKEN, other)) == "wrong_key"
    assert proof_refusal(signed(proof_header(), proof_payload(TOKEN), STRANGER)) == "bad_signature"
    assert proof_refusal(signed(proof_header(jwk=STRANGER.public.jwk), proof_payload(TOKEN), STRANGER)) == "wrong_key"


@pytest.mark.attack("alg none")
@pytest.mark.parametrize("alg", ["none", "None", "HS256", "EdDSA", "ES256", None])
def test_a_proof_is_by_ed25519(alg: object) -> None:
    assert proof_refusal(signed(proof_header(alg=alg), proof_payload(TOKEN), DEVICE)) == "wrong_algorithm"


@pytest.mark.attack("wrong typ")
@pytest.mark.parametrize("typ", ["at+jwt", "JWT", "DPoP+jwt", "", None])
def test_a_proof_has_its_type(typ: object) -> None:
    assert proof_refusal(signed(proof_header(typ=typ), proof_payload(TOKEN), DEVICE)) == "wrong_type"


@pytest.mark.attack("wrong typ")
def test_a_token_is_no_proof_and_a_proof_no_token() -> None:
    assert proof_refusal(TOKEN.encode()) == "wrong_type"
    both = signed(proof_header(kid=HUB.kid, typ="at+jwt"), proof_payload(TOKEN), DEVICE)
    assert proof_refusal(both) == "wrong_type"


@pytest.mark.parametrize("name", ["kid", "jku", "x5u", "x5c", "crit", "b64", "cty"])
def test_the_header_has_no_other_member(name: str) -> None:
    assert proof_refusal(signed(proof_header(**{name: "x"}), proof_payload(TOKEN), DEVICE)) == "malformed"
    assert proof_refusal(signed(without(proof_header(), "jwk"), proof_payload(TOKEN), DEVICE)) == "malformed"


@pytest.mark.attack("wrong use")
@pytest.mark.parametrize(
    "more", [{"use": "enc"}, {"key_ops": ["sign"]}, {"d": "AAAA"}, {"x": "A" * 43}, {"crv": "X25519"}]
)
def test_the_key_in_the_header_is_a_bare_public_key(more: Json) -> None:
    head = proof_header(jwk=DEVICE.public.jwk | more)
    assert proof_refusal(signed(head, proof_payload(TOKEN), DEVICE)) == "malformed"


# --- for what ---


@pytest.mark.attack("a proof reused for another token")
def test_a_proof_is_for_one_token() -> None:
    other = token(jti="another-token-of-it")
    assert proof_refusal(GOOD, of=other) == "wrong_token"
    assert check(proof(other), of=other).jkt == DEVICE.kid


@pytest.mark.attack("a proof reused with another method")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "post", "Post", "POST ", "WEBSOCKET", "MQTT"])
def test_a_proof_is_for_one_method(method: str) -> None:
    assert proof_refusal(GOOD, RequestTarget(method, PATH, frozenset({ORIGIN}))) == "wrong_request"
    assert proof_refusal(proof(TOKEN, method=method)) == "wrong_request"


@pytest.mark.attack("a proof reused on another path")
@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/messages/", "/api/messages2", "/API/messages", "//api/messages", "/api/./messages",
     "/api/x/../messages", "/api/message%73", "/api%2Fmessages", "/api/messages;a=1", "/api/keys"],
)  # fmt: skip
def test_a_proof_is_for_one_path(path: str) -> None:
    assert proof_refusal(GOOD, RequestTarget("POST", path, frozenset({ORIGIN}))) == "wrong_request"
    assert proof_refusal(proof(TOKEN, url=ORIGIN + path)) == "wrong_request"


@pytest.mark.attack("a proof reused on another body")
def test_a_proof_is_for_one_body() -> None:
    found = check(GOOD)
    assert found.body_sha256 == hashlib.sha256(b"body").digest()
    assert body_matches(found.body_sha256, b"body")
    for other in (b"", b"Body", b"body\n", b"body\0", b"bod"):
        assert not body_matches(found.body_sha256, other)


@pytest.mark.attack("a proof for another hub")
@pytest.mark.parametrize(
    "url",
    ["https://evil.example:8600", "https://hub.example", "https://hub.example:8601", "http://hub.example:8600",
     "https://hub.example:8600@evil.example", "https://evil.example/https://hub.example:8600",
     "https://hub.example:8600.evil.example", "https://user@hub.example:8600", "wss://hub.example:8600",
     "https:\\\\hub.example:8600", "//hub.example:8600", "", "https://", "https:///hub.example:8600",
     "https://hub.example :8600", "https://hub.example:8600\n", "https://hub\u3002example:8600"],
)  # fmt: skip
def test_a_proof_is_for_one_of_our_own_names(url: str) -> None:
    changed = forged(htu=url + PATH)
    assert proof_refusal(changed) == "wrong_request"


@pytest.mark.parametrize(
    "htu",
    ["HTTPS://HUB.example:8600/api/messages", "https://hub.example:8600/api/messages?to=x", ORIGIN + PATH + "#top",
     ORIGIN + PATH + "?", ORIGIN + PATH + "?a#b?c"],
)  # fmt: skip
def test_query_fragment_and_case_of_the_host_do_not_count(htu: str) -> None:
    """RFC 9449, section 4.3; RFC 3986, section 6.2.2.1."""
    assert check(forged(htu=htu)).jkt == DEVICE.kid


def test_the_default_port_may_be_left_out() -> None:
    for origin, other in (
        ("https://hub.example", "https://hub.example:443"),
        ("http://[::1]:80", "http://[::1]"),
    ):
        target = RequestTarget("POST", "/", frozenset({normal_origin(origin)}))
        for htu in (origin, other, origin + "/", other + "/"):
            assert check(forged(htu=htu), target).jkt == DEVICE.kid
    assert normal_origin("HTTPS://Hub.Example:443/") == "https://hub.example"


@pytest.mark.parametrize(
    "text",
    [
        "hub.example",
        "ftp://hub",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://a#b",
        "https://user@hub",
        "x" * 3000,
    ],
)
def test_what_is_no_origin_is_told(text: str) -> None:
    with pytest.raises(InvalidField, match="origin"):
        normal_origin(text)


def test_a_proof_for_a_connection_names_the_hub() -> None:
    made = proof(TOKEN, method="WEBSOCKET", url="ward-3")
    assert check(made, ConnectionTarget("WEBSOCKET", "ward-3")).jkt == DEVICE.kid
    assert proof_refusal(made, ConnectionTarget("MQTT", "ward-3")) == "wrong_request"
    assert proof_refusal(made, ConnectionTarget("WEBSOCKET", "ward-4")) == "wrong_request"
    assert proof_refusal(made, RequestTarget("WEBSOCKET", "ward-3", frozenset({ORIGIN}))) == "wrong_request"


# --- when, and in which form ---


@pytest.mark.attack("an old proof")
def test_a_proof_is_fresh() -> None:
    made = proof(TOKEN)
    assert check(made, now_ms=NOW_MS + WINDOW_MS).iat_ms == NOW_MS
    assert proof_refusal(made, now_ms=NOW_MS + WINDOW_MS + 1) == "expired"
    assert check(made, now_ms=NOW_MS - SKEW_MS).iat_ms == NOW_MS
    assert proof_refusal(made, now_ms=NOW_MS - SKEW_MS - 1) == "not_yet"


@pytest.mark.parametrize("name", ["jti", "htm", "htu", "iat", "ath", "bh"])
def test_each_claim_is_wanted(name: str) -> None:
    assert proof_refusal(signed(proof_header(), without(proof_payload(TOKEN), name), DEVICE)) == "malformed"


WRONG: dict[str, Json] = {
    "more": {"exp": NOW_MS // 1000}, "short jti": {"jti": "x"}, "long jti": {"jti": "x" * 129},
    "jti is a number": {"jti": 1},
    "iat is true": {"iat": True}, "iat is a float": {"iat": 1.79e9}, "iat is text": {"iat": "1790000000"},
    "iat is huge": {"iat": 10**30}, "bh is hex": {"bh": "0" * 64}, "bh has stray bits": {"bh": "A" * 42 + "B"},
    "bh is empty": {"bh": ""}, "ath is null": {"ath": None}, "nonce is null": {"nonce": None},
    "nonce is empty": {"nonce": ""},
    "nonce is long": {"nonce": "a" * 129}, "nonce is not ASCII": {"nonce": "\u0130"},
    "htm is a list": {"htm": ["POST"]},
    "htu is long": {"htu": ORIGIN + "/" + "a" * 2048},
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_claim_of_another_form_is_refused(change: Json) -> None:
    assert proof_refusal(forged(**change)) == "malformed"


def test_the_refusal_names_the_proof() -> None:
    assert refusal(lambda: check(b"x.y.z")) == "malformed"
    assert proof_refusal(b"x" * 9000) == "malformed"
