"""Makes this site's tokens, with the site's own key in `DATA/trust`, which no request can read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from autoglm.auth.devices import Device
from autoglm.auth.scopes import is_within
from autoglm.auth.tokens.claims import Claims, new_jti
from autoglm.auth.tokens.pins import Pins
from autoglm.auth.tokens.rotation import SigningKeys
from autoglm.auth.tokens.settings import TrustSettings
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.tokens.token import issue
from autoglm.core.errors import Forbidden, InvalidField, SettingsError
from autoglm.core.private_file import write_private

KEY_FILE = "site.key"
FORMER_FILE = "site-former-keys.json"
_MAX_FILE_BYTES = 64 * 1024


class Issuer:
    """`opened` makes it."""

    def __init__(self, folder: Path, keys: SigningKeys, settings: TrustSettings, now_ms: Callable[[], int]) -> None:
        self._folder = folder
        self._keys = keys
        self._settings = settings
        self._now_ms = now_ms

    @classmethod
    def opened(cls, folder: Path, settings: TrustSettings, now_ms: Callable[[], int]) -> "Issuer":
        """folder: DATA/trust, which is there. Makes the key at the first start. Raises SettingsError."""
        pem = _read(folder / KEY_FILE)
        current = SigningKey.generate() if pem is None else SigningKey.from_pem(pem)
        if pem is None:
            write_private(folder / KEY_FILE, current.pem())
        former = _read(folder / FORMER_FILE)
        keys = SigningKeys(current) if former is None else SigningKeys.restored(current, former)
        return cls(folder, keys, settings, now_ms)

    @property
    def site(self) -> str:
        return self._settings.site

    @property
    def key(self) -> SigningKey:
        """Signs the audit as well."""
        return self._keys.current

    def pins(self) -> Pins:
        """By which this site's own tokens verify."""
        return self._keys.pins(self.site)

    def token_for(
        self, device: Device, *, scopes: Sequence[str] = (), ttl_s: int | None = None, policy_version: int = 0
    ) -> tuple[str, Claims]:
        """scopes: fewer than the device's own; all of them when empty. Raises Forbidden, InvalidField."""
        for scope in scopes:
            if not is_within(scope, device.scopes):
                raise Forbidden(scope)
        wanted_s = device.token_ttl_s if ttl_s is None else ttl_s
        if wanted_s > max(device.token_ttl_s, self._settings.token_ttl_s):
            raise InvalidField("ttl_s", f"tokens of this device live {device.token_ttl_s} s at most")
        now_ms = self._now_ms()
        claims = Claims(
            issuer=self.site, subject=device.address, audience=self.site, issued_at_ms=now_ms,
            ends_at_ms=now_ms + wanted_s * 1000, jti=new_jti(), scopes=tuple(scopes) or device.scopes, jkt=device.jkt,
            policy_version=policy_version,
        )  # fmt: skip
        return issue(self.key, claims), claims

    def rotate(self) -> str:
        """From now on a new key signs; the former verifies until its last token has ended. Returns the new kid.

        Blocks until both are on the disk. Raises InvalidField when it was done too often of late.
        """
        keys = self._keys.rotated(self._now_ms(), self._settings.max_token_ttl_s)
        # The former first: a kill in between leaves the key that signs among those that did, which is no harm.
        write_private(self._folder / FORMER_FILE, keys.former_json())
        write_private(self._folder / KEY_FILE, keys.current.pem())
        self._keys = keys
        return keys.current.kid


def _read(path: Path) -> bytes | None:
    """Raises SettingsError."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from error
