"""What a browser sends to be let in: names, cookies, passkeys' answers, and a provider's ID tokens."""

import json
import time
from typing import Any, cast

from joserfc import jws
from joserfc.jwk import ECKey

from autoglm.auth.people.accounts import normal_name
from autoglm.auth.people.id_token import check_claims, header_of, verified_claims
from autoglm.auth.people.passkeys import Passkey, Passkeys
from autoglm.auth.people.settings import PasskeySettings
from autoglm.core.address import check_address
from autoglm.core.errors import InvalidField, LoginRefused
from autoglm.gateway.visitors import SESSION, cookie
from fakes.authenticator import Authenticator, b64, unb64
from fuzzing.target import Target

_ORIGIN, _CHALLENGE = "https://hub.example", b"c" * 32
_ISSUER, _CLIENT, _NONCE = "https://login.example", "hub", "n" * 22
_NOW_MS = 1_800_000_000_000


def _read_name(data: bytes) -> None:
    normal = normal_name(data.decode("utf-8", "surrogatepass"))
    assert normal_name(normal) == normal
    check_address(f"user:{normal}", field="name")


def _read_cookie(data: bytes) -> None:
    found = cookie({b"cookie": data}, SESSION, is_secure=True)
    if found is not None:
        assert b"__Host-autoglm-session" in data
        assert len(found) <= 300
        assert not set(found) & set(";")


_key = ECKey.generate_key("P-256", parameters={"kid": "one"})
_public = _key.as_dict(private=False)


def _id_token(**claims: Any) -> bytes:
    right = {
        "iss": _ISSUER, "aud": _CLIENT, "sub": "4711", "nonce": _NONCE, "iat": _NOW_MS // 1000,
        "exp": _NOW_MS // 1000 + 300,
    }  # fmt: skip
    header = {"alg": "ES256", "kid": "one"}
    return jws.serialize_compact(header, json.dumps(right | claims), _key, algorithms=["ES256"]).encode()


_TOKEN = _id_token()


def _read_id_token(data: bytes) -> None:
    try:
        token = data.decode("ascii")
    except UnicodeDecodeError:
        raise LoginRefused from None
    alg, _ = header_of(token)
    if alg != "ES256":  # as the settings have it
        raise LoginRefused
    claims = verified_claims(token, _public, alg)
    check_claims(claims, issuer=_ISSUER, client_id=_CLIENT, nonce=_NONCE, now_ms=_NOW_MS)
    assert claims["sub"] == "4711", "a token that nobody signed"


_authenticator = Authenticator(_ORIGIN)
_passkeys = Passkeys(
    cast(Any, None), cast(Any, None), PasskeySettings(origins=(_ORIGIN,)), lambda: int(time.time() * 1000)
)  # fmt: skip
_created = _authenticator.create({
    "challenge": b64(_CHALLENGE), "rp": {"id": "hub.example"}, "user": {"id": b64(b"u" * 16)},
})  # fmt: skip
_made = _passkeys._verified_creation(_created, _CHALLENGE)
_PASSKEY = Passkey(
    credential_id=_made.credential_id, public_key=_made.credential_public_key, name="alice", account_id="0" * 32,
    label="", sign_count=0, is_backed_up=False, created_ms=0, used_ms=0,
)  # fmt: skip
_ANSWER = _authenticator.get({"challenge": b64(_CHALLENGE), "rpId": "hub.example"})


def _object(data: bytes) -> dict[str, Any]:
    """As the gateway hands it on."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise LoginRefused from None
    if not isinstance(found, dict):
        raise LoginRefused
    return found


def _read_creation(data: bytes) -> None:
    assert _passkeys._verified_creation(_object(data), _CHALLENGE).credential_id


def _read_answer(data: bytes) -> None:
    answer = _object(data)
    _passkeys._verified_request(answer, _CHALLENGE, _PASSKEY)
    for field in ("authenticatorData", "signature", "clientDataJSON"):
        # Of two ways to write the same bytes, each may come.
        assert unb64(answer["response"][field]) == unb64(_ANSWER["response"][field]), "an answer that nobody gave"


TARGETS = (
    Target("person_name", _read_name, (b"alice", "Zo\u00eb.M\u00fcller-7".encode(), "\u5f20\u4e09".encode()),
           (InvalidField, UnicodeDecodeError), words=(b"\xe2\x80\x8b", b"\xef\xbc\xa1", b"\xcc\x81")),
    Target("session_cookie", _read_cookie, (
        b"__Host-autoglm-session=abc; autoglm-session=def", b"a=b;\t__Host-autoglm-session=x;__Host-autoglm-session=y",
    ), words=(b"__Host-autoglm-session=", b"; ", b"\xa0", b"\x85", b"=")),
    Target("id_token", _read_id_token, (_TOKEN, _id_token(aud=[_CLIENT], azp=_CLIENT)), (LoginRefused,),
           words=(b'"alg"', b'"none"', b"ES256", b"eyJ", b".")),
    Target("passkey_creation", _read_creation, (json.dumps(_created).encode(),), (LoginRefused,),
           words=(b'"rawId"', b'"response"', b'"attestationObject"')),
    Target("passkey_answer", _read_answer, (json.dumps(_ANSWER).encode(),), (LoginRefused,),
           words=(b'"rawId"', b'"signature"', b'"authenticatorData"')),
)  # fmt: skip
