"""Keys: what can be a public key, how a private one is kept, and how one takes over from another."""

import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from auth.tokens.forge import DAY_MS, DEVICE, HUB, NOW_MS, SITE, STRANGER, TTL_MS, check, claims, token, token_refusal
from autoglm.auth.tokens.issuers import pins_of
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.rotation import MAX_FORMER, SigningKeys
from autoglm.auth.tokens.settings import IssuerSettings
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.tokens.token import issue
from autoglm.core.errors import InvalidField, SettingsError

FIELD_PRIME = 2**255 - 19


def public_pem(key: SigningKey) -> str:
    public = Ed25519PublicKey.from_public_bytes(key.public.raw)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


# --- public keys ---


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """RFC 8037, appendix A.3."""
    key = PublicKey.from_text("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert key.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_is_read_from_text_and_from_pem() -> None:
    assert PublicKey.from_text(DEVICE.public.x) == PublicKey.from_text(public_pem(DEVICE)) == DEVICE.public
    assert PublicKey.from_jwk(DEVICE.public.jwk) == DEVICE.public != HUB.public


def encoded(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


SMALL = [
    *(encoded(y, sign) for y in (0, 1, FIELD_PRIME - 1) for sign in (0, 1)),
    *(bytes.fromhex(f"{low}{high}") for high in ("05", "85") for low in
      ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc"]),
    *(bytes.fromhex(f"{low}{high}") for high in ("7a", "fa") for low in
      ["c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03"]),
]  # fmt: skip


def is_signed_by_nobody(raw: bytes) -> bool:
    """Whether OpenSSL takes a signature without a private key (R the neutral point, S = 0) for one of 64 messages."""
    key = Ed25519PublicKey.from_public_bytes(raw)
    for number in range(64):
        try:
            key.verify(encoded(1) + bytes(32), b"%d" % number)
        except Exception:  # noqa: BLE001  # InvalidSignature, and whatever else says no
            continue
        return True
    return False


@pytest.mark.attack("a key of small order, under which anyone signs")
def test_keys_under_which_anyone_can_sign_are_refused() -> None:
    assert sum(is_signed_by_nobody(raw) for raw in SMALL) >= 8  # so the danger is real with this library
    assert not is_signed_by_nobody(DEVICE.public.raw)
    for raw in SMALL:
        with pytest.raises(InvalidField, match="public_key"):
            PublicKey(raw)


@pytest.mark.attack("a second form of a key")
@pytest.mark.parametrize("y", [FIELD_PRIME, FIELD_PRIME + 1, FIELD_PRIME + 18, 2**255 - 1])
def test_a_key_has_one_form(y: int) -> None:
    """RFC 8032, section 5.1.3: else one key has two thumbprints, and revoking one leaves the other."""
    for sign in (0, 1):
        with pytest.raises(InvalidField):
            PublicKey(encoded(y, sign))


@pytest.mark.parametrize(
    "text", ["", "A", DEVICE.public.x[:-1], DEVICE.public.x + "A", DEVICE.public.x + "=", "\u0130" * 43]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="public_key"):
        PublicKey.from_text(text)


def test_keys_of_other_kinds_are_refused() -> None:
    for other in (
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        x25519.X25519PrivateKey.generate().public_key(),
    ):
        pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        with pytest.raises(InvalidField):
            PublicKey.from_text(pem)
    with pytest.raises(InvalidField):
        PublicKey.from_text(HUB.pem().decode())


JWK = DEVICE.public.jwk


@pytest.mark.attack("wrong use")
@pytest.mark.parametrize(
    "jwk",
    [
        JWK | {"use": "enc"}, JWK | {"use": "sig"}, JWK | {"key_ops": ["sign"]}, JWK | {"key_ops": ["verify"]},
        JWK | {"alg": "HS256"}, JWK | {"d": "AAAA"}, JWK | {"kid": "x"}, JWK | {"x5u": "https://evil.example"},
        JWK | {"kty": "oct"}, JWK | {"kty": "EC"}, JWK | {"crv": "X25519"}, JWK | {"crv": "Ed448"},
        JWK | {"crv": "ed25519"}, JWK | {"x": 1}, JWK | {"x": None}, JWK | {"x": JWK["x"] + "="},
        {"kty": "OKP", "crv": "Ed25519"}, {"kty": "oct", "k": "AAAA"}, [], None, "x", [JWK], {"keys": [JWK]},
    ],
)  # fmt: skip
def test_a_jwk_is_a_bare_public_key(jwk: object) -> None:
    with pytest.raises(InvalidField):
        PublicKey.from_jwk(jwk)


# --- private keys ---


@pytest.mark.parametrize("passphrase", [None, b"long and \xff secret"])
def test_a_private_key_is_kept_as_pem(passphrase: bytes | None) -> None:
    pem = HUB.pem(passphrase)
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY" if passphrase else b"-----BEGIN PRIVATE KEY")
    again = SigningKey.from_pem(pem, passphrase)
    assert again.kid == HUB.kid
    assert HUB.public.has_signed(b"x", again.sign(b"x"))
    assert not HUB.public.has_signed(b"y", again.sign(b"x"))


def test_a_private_key_that_cannot_be_read_is_refused_without_telling_the_passphrase() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    cases = [
        (HUB.pem(b"right"), b"secret-4711"), (HUB.pem(b"right"), None), (HUB.pem(), b"secret-4711"), (other, None),
        (b"", None), (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None), (HUB.pem()[:60], None),
    ]  # fmt: skip
    for pem, passphrase in cases:
        with pytest.raises(SettingsError, match="signing key") as raised:
            SigningKey.from_pem(pem, passphrase)
        assert "4711" not in str(raised.value)


def test_a_private_key_shows_itself_nowhere() -> None:
    secret = HUB._private.private_bytes_raw()
    shown = f"{HUB!r} {HUB} {SigningKeys(HUB)!r}"
    assert HUB.kid in shown
    assert secret.hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(HUB)


# --- rotation ---


@pytest.mark.attack("a rotated key that signs on")
def test_rotation_refuses_no_good_token_and_ends_the_old_key() -> None:
    old = SigningKeys(SigningKey.generate())
    before = issue(old.current, claims()).encode()
    new = old.rotated(NOW_MS, TTL_MS // 1000)
    after = issue(new.current, claims(ends_at_ms=NOW_MS + DAY_MS)).encode()
    pins = new.pins(SITE)
    assert check(before, pins=pins, now_ms=NOW_MS + TTL_MS - 1).kid == old.current.kid
    assert check(after, pins=pins, now_ms=NOW_MS).kid == new.current.kid
    assert check(after, pins=pins, now_ms=NOW_MS + TTL_MS).kid == new.current.kid
    late = issue(old.current, claims(issued_at_ms=NOW_MS + TTL_MS - 1000, ends_at_ms=NOW_MS + 2 * TTL_MS)).encode()
    assert token_refusal(late, pins=pins, now_ms=NOW_MS + TTL_MS) == "key_ended"
    assert token_refusal(after, pins=old.pins(SITE)) == "unknown_key"


def test_a_key_can_be_published_before_it_signs() -> None:
    soon = SigningKey.generate()
    rotated = SigningKeys(HUB).rotated(NOW_MS, 900, soon)
    assert (rotated.current, [key.public_key for key in rotated.former]) == (soon, [HUB.public])


def test_keys_that_have_ended_are_dropped_and_their_number_is_bounded() -> None:
    keys = SigningKeys(SigningKey.generate())
    for number in range(MAX_FORMER):
        keys = keys.rotated(NOW_MS + number, 900)
    assert len(keys.former) == MAX_FORMER
    with pytest.raises(InvalidField, match="verify still"):
        keys.rotated(NOW_MS + MAX_FORMER, 900)
    assert len(keys.rotated(NOW_MS + 900_000 + MAX_FORMER, 900).former) == 1


def test_a_key_does_not_come_back_while_it_verifies() -> None:
    keys = SigningKeys(HUB).rotated(NOW_MS, 900)
    for again in (HUB, keys.current):
        with pytest.raises(InvalidField, match="signed before"):
            keys.rotated(NOW_MS, 900, again)


def test_former_keys_are_kept_and_restored() -> None:
    keys = SigningKeys(HUB).rotated(NOW_MS, 900).rotated(NOW_MS, 900)
    restored = SigningKeys.restored(SigningKey.from_pem(keys.current.pem()), keys.former_json())
    assert restored.former == keys.former
    assert {pin.kid: pin.not_after_ms for pin in restored.pins(SITE)} == {
        pin.kid: pin.not_after_ms for pin in keys.pins(SITE)
    }


def test_a_kill_between_the_two_writes_leaves_the_key_that_signs_without_an_end() -> None:
    """The list of former keys is written first: until the new PEM is there, the old key is in both."""
    rotated = SigningKeys(HUB).rotated(NOW_MS, 900)
    restored = SigningKeys.restored(HUB, rotated.former_json())
    assert restored.former == ()
    assert [pin.not_after_ms for pin in restored.pins(SITE)] == [None]


@pytest.mark.parametrize("text", [b"", b"{}", b'[{"public_key":"x","verifies_until_ms":1}]', b'[{"x":1}]', b"\xff"])
def test_a_damaged_list_of_former_keys_is_told(text: bytes) -> None:
    with pytest.raises(SettingsError, match="former"):
        SigningKeys.restored(HUB, text)


# --- pins ---


@pytest.mark.attack("a token by a revoked key")
def test_a_revoked_or_ended_pin_verifies_nothing() -> None:
    good = token().encode()
    assert token_refusal(good, pins=Pins([Pin(HUB.public, SITE, is_revoked=True)])) == "key_revoked"
    ends = Pins([Pin(HUB.public, SITE, not_after_ms=NOW_MS + 5)])
    assert check(good, pins=ends, now_ms=NOW_MS + 4).kid == HUB.kid
    assert token_refusal(good, pins=ends, now_ms=NOW_MS + 5) == "key_ended"


def test_of_two_pins_for_one_key_the_stricter_limits_hold() -> None:
    plain, ends = Pin(HUB.public, SITE), Pin(HUB.public, SITE, not_after_ms=NOW_MS)
    revoked = Pin(HUB.public, SITE, NOW_MS + 5, is_revoked=True)
    for order in ([plain, ends, revoked], [revoked, ends, plain], [ends, revoked, plain]):
        (pin,) = Pins(order)
        assert (pin.not_after_ms, pin.is_revoked) == (NOW_MS, True)
    with pytest.raises(InvalidField, match=r"ward-3.*ward-4"):
        Pins([plain, Pin(HUB.public, "ward-4")])


def test_issuers_are_pinned_by_the_settings() -> None:
    pins = pins_of([
        IssuerSettings(name="ward-3", public_key=HUB.public.x),
        IssuerSettings(name="ward-4", public_key=public_pem(STRANGER)),
    ])  # fmt: skip
    assert {(pin.issuer, pin.kid) for pin in pins} == {("ward-3", HUB.kid), ("ward-4", STRANGER.kid)}
    assert len(pins) == 2


def test_an_issuer_without_a_key_is_told_by_name() -> None:
    wrong = [
        [IssuerSettings(name="ward-9", public_key="A" * 43)],
        [IssuerSettings(name="ward-9", public_key=HUB.public.x), IssuerSettings(name="b", public_key=HUB.public.x)],
    ]
    for issuers in wrong:
        with pytest.raises(SettingsError, match="ward-9"):
            pins_of(issuers)
