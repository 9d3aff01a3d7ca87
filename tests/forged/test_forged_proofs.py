"""Forged and reused proofs, each shown at each entry together with the device's own good token."""

from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey

from auth.tokens.forge import as_json, padded, resigned, signed, spliced, stray_bits, without
from autoglm.auth.tokens.compact import encode_base64url
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.proof import sha256_text
from autoglm.core.clock import now_ms
from forged.entries import LET_IN, NO_TOKEN, NONCE_WANTED, SKEW_MS, WINDOW_MS, Entry, Said, refused
from forged.holder import GONE, THIEF, Holder, Json, Moment, Prove, forged, honest
from forged.trial import refuses_proofs, said_to, the_token

pytestmark = pytest.mark.xdist_group("forged")

SESSIONLESS = ["unit", "http", "websocket-header", "mqtt-3.1.1"]
"""Entries where the hub says nothing before the proof comes."""
ALL = [*SESSIONLESS, "websocket", "mqtt-5"]


def tried(entry: Entry, prove: Prove) -> Said:
    return said_to(entry, the_token, prove)


# --- by whom ---


def with_key_in_it(**members: object) -> Prove:
    return lambda holder, moment, token: forged({"jwk": holder.key.public.jwk | members})(holder, moment, token)


@pytest.mark.attack("a stolen token without its key")
def test_a_proof_by_another_key(entry: Entry) -> None:
    refuses_proofs(entry, {
        "the thief's own": (forged({"jwk": THIEF.public.jwk}, by=THIEF), "wrong_key"),
        "the thief's under the device's name": (forged(by=THIEF), "bad_signature"),
        "the device's under the thief's name": (forged({"jwk": THIEF.public.jwk}), "wrong_key"),
        "the hub's": (
            lambda holder, *of: forged({"jwk": holder.site.public.jwk}, by=holder.site)(holder, *of), "wrong_key"
        ),
        "no key": (
            lambda holder, moment, token: signed(
                without(holder.proof_header(), "jwk"), holder.proof_payload(moment, token), holder.key
            ), "malformed",
        ),
        "a kid in its place": (
            lambda holder, moment, token: signed(
                {"alg": "Ed25519", "typ": "dpop+jwt", "kid": holder.key.kid}, holder.proof_payload(moment, token),
                holder.key,
            ), "malformed",
        ),
        "the token again": (lambda holder, moment, token: token, "wrong_type"),
    })  # fmt: skip


@pytest.mark.attack("wrong use")
def test_a_key_that_is_for_something_else(entry: Entry) -> None:
    refuses_proofs(entry, {
        "private half": (with_key_in_it(d="A" * 43), "malformed"),
        "for encryption": (with_key_in_it(use="enc"), "malformed"),
        "for signing": (with_key_in_it(key_ops=["sign"]), "malformed"),
        "of HS256": (with_key_in_it(alg="HS256"), "malformed"),
        "a secret": (with_key_in_it(kty="oct", k="AAAA"), "malformed"),
        "another curve": (with_key_in_it(crv="X25519"), "malformed"),
        "of small order": (with_key_in_it(x=encode_base64url(bytes([1]) + bytes(31))), "malformed"),
        "jku": (forged({"jku": "https://evil.example/keys"}), "malformed"),
        "crit": (forged({"crit": ["exp"]}), "malformed"),
    })  # fmt: skip


def by_secret(holder: Holder, moment: Moment, token: bytes) -> bytes:
    key = OctKey.import_key(holder.key.public.raw)
    return jws.serialize_compact(
        holder.proof_header(alg="HS256"), as_json(holder.proof_payload(moment, token)), key, algorithms=["HS256"]
    ).encode()


def unsigned(holder: Holder, moment: Moment, token: bytes) -> bytes:
    parts = (holder.proof_header(alg="none"), holder.proof_payload(moment, token))
    return ".".join(encode_base64url(as_json(part)) for part in parts).encode() + b"."


@pytest.mark.attack("alg none")
@pytest.mark.attack("alg confusion")
@pytest.mark.attack("wrong typ")
def test_a_proof_of_another_algorithm_or_type(entry: Entry) -> None:
    refuses_proofs(entry, {
        "none": (unsigned, "malformed"),
        "none, with a signature": (forged({"alg": "none"}), "wrong_algorithm"),
        "HS256 by the public key": (by_secret, "wrong_algorithm"),
        "EdDSA": (forged({"alg": "EdDSA"}), "wrong_algorithm"),
        "a token's type": (forged({"typ": "at+jwt"}), "wrong_type"),
        "JWT": (forged({"typ": "JWT"}), "wrong_type"),
        "type in capitals": (forged({"typ": "DPoP+JWT"}), "wrong_type"),
    })  # fmt: skip


def rewritten(head: Callable[[bytes], bytes] = bytes, body: Callable[[bytes], bytes] = bytes) -> Prove:
    """Signed with its JSON changed as text."""
    return lambda holder, moment, token: signed(
        head(as_json(holder.proof_header())), body(as_json(holder.proof_payload(moment, token))), holder.key
    )


def recoded(head: Callable[[bytes], bytes], body: Callable[[bytes], bytes]) -> Prove:
    """Signed with its base64url changed."""
    return lambda holder, moment, token: resigned(
        head(padded(as_json(holder.proof_header()))), body(padded(as_json(holder.proof_payload(moment, token)))),
        holder.key,
    )  # fmt: skip


def ending(change: Callable[[bytes], bytes]) -> Prove:
    return lambda holder, moment, token: change(honest(holder, moment, token))


@pytest.mark.attack("duplicate JSON keys")
@pytest.mark.attack("non-canonical base64")
@pytest.mark.attack("oversized proof")
@pytest.mark.attack("JWE and other forms in the place of JWS")
@pytest.mark.attack("b64 false and detached payloads")
def test_a_proof_in_another_form(entry: Entry) -> None:
    refuses_proofs(entry, {
        "two ids": (rewritten(body=lambda text: spliced(text, b'"jti":"another-id-of-this-proof"')), "malformed"),
        "two methods": (rewritten(body=lambda text: spliced(text, b'"\\u0068tm":"GET"')), "malformed"),
        "two algorithms": (rewritten(head=lambda text: spliced(text, b'"alg":"none"')), "malformed"),
        "padded": (recoded(lambda part: part + b"=" * (-len(part) % 4), bytes), "malformed"),
        "stray bits": (recoded(bytes, stray_bits), "malformed"),
        "a blank inside": (ending(lambda proof: proof[:40] + b" " + proof[40:]), "malformed"),
        "blanks without end": (rewritten(body=lambda text: text + b" " * 6000), "malformed"),
        "nested": (rewritten(body=lambda _: b"[" * 2000 + b"]" * 2000), "malformed"),
        "five parts": (ending(lambda proof: proof + b"." + proof.partition(b".")[2]), "malformed"),
        "two proofs": (ending(lambda proof: proof + b"," + proof), "malformed"),
        "detached": (ending(lambda proof: proof.split(b".")[0] + b".." + proof.split(b".")[2]), "malformed"),
        "b64 false": (forged({"b64": False, "crit": ["b64"]}), "malformed"),
    })  # fmt: skip


# --- for what ---


@pytest.mark.attack("a proof reused on another path or method")
@pytest.mark.attack("a proof for another hub")
def test_a_proof_for_something_else(entry: Entry) -> None:
    refuses_proofs(entry, {
        "DELETE": (forged(htm="DELETE"), "wrong_request"),
        "small letters": (
            lambda holder, moment, token: forged(htm=moment.method.lower())(holder, moment, token), "wrong_request"
        ),
        "another hub": (forged(htu="https://evil.example/api/messages"), "wrong_request"),
        "another audience": (forged(htu="ward-4"), "wrong_request"),
        "another path": (
            lambda holder, moment, token: forged(htu=moment.url + "/x")(holder, moment, token), "wrong_request"
        ),
        "a user before the host": (
            lambda holder, moment, token: forged(htu=moment.url.replace("//", "//x@") + " ")(holder, moment, token),
            "wrong_request",
        ),
        "a list": (forged(htm=["POST", "GET", "WEBSOCKET", "MQTT"]), "malformed"),
        "no method": (forged(htm=GONE), "malformed"),
        "no address": (forged(htu=GONE), "malformed"),
    })  # fmt: skip


@pytest.mark.attack("a proof reused for another token")
def test_a_proof_for_another_token(entry: Entry) -> None:
    refuses_proofs(entry, {
        "another token": (
            lambda holder, moment, token: honest(holder, moment, holder.with_claims(pv=1)), "wrong_token"
        ),
        "of nothing": (forged(ath=sha256_text(b"")), "wrong_token"),
        "hex": (forged(ath="0" * 64), "malformed"),
        "missing": (forged(ath=GONE), "malformed"),
        "null": (forged(ath=None), "malformed"),
    })  # fmt: skip


@pytest.mark.attack("a proof reused with another body")
@pytest.mark.parametrize("body", [b"", b"{}", b'{"to":"device:victim","content":"heat"}'])
def test_a_proof_for_another_body(find: Callable[[str], Entry], body: bytes) -> None:
    assert tried(find("http"), forged(bh=sha256_text(body))) == refused("wrong_body", "proof")


@pytest.mark.attack("a proof reused with another body")
def test_a_proof_that_names_no_body(entry: Entry) -> None:
    refuses_proofs(entry, {
        "missing": (forged(bh=GONE), "malformed"),
        "hex": (forged(bh="0" * 64), "malformed"),
        "stray bits": (forged(bh="A" * 42 + "B"), "malformed"),
    })  # fmt: skip


# --- when ---


def made_at(ahead_ms: int) -> Prove:
    return lambda *shown: forged(iat=(now_ms() + ahead_ms) // 1000)(*shown)  # noqa: PLW0108  # by the time then


@pytest.mark.attack("an old proof")
@pytest.mark.attack("boolean, float or huge times")
def test_a_proof_of_another_time(entry: Entry) -> None:
    refuses_proofs(entry, {
        "too old": (made_at(-WINDOW_MS - 1000), "expired"),
        "of 1970": (forged(iat=0), "expired"),
        "from the future": (made_at(SKEW_MS + 5000), "not_yet"),
        "of the year 9999": (forged(iat=253_402_300_799), "not_yet"),
        "huge": (forged(iat=10**400), "malformed"),
        "true": (forged(iat=True), "malformed"),
        "text": (forged(iat="1790000000"), "malformed"),
        "missing": (forged(iat=GONE), "malformed"),
        "with an end": (forged(exp=253_402_300_799), "malformed"),
        "no id": (forged(jti=GONE), "malformed"),
        "a short id": (forged(jti="x"), "malformed"),
        "an id with a blank": (forged(jti="a" * 16 + " b"), "malformed"),
    })  # fmt: skip


@pytest.mark.attack("replay across a restart")
@pytest.mark.parametrize("nonce", ["of another run", "guessed", "old"])
def test_a_nonce_that_is_not_the_one_that_was_given(entry: Entry, nonce: str) -> None:
    value = {"of another run": Nonces().current(), "guessed": "A" * 22, "old": "x"}[nonce]
    assert tried(entry, forged(nonce=value)) == (
        refused("wrong_token", "proof") if entry.has_challenge else NONCE_WANTED
    )


@pytest.mark.attack("an answer carried to another connection")
@pytest.mark.parametrize("name", ["websocket", "mqtt-5"])
def test_a_challenge_is_not_answered_without_it(find: Callable[[str], Entry], name: str) -> None:
    """Nor by a nonce that the hub gives for requests."""
    entry = find(name)
    for prove in (forged(nonce=GONE), forged(nonce=the_run_s_nonce(entry))):
        assert tried(entry, prove) == refused("wrong_token", "proof")


def the_run_s_nonce(entry: Any) -> str:
    nonce: str = entry.hub.hub._auth.requests.nonces.current()
    return nonce


@pytest.mark.attack("replay across a restart")
@pytest.mark.usefixtures("just_started")
@pytest.mark.parametrize("name", ["http", "websocket-header", "mqtt-3.1.1"])
def test_a_proof_without_a_nonce_right_after_a_start(find: Callable[[str], Entry], name: str) -> None:
    entry = find(name)
    before = entry.state()
    with_nonce = forged(nonce=the_run_s_nonce(entry))
    assert entry.enter(entry.holder.token, with_nonce) == LET_IN
    between = entry.state()
    assert between != before
    assert entry.enter(entry.holder.token, honest) == NONCE_WANTED
    assert entry.state() == between


# --- carried elsewhere ---


class Overheard:
    """Proves honestly, and keeps the proof for later."""

    proof = b""

    def __call__(self, holder: Holder, moment: Moment, token: bytes) -> bytes:
        self.proof = honest(holder, moment, token)
        return self.proof

    def again(self, holder: Holder, moment: Moment, token: bytes) -> bytes:
        return self.proof


def what_is_said(made_for: str, used_at: str) -> Said:
    is_same_target = made_for == used_at or {made_for, used_at} == {"mqtt-3.1.1", "mqtt-5"}
    if not is_same_target:
        return refused("wrong_request", "proof")
    if used_at in ("websocket", "mqtt-5"):  # another connection's challenge, or none
        return refused("wrong_token", "proof")
    return NONCE_WANTED if made_for == "mqtt-5" else refused("replayed", "proof")


OF_HUB = [name for name in ALL if name != "unit"]


@pytest.mark.attack("replay within a run")
@pytest.mark.attack("a proof carried to another entry")
@pytest.mark.parametrize("used_at", OF_HUB)
@pytest.mark.parametrize("made_for", OF_HUB)
def test_a_proof_is_used_once_and_where_it_is_for(find: Callable[[str], Entry], made_for: str, used_at: str) -> None:
    first, then, overheard = find(made_for), find(used_at), Overheard()
    assert first.enter(first.holder.token, overheard) == LET_IN
    assert tried(then, overheard.again) == what_is_said(made_for, used_at)


@pytest.mark.attack("a proof carried to another entry")
@pytest.mark.parametrize("used_at", OF_HUB)
@pytest.mark.parametrize("made_for", ["http", "websocket-header", "mqtt-3.1.1"])
def test_who_overhears_a_proof_cannot_spoil_it_elsewhere(
    find: Callable[[str], Entry], made_for: str, used_at: str
) -> None:
    """It is refused there, and counts where it is for."""
    first, then = find(made_for), find(used_at)
    if what_is_said(made_for, used_at).reason == "replayed":
        return
    made: Json = {}

    def early(holder: Holder, moment: Moment, token: bytes) -> bytes:
        made["proof"] = honest(holder, moment, token)
        made["said"] = then.enter(token, lambda *_: made["proof"])
        return b"%b" % made["proof"]

    assert first.enter(first.holder.token, early) == LET_IN
    assert made["said"] == what_is_said(made_for, used_at)


@pytest.mark.attack("a token and a proof in one string, taken apart elsewhere")
def test_a_password_is_no_header(find: Callable[[str], Entry]) -> None:
    broker = find("mqtt-3.1.1")
    overheard = Overheard()
    assert broker.enter(broker.holder.token, overheard) == LET_IN
    secret = broker.holder.token + b"~" + overheard.proof
    for name in ("http", "websocket-header", "websocket"):
        entry = find(name)
        assert said_to(entry, lambda _: secret, overheard.again) == refused("malformed")
    assert said_to(broker, lambda _: secret, overheard.again) == NO_TOKEN
