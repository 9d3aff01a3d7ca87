"""Mail addresses as targets: those that SMTP can carry without quoting.

Source: RFC 5321, section 4.1.2 and 4.5.3.1; RFC 6531, section 3.3 (UTF-8 before the @); RFC 5890 (names of hosts).
"""

import re
import unicodedata
from typing import NamedTuple

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_is_local = re.compile(rf"{_ATOM}(\.{_ATOM})*").fullmatch
_is_domain = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_LOCAL_BYTES = 64
_ADDRESS_BYTES = 254


class BadAddress(ValueError):
    """No address that mail can be sent to."""


class MailAddress(NamedTuple):
    text: str
    """The domain is in ASCII; what is before the @ may be UTF-8."""
    needs_utf8: bool
    """Only servers with SMTPUTF8 can carry it."""


def parse_mail_address(text: str) -> MailAddress:
    """Raises BadAddress."""
    local, at, domain = text.rpartition("@")
    if not at or not _is_local(local) or any(unicodedata.category(character)[0] in "CZ" for character in local):
        raise BadAddress("it must look like name@example.org")
    domain = _ascii(domain)
    if _is_domain.fullmatch(domain) is None:
        raise BadAddress("what follows the @ is no name of a host")
    address = f"{local}@{domain}"
    if len(local.encode()) > _LOCAL_BYTES or len(address.encode()) > _ADDRESS_BYTES:
        raise BadAddress("it is too long")
    return MailAddress(address, needs_utf8=not local.isascii())


def _ascii(domain: str) -> str:
    """The name in its ASCII form, where Python's IDNA of 2003 and that of 2008 agree on it.

    They differ on ß, ς and joiners: a guess would send the mail to somebody else's domain.
    """
    if domain.isascii():
        return domain
    try:
        found = domain.encode("idna")
        same = found.decode("idna") == unicodedata.normalize("NFC", domain).lower()
    except UnicodeError:
        raise BadAddress("what follows the @ is no name of a host") from None
    if not same:
        raise BadAddress("write what follows the @ in its ASCII form (xn--...)")
    return found.decode("ascii")
