"""What a hub proves its own word by, and judges others': the clock, the site's key, devices, revocations, and who asks.

Everything lies in `DATA/trust`, which only the hub's user may read, and in the key-value table.
"""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.clock import ClockSettings, TrustedClock
from autoglm.auth.devices import Devices
from autoglm.auth.issuer import Issuer
from autoglm.auth.keys import KeyRing
from autoglm.auth.principal import Judge, ScopesAlone
from autoglm.auth.revocations import Revocations
from autoglm.auth.settings import KeySettings
from autoglm.auth.tokens.issuers import pins_of
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.pins import Pins
from autoglm.auth.tokens.replay import ReplayMemory
from autoglm.auth.tokens.request import RequestVerifier
from autoglm.auth.tokens.settings import TrustSettings
from autoglm.auth.tokens.shared_secret import SharedSecret
from autoglm.auth.tokens.target import normal_origin
from autoglm.auth.tokens.verifier import TokenVerifier
from autoglm.core.clock import now_ms as wall_now_ms
from autoglm.core.errors import SettingsError
from autoglm.core.ports import KeyValue

TRUST_FOLDER = "trust"
CLOCK_FILE = "clock.json"


class Trust:
    """`open_trust` makes it."""

    def __init__(
        self, folder: Path, settings: TrustSettings, clock: TrustedClock, keyvalue: KeyValue,
        fixed_keys: Sequence[KeySettings],
    ) -> None:  # fmt: skip
        """Blocks: it reads the site's key, or makes it. Raises SettingsError."""
        self.folder = folder
        self.settings = settings
        self.clock = clock
        self.judge: Judge = ScopesAlone()
        self.keys = KeyRing(keyvalue, fixed_keys, judge=self.judge, now_ms=clock.now_ms)
        self.devices = Devices(keyvalue, clock.now_ms)
        self.revocations = Revocations(keyvalue, clock.now_ms)
        self.issuer = Issuer.opened(folder, settings, clock.now_ms)
        self._issuers = pins_of(settings.issuer)
        self.tokens = TokenVerifier(
            self._pins(), audience=settings.site, skew_ms=settings.skew_s * 1000,
            max_ttl_ms=settings.max_token_ttl_s * 1000,
        )  # fmt: skip
        window_ms = settings.proof_window_s * 1000
        self._requests = RequestVerifier(
            self.tokens, ReplayMemory(window_ms=window_ms, skew_ms=settings.skew_s * 1000), Nonces(),
            origins=frozenset(settings.origins), started_ms=clock.now_ms(), window_ms=window_ms,
            shared_secret=self._shared_secret(),
        )  # fmt: skip
        self.authenticator = Authenticator(
            self.keys, issuer=self.issuer, requests=self._requests, devices=self.devices,
            revocations=self.revocations, clock=clock, judge=self.judge,
        )  # fmt: skip

    async def open(self) -> None:
        await self.devices.open()
        await self.revocations.open()

    def listens_at(self, *urls: str) -> None:
        """By these addresses clients call the hub as well, so that proofs may name them."""
        self._requests.origins |= {normal_origin(url) for url in urls}

    async def rotate(self) -> str:
        """A new key signs this site's tokens; returns its kid. Those that are out go on to count."""
        kid = await anyio.to_thread.run_sync(self.issuer.rotate)
        self.tokens.repin(self._pins())
        return kid

    def _pins(self) -> Pins:
        return Pins([*self.issuer.pins(), *self._issuers])

    def _shared_secret(self) -> SharedSecret | None:
        secret = self.settings.shared_secret
        if secret is None:
            return None
        keys = [pin.public_key for pin in self._pins()]
        return SharedSecret(secret.get_secret_value().encode(), self.settings.shared_secret_issuer, keys)


@asynccontextmanager
async def open_trust(
    data_dir: Path, settings: TrustSettings, clock_settings: ClockSettings, keyvalue: KeyValue,
    fixed_keys: Sequence[KeySettings], *, wall_ms: Callable[[], int] = wall_now_ms,
) -> AsyncIterator[Trust]:  # fmt: skip
    """Raises SettingsError for a key or a folder that cannot be read."""

    def made() -> Trust:
        folder = data_dir / TRUST_FOLDER
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(folder, 0o700)
        except OSError as error:
            raise SettingsError([f"{folder} cannot be used: {error.strerror}"]) from error
        # The clock first: a folder that holds anything else is not new to it.
        clock = TrustedClock.open(folder / CLOCK_FILE, clock_settings, wall_ms=wall_ms)
        return Trust(folder, settings, clock, keyvalue, fixed_keys)

    trust = await anyio.to_thread.run_sync(made)
    try:
        await trust.open()
        yield trust
    finally:
        with anyio.CancelScope(shield=True):  # one small file
            await anyio.to_thread.run_sync(trust.clock.close)
