"""What a hub proves its own word by, and judges others': clock, site key, devices, policy, audit, and who asks.

What must not be lost lies in `DATA/trust`, which only the hub's user may read; the policy's cache is in `DATA/policy`,
and believed by its signatures alone.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import structlog

from autoglm.auth.audit.conflicts import Conflicts
from autoglm.auth.audit.heads import HEAD_FILE_NAME, HeadFile
from autoglm.auth.audit.places import Place, Shipping
from autoglm.auth.audit.recorder import Audit
from autoglm.auth.audit.refusals import Refusals
from autoglm.auth.audit.rejudge import Operation, rejudge
from autoglm.auth.audit.settings import AuditSettings
from autoglm.auth.authenticator import Authenticator
from autoglm.auth.clock import ClockSettings, TrustedClock
from autoglm.auth.devices import Devices
from autoglm.auth.hindsight import Hindsight
from autoglm.auth.issuer import Issuer
from autoglm.auth.judge import HubJudge
from autoglm.auth.keys import KeyRing
from autoglm.auth.lasting import LastingRights
from autoglm.auth.people.people import People, Surroundings
from autoglm.auth.people.recovery import Invitation
from autoglm.auth.people.roles import scopes_of
from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.policy.client import PolicyClient
from autoglm.auth.policy.decider import Decider
from autoglm.auth.policy.keeper import PolicyKeeper
from autoglm.auth.policy.settings import PolicySettings
from autoglm.auth.policy.snapshot import Snapshot
from autoglm.auth.policy.sources import Fetch
from autoglm.auth.revocations import Revocations
from autoglm.auth.scopes import is_within
from autoglm.auth.settings import KeySettings
from autoglm.auth.strangers import Strangers
from autoglm.auth.tokens.issuers import pins_of
from autoglm.auth.tokens.limit import limit_of
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.replay import ReplayMemory
from autoglm.auth.tokens.request import RequestVerifier
from autoglm.auth.tokens.settings import TrustSettings
from autoglm.auth.tokens.shared_secret import SharedSecret
from autoglm.auth.tokens.target import normal_origin
from autoglm.auth.tokens.verifier import TokenVerifier
from autoglm.auth.vouched import Vouched
from autoglm.core.clock import now_ms as wall_now_ms
from autoglm.core.errors import HubError, SettingsError
from autoglm.core.lasting import Asker
from autoglm.core.ports import Journal, JournalFilter, KeyValue

TRUST_FOLDER = "trust"
POLICY_FOLDER = "policy"
CLOCK_FILE = "clock.json"
_LOOK_S = 1.0
_AGAIN_S = 10.0
"""After a full disk, what could not be judged again is tried anew."""
_LAST_WORDS_S = 5.0
"""How long a shutdown waits for the second places; what they do not have then, they get in the next run."""

log = structlog.get_logger(part="auth")


class TrustParts(NamedTuple):
    """The settings that trust is made of."""

    trust: TrustSettings = TrustSettings()
    clock: ClockSettings = ClockSettings()
    policy: PolicySettings = PolicySettings()
    audit: AuditSettings = AuditSettings()
    keys: Sequence[KeySettings] = ()
    people: PeopleSettings = PeopleSettings()


class Trust:
    """`open_trust` makes it; `run` as long as the hub runs."""

    def __init__(
        self, data_dir: Path, settings: TrustParts, clock: TrustedClock, keyvalue: KeyValue, journal: Journal, *,
        fetching: Callable[[], AbstractContextManager[Fetch]], places: Sequence[Place],
        failures_per_minute: int,
    ) -> None:  # fmt: skip
        """Blocks: it reads the site's key, or makes it. Raises SettingsError."""
        folder, tokens = data_dir / TRUST_FOLDER, settings.trust
        self.settings = tokens
        self.clock = clock
        self.journal = journal
        self._keyvalue = keyvalue
        self.issuer = Issuer.opened(folder, tokens, clock.now_ms)
        self.audit = Audit(
            journal, clock, site=tokens.site, signer=self.issuer.key, heads=HeadFile(folder / HEAD_FILE_NAME),
            settings=settings.audit,
        )  # fmt: skip
        self.refusals = Refusals(self.audit)
        self.conflicts = Conflicts(journal, self.audit)
        self.shippings = [Shipping(place, journal, keyvalue, self.audit) for place in places]
        self.decider = Decider(
            clock.now_ms, settings.policy, time_zone=settings.policy.time_zone,
            is_offline=lambda: self.policy.is_offline, is_clock_trusted=lambda: clock.is_trusted,
        )  # fmt: skip
        client = PolicyClient(folder, data_dir / POLICY_FOLDER, clock.now_ms, clock.saw)
        self.policy = PolicyKeeper(client, self.decider, settings.policy, fetching, self._swapped)
        self.judge = HubJudge(self.decider, self.audit, clock, settings.clock)
        self.vouched = Vouched(self.judge)
        self.keys = KeyRing(keyvalue, settings.keys, judge=self.judge, now_ms=clock.now_ms)
        self.devices = Devices(keyvalue, clock.now_ms)
        self.revocations = Revocations(keyvalue, clock.now_ms)
        self.people = People(
            keyvalue, settings.people, clock.now_ms, site=tokens.site,
            surroundings=Surroundings(
                is_revoked=lambda address: self.authenticator.is_revoked((address,)),
                is_claimed=self._is_claimed, may_give=self._may_give,
            ),
        )  # fmt: skip
        self.hindsight = Hindsight(
            self.decider, self.revocations, self._scopes_of, read_actions=settings.policy.read_actions
        )  # fmt: skip
        self._issuers = pins_of(tokens.issuer)
        self.tokens = TokenVerifier(
            self._pins(), audience=tokens.site, skew_ms=tokens.skew_s * 1000, max_ttl_ms=tokens.max_token_ttl_s * 1000
        )
        self._secret = self._shared_secret()
        window_ms = tokens.proof_window_s * 1000
        self._requests = RequestVerifier(
            self.tokens, ReplayMemory(window_ms=window_ms, skew_ms=tokens.skew_s * 1000), Nonces(),
            origins=frozenset(tokens.origins), started_ms=clock.now_ms(), window_ms=window_ms,
            shared_secret=self._secret,
        )  # fmt: skip
        self.authenticator = Authenticator(
            self.keys, issuer=self.issuer, requests=self._requests, devices=self.devices,
            revocations=self.revocations, clock=clock, judge=self.judge, is_revoked=self._is_revoked,
            scopes_by_roles=self._scopes_by_roles, people=self.people,
            strangers=Strangers(failures_per_minute),
        )  # fmt: skip
        self.lasting = LastingRights(self.authenticator, self.keys, self.devices, self.judge)
        self._revoked: set[str] = set()
        """By the last policy."""
        self._look_back = anyio.Event()
        self._stage: str = "none"
        self._earliest_ms: int | None = None
        """When the first of the revocations that came since was; None for none."""

    async def open(self) -> None:
        """Raises SettingsError."""
        await self.audit.start()
        await self.devices.open()
        await self.revocations.open()
        await self.people.open()
        await self.policy.open()
        if self._secret is not None:
            log.warning(
                "shared_secret_tokens_allowed",
                note="whoever can verify such a token can make one, and whoever copies one can use it; "
                "let devices enrol instead, and take trust.shared_secret out",
            )  # fmt: skip

    def listens_at(self, *urls: str) -> None:
        """By these addresses clients call the hub as well, so that proofs may name them."""
        self._requests.origins |= {normal_origin(url) for url in urls}

    def opens_page_at(self, *origins: str) -> None:
        """At these addresses browsers may open the page."""
        self.people.opens_page_at(*origins)

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            for task in (self.clock.keep, self.audit.run, self.policy.run, self.people.run, self._look, self._rejudge):
                tasks.start_soon(task)
            for shipping in self.shippings:
                tasks.start_soon(shipping.run)

    async def rotate(self) -> str:
        """A new key signs this site's tokens and audit; returns its kid. Tokens that are out go on to count."""
        kid = await anyio.to_thread.run_sync(self.issuer.rotate)
        self.audit.signer = self.issuer.key
        self._repin()
        return kid

    def _repin(self) -> None:
        pins = self._pins()
        self.tokens.repin(pins)
        if self._secret is not None:
            self._secret.check_against(pin.public_key for pin in pins)

    def _pins(self) -> Pins:
        snapshot = self.decider.snapshot
        signed = () if snapshot is None else snapshot.pins
        return Pins([
            *self.issuer.pins(), *self._issuers,
            *(
                Pin(
                    PublicKey.from_text(pin.public_key), pin.issuer, pin.not_after_ms,
                    limit=limit_of(pin.issuer, pin.scopes, pin.addresses),
                )
                for pin in signed
            ),
        ])  # fmt: skip

    def _shared_secret(self) -> SharedSecret | None:
        secret = self.settings.shared_secret
        if secret is None:
            return None
        keys = [pin.public_key for pin in self._pins()]
        return SharedSecret(secret.get_secret_value().encode(), self.settings.shared_secret_issuer, keys)

    def _is_revoked(self, ids: Iterable[str]) -> bool:
        return any(self.decider.is_revoked(id) for id in ids)

    def _is_claimed(self, address: str) -> bool:
        return self.keys.has_address(address) or bool(self._scopes_by_roles(address))

    def _may_give(self, invitation: Invitation) -> bool:
        """Whoever made the link might make it today: he is not gone, and may do all that it gives."""
        maker = self.lasting.principal(Asker(address=invitation.made_by, right=invitation.right))
        if maker is None:
            return False
        name = invitation.name
        given = (*scopes_of(invitation.roles, name), *self._scopes_by_roles(f"user:{name}"))
        return all(is_within(scope, maker.scopes) for scope in given)

    def _scopes_by_roles(self, address: str) -> tuple[str, ...]:
        snapshot = self.decider.snapshot
        if snapshot is None:
            return ()
        roles = snapshot.roles_of(address, self.clock.now_ms())
        return tuple(sorted({scope for role in roles for scope in snapshot.roles[role]}))

    async def _swapped(self, snapshot: Snapshot | None) -> None:
        """A policy came into force; None: there is none, although there should be."""
        self.judge.renew()
        self.audit.policy_version = 0 if snapshot is None else snapshot.version
        self.audit.is_offline = self.policy.is_offline
        self._repin()
        self.audit.act(
            "policy:swap", None, kind="policy", resource=str(self.audit.policy_version),
            outcome="failed" if snapshot is None else "allowed", text=self.policy.problem,
        )  # fmt: skip
        if snapshot is None:
            return
        fresh = [revocation.at_ms for id, revocation in snapshot.revocations.items() if id not in self._revoked]
        self._revoked = set(snapshot.revocations)
        self._earliest_ms = min((*fresh, *(() if self._earliest_ms is None else (self._earliest_ms,))), default=None)
        self._look_back.set()

    async def _look(self) -> None:
        while True:
            await anyio.sleep(_LOOK_S)
            self.audit.is_offline = self.policy.is_offline
            try:
                self.judge.look()
                self.look_at_stage()
            except HubError as error:  # a full disk: the next look tries again
                log.warning("clock_change_not_recorded", reason=str(error))

    def look_at_stage(self) -> None:
        """Tell of each step that an old policy takes; the log, the audit and /metrics have it."""
        stage = self.decider.stage
        if stage == self._stage:
            return
        self.audit.act("policy:stage", None, kind="policy", resource=str(self.decider.version), text=stage)
        tell = log.info if stage in ("none", "fresh") else log.warning
        tell("policy_stage", stage=stage, before=self._stage, version=self.decider.version)
        self._stage = stage

    async def _rejudge(self) -> None:
        """After each new policy, judge again what was allowed before."""
        while True:
            await self._look_back.wait()
            self._look_back = anyio.Event()
            earliest_ms, self._earliest_ms = self._earliest_ms, None
            try:
                after = None if earliest_ms is None else await self._entry_before(earliest_ms)
                judged = await rejudge(self.audit, self.journal, self._keyvalue, self.hindsight, after=after)
            except HubError as error:
                log.warning("not_judged_again", reason=str(error))
                waiting = [at_ms for at_ms in (earliest_ms, self._earliest_ms) if at_ms is not None]
                self._earliest_ms = min(waiting, default=None)
                self._look_back.set()  # what was revoked is in no later policy's news
                await anyio.sleep(_AGAIN_S)
                continue
            if judged.conflicts:
                log.warning("conflicts_found", conflicts=judged.conflicts, operations=judged.operations)

    async def _entry_before(self, at_ms: int) -> int | None:
        found = await self.journal.find(JournalFilter(since_ms=at_ms), limit=1)
        return found[0].seq - 1 if found else None

    def _scopes_of(self, operation: Operation) -> tuple[str, ...] | None:
        kind, _, name = operation.credential.partition(":")
        if kind == "jkt":
            device = self.devices.by_jkt(name)
            return None if device is None else device.scopes
        if kind == "session":
            account = self.people.by_address(operation.address)
            return None if account is None or account.is_disabled else account.scopes
        key = self.keys.of_then(name, operation.address, operation.ends_ms) if kind == "key" else None
        return None if key is None else key.scopes


@asynccontextmanager
async def open_trust(
    data_dir: Path, settings: TrustParts, keyvalue: KeyValue, journal: Journal, *,
    fetching: Callable[[], AbstractContextManager[Fetch]], places: Sequence[Place] = (),
    failures_per_minute: int = 30,
    wall_ms: Callable[[], int] = wall_now_ms,
) -> AsyncIterator[Trust]:  # fmt: skip
    """Raises SettingsError for a key or folder that cannot be read. places: where the audit goes beside the journal."""
    newest = await journal.find(JournalFilter(), limit=1, newest_first=True)
    written_ms = newest[0].at_ms if newest else 0

    def made() -> Trust:
        folder = data_dir / TRUST_FOLDER
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(folder, 0o700)
        except OSError as error:
            raise SettingsError([f"{folder} cannot be used: {error.strerror}"]) from error
        # The clock first: a folder that holds anything else is not new to it.
        clock = TrustedClock.open(folder / CLOCK_FILE, settings.clock, at_least_ms=written_ms, wall_ms=wall_ms)
        return Trust(
            data_dir,
            settings,
            clock,
            keyvalue,
            journal,
            fetching=fetching,
            places=places,
            failures_per_minute=failures_per_minute,
        )

    trust = await anyio.to_thread.run_sync(made)
    try:
        await trust.open()
        yield trust
    finally:
        with anyio.CancelScope(shield=True):  # a few entries and one small file
            await trust.audit.stop()
            with anyio.move_on_after(_LAST_WORDS_S):
                for shipping in trust.shippings:
                    await shipping.finish()
            await anyio.to_thread.run_sync(trust.clock.close)
