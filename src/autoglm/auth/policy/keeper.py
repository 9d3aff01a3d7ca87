"""Keeps the policy of a running hub: the one it has, verified anew at each start, and newer ones from its source."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Literal

import anyio
import anyio.to_thread
import structlog

from autoglm.auth.policy.client import PolicyClient
from autoglm.auth.policy.decider import CompiledPolicy, Decider, compile_policy
from autoglm.auth.policy.settings import PolicySettings
from autoglm.auth.policy.snapshot import Snapshot
from autoglm.auth.policy.sources import Fetch, ZipSource, source_of
from autoglm.core.errors import HubError, NotFound, PolicyRefused, PolicyUnreachable, SettingsError

log = structlog.get_logger(part="auth")

PullState = Literal["never", "ok", "unreachable", "refused"]


class PolicyKeeper:
    """`open` before use, `run` as long as the hub runs. Without a root it does nothing, and scopes decide alone."""

    def __init__(
        self, client: PolicyClient, decider: Decider, settings: PolicySettings,
        fetching: Callable[[], AbstractContextManager[Fetch]], on_swap: Callable[[Snapshot | None], Awaitable[None]],
    ) -> None:  # fmt: skip
        """on_swap: told of each policy that comes into force, when it is."""
        self._client = client
        self._decider = decider
        self._settings = settings
        self._fetching = fetching
        self._on_swap = on_swap
        self._pulling = anyio.Lock()
        self.pull_state: PullState = "never"
        self.problem = ""
        """Why the last pull brought nothing, or why there is no policy; empty when all is well."""

    @property
    def is_offline(self) -> bool:
        """Whether the authority could not be reached the last time. False for a hub that has none."""
        return self.pull_state == "unreachable"

    async def open(self) -> None:
        """Bring the policy that is here into force. Raises SettingsError for a root file that is none."""
        root_file = self._settings.root_file
        if not self._client.is_initialised:
            if root_file is None:
                return
            try:
                root = await anyio.to_thread.run_sync(root_file.read_bytes)
                await anyio.to_thread.run_sync(self._client.init, root)
            except OSError as error:
                raise SettingsError([f"policy.root_file: {root_file} cannot be read: {error.strerror}"]) from error
            except PolicyRefused as error:
                raise SettingsError([f"policy.root_file: {error}"]) from error
        try:
            policy = await anyio.to_thread.run_sync(self._loaded)
        except PolicyRefused as error:
            # The cache was changed by somebody: by scopes alone, all who were revoked would be back.
            self.problem = str(error)
            log.error("policy_cache_refused", reason=str(error))
            self._decider.swap(None, self.problem)
            await self._on_swap(None)
            return
        if policy is None:
            self.problem = "this hub has a root, and no policy yet; autoglm policy pull brings one"
            self._decider.swap(None, self.problem)
            await self._on_swap(None)
        else:
            await self._swap(policy)

    async def pull(self, place: str | None = None) -> Snapshot:
        """Bring the newest into force. place: instead of the setting's source, such as a stick's folder.

        Raises PolicyRefused, PolicyUnreachable, NotFound.
        """
        where = place or self._settings.source
        if where is None or not self._client.is_initialised:
            raise NotFound("policy source", "policy.source" if self._client.is_initialised else "policy.root_file")
        async with self._pulling:
            try:
                policy = await anyio.to_thread.run_sync(self._pulled, where)
            except (PolicyUnreachable, NotFound) as error:
                self.pull_state, self.problem = "unreachable", str(error)
                raise
            except PolicyRefused as error:
                self.pull_state, self.problem = "refused", str(error)
                raise
            was_offline = self.is_offline
            self.pull_state, self.problem = "ok", ""
            if was_offline or self._is_news(policy.snapshot):
                await self._swap(policy)
            return policy.snapshot

    async def take(self, archive: bytes) -> Snapshot:
        """Bring what somebody carried here, as a zip file, into force. It says nothing of whether the source answers.

        Raises PolicyRefused, NotFound for a hub that trusts no authority.
        """
        if not self._client.is_initialised:
            raise NotFound("policy source", "policy.root_file")
        async with self._pulling:
            policy = await anyio.to_thread.run_sync(self._carried, archive)
            if self.pull_state != "unreachable":
                self.pull_state, self.problem = "ok", ""
            if self._is_news(policy.snapshot):
                await self._swap(policy)
            return policy.snapshot

    async def run(self) -> None:
        """Pull every refresh_s, until cancelled."""
        if self._settings.source is None:
            return
        while True:
            if self._client.is_initialised:  # a root may come later, by 'autoglm policy pull --root'
                await self._pull_and_tell()
            await anyio.sleep(self._settings.refresh_s)

    async def _pull_and_tell(self) -> None:
        state = self.pull_state
        try:
            await self.pull()
        except HubError as error:
            if self.pull_state != state:  # once, not each quarter of an hour
                log.warning("policy_not_pulled", reason=str(error), state=self.pull_state)

    def _is_news(self, snapshot: Snapshot) -> bool:
        known = self._decider.snapshot
        return known is None or _freshness(snapshot) != _freshness(known)

    async def _swap(self, policy: CompiledPolicy) -> None:
        self._decider.swap(policy)
        snapshot = policy.snapshot
        log.info("policy_in_force", version=snapshot.version, stage=self._decider.stage)
        await self._on_swap(snapshot)

    def _loaded(self) -> CompiledPolicy | None:
        snapshot = self._client.load()
        return None if snapshot is None else compile_policy(snapshot)

    def _pulled(self, place: str) -> CompiledPolicy:
        with self._fetching() as fetch:
            return compile_policy(self._client.pull(source_of(place, fetch)))

    def _carried(self, archive: bytes) -> CompiledPolicy:
        try:
            return compile_policy(self._client.pull(ZipSource(archive)))
        except NotFound as error:
            raise PolicyRefused("the zip file", f"it is not complete: {error}") from error


def _freshness(snapshot: Snapshot) -> tuple[int, int, int]:
    return snapshot.version, snapshot.issued_ms, snapshot.expires_ms
