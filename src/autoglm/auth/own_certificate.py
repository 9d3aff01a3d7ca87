"""The hub's certificate by the site's own authority: made at the first start, renewed long before its end."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread
from cryptography import x509

from autoglm.auth.authority import ROOT_FILE, create, open_authority
from autoglm.auth.certificate_names import PRIVATE_RANGES, names_of_this_machine, parse_name, parse_range
from autoglm.core.errors import HubError
from autoglm.core.private_file import write_private

DAYS = 90
_RENEWED_AFTER = 2 / 3
"""Of its time: a site that is switched off for a month still comes up with one that lasts."""
_RETRY_MS = 3_600_000


class OwnCertificate:
    """A source of certificates for the gateway (`gateway.tls.CertificateSource`)."""

    def __init__(self, folder: Path, names: Sequence[str], now_ms: Callable[[], int]) -> None:
        """folder: DATA/ca. names: beside those of this machine."""
        self._folder = folder
        self._now_ms = now_ms
        self._names = tuple(dict.fromkeys(str(parse_name(name)) for name in (*names_of_this_machine(), *names)))
        self._not_before_ms = 0
        self.certificate_file = folder / "server.crt"
        self.key_file = folder / "server.key"

    async def renew(self) -> None:
        """Raises HubError: an encrypted key, a full disk; tried again every hour."""
        if self._now_ms() >= self._not_before_ms:
            await anyio.to_thread.run_sync(self._renew)

    def _renew(self) -> None:
        now = self._now_ms()
        ends_ms = renewal_ms(self.certificate_file, self._names)
        if ends_ms is None or now >= ends_ms or not self.key_file.exists():
            self._not_before_ms = now + _RETRY_MS
            try:
                self._issue()
            except OSError as error:
                raise HubError(f"the certificate was not written: {error.strerror}") from None
            ends_ms = renewal_ms(self.certificate_file, self._names)
        self._not_before_ms = min(now + _RETRY_MS, ends_ms or now + _RETRY_MS)

    def _issue(self) -> None:
        if not (self._folder / ROOT_FILE).exists():
            ranges = [parse_range(text.removeprefix("*.")) for text in dict.fromkeys((*PRIVATE_RANGES, *self._names))]
            create(self._folder, name="AutoGLM Hub", permitted=ranges, now_ms=self._now_ms)
        issued = open_authority(self._folder, now_ms=self._now_ms).issue_server(self._names, days=DAYS)
        assert issued.key_pem is not None
        write_private(self.key_file, issued.key_pem)
        write_private(self.certificate_file, issued.certificate_pem, mode=0o644)


def renewal_ms(certificate_file: Path, names: Sequence[str]) -> int | None:
    """When the certificate is to be renewed, in Unix time; None where there is none, or one for other names."""
    try:
        found = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        alternative = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    here = {str(entry.value) for entry in alternative}
    if not set(names) <= here:
        return None
    begin, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return int((begin + (end - begin) * _RENEWED_AFTER) * 1000)
