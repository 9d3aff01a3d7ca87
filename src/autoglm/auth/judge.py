"""The judge of a running hub: clock, then policy; what was decided goes to the audit before anything is done."""

from typing import NamedTuple

from autoglm.auth.audit.recorder import Audit, Grounds
from autoglm.auth.clock import ClockSettings, TrustedClock
from autoglm.auth.policy.decider import Decider, Verdict
from autoglm.auth.principal import Labels, Principal
from autoglm.auth.scopes import any_covers, covering
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Forbidden

_EPOCH_S = 0.02


class _Asker(NamedTuple):
    address: str
    credential: str
    scopes: tuple[str, ...]


class HubJudge:
    """Satisfies `principal.Judge`."""

    def __init__(self, decider: Decider, audit: Audit, clock: TrustedClock, settings: ClockSettings) -> None:
        self._decider = decider
        self._audit = audit
        self._clock = clock
        self._withheld = frozenset(settings.withheld_actions)
        self._is_clock_trusted = clock.is_trusted
        self._turns = 0
        self._epoch = 0
        self._epoch_until_s = 0.0

    @property
    def epoch(self) -> int:
        """Time is asked fifty times a second at most: it would be half of what a known key costs (1.7 of 5.4 us)."""
        now_s = monotonic_s()
        if now_s >= self._epoch_until_s:
            self._epoch = self._decider.epoch + self._turns
            self._epoch_until_s = now_s + _EPOCH_S
        return self._epoch

    def renew(self) -> None:
        """A new policy is in force: nothing that was decided before counts from now on."""
        self._epoch_until_s = 0.0

    def look(self) -> None:
        """See whether the clock can still be believed; to be called every second."""
        if self._clock.is_trusted is not self._is_clock_trusted:
            self._is_clock_trusted = not self._is_clock_trusted
            self._turns += 1
            self.renew()
            self._audit.act(
                "clock:trusted" if self._is_clock_trusted else "clock:untrusted", None, kind="clock",
                reason=self._clock.reason,
            )  # fmt: skip

    def allows(
        self, principal: Principal, action: str, resource: str, labels: Labels, about: str = "", *,
        despite_clock: bool = False,
    ) -> bool:  # fmt: skip
        return self._reason(principal, action, resource, labels, about, despite_clock=despite_clock) is None

    def decided(
        self, principal: Principal, action: str, resource: str, labels: Labels, about: str = "", *,
        is_allowed: bool, despite_clock: bool = False,
    ) -> None:  # fmt: skip
        reason = ""
        if not is_allowed:
            reason = self._reason(principal, action, resource, labels, about, despite_clock=despite_clock) or ""
        self._audit.decision(
            principal, action, resource, is_allowed=is_allowed, reason=reason, about=about, labels=labels,
            grounds_of=self._grounds_of,
        )  # fmt: skip

    def _grounds_of(self, principal: Principal, action: str, resource: str) -> Grounds:
        scope = covering(principal.scopes, action, resource)
        return Grounds(scope) if scope else Grounds(role=self._decider.role_for(principal.address, action, resource))

    def refusal(
        self, principal: Principal, action: str, resource: str, labels: Labels, about: str = "", *,
        despite_clock: bool = False,
    ) -> Forbidden:  # fmt: skip
        scope = f"{action}:{resource}" if resource else action
        if not despite_clock and self._is_withheld(principal, action, resource):
            return Forbidden(scope, "clock_untrusted", "the hub's clock cannot be trusted now")
        if _is_beyond_limit(principal, action, resource):
            return Forbidden(scope)
        verdict = self._decide(principal, action, resource, labels, about)
        return Forbidden(scope) if verdict.reason == "no_scope" else Forbidden(scope, verdict.reason, verdict.detail)

    def _reason(
        self, principal: Principal, action: str, resource: str, labels: Labels, about: str, *, despite_clock: bool
    ) -> str | None:  # fmt: skip
        """Why not; None when it is allowed."""
        if not despite_clock and self._is_withheld(principal, action, resource):
            return "clock_untrusted"
        if _is_beyond_limit(principal, action, resource):
            return "no_scope"
        verdict = self._decide(principal, action, resource, labels, about)
        return None if verdict.allowed else verdict.reason

    def _decide(self, principal: Principal, action: str, resource: str, labels: Labels, about: str) -> Verdict:
        asker = _Asker(principal.address, principal.credential, principal.scopes)
        return self._decider.decide(asker, action, resource, labels=labels, about=about)

    def _is_withheld(self, principal: Principal, action: str, resource: str) -> bool:
        """By an untrusted clock: neither scopes nor roles of the policy give it back."""
        if self._is_clock_trusted or action.split(":", 1)[0] not in self._withheld:
            return False
        has_expiry = principal.ends_at_ms is not None or not principal.credential.startswith("key:")
        return not any_covers(self._clock.scopes_for(principal.scopes, has_expiry=has_expiry), action, resource)


def _is_beyond_limit(principal: Principal, action: str, resource: str) -> bool:
    """What another hub's token may do at most: its holder's roles here give no more."""
    return principal.limit is not None and not any_covers(principal.limit, action, resource)
