"""The pins that the settings give: the keys of other hubs."""

from collections.abc import Iterable, Iterator

from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.settings import IssuerSettings
from autoglm.core.errors import InvalidField, SettingsError

_MAX_FILE_BYTES = 4096


def pins_of(issuers: Iterable[IssuerSettings]) -> Pins:
    """Reads the files that are named. Raises SettingsError."""
    try:
        return Pins(_pins(issuers))
    except InvalidField as error:  # one key for two issuers
        raise SettingsError([f"trust.issuer: {error}"]) from None


def _pins(issuers: Iterable[IssuerSettings]) -> Iterator[Pin]:
    for issuer in issuers:
        try:
            yield Pin(PublicKey.from_text(_key_text(issuer)), issuer.name)
        except InvalidField as error:
            raise SettingsError([f"trust.issuer {issuer.name!r}: {error}"]) from None


def _key_text(issuer: IssuerSettings) -> str:
    if issuer.public_key_file is None:
        return issuer.public_key or ""
    try:
        with issuer.public_key_file.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode().strip()
    except (OSError, ValueError) as error:
        where = f"trust.issuer {issuer.name!r}: {issuer.public_key_file}"
        raise SettingsError([f"{where} cannot be read: {getattr(error, 'strerror', None) or 'no text'}"]) from None
