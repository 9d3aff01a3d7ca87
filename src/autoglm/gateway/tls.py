"""TLS of the gateway: which certificate it shows, and how that changes while it runs.

New connections get a new certificate as soon as it is there; those that are open go on. A pair of files that does not
fit (one was replaced, the other not yet) changes nothing. Sources: RFC 9325 (TLS 1.2 with forward secrecy and AEAD,
TLS 1.3); RFC 6797 (HSTS).
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import anyio.to_thread
import structlog

from autoglm.core.errors import HubError, SettingsError

log = structlog.get_logger()

LOOK_S = 2.0
"""Between two looks at the files: a stat each."""
_CIPHERS_OF_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"


class CertificateSource(Protocol):
    """Keeps the two files good: those that were given, those of our own authority, or those of an ACME server."""

    @property
    def certificate_file(self) -> Path: ...

    @property
    def key_file(self) -> Path: ...

    async def renew(self) -> None:
        """See to it that the files hold a certificate that still lasts; nothing where that is another's business.

        Raises HubError when it could not be renewed: the old one is kept.
        """


class GivenCertificate(NamedTuple):
    """Files that somebody else writes."""

    certificate_file: Path
    key_file: Path

    async def renew(self) -> None:
        return


class GatewayTls:
    """Made by `open_tls`; `run` looks after it."""

    def __init__(self, source: CertificateSource, client_ca_file: Path | None, client_crl_file: Path | None) -> None:
        self._source = source
        self._client_files = tuple(path for path in (client_ca_file, client_crl_file) if path is not None)
        self._has_crl = client_crl_file is not None
        self._seen = self._marks()
        self._current = self._loaded()
        self.context = self._bare()
        """For the listening socket: it hands each handshake to the certificate of that moment."""
        self.context.load_cert_chain(source.certificate_file, source.key_file, password="")  # none
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current  # called for each ClientHello, with a name in it or not

    async def run(self) -> None:
        """Until cancelled: renew what ends, and take what is new."""
        failed = ""
        while True:
            await anyio.sleep(LOOK_S)
            try:
                await self._source.renew()
                failed = ""
            except HubError as error:
                if str(error) != failed:
                    log.warning("certificate_not_renewed", reason=str(error), note="the old one is kept")
                failed = str(error)
            await anyio.to_thread.run_sync(self.look)

    def look(self) -> bool:
        """Take the files if they have changed and fit; returns whether it did. Blocks for a few stats."""
        marks = self._marks()
        if marks == self._seen:
            return False
        self._seen = marks
        try:
            fresh = self._loaded()
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            log.warning("certificate_not_taken", reason=str(error), file=str(self._source.certificate_file))
            return False
        self._current = fresh  # one assignment: a handshake sees the old pair or the new one
        log.info("certificate_taken", file=str(self._source.certificate_file))
        return True

    def _loaded(self) -> ssl.SSLContext:
        context = self._bare()
        context.load_cert_chain(self._source.certificate_file, self._source.key_file, password="")  # none
        return context

    def _bare(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS_OF_1_2)
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        if self._client_files:
            context.verify_mode = ssl.CERT_REQUIRED
            for path in self._client_files:
                context.load_verify_locations(path)
            if self._has_crl:
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
            # A session that is resumed shows no certificate: one revoked since would come in by it. TLS 1.2 keeps
            # sessions in a cache that Python cannot switch off; 1.3 has tickets only, which are not given out.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
        return context

    def _marks(self) -> list[tuple[int, int, int]]:
        """Of each file, what changes when it is written or replaced."""
        return [_mark(path) for path in (self._source.certificate_file, self._source.key_file, *self._client_files)]


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


async def open_tls(
    source: CertificateSource, *, client_ca_file: Path | None = None, client_crl_file: Path | None = None
) -> GatewayTls:
    """client_ca_file: authorities (PEM) whose certificate each client must show; none: no certificate is asked for.

    client_crl_file: the revoked ones of theirs. Raises SettingsError.
    """
    make: Callable[[], GatewayTls] = lambda: GatewayTls(source, client_ca_file, client_crl_file)  # noqa: E731
    try:
        await source.renew()
    except HubError as error:
        if not (source.certificate_file.exists() and source.key_file.exists()):
            raise SettingsError([f"gateway.tls: there is no certificate yet: {error}"]) from None
        log.warning("certificate_not_renewed", reason=str(error), note="the old one is kept")
    try:
        return await anyio.to_thread.run_sync(make)
    except (OSError, ValueError) as error:
        raise SettingsError([f"gateway.tls: {source.certificate_file} cannot be used: {error}"]) from None
