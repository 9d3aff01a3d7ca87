"""A device as its hub knows it: a key that never leaves its file, and a token that is renewed before it ends.

Source: RFC 9449 (DPoP), in the form of docs/security.md: the proof covers the body, too.
"""

import json
import os
import ssl
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Self

import httpx2

from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.signing import SigningKey
from autoglm.client.errors import HubProblem, problem_from
from autoglm.core.clock import now_ms
from autoglm.core.errors import HubError, SettingsError
from autoglm.core.private_file import write_private
from autoglm.rendezvous import NoHub, is_loopback

_RENEW_BEFORE_MS = 30_000
_MAX_FILE_BYTES = 64 * 1024
_TIMEOUT_S = 30.0
_NONCE = "dpop-nonce"


class Device(httpx2.Auth):
    """Proves who sends each request of an httpx2 client: `httpx2.Client(auth=device)` works, as `Client(...)` does."""

    requires_request_body = True

    def __init__(
        self, file: Path, key: SigningKey, *, url: str, name: str, wall_ms: Callable[[], int] = now_ms
    ) -> None:  # fmt: skip
        """url: the hub's, as its origin is named in proofs. wall_ms: the device's own clock."""
        self._wall_ms = wall_ms
        self._file = file
        self._key = key
        self.url = url.rstrip("/")
        self.name = name
        self._token = ""
        self._ends_at_ms = 0
        self._nonce: str | None = None

    def __repr__(self) -> str:
        return f"Device({self.name!r} at {self.url})"

    @classmethod
    def load(cls, file: Path, *, wall_ms: Callable[[], int] = now_ms) -> Self:
        """Raises SettingsError."""
        try:
            with file.open("rb") as opened:
                kept = json.loads(opened.read(_MAX_FILE_BYTES))
            key = SigningKey.from_pem(kept["key"].encode())
            device = cls(file, key, url=str(kept["url"]), name=str(kept["name"]), wall_ms=wall_ms)
            device._keep(str(kept["token"]), int(kept["ends_at"]))
        except FileNotFoundError:
            raise SettingsError([f"there is no {file}; enrol first: autoglm devices join CODE --url URL"]) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError([f"{file} is no device's file: {type(error).__name__}"]) from None
        return device

    @classmethod
    def enrol(
        cls, file: Path, code: str, *, url: str, ca_file: Path | None = None, replace: bool = False,
        wall_ms: Callable[[], int] = now_ms,
    ) -> Self:  # fmt: skip
        """Make a key, redeem the code with it, and keep both in `file` (mode 0600).

        replace: whether a file that is there may go; it may be the only copy of a device's key. It stays until the hub
        has taken the new one. Raises SettingsError where it may not, HubProblem, NoHub.

        The key is on the disk before the hub is asked: an answer that is lost on the way leaves no device without it.
        Where a file was replaced, it is beside that one then, as FILE.joining.
        """
        joining = file.with_name(file.name + ".joining")
        draft = joining if replace else file
        device = cls(draft, SigningKey.generate(), url=url, name="", wall_ms=wall_ms)
        _reserve(draft)
        try:
            device._write()
            device._redeem(code, ca_file)
        except HubError as error:
            if isinstance(error, HubProblem) and not error.retryable:  # it said no: the key is nobody's
                draft.unlink()
            raise
        if replace:
            draft.replace(file)
            device._file = file
        return device

    def _redeem(self, code: str, ca_file: Path | None) -> None:
        body = json.dumps({"code": code, "public_key": self._key.public.x}).encode()
        enrolled = self._ask("/api/devices/enrol", body, shared=code, ca_file=ca_file)
        self.name = enrolled["device"]["name"]
        self._keep(enrolled["token"]["token"], enrolled["token"]["ends_at"])
        self._write()

    def token(self) -> str:
        """The token that it has; it may have ended."""
        return self._token

    def proof(self, method: str, url: str, body: bytes = b"", *, nonce: str | None = None) -> str:
        """For a connection that is no HTTP: method `WEBSOCKET` or `MQTT`, url the hub's site name."""
        return make_proof(
            self._key, method=method, url=url, token=self._token, body=body, now_ms=self._wall_ms(), nonce=nonce
        )  # fmt: skip

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        if self._wall_ms() >= self._ends_at_ms - _RENEW_BEFORE_MS and not (yield from self._renewed()):
            return  # the refusal is the answer to the request
        response = yield self._signed(request)
        if self._took_nonce(response):
            response = yield self._signed(request)
        is_over = response.status_code == 401 and "invalid_token" in response.headers.get("www-authenticate", "")
        if is_over and (yield from self._renewed()):  # the hub's clock is ahead of ours
            yield self._signed(request)

    def _signed(self, request: httpx2.Request) -> httpx2.Request:
        url = str(request.url.copy_with(query=None, fragment=None))
        request.headers["Authorization"] = f"DPoP {self._token}"
        request.headers["DPoP"] = self.proof(request.method, url, request.content, nonce=self._nonce)
        return request

    def _took_nonce(self, response: httpx2.Response) -> bool:
        """Whether the hub wants the proof again, with the nonce that it gave."""
        nonce = response.headers.get(_NONCE)
        if response.status_code != 401 or nonce is None or nonce == self._nonce:
            return False
        self._nonce = nonce
        return True

    def _renewed(self) -> Generator[httpx2.Request, httpx2.Response, bool]:
        """Ask for the next token by a proof of the key alone. False when the hub says no."""
        body = json.dumps({"device": self.name}).encode()
        for _ in range(2):
            response = yield self._request("/api/tokens/renew", body, shared="")
            response.read()
            if not self._took_nonce(response):
                break
        if response.status_code != 201:
            return False
        issued = response.json()
        self._keep(issued["token"], issued["ends_at"])
        self._write()
        return True

    def _ask(self, path: str, body: bytes, *, shared: str, ca_file: Path | None) -> dict[str, Any]:
        trusted = ssl.create_default_context(cafile=ca_file)
        try:
            with httpx2.Client(verify=trusted, trust_env=not is_loopback(self.url), timeout=_TIMEOUT_S) as http:
                response = http.send(self._request(path, body, shared=shared))
                if self._took_nonce(response):
                    response = http.send(self._request(path, body, shared=shared))
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise NoHub(self.url, str(error) or type(error).__name__) from error
        if response.status_code == 401 and b'"unauthorized"' in response.content:
            raise HubProblem(401, "unauthorized", f"{self.url}: the code is not known, was used, or has ended")
        if response.status_code != 201:
            raise problem_from(response.status_code, response.content, None, self.url)
        members: dict[str, Any] = response.json()
        return members

    def _request(self, path: str, body: bytes, *, shared: str) -> httpx2.Request:
        url = self.url + path
        proof = make_proof(
            self._key, method="POST", url=url, token=shared, body=body, now_ms=self._wall_ms(), nonce=self._nonce
        )  # fmt: skip
        return httpx2.Request("POST", url, content=body, headers={"DPoP": proof, "Content-Type": "application/json"})

    def _keep(self, token: str, ends_at_ms: int) -> None:
        self._token = token
        self._ends_at_ms = ends_at_ms

    def _write(self) -> None:
        kept = {
            "url": self.url, "name": self.name, "key": self._key.pem().decode(), "token": self._token,
            "ends_at": self._ends_at_ms,
        }  # fmt: skip
        write_private(self._file, json.dumps(kept).encode())


def _reserve(file: Path) -> None:
    """Of two that want the same file one gets it. Raises SettingsError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise SettingsError([
            f"{file} is there already, and may be the only key of a device; name another file, or remove it"
        ]) from None  # fmt: skip
    except OSError as error:
        raise SettingsError([f"{file} cannot be written: {error.strerror}"]) from error
