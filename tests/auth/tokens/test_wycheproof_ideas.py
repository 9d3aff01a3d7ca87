"""The ideas of Project Wycheproof's vectors for JWS, rebuilt for our one form of a token.

Its own vectors are for RSA, EC and HMAC. What they try is carried over: signatures at the edges of their numbers, parts
that are missing or damaged, algorithms and keys that do not fit together, keys that are not for verifying.
"""

import json
from collections.abc import Callable

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from auth.tokens.forge import DEVICE, HUB, NOW_MS, STRANGER, as_json, check, header, payload, signed, token_refusal
from auth.tokens.runs import PATH, a_run, proof, proof_header, proof_payload
from autoglm.auth.tokens.compact import encode_base64url
from autoglm.auth.tokens.token import TYPE
from autoglm.core.errors import Unauthorized

GOOD = signed(header(), payload())
FIRST, SECOND, THIRD = GOOD.split(b".")
ORDER = 2**252 + 27742317777372353535851937790883648493
RIGHT = HUB.sign(FIRST + b"." + SECOND)
R, S = RIGHT[:32], RIGHT[32:]


def number(value: int) -> bytes:
    return value.to_bytes(32, "little")


SIGNATURES = {
    "all zero": bytes(64),
    "all ones": b"\xff" * 64,
    "R is 0": bytes(32) + S,
    "R is 1": number(1) + S,
    "S is 0": R + bytes(32),
    "R is 1, S is 0": number(1) + bytes(32),
    "S is 1": R + number(1),
    "S is the order": R + number(ORDER),
    "S is the order less 1": R + number(ORDER - 1),
    "S is the order and 1": R + number(ORDER + 1),
    "S is not reduced": R + number(int.from_bytes(S, "little") + ORDER),
    "S is negated": R + number(ORDER - int.from_bytes(S, "little")),
    "R and S change places": S + R,
    "R has another sign": R[:31] + bytes([R[31] ^ 0x80]) + S,
    "R is twice": R + R,
    "zero before": b"\0" + RIGHT,
    "zero after": RIGHT + b"\0",
    "twice": RIGHT + RIGHT,
    "cut": RIGHT[:-1],
    "half": R,
    "reversed": RIGHT[::-1],
    "as DER": b"\x30\x44\x02\x20" + R + b"\x02\x20" + S,
    "hex": RIGHT.hex().encode(),
}


@pytest.mark.attack("malleable signature")
@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_no_other_signature_verifies(signature: bytes) -> None:
    assert check(GOOD).kid == HUB.kid
    assert token_refusal(FIRST + b"." + SECOND + b"." + encode_base64url(signature).encode()) == "bad_signature"


def changed(part: bytes, at: int) -> bytes:
    """Another letter there, of the same alphabet."""
    return part[:at] + (b"A" if part[at : at + 1] != b"A" else b"B") + part[at + 1 :]


DAMAGED = {
    "header": changed(FIRST, 30) + b"." + SECOND + b"." + THIRD,
    "payload": FIRST + b"." + changed(SECOND, 30) + b"." + THIRD,
    "signature": FIRST + b"." + SECOND + b"." + changed(THIRD, 30),
    "first letter of the signature": FIRST + b"." + SECOND + b"." + changed(THIRD, 0),
    "no header": b"." + SECOND + b"." + THIRD,
    "no header, no separator": SECOND + b"." + THIRD,
    "no header, no signature": b"." + SECOND + b".",
    "payload alone": SECOND,
    "no payload": FIRST + b".." + THIRD,
    "no payload, no separator": FIRST + b"." + THIRD,
    "no signature": FIRST + b"." + SECOND + b".",
    "no signature, no separator": FIRST + b"." + SECOND,
    "separators alone": b"..",
    "nothing": b"",
    "one part more": GOOD + b"." + THIRD,
    "an empty part more": GOOD + b".",
    "an empty part before": b"." + GOOD,
    "parts in another order": SECOND + b"." + FIRST + b"." + THIRD,
    "blanks in the header": FIRST[:9] + b"  " + FIRST[9:] + b"." + SECOND + b"." + THIRD,
    "blanks in the signature": FIRST + b"." + SECOND + b"." + THIRD[:9] + b" " + THIRD[9:],
    "another separator": GOOD.replace(b".", b","),
    "JSON serialization": as_json(
        {"payload": SECOND.decode(), "protected": FIRST.decode(), "signature": THIRD.decode()}
    ),
    "JSON serialization, general": as_json(
        {"payload": SECOND.decode(), "signatures": [{"protected": FIRST.decode(), "signature": THIRD.decode()}]}
    ),
    "detached payload": FIRST + b".." + THIRD,
    "five parts, as of JWE": b".".join([FIRST, SECOND, THIRD, SECOND, THIRD]),
    "UTF-16": GOOD.decode().encode("utf-16-le"),
    "quoted": b'"' + GOOD + b'"',
    "another token's signature": FIRST + b"." + SECOND + b"." + signed(header(), payload(pv=8)).split(b".")[2],
    "another token's payload": FIRST + b"." + signed(header(), payload(sub="user:admin")).split(b".")[1] + b"." + THIRD,
}


@pytest.mark.parametrize("compact", DAMAGED.values(), ids=DAMAGED)
def test_no_damaged_token_is_taken(compact: bytes) -> None:
    assert check(GOOD).kid == HUB.kid
    with pytest.raises(Unauthorized):
        check(compact)


EC, RSA = ECKey.generate_key("P-256"), RSAKey.generate_key(2048)
FOREIGN: dict[str, Callable[[str], str]] = {
    "ES256": lambda alg: jws.serialize_compact(header(alg=alg), as_json(payload()), EC, algorithms=[alg]),
    "RS256": lambda alg: jws.serialize_compact(header(alg=alg), as_json(payload()), RSA, algorithms=[alg]),
    "PS256": lambda alg: jws.serialize_compact(header(alg=alg), as_json(payload()), RSA, algorithms=[alg]),
    "HS256": lambda alg: jws.serialize_compact(
        header(alg=alg), as_json(payload()), OctKey.import_key(HUB.public.raw), algorithms=[alg]
    ),
}


@pytest.mark.attack("alg confusion")
@pytest.mark.parametrize("alg", FOREIGN)
def test_keys_of_other_kinds_sign_nothing(alg: str) -> None:
    """Neither as what they are, nor under the name of our algorithm."""
    foreign = FOREIGN[alg](alg)
    assert token_refusal(foreign.encode()) == "wrong_algorithm"
    _, body, signature = foreign.split(".")
    assert token_refusal(f"{FIRST.decode()}.{body}.{signature}".encode()) == "bad_signature"


USES: dict[str, object] = {
    "use enc": {"use": "enc"},
    "use sig": {"use": "sig"},
    "key_ops sign": {"key_ops": ["sign"]},
    "key_ops verify": {"key_ops": ["verify"]},
    "key_ops encrypt": {"key_ops": ["encrypt"]},
    "key_ops empty": {"key_ops": []},
    "alg HS256": {"alg": "HS256"},
    "alg ES256": {"alg": "ES256"},
    "ext": {"ext": True},
    "private": {"d": "A" * 43},
}


@pytest.mark.attack("wrong use")
@pytest.mark.parametrize("extra", USES.values(), ids=USES)
def test_a_key_that_says_what_it_is_for_is_refused(extra: dict[str, object]) -> None:
    """Ours never do. So no key that is for something else is used here, whatever it is for."""
    of = GOOD.decode()
    head = proof_header(jwk=DEVICE.public.jwk | extra)
    compact = signed(head, proof_payload(of), DEVICE)
    run = a_run()
    assert run.verify(b"DPoP " + GOOD, proof(of), "POST", PATH, NOW_MS).claims.kid == HUB.kid
    with pytest.raises(Unauthorized) as raised:
        run.verify(b"DPoP " + GOOD, compact, "POST", PATH, NOW_MS)
    assert raised.value.facts == {"reason": "malformed", "what": "proof"}


@pytest.mark.attack("jwk, jku and x5u injection")
def test_an_embedded_key_does_not_make_a_token() -> None:
    for head in (header(jwk=STRANGER.public.jwk), {"alg": "Ed25519", "typ": TYPE, "jwk": STRANGER.public.jwk}):
        assert token_refusal(signed(head, payload(), STRANGER)) == "malformed"


def test_blanks_in_the_json_are_no_damage() -> None:
    spaced = json.dumps(header(), indent=4, separators=(" , ", "\t:\r\n")).encode()
    assert check(signed(spaced, json.dumps(payload(), indent=1).encode())).kid == HUB.kid
