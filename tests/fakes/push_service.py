"""A push service on loopback, and the browsers behind it: strict in what RFC 8030, 8291, 8292 and 8188 ask.

It decrypts with `http_ece`, the library that the specification's authors wrote.
"""

import asyncio
import base64
import json
import re
import secrets
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import http_ece
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

MAX_BODY_BYTES = 4096
DAY_S = 86_400


class Browser:
    """One that has subscribed. `notices` has what arrived, `received` the headers and bytes of each push."""

    def __init__(self, service: "PushService", *, application_server_key: str | None = None) -> None:
        """application_server_key: base64url; only whoever holds the private key may push."""
        self.token = secrets.token_urlsafe(24)
        self.endpoint = f"{service.url}/push/{self.token}"
        self.application_server_key = application_server_key
        self.faults: deque[Fault] = deque()
        """What happens to the next pushes to this one."""
        self.gone: int | None = None
        """404 or 410 once it has unsubscribed."""
        self.is_on = True
        self.waiting: list[tuple[str | None, dict[str, Any]]] = []
        """(topic, notice) of what came while it was off."""
        self.notices: list[dict[str, Any]] = []
        self.received: list[Request] = []
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._auth = secrets.token_bytes(16)

    def subscription(self) -> dict[str, Any]:
        """As `PushSubscription.toJSON` has it."""
        point = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": _base64url(point), "auth": _base64url(self._auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def take(self, request: Request, topic: str | None) -> None:
        """Raises ValueError, InvalidTag where it is not encrypted for this browser."""
        plain = http_ece.decrypt(
            request.body, private_key=self._private, auth_secret=self._auth, version="aes128gcm"
        )  # fmt: skip
        self.received.append(request)
        notice = json.loads(plain)
        if self.is_on:
            self.notices.append(notice)
            return
        self.waiting = [(old, kept) for old, kept in self.waiting if topic is None or old != topic]
        self.waiting.append((topic, notice))

    def turn_on(self) -> None:
        self.is_on = True
        self.notices += [notice for _, notice in self.waiting]
        self.waiting = []


class PushService(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.browsers: dict[str, Browser] = {}
        self.retry_after: str | None = None
        """The header of the answers 429 and 503."""
        self.created_status = 201
        self.limit_bytes = MAX_BODY_BYTES
        self.complaints: list[str] = []
        """What was wrong with the pushes that were refused."""
        self.keys: set[str] = set()
        """The public keys by which pushes were signed."""

    def browser(self, **options: Any) -> Browser:
        made = Browser(self, **options)
        self.browsers[made.token] = made
        return made

    def take(self, request: Request) -> bytes:
        browser = self._browser(request)
        if browser is None:
            return response(404, {"reason": "no such subscription"})
        if browser.gone is not None:
            return response(browser.gone, {"reason": "ended"})
        status, complaint = self._fault_of(request, browser)
        if complaint:
            self.complaints.append(complaint)
            return response(status, {"reason": complaint})
        if request.method != "POST":
            return response(405, {})
        try:
            browser.take(request, request.headers.get("topic"))
        except (ValueError, InvalidTag, http_ece.ECEException) as error:
            self.complaints.append(f"it cannot be decrypted: {error!r}")
            return response(400, {"reason": "decryption"})
        headers = {"Location": f"{self.url}/m/{secrets.token_hex(8)}"}
        return response(self.created_status, b"", headers)

    def refuse(self, fault: Fault) -> bytes:
        status = {"throttled": 429, "transient": 503, "auth": 403, "permanent": 400}[fault]
        wait = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        return response(status, {"reason": "told to"}, wait if status in (429, 503) else None)

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        browser = self._browser(request)
        if browser is not None and browser.faults:
            self.faults.appendleft(browser.faults.popleft())  # taken at once, before anything else can run
        await super()._behave(request, reader, writer)

    def _browser(self, request: Request) -> Browser | None:
        found = re.fullmatch(r"/push/([\w-]+)", urlsplit(request.path).path)
        return None if found is None else self.browsers.get(found[1])

    def _fault_of(self, request: Request, browser: Browser) -> tuple[int, str]:
        """(status, what is wrong); an empty text where nothing is."""
        headers = request.headers
        status, complaint = self._fault_of_signature(headers.get("authorization", ""), browser)
        if complaint or request.method != "POST":
            return status, complaint
        if not re.fullmatch(r"[0-9]{1,10}", headers.get("ttl", "")):
            return 400, "TTL is missing or no number (RFC 8030, section 5.2)"
        if headers.get("urgency", "normal") not in ("very-low", "low", "normal", "high"):
            return 400, "Urgency (RFC 8030, section 5.3)"
        if "topic" in headers and not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", headers["topic"]):
            return 400, "Topic (RFC 8030, section 5.4)"
        if len(request.body) > self.limit_bytes:
            return 413, "the body is too long (RFC 8030, section 7.2)"
        if headers.get("content-encoding") != "aes128gcm":
            return 400, "Content-Encoding (RFC 8291, section 4)"
        size, key_bytes = int.from_bytes(request.body[16:20], "big"), request.body[20:21]
        if key_bytes != b"\x41" or size < len(request.body) - 86:
            return 400, "the header of the body: one record, with a key of 65 bytes (RFC 8291, section 4)"
        return 0, ""

    def _fault_of_signature(self, authorization: str, browser: Browser) -> tuple[int, str]:
        """RFC 8292, sections 2 and 4.2."""
        found = re.fullmatch(r"vapid t=([\w-]+)\.([\w-]+)\.([\w-]+), k=([\w-]+)", authorization)
        if found is None:
            return 401, "no VAPID signature"
        head, claims = json.loads(_bytes(found[1])), json.loads(_bytes(found[2]))
        signature, key = _bytes(found[3]), _bytes(found[4])
        if head != {"typ": "JWT", "alg": "ES256"} or len(signature) != 64 or len(key) != 65:
            return 403, f"not by ES256: {head}"
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key).verify(
                encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")),
                f"{found[1]}.{found[2]}".encode(), ec.ECDSA(hashes.SHA256()),
            )  # fmt: skip
        except (InvalidSignature, ValueError):
            return 403, "the signature does not verify"
        if browser.application_server_key not in (None, found[4]):
            return 403, "the subscription is bound to another key"
        if claims.get("aud") != self.url:
            return 403, f"aud is {claims.get('aud')!r}"
        if not time.time() < claims.get("exp", 0) <= time.time() + DAY_S:
            return 403, f"exp is {claims.get('exp')!r}"
        if not re.match(r"mailto:.+@.+|https://.+", claims.get("sub", "")):
            return 403, f"sub is {claims.get('sub')!r}"
        self.keys.add(found[4])
        return 0, ""


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
