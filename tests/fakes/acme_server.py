"""An ACME server on loopback, as strict as Pebble: nonces count once, each JWS is checked, http-01 is asked for.

Source: RFC 8555, sections 6 (JWS, nonces, problems), 7.3 (accounts), 7.4 (orders), 8.3 (http-01). It shares no code
with the client's library.
"""

import base64
import hashlib
import json
import secrets
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID


class Refused(Exception):
    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.kind = status, kind


class AcmeServer:
    """`with acme_server(port) as server:`; `server.issued` counts certificates. challenge_port: in place of 80."""

    def __init__(self, challenge_port: int) -> None:
        self.challenge_port = challenge_port
        self.issued = 0
        self.refused: list[str] = []
        """What was wrong with requests, in words."""
        self.is_down = False
        """True: it hangs up on all."""
        self.is_stale = False
        """True: the next nonce is refused, as one of a server that was restarted."""
        self.days = 90
        self._nonces: set[str] = set()
        self._accounts: dict[str, dict[str, Any]] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fake ACME")])
        self.url = ""

    @property
    def root_pem(self) -> bytes:
        return self._signed(self._name, self._key.public_key(), None).public_bytes(serialization.Encoding.PEM)

    def nonce(self) -> str:
        self._nonces.add(fresh := secrets.token_urlsafe(16))
        return fresh

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """To a POST. Raises Refused."""
        protected, payload, key = self._opened(path, body)
        if path == "/new-account":
            return self._account(protected, payload, key)
        account = protected["kid"]
        kind, _, id_ = path.strip("/").partition("/")
        if path == "/new-order":
            id_ = secrets.token_hex(8)
            tokens = {name["value"]: secrets.token_urlsafe(32) for name in payload["identifiers"]}
            self._orders[id_] = {"account": account, "tokens": tokens, "valid": {}, "errors": {}, "chain": ""}
            return self._json(201, self._order(id_), {"Location": f"{self.url}/order/{id_}"})
        id_, _, name = id_.partition("/")
        order = self._orders.get(id_)
        if order is None or order["account"] != account:
            raise Refused(403, "unauthorized", "that is another account's")
        match kind:
            case "order":
                return self._json(200, self._order(id_))
            case "authz":
                return self._json(200, self._authorization(id_, name))
            case "challenge":
                self._validate(order, name, key)
                links = {"Link": f'<{self.url}/authz/{id_}/{name}>;rel="up"'}
                return self._json(200, self._authorization(id_, name)["challenges"][0], links)
            case "finalize":
                self._finalize(order, payload["csr"])
                return self._json(200, self._order(id_), {"Location": f"{self.url}/order/{id_}"})
            case "certificate":
                return 200, {"Content-Type": "application/pem-certificate-chain"}, order["chain"].encode()
        raise Refused(404, "malformed", "nothing is there")

    def _opened(self, path: str, body: bytes) -> tuple[dict[str, Any], Any, dict[str, str]]:
        """(protected header, payload, the account's JWK) of a JWS that is right in all (section 6.2)."""
        jws = json.loads(body)
        protected = json.loads(_decoded(jws["protected"]))
        if protected.get("nonce") not in self._nonces or self.is_stale:
            self.is_stale = False
            raise Refused(400, "badNonce", "the nonce is not of this server, or was used")
        self._nonces.remove(protected["nonce"])
        if protected.get("alg") != "ES256":
            raise Refused(400, "badSignatureAlgorithm", f"alg is {protected.get('alg')}")
        if protected.get("url") != self.url + path:
            raise Refused(401, "unauthorized", f"signed for {protected.get('url')}, sent to {path}")
        if ("jwk" in protected) == ("kid" in protected) or ("jwk" in protected) != (path == "/new-account"):
            raise Refused(400, "malformed", "either jwk, for a new account, or kid")
        jwk = protected["jwk"] if "jwk" in protected else self._accounts.get(protected["kid"], {}).get("jwk")
        if jwk is None:
            raise Refused(400, "accountDoesNotExist", "no such account")
        numbers = [int.from_bytes(_decoded(jwk[part]), "big") for part in ("x", "y")]
        public = ec.EllipticCurvePublicNumbers(numbers[0], numbers[1], ec.SECP256R1()).public_key()
        raw = _decoded(jws["signature"])
        signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            public.verify(signature, f"{jws['protected']}.{jws['payload']}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Refused(400, "malformed", "the signature is wrong") from None
        return protected, json.loads(_decoded(jws["payload"]) or b"{}"), jwk

    def _account(
        self, protected: dict[str, Any], payload: Any, jwk: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        for url, known in self._accounts.items():
            if known["jwk"] == jwk:
                return self._json(200, {"status": "valid"}, {"Location": url})
        if payload.get("onlyReturnExisting"):
            raise Refused(400, "accountDoesNotExist", "no such account")
        if payload.get("termsOfServiceAgreed") is not True:
            raise Refused(403, "userActionRequired", "agree to the terms first")
        url = f"{self.url}/account/{len(self._accounts)}"
        self._accounts[url] = {"jwk": jwk, "contact": payload.get("contact", [])}
        return self._json(201, {"status": "valid"}, {"Location": url})

    def _order(self, id_: str) -> dict[str, Any]:
        order = self._orders[id_]
        status = "valid" if order["chain"] else "ready" if set(order["valid"]) == set(order["tokens"]) else "pending"
        return {
            "status": "invalid" if order["errors"] else status,
            "identifiers": [{"type": "dns", "value": name} for name in order["tokens"]],
            "authorizations": [f"{self.url}/authz/{id_}/{name}" for name in order["tokens"]],
            "finalize": f"{self.url}/finalize/{id_}",
            **({"certificate": f"{self.url}/certificate/{id_}"} if order["chain"] else {}),
        }

    def _authorization(self, id_: str, name: str) -> dict[str, Any]:
        order = self._orders[id_]
        error = order["errors"].get(name)
        status = "valid" if name in order["valid"] else "invalid" if error else "pending"
        challenge = {
            "type": "http-01", "status": status, "url": f"{self.url}/challenge/{id_}/{name}",
            "token": order["tokens"][name], **({"error": error} if error else {}),
        }  # fmt: skip
        return {"status": status, "identifier": {"type": "dns", "value": name}, "challenges": [challenge]}

    def _validate(self, order: dict[str, Any], name: str, jwk: dict[str, str]) -> None:
        token = order["tokens"][name]
        canonical = json.dumps({part: jwk[part] for part in ("crv", "kty", "x", "y")}, separators=(",", ":"))
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
        # Names are all this machine; a real server would look them up.
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.challenge_port}/.well-known/acme-challenge/{token}", headers={"Host": name}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                found = reply.read(1000).decode()
        except OSError as error:
            found = f"{type(error).__name__}"
        if found == f"{token}.{thumbprint}":
            order["valid"][name] = True
        else:
            kind = "urn:ietf:params:acme:error:connection"
            order["errors"][name] = {"type": kind, "detail": f"{name} did not show its token: {found[:80]}"}

    def _finalize(self, order: dict[str, Any], csr: str) -> None:
        request = x509.load_der_x509_csr(_decoded(csr))
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = names.get_values_for_type(x509.DNSName)
        if not request.is_signature_valid or sorted(wanted) != sorted(order["valid"]):
            raise Refused(403, "badCSR", f"asked for {wanted}, proved {sorted(order['valid'])}")
        public = request.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        self.issued += 1
        made = self._signed(x509.Name([]), public, names)
        order["chain"] = made.public_bytes(serialization.Encoding.PEM).decode() + self.root_pem.decode()

    def _signed(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, names: x509.SubjectAlternativeName | None
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(days=self.days))
        builder = builder.add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        if names is not None:
            builder = builder.add_extension(names, critical=True)
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _json(status: int, value: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def acme_server(challenge_port: int) -> Iterator[AcmeServer]:
    server = AcmeServer(challenge_port)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._send(200, {}, b"")

        def do_GET(self) -> None:
            names = {"newNonce": "new-nonce", "newAccount": "new-account", "newOrder": "new-order"}
            listing = {name: f"{server.url}/{path}" for name, path in names.items()}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                if self.headers["Content-Type"] != "application/jose+json":
                    raise Refused(415, "malformed", "the content type is wrong")
                self._send(*server.answer(self.path, body))
            except Refused as refused:
                server.refused.append(str(refused))
                problem = {"type": f"urn:ietf:params:acme:error:{refused.kind}", "detail": str(refused)}
                headers = {"Content-Type": "application/problem+json"}
                self._send(refused.status, headers, json.dumps(problem).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if server.is_down:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "Replay-Nonce": server.nonce(), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
