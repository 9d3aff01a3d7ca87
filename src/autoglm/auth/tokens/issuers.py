"""The pins that the settings give: the keys of other hubs."""

from collections.abc import Iterable, Iterator

from autoglm.auth.tokens.limit import limit_of
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.settings import IssuerSettings
from autoglm.core.errors import InvalidField, SettingsError


def pins_of(issuers: Iterable[IssuerSettings]) -> Pins:
    """Raises SettingsError."""
    try:
        return Pins(_pins(issuers))
    except InvalidField as error:  # one key for two issuers
        raise SettingsError([f"trust.issuer: {error}"]) from None


def _pins(issuers: Iterable[IssuerSettings]) -> Iterator[Pin]:
    for issuer in issuers:
        try:
            limit = limit_of(issuer.name, issuer.scopes, issuer.addresses)
            yield Pin(PublicKey.from_text(issuer.public_key), issuer.name, limit=limit)
        except InvalidField as error:
            raise SettingsError([f"trust.issuer {issuer.name!r}: {error}"]) from None
