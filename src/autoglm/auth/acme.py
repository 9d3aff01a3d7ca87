"""The hub's certificate from an ACME server, when one can be reached (RFC 8555; the extra `acme`).

A name is proved by http-01: the server asks for a file on port 80, which the hub serves for as long as the order takes,
or which another web server serves from a folder. Without a network the old certificate is kept, the failure is written
down for the doctor, and the hub tries again later.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from autoglm.auth.certificate_names import parse_name
from autoglm.auth.own_certificate import renewal_ms
from autoglm.core.errors import AcmeFailed, HubError, MissingExtra
from autoglm.core.private_file import make_private_folder, write_private

if TYPE_CHECKING:
    from acme.client import ClientV2

CHALLENGE_PATH = "/.well-known/acme-challenge/"
_FAILURE_FILE, _ACCOUNT_KEY = "failure.json", "account.key"
_ORDER_S = 180
_REQUEST_TIMEOUT_S = 20
_RETRY_MS = 6 * 3_600_000
"""Let's Encrypt allows five failures for a name in an hour; a certificate has a month left when this begins."""


class AcmeOrder(NamedTuple):
    """What is asked of which server."""

    directory: str
    names: Sequence[str]
    email: str | None
    ca_file: Path | None
    """Authorities of an ACME server of one's own."""
    host: str
    port: int
    """Where the hub answers http-01."""
    webroot: Path | None
    """Folder that another web server serves on port 80; the hub then listens nowhere."""


class AcmeCertificate:
    """A source of certificates for the gateway (`gateway.tls.CertificateSource`)."""

    def __init__(self, folder: Path, order: AcmeOrder, now_ms: Callable[[], int]) -> None:
        """folder: DATA/acme, for the account's key and the certificate. Raises InvalidField."""
        self._folder = folder
        self._order = order._replace(names=tuple(str(parse_name(name)) for name in order.names))
        self._now_ms = now_ms
        self._not_before_ms = 0
        self.certificate_file = folder / "server.crt"
        self.key_file = folder / "server.key"

    async def renew(self) -> None:
        """Raises AcmeFailed, MissingExtra. Then not tried again for six hours."""
        if self._now_ms() >= self._not_before_ms:
            await anyio.to_thread.run_sync(self._renew)

    def _renew(self) -> None:
        ends_ms = renewal_ms(self.certificate_file, self._order.names)
        now = self._now_ms()
        if ends_ms is not None and now < ends_ms and self.key_file.exists():
            self._not_before_ms = ends_ms
            return
        self._not_before_ms = now + _RETRY_MS
        make_private_folder(self._folder)
        failure = self._folder / _FAILURE_FILE
        try:
            self._get()
        except HubError as error:
            write_private(failure, msgspec.json.encode({"at_ms": now, "reason": str(error)}))
            raise
        failure.unlink(missing_ok=True)

    def _get(self) -> None:
        try:
            import requests
            from acme import client, errors, messages
            from josepy.errors import Error as JoseError
            from josepy.jwa import ES256
            from josepy.jwk import JWKEC
            from josepy.util import ComparableECKey
        except ImportError:
            raise MissingExtra("acme", "a certificate from an ACME server") from None
        key = ec.generate_private_key(ec.SECP256R1())
        account = JWKEC(key=ComparableECKey(self._account_key()))
        network = client.ClientNetwork(
            account, alg=ES256, user_agent="autoglm-hub", timeout=_REQUEST_TIMEOUT_S,
            verify_ssl=True if self._order.ca_file is None else str(self._order.ca_file),  # type: ignore[arg-type]  # what requests takes
        )  # fmt: skip
        try:
            directory = client.ClientV2.get_directory(self._order.directory, network)
            talk = client.ClientV2(directory, network)
            register(talk, self._order.email)
            chain = self._ordered(talk, account, key)
        except (requests.RequestException, OSError) as error:
            raise AcmeFailed(self._order.directory, f"it cannot be reached ({type(error).__name__})") from error
        except (errors.Error, messages.Error, JoseError, ValueError, KeyError) as error:
            raise AcmeFailed(self._order.directory, _reason(error)) from error
        finally:
            network.session.close()
        # The key first: until the certificate follows, the pair does not fit and the gateway takes neither.
        write_private(self.key_file, _pem(key))
        write_private(self.certificate_file, chain.encode(), mode=0o644)

    def _ordered(self, talk: "ClientV2", account: object, key: ec.EllipticCurvePrivateKey) -> str:
        from acme import challenges, crypto_util, errors

        addresses = [parsed for parsed in map(parse_name, self._order.names) if not isinstance(parsed, str)]
        domains = [parsed for parsed in map(parse_name, self._order.names) if isinstance(parsed, str)]
        order = talk.new_order(crypto_util.make_csr(_pem(key), domains, ipaddrs=addresses))
        wanted = []
        for authorization in order.authorizations:
            if authorization.body.status.name == "valid":
                continue
            for challenge in authorization.body.challenges:
                if isinstance(challenge.chall, challenges.HTTP01):
                    wanted.append(challenge)
                    break
            else:
                raise errors.Error(f"it offers no http-01 for {authorization.body.identifier.value}")
        answers = {challenge.chall.path: challenge.chall.validation(account) for challenge in wanted}
        with serving(answers, self._order):
            for challenge in wanted:
                talk.answer_challenge(challenge, challenge.response(account))
            # The library counts by the wall clock without a zone.
            deadline = datetime.now() + timedelta(seconds=_ORDER_S)
            done = talk.poll_and_finalize(order, deadline)
        return str(done.fullchain_pem)

    def _account_key(self) -> ec.EllipticCurvePrivateKey:
        path = self._folder / _ACCOUNT_KEY
        if not path.exists():
            write_private(path, _pem(ec.generate_private_key(ec.SECP256R1())))
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AcmeFailed(self._order.directory, f"{path} is no EC key")
        return key


def register(talk: "ClientV2", email: str | None) -> None:
    """Make the account of this key, or find it. The settings say that its terms were agreed to."""
    from acme import errors, messages

    wanted = messages.NewRegistration.from_data(email=email, terms_of_service_agreed=True)
    try:
        talk.new_account(wanted)
    except errors.ConflictError as error:  # RFC 8555, section 7.3.1: it is there already
        known = messages.RegistrationResource(uri=error.location, body=messages.Registration())
        talk.query_registration(known)


@contextmanager
def serving(answers: Mapping[str, str], order: AcmeOrder) -> Iterator[None]:
    """Answer http-01 (RFC 8555, section 8.3) within the block. answers: by path. Raises OSError."""
    if order.webroot is not None:
        files = [order.webroot / path.lstrip("/") for path in answers]
        try:
            for file, text in zip(files, answers.values(), strict=True):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                os.chmod(file, 0o644)  # the other server has another user
            yield
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        return

    class Responder(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            body = (found or "").encode()
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Strangers' requests are not for the hub's log."""

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in order.host else socket.AF_INET

    with Listener((order.host, order.port), Responder) as listener:
        thread = threading.Thread(target=listener.serve_forever, name="acme", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown()
            thread.join()


def read_failure(folder: Path) -> str:
    """Why the last renewal did not work; empty when it did."""
    try:
        return str(msgspec.json.decode((folder / _FAILURE_FILE).read_bytes(), type=dict[str, str | int])["reason"])
    except (OSError, msgspec.DecodeError, KeyError):
        return ""


def _reason(error: Exception) -> str:
    failed = getattr(error, "failed_authzrs", None)
    if failed:
        told = [
            str(challenge.error.detail)
            for authorization in failed
            for challenge in authorization.body.challenges
            if challenge.error is not None
        ]
        return "; ".join(told)[:400]
    return (str(getattr(error, "detail", "")) or str(error) or type(error).__name__)[:400]


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
