"""The encryption of Web Push against the RFC's own figures and against http_ece."""

import base64

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.web_push.encryption import (
    MAX_BODY_BYTES,
    MAX_PLAINTEXT_BYTES,
    Receiver,
    decode_base64url,
    encode_base64url,
    encrypt,
    parse_receiver,
    public_bytes,
)

# RFC 8291, appendix A.
PLAINTEXT = b"When I grow up, I want to be a watermelon"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER_PUBLIC = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SECRET = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
    "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def private_key(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(decode_base64url(text, "key"), "big"), ec.SECP256R1())


def test_the_rfcs_own_message_comes_out_bit_by_bit() -> None:
    receiver = parse_receiver(RECEIVER_PUBLIC, SECRET)
    body = encrypt(PLAINTEXT, receiver, sender=private_key(SENDER), salt=decode_base64url(SALT, "salt"))
    assert encode_base64url(body) == BODY


@given(st.binary(max_size=MAX_PLAINTEXT_BYTES), st.binary(min_size=16, max_size=16))
def test_http_ece_reads_what_was_encrypted(plaintext: bytes, secret: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    body = encrypt(plaintext, Receiver(public_bytes(key), secret))
    assert http_ece.decrypt(body, private_key=key, auth_secret=secret, version="aes128gcm") == plaintext
    assert len(body) == len(plaintext) + 103


def test_no_two_bodies_are_alike() -> None:
    """A key and a nonce that came twice would give both texts away."""
    receiver = parse_receiver(RECEIVER_PUBLIC, SECRET)
    bodies = [encrypt(PLAINTEXT, receiver) for _ in range(50)]
    assert len({body[:16] for body in bodies}) == len({body[21:86] for body in bodies}) == 50


def test_the_longest_text_fills_a_push_and_a_longer_one_is_none() -> None:
    receiver = parse_receiver(RECEIVER_PUBLIC, SECRET)
    assert len(encrypt(bytes(3993), receiver)) == MAX_BODY_BYTES
    with pytest.raises(ValueError, match="3994 bytes are over the 3993"):
        encrypt(bytes(3994), receiver)


@pytest.mark.parametrize(
    ("p256dh", "auth", "words"),
    [
        (RECEIVER_PUBLIC, "BTBZMqHH6r4Tts7J_aSI", "auth must be 16 bytes, not 15"),
        (RECEIVER_PUBLIC, "", "auth is no base64url"),
        (RECEIVER_PUBLIC, "BTBZMqHH6r4Tts7J/aSIgg", "auth is no base64url"),
        (RECEIVER_PUBLIC[:-4], SECRET, "p256dh must be an uncompressed point"),
        ("A" + RECEIVER_PUBLIC[1:], SECRET, "p256dh must be an uncompressed point"),
        (RECEIVER_PUBLIC[:-1] + "8", SECRET, "p256dh is no point of P-256"),
        (base64.urlsafe_b64encode(b"\x04" + bytes(64)).decode(), SECRET, "p256dh is no point of P-256"),
    ],
)
def test_keys_that_are_none_are_told_by_name(p256dh: str, auth: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_receiver(p256dh, auth)


def test_padding_of_base64_is_taken_and_not_needed() -> None:
    assert parse_receiver(f"{RECEIVER_PUBLIC}=", f"{SECRET}==") == parse_receiver(RECEIVER_PUBLIC, SECRET)
