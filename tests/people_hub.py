"""All that logs people in, on a real store in a folder, with a clock that the test moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from autoglm.auth.people.accounts import Account, Accounts
from autoglm.auth.people.devices import KnownDevices
from autoglm.auth.people.logins import Caller, LoggedIn, Logins
from autoglm.auth.people.passkeys import Passkeys
from autoglm.auth.people.passwords import Passwords
from autoglm.auth.people.recovery import Invitations
from autoglm.auth.people.sessions import Sessions
from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.people.throttle import Throttle
from autoglm.store import Store, StoreSettings, open_store

START_MS = 1_800_000_000_000
ORIGIN = "http://localhost:8600"
PASSWORD = "correct horse battery staple"
CHEAP = {"memory_kib": 7168, "passes": 5, "lanes": 1}
"""The weakest parameters that the settings take."""


class Time:
    """Wall and monotonic clock in one."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_ms(self) -> int:
        return START_MS + int(self.passed_s * 1000)

    def now_s(self) -> float:
        return 1000.0 + self.passed_s

    def pass_s(self, seconds: float) -> None:
        self.passed_s += seconds


class People:
    """One run of a hub, as far as people matter to it."""

    def __init__(self, store: Store, settings: PeopleSettings, time: Time) -> None:
        self.store, self.settings, self.time = store, settings, time
        keyvalue = store.keyvalue
        self.accounts = Accounts(keyvalue, time.now_ms)
        self.passwords = Passwords(keyvalue, settings.password)
        self.sessions = Sessions(keyvalue, self.accounts, settings.session, time.now_ms)
        self.devices = KnownDevices(keyvalue, time.now_ms, settings.throttle.device_days)
        self.throttle = Throttle(settings.throttle, time.now_s)
        self.passkeys = Passkeys(
            keyvalue, self.accounts, settings.passkey, time.now_ms, monotonic_s=time.now_s
        )  # fmt: skip
        self.logins = Logins(
            accounts=self.accounts, passwords=self.passwords, sessions=self.sessions, devices=self.devices,
            throttle=self.throttle, passkeys=self.passkeys,
        )  # fmt: skip
        self.invitations = Invitations(
            keyvalue, accounts=self.accounts, passwords=self.passwords, logins=self.logins, now_ms=time.now_ms,
            valid_h=settings.invitation_h,
        )  # fmt: skip

    async def open(self) -> None:
        for part in (self.accounts, self.sessions, self.devices, self.passkeys, self.invitations):
            await part.open()

    async def add(self, name: str, *roles: str, password: str = PASSWORD) -> Account:
        account = await self.accounts.create(name, roles or ("member",))
        return await self.logins.replace_password(account, await self.passwords.hashed(password, name))

    async def log_in(
        self, name: str, password: str = PASSWORD, *, client: str = "192.0.2.1", device: str | None = None,
        session: str | None = None,
    ) -> LoggedIn:  # fmt: skip
        return await self.logins.with_password(name, password, Caller(client, "tests", device, session))


def files_with(folder: Path, secret: str) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@asynccontextmanager
async def people_hub(folder: Path, *, time: Time | None = None, **settings: object) -> AsyncIterator[People]:
    """A second one on the same folder and time is the hub after a restart."""
    chosen = PeopleSettings.model_validate({"password": CHEAP, "passkey": {"origins": [ORIGIN]}, **settings})
    async with open_store(folder, StoreSettings()) as store:
        people = People(store, chosen, time or Time())
        await people.open()
        yield people
