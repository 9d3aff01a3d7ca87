"""Who may do what: revocation, then staleness, then scopes and roles, then Cedar. ADR 14.

Each step can only take away what the one before left, save that roles of the snapshot add the scopes they name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from autoglm.auth.policy.entities import action_of, principal_of, resource_of
from autoglm.auth.policy.ladder import Stage, lets_through, rung
from autoglm.auth.policy.settings import LadderSettings
from autoglm.auth.policy.snapshot import MAX_TIME_MS, Snapshot
from autoglm.auth.scopes import any_covers

if TYPE_CHECKING:
    from autoglm.auth.policy.cedar import CedarPolicies

Reason = Literal["revoked", "stale", "no_scope", "forbidden", "not_permitted", "policy_error", "scope", "permitted",
                 "policy_admin"]  # fmt: skip
_MAX_CACHED = 65_536
_MINUTE_MS = 60_000
_NO_LABELS: frozenset[str] = frozenset()


class Asker(Protocol):
    """What is asked about: a `Principal`, or what a record of the past knows of one."""

    @property
    def address(self) -> str: ...

    @property
    def credential(self) -> str:
        """Such as `key:robot-1` or `jkt:...`."""
        ...

    @property
    def scopes(self) -> tuple[str, ...]:
        """His own, without those of roles."""
        ...


class Circumstances(NamedTuple):
    """Under which somebody asks; policies may look at them."""

    at_ms: int
    is_offline: bool
    is_clock_trusted: bool
    labels: frozenset[str] = frozenset()


class Verdict(NamedTuple):
    allowed: bool
    reason: Reason
    detail: str
    """One sentence for people."""
    policy_ids: tuple[str, ...]
    """The Cedar policies that decided."""
    version: int
    """Of the policy; 0 for none."""
    stage: Stage


@dataclass(frozen=True)
class CompiledPolicy:
    """A snapshot ready to decide by; `cedar` is None for one without any Cedar policy."""

    snapshot: Snapshot
    cedar: "CedarPolicies | None"


def compile_policy(snapshot: Snapshot) -> CompiledPolicy:
    """Takes a second for 10,000 policies: call it in a thread. Raises PolicyRefused."""
    if not snapshot.cedar.strip():
        return CompiledPolicy(snapshot, None)
    from autoglm.auth.policy.cedar import CedarPolicies

    return CompiledPolicy(snapshot, CedarPolicies(snapshot.cedar))


class Decider:
    """Decides by the policy that holds, and keeps what it decided for as long as that holds.

    now_ms: the trusted clock. The other two are for `context` in policies.
    """

    def __init__(
        self, now_ms: Callable[[], int], settings: LadderSettings | None = None, *, time_zone: str = "UTC",
        is_offline: Callable[[], bool] = lambda: False, is_clock_trusted: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self._now_ms = now_ms
        self._settings = settings or LadderSettings()
        self._time_zone = ZoneInfo(time_zone) if time_zone != "UTC" else UTC
        self._is_offline = is_offline
        self._is_clock_trusted = is_clock_trusted
        self._policy: CompiledPolicy | None = None
        self._problem = ""
        self._epoch = 0
        self._stage: Stage = "none"
        self._since_ms = self._holds_until_ms = 0
        self._flags = (False, True)
        self._cached: dict[tuple[object, ...], Verdict] = {}
        self._cached_then: dict[tuple[object, ...], Verdict] = {}

    def swap(self, policy: CompiledPolicy | None, problem: str = "") -> None:
        """From the next decision on this one holds, and nothing decided by another.

        problem: why there is none although this hub has one by rights, such as a cache that was tampered with. Nothing
        is allowed then but to bring a new one: by scopes alone everybody who was revoked would be back.
        """
        self._policy, self._problem = policy, problem
        self._cached_then.clear()
        self._holds_until_ms = 0
        self._renew()

    @property
    def epoch(self) -> int:
        """Changes when decisions may have changed, by a new policy or by time."""
        self._renew()
        return self._epoch

    @property
    def version(self) -> int:
        """Of the policy; 0 for none."""
        return self._policy.snapshot.version if self._policy else 0

    @property
    def stage(self) -> Stage:
        self._renew()
        return self._stage

    @property
    def snapshot(self) -> Snapshot | None:
        return self._policy.snapshot if self._policy else None

    def is_revoked(self, name: str) -> bool:
        """name: an address, or `jti:...`, `jkt:...`, `kid:...`, `key:...`, `session:...`."""
        return self._policy is not None and name in self._policy.snapshot.revocations

    def decide(
        self, asker: Asker, action: str, resource: str = "", *, labels: frozenset[str] = _NO_LABELS, about: str = ""
    ) -> Verdict:
        """labels: of the message that it is about, as `name=value`; `kind=alert` makes it an alarm.

        about: what policies look at, where scopes look at something else: of a message, whom it goes to, while its
        scope is about whom it comes from.
        """
        self._renew()
        key = (asker.address, asker.credential, asker.scopes, action, resource, labels, about)
        found = self._cached.get(key)
        if found is None:
            found = self._decided(asker, action, resource, labels, about or resource)
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key] = found
        return found

    def decide_then(
        self, asker: Asker, action: str, resource: str, then: Circumstances, *, about: str = ""
    ) -> Verdict:  # fmt: skip
        """What the policy of now says of something that was done then: by the roles that hold at that time, at that
        time of day. How far it is believed now is not looked at, nor who is revoked: when he was, the caller knows."""
        roles: frozenset[str] = frozenset()
        context = None
        if self._policy is not None:
            roles = self._policy.snapshot.roles_of(asker.address, then.at_ms)
            if self._policy.cedar is not None and self._policy.cedar.reads_context:
                context = self._context(then)
        seen = None if context is None else (*list(context.values())[:-1], then.labels)
        key = (asker.address, asker.scopes, action, resource, about, roles, seen)
        found = self._cached_then.get(key)
        if found is None:
            found = self._by_rights(
                asker, action, resource, about=about or resource, roles=roles, context=context or {}
            )  # fmt: skip
            if len(self._cached_then) >= _MAX_CACHED:
                self._cached_then.clear()
            self._cached_then[key] = found
        return found

    def role_for(self, address: str, action: str, resource: str) -> str:
        """The first role of his that covers it now; empty for none."""
        snapshot = self.snapshot
        if snapshot is None:
            return ""
        roles = sorted(snapshot.roles_of(address, self._now_ms()))
        return next((role for role in roles if any_covers(snapshot.roles[role], action, resource)), "")

    @property
    def words(self) -> frozenset[str]:
        """The texts that its policies compare with, labels among them."""
        return self._policy.cedar.words if self._policy is not None and self._policy.cedar is not None else frozenset()

    def _renew(self) -> None:
        """Drop what was decided when time or circumstances may have changed it."""
        now_ms = self._now_ms()
        flags = self._flags
        if self._policy is not None and self._policy.cedar is not None and self._policy.cedar.reads_context:
            flags = (self._is_offline(), self._is_clock_trusted())
        # Back as well: an administrator may say what time it is after all.
        if self._since_ms <= now_ms < self._holds_until_ms and flags == self._flags:
            return
        self._since_ms, self._flags = now_ms, flags
        self._cached.clear()
        self._epoch += 1
        if self._policy is None:
            self._stage, self._holds_until_ms = "deny" if self._problem else "none", MAX_TIME_MS
            return
        snapshot = self._policy.snapshot
        self._stage, until_ms = rung(snapshot.expires_ms, now_ms, self._settings)
        self._holds_until_ms = min(until_ms, snapshot.next_end_ms(now_ms))
        if self._policy.cedar is not None and self._policy.cedar.reads_context:
            self._holds_until_ms = min(self._holds_until_ms, now_ms - now_ms % _MINUTE_MS + _MINUTE_MS)

    def _decided(self, asker: Asker, action: str, resource: str, labels: frozenset[str], about: str) -> Verdict:
        if (name := self._revoked_name(asker)) is not None:
            reason = self._policy.snapshot.revocations[name].reason if self._policy else ""
            return self._verdict(False, "revoked", f"{name} is revoked" + (f": {reason}" if reason else ""))
        if _brings_policies(asker, action, resource):
            return self._for_policy_admin()
        if not lets_through(self._stage, action, labels, self._settings):
            return self._verdict(False, "stale", self._problem or f"the policy is not renewed; it is {self._stage} now")
        now_ms = self._now_ms()
        roles = frozenset[str]() if self._policy is None else self._policy.snapshot.roles_of(asker.address, now_ms)
        has_conditions = self._policy is not None and self._policy.cedar is not None
        context = self._context(Circumstances(now_ms, *self._flags, labels)) if has_conditions else {}
        return self._by_rights(asker, action, resource, about=about, roles=roles, context=context)

    def _by_rights(
        self, asker: Asker, action: str, resource: str, *, about: str, roles: frozenset[str],
        context: Mapping[str, object],
    ) -> Verdict:  # fmt: skip
        if _brings_policies(asker, action, resource):
            return self._for_policy_admin()
        by_scopes = self._by_scopes(asker, action, resource, roles)
        if not by_scopes.allowed or self._policy is None or self._policy.cedar is None:
            return by_scopes
        return self._by_cedar(self._policy, asker, action, about, roles=roles, context=context) or by_scopes

    def _for_policy_admin(self) -> Verdict:
        """Whatever the policy says or has come to: else one mistake in it would be there for good."""
        return self._verdict(True, "policy_admin", "whoever administers this hub's policy can always bring a newer one")

    def _revoked_name(self, asker: Asker) -> str | None:
        """The first of his names that is revoked; whoever is of a site goes with it."""
        if self._policy is None:
            return None
        site = asker.address.partition("/")[0] if asker.address.startswith("site:") else asker.address
        revocations = self._policy.snapshot.revocations
        return next((name for name in (asker.address, asker.credential, site) if name in revocations), None)

    def _by_scopes(self, asker: Asker, action: str, resource: str, roles: Iterable[str]) -> Verdict:
        if any_covers(asker.scopes, action, resource):
            return self._verdict(True, "scope", "the scopes of the credential cover it")
        by_role = self._policy.snapshot.roles if self._policy else {}
        for role in sorted(roles):
            if any_covers(by_role[role], action, resource):
                return self._verdict(True, "scope", f"the role {role} covers it")
        return self._verdict(
            False, "no_scope", f"no scope covers {action}:{resource}" if resource else f"no scope {action}"
        )

    def _by_cedar(
        self, policy: CompiledPolicy, asker: Asker, action: str, resource: str, *, roles: frozenset[str],
        context: Mapping[str, object],
    ) -> Verdict | None:  # fmt: skip
        """None where no policy speaks of it and none has to: all of them forbid, and none of them this."""
        assert policy.cedar is not None
        groups = policy.snapshot.groups
        found = policy.cedar.decide(
            principal_of(asker.address, groups.get(asker.address, ()), roles), action_of(action),
            resource_of(action, resource, groups.get(resource, ())), context,
        )  # fmt: skip
        match found.effect:
            case "permit":
                return self._verdict(True, "permitted", "a policy permits it", found.policy_ids)
            case "forbid":
                return self._verdict(False, "forbidden", "a policy forbids it", found.policy_ids)
            case "error":
                detail = f"a policy cannot be evaluated: {'; '.join(found.errors)[:300]}"
                return self._verdict(False, "policy_error", detail, found.policy_ids)
            case "none":
                if policy.cedar.has_permits:
                    return self._verdict(False, "not_permitted", "no policy permits it")
                return None

    def _context(self, asked: Circumstances) -> Mapping[str, object]:
        at = datetime.fromtimestamp(asked.at_ms / 1000, self._time_zone)
        return {
            "hour": at.hour, "minute": at.minute, "weekday": at.isoweekday(), "is_offline": asked.is_offline,
            "clock_trusted": asked.is_clock_trusted, "labels": sorted(asked.labels),
        }  # fmt: skip

    def _verdict(self, allowed: bool, reason: Reason, detail: str, policy_ids: tuple[str, ...] = ()) -> Verdict:
        return Verdict(allowed, reason, detail, policy_ids, self.version, self._stage)


def _brings_policies(asker: Asker, action: str, resource: str) -> bool:
    return (action, resource) == ("admin", "policy") and any_covers(asker.scopes, action, resource)
