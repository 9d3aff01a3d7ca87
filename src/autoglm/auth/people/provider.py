"""Speaks to an OpenID provider: metadata, keys and tokens, bounded in time and size, without redirects.

Sources: OpenID Connect Discovery 1.0, section 4; RFC 6749, sections 2.3.1, 4.1.3, 5.2 and 6.
"""

import base64
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import anyio
import anyio.to_thread
import msgspec

from autoglm.auth.people.id_token import Jwk
from autoglm.auth.people.settings import OidcSettings, is_safe_url
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import AddressRefused, LoginRefused, ProviderUnreachable
from autoglm.core.guard import AddressGuard, check_address

_MAX_ANSWER_BYTES = 262_144
_CACHED_S = 3600.0
_NEW_KEYS_EVERY_S = 60.0
"""An unknown `kid` makes the keys be fetched anew, but strangers' tokens not more often than this."""
_MAX_KEYS = 100
_QUIET_S = 5.0
"""For so long a provider that failed is not asked again."""

Fetch = Callable[[str, str, Mapping[str, str], bytes | None, float], Awaitable[tuple[int, bytes]]]
"""(method, url, headers, body, timeout_s) -> (status, body). Raises ProviderUnreachable. Follows no redirect."""


@dataclass(frozen=True)
class Tokens:
    id_token: str | None = field(repr=False)
    """A refresh may come without."""
    refresh_token: str | None = field(repr=False)


async def fetch(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
) -> tuple[int, bytes]:
    """By httpx2, directly: no proxy, no redirect, no credentials of the environment."""
    import httpx2

    trust = await anyio.to_thread.run_sync(_trust)
    try:
        with anyio.fail_after(timeout_s):
            async with (
                httpx2.AsyncClient(verify=trust, timeout=timeout_s, trust_env=False, follow_redirects=False) as client,
                client.stream(method, url, headers={**headers, "accept-encoding": "identity"}, content=body) as answer,
            ):
                data = bytearray()
                async for chunk in answer.aiter_raw():  # not unpacked: a small answer may hold a huge one
                    data += chunk
                    if len(data) > _MAX_ANSWER_BYTES:
                        raise ProviderUnreachable("its answer is too long")
                return answer.status_code, bytes(data)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        raise ProviderUnreachable(type(error).__name__) from None


def guarded_fetch(issuer: str) -> Fetch:
    """`fetch`, but to the issuer's own host and to public ones only: its metadata shall not lead into the intranet."""
    guard = AddressGuard.beside(issuer)

    async def guarded(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> tuple[int, bytes]:
        try:
            await check_address(guard, url)
        except AddressRefused as error:
            raise ProviderUnreachable(str(error)) from None
        return await fetch(method, url, headers, body, timeout_s)

    return guarded


@lru_cache(1)
def _trust() -> ssl.SSLContext:
    """The system's certificates, an intranet's own among them; loading them takes tens of milliseconds."""
    return ssl.create_default_context()


class Provider:
    """One provider. Keeps its metadata and keys for an hour."""

    def __init__(
        self, settings: OidcSettings, *, fetch: Fetch = fetch, monotonic_s: Callable[[], float] = monotonic_s
    ) -> None:
        self._settings, self._fetch, self._monotonic_s = settings, fetch, monotonic_s
        self._metadata: tuple[dict[str, Any], float] | None = None
        self._asking = anyio.Lock()
        self._failure: tuple[str, float] | None = None
        """Why it could not be used, and when: strangers, who may ask as often as they like, do not make us call it."""
        self._keys: tuple[list[Jwk], float] | None = None

    async def metadata(self, *, is_fresh: bool = False) -> dict[str, Any]:
        """Raises ProviderUnreachable: no answer, or none of this issuer. is_fresh: see whether it is there now."""
        async with self._asking:
            now_s = self._monotonic_s()
            if self._metadata is not None and not is_fresh and now_s - self._metadata[1] <= _CACHED_S:
                return self._metadata[0]
            if self._failure is not None and now_s - self._failure[1] < _QUIET_S:
                raise ProviderUnreachable(self._failure[0])
            try:
                found = await self._described()
            except ProviderUnreachable as error:
                self._failure = error.reason, now_s
                raise
            self._metadata, self._failure = (found, now_s), None
            return found

    async def _described(self) -> dict[str, Any]:
        url = self._settings.issuer.removesuffix("/") + "/.well-known/openid-configuration"
        found = await self._get(url)
        if found.get("issuer") != self._settings.issuer:  # Discovery, section 4.3: against mix-up
            raise ProviderUnreachable("its metadata names another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(found.get(name), str) or not is_safe_url(found[name]):
                raise ProviderUnreachable(f"its metadata has no safe {name}")
        return found

    async def keys(self, *, lacking: bool = False) -> list[Jwk]:
        """lacking: the key in question is not among those kept. Raises ProviderUnreachable."""
        now_s = self._monotonic_s()
        kept_s = _NEW_KEYS_EVERY_S if lacking else _CACHED_S
        if self._keys is None or now_s - self._keys[1] > kept_s:
            found = (await self._get((await self.metadata())["jwks_uri"])).get("keys")
            if not isinstance(found, list) or len(found) > _MAX_KEYS:
                raise ProviderUnreachable("its keys cannot be read")
            self._keys = [key for key in found if isinstance(key, dict)], now_s
        return self._keys[0]

    async def exchange(self, code: str, verifier: str) -> Tokens:
        """For an authorization code. Raises LoginRefused when the provider says no, ProviderUnreachable."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._settings.redirect_uri}
        tokens = await self._tokens({**form, "code_verifier": verifier})
        if tokens.id_token is None:
            raise LoginRefused
        return tokens

    async def refresh(self, refresh_token: str) -> Tokens:
        """Raises as `exchange` does."""
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def _tokens(self, form: dict[str, str]) -> Tokens:
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self._settings.client_secret is None:
            form["client_id"] = self._settings.client_id
        else:
            secret = self._settings.client_secret.get_secret_value()
            pair = f"{quote(self._settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        url = (await self.metadata())["token_endpoint"]
        status, body = await self._fetch("POST", url, headers, urlencode(form).encode(), self._settings.timeout_s)
        if 400 <= status < 500 and status not in (404, 408, 421, 425, 429):
            raise LoginRefused  # it said no; the others say nothing about the person
        found = _object(status, body)
        id_token, refresh_token = found.get("id_token"), found.get("refresh_token")
        return Tokens(
            id_token if isinstance(id_token, str) else None, refresh_token if isinstance(refresh_token, str) else None
        )

    async def _get(self, url: str) -> dict[str, Any]:
        return _object(*await self._fetch("GET", url, {"accept": "application/json"}, None, self._settings.timeout_s))


def _object(status: int, body: bytes) -> dict[str, Any]:
    """What a captive portal or a proxy answers is no answer of the provider."""
    if status != 200:
        raise ProviderUnreachable(f"it answered HTTP {status}")
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise ProviderUnreachable("its answer is no JSON") from None
    if not isinstance(found, dict):
        raise ProviderUnreachable("its answer is no JSON object")
    return found
