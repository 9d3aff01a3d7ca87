"""An OpenID provider on loopback: strict in what OAuth asks of the hub, and able to misbehave towards it.

Checks the client's secret, the redirect address, PKCE and that a code is used once. Source: OpenID Connect Core 1.0.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from fakes.vendor import Vendor
from scripted_model import Request, response

CLIENT_ID, CLIENT_SECRET = "autoglm hub", "s3cret:with/signs"
REDIRECT_URI = "http://localhost:8600/api/login/oidc/callback"


@dataclass
class _Grant:
    query: dict[str, str]
    subject: str
    is_used: bool = False


class OidcProvider(Vendor):
    """`with OidcProvider(time.now_ms) as provider:`; its issuer is `provider.url`."""

    def __init__(self, now_ms: Any) -> None:
        super().__init__()
        self._now_ms = now_ms
        self.key: ECKey | RSAKey = ECKey.generate_key("P-256", parameters={"kid": "one", "use": "sig"})
        self.published: list[dict[str, Any]] = [self.key.as_dict(private=False)]
        self.people: dict[str, dict[str, Any]] = {"4711": {"preferred_username": "Alice", "groups": ["staff"]}}
        self.claims: dict[str, Any] = {}
        """Put into ID tokens in place of the right ones; None leaves a claim out."""
        self.header: dict[str, Any] = {}
        """The same for their headers."""
        self.metadata: dict[str, Any] = {}
        self.algorithm = "ES256"
        self.signs: Callable[[bytes], bytes] | None = None
        """Makes the signature in place of the key."""
        self.refuses_refresh: tuple[int, str] | None = None
        """(status, error) of each refresh."""
        self.complaints: list[str] = []
        self.fetched: list[str] = []
        self._grants: dict[str, _Grant] = {}
        self._refresh: dict[str, str] = {}

    def authorize(self, url: str, subject: str = "4711") -> dict[str, str]:
        """The person logs in: the callback's query. Raises AssertionError for a request that a provider refuses."""
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/authorize"
        assert (query["response_type"], query["client_id"], query["redirect_uri"]) == ("code", CLIENT_ID, REDIRECT_URI)
        assert "openid" in query["scope"].split(" ")
        assert (query["code_challenge_method"], len(query["code_challenge"])) == ("S256", 43)
        assert len(query["state"]) >= 22
        assert len(query["nonce"]) >= 22
        code = secrets.token_urlsafe(16)
        self._grants[code] = _Grant(query, subject)
        return {"code": code, "state": query["state"], "iss": self.url}

    def take(self, request: Request) -> bytes:
        path = urlsplit(request.path).path
        self.fetched.append(path)
        if path == "/.well-known/openid-configuration":
            return response(200, self._metadata())
        if path == "/jwks":
            return response(200, {"keys": self.published})
        if path == "/token":
            return self._token(request)
        return response(404, {})

    def _metadata(self) -> dict[str, Any]:
        right = {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }  # fmt: skip
        return right | self.metadata

    def _token(self, request: Request) -> bytes:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        basic = base64.b64encode(b"autoglm%20hub:s3cret%3Awith%2Fsigns").decode()
        if request.headers.get("authorization") != f"Basic {basic}":
            return self._no(401, "invalid_client")
        if form.get("grant_type") == "refresh_token":
            return self._refreshed(form)
        grant = self._grants.get(form.get("code", ""))
        if grant is None or grant.is_used:
            return self._no(400, "invalid_grant")
        grant.is_used = True
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() != grant.query["code_challenge"]:
            return self._no(400, "invalid_grant")
        if form.get("redirect_uri") != REDIRECT_URI:
            return self._no(400, "invalid_grant")
        return self._tokens(grant.subject, {"nonce": grant.query["nonce"]})

    def _refreshed(self, form: dict[str, str]) -> bytes:
        if self.refuses_refresh is not None:
            return self._no(*self.refuses_refresh)
        subject = self._refresh.pop(form.get("refresh_token", ""), None)
        return self._no(400, "invalid_grant") if subject is None else self._tokens(subject, {})

    def _tokens(self, subject: str, claims: dict[str, Any]) -> bytes:
        refresh_token = secrets.token_urlsafe(16)
        self._refresh[refresh_token] = subject
        answer = {"access_token": "x", "token_type": "Bearer", "refresh_token": refresh_token}
        return response(200, answer | {"id_token": self._id_token(subject, claims)})

    def _id_token(self, subject: str, claims: dict[str, Any]) -> str:
        now_s = self._now_ms() // 1000
        right = {"iss": self.url, "sub": subject, "aud": CLIENT_ID, "iat": now_s, "exp": now_s + 300}
        whole = right | self.people[subject] | claims | self.claims
        payload = json.dumps({name: value for name, value in whole.items() if value is not None}).encode()
        header = {"alg": self.algorithm, "kid": self.key.as_dict(private=False)["kid"]} | self.header
        header = {name: value for name, value in header.items() if value is not None}
        signed = b".".join(
            base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), payload)
        )
        signature = base64.urlsafe_b64encode(self._signature(signed)).rstrip(b"=")
        return (signed + b"." + signature).decode()

    def _signature(self, data: bytes) -> bytes:
        if self.signs is not None:
            return self.signs(data)
        return jws.JWSRegistry.algorithms[self.algorithm].sign(data, self.key)

    def _no(self, status: int, error: str) -> bytes:
        self.complaints.append(error)
        return response(status, {"error": error})
