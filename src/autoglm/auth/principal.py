"""Who sent a request, and what he may do."""

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from autoglm.auth.rate import Rate
from autoglm.auth.scopes import any_covers
from autoglm.auth.settings import TENANT_PATTERN
from autoglm.core.errors import Forbidden, InvalidField
from autoglm.core.payer import Payer
from autoglm.core.preference import PreferenceName

_MAX_CACHED = 4096
_is_tenant = re.compile(TENANT_PATTERN).fullmatch


Labels = frozenset[str]
"""Of the message that a decision is about, as `name=value`; `kind=alert` makes it an alarm."""
NO_LABELS: Labels = frozenset()


def labels_of(kind: str, labels: Mapping[str, str] | None) -> Labels:
    """What policies may look at in a message of that kind; of a plain one nothing."""
    if kind == "chat" and not labels:
        return NO_LABELS
    return frozenset({f"kind={kind}", *(f"{name}={value}" for name, value in (labels or {}).items())})


class Judge(Protocol):
    """Decides, and is told of each decision that somebody acts upon."""

    @property
    def epoch(self) -> int:
        """Changes when decisions may have changed: what was decided in another epoch is decided anew."""
        ...

    def allows(
        self, principal: "Principal", action: str, resource: str, labels: Labels, about: str = "", *,
        despite_clock: bool = False,
    ) -> bool:  # fmt: skip
        """about: what policies look at, where scopes look at something else. despite_clock: see `Principal.require`."""
        ...

    def decided(
        self, principal: "Principal", action: str, resource: str, labels: Labels, about: str = "", *,
        is_allowed: bool, despite_clock: bool = False,
    ) -> None:  # fmt: skip
        """Somebody asked to do it, and was or was not let. Raises StorageFull where that cannot be written down."""
        ...

    def refusal(
        self, principal: "Principal", action: str, resource: str, labels: Labels, about: str = "", *,
        despite_clock: bool = False,
    ) -> Forbidden:  # fmt: skip
        """Why not."""
        ...


class ScopesAlone:
    """A judge that knows scopes only, and keeps no record."""

    epoch = 0

    def allows(
        self, principal: "Principal", action: str, resource: str, labels: Labels, about: str = "", *,
        despite_clock: bool = False,
    ) -> bool:  # fmt: skip
        return any_covers(principal.scopes, action, resource)

    def decided(
        self, principal: "Principal", action: str, resource: str, labels: Labels, about: str = "", *,
        is_allowed: bool, despite_clock: bool = False,
    ) -> None:  # fmt: skip
        """Nobody asks later."""

    def refusal(
        self, principal: "Principal", action: str, resource: str, labels: Labels, about: str = "", *,
        despite_clock: bool = False,
    ) -> Forbidden:  # fmt: skip
        return Forbidden(f"{action}:{resource}" if resource else action)


class Principal:
    """Who sent a request. Questions of rights are answered from a cache after the first time."""

    __slots__ = (
        "_allowed", "_epoch", "_judge", "_rate", "address", "credential", "ends_at_ms", "limit", "name", "payer",
        "prefer", "rate_per_minute", "scopes", "tenant",
    )  # fmt: skip

    def __init__(
        self, name: str, address: str, scopes: Iterable[str], rate_per_minute: int | None = None,
        tenant: str | None = None, *, prefer: PreferenceName | None = None, credential: str = "",
        ends_at_ms: int | None = None, judge: Judge | None = None, rate: Rate | None = None,
        limit: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        """rate: of requests, that it shares with whoever else is the same; one of its own when absent."""
        self.name = name
        self.credential = credential or f"key:{name}"
        """By what it was recognised, as revocations name it: `key:NAME`, `jkt:THUMBPRINT`, `session:ID`."""
        self.tenant = tenant or name
        """On whose account its requests go."""
        self.payer = Payer(name, self.tenant)
        """Whoever posts a message pays for it, whatever address he sends it from."""
        self.prefer = prefer
        """What matters for its requests that do not say; None when the hub's own setting does."""
        self.address = address
        self.scopes = tuple(scopes)
        self.limit = limit
        """Scopes beyond which no role gives it anything either; None for no such limit."""
        self.rate_per_minute = rate_per_minute
        self.ends_at_ms = ends_at_ms
        """From when on the credential counts no more; None for one without an end."""
        self._judge: Judge = judge or ScopesAlone()
        self._epoch = self._judge.epoch
        self._allowed: dict[tuple[str, str], bool] = {}
        self._rate = rate if rate is not None or rate_per_minute is None else Rate(rate_per_minute)

    @property
    def epoch(self) -> int:
        """Changes when what it may do may have changed, for whoever keeps answers of his own."""
        return self._judge.epoch

    def allows(self, action: str, resource: str = "", labels: Labels = NO_LABELS, about: str = "") -> bool:
        """True when `action` (such as `model:use`) on `resource` (such as `glm-4`) is allowed. Notes nothing."""
        if self._epoch != self._judge.epoch:
            self._allowed.clear()
            self._epoch = self._judge.epoch
        if labels or about:  # of many kinds; the judge keeps them
            return self._judge.allows(self, action, resource, labels, about)
        known = self._allowed.get((action, resource))
        if known is None:
            known = self._judge.allows(self, action, resource, labels)
            if len(self._allowed) < _MAX_CACHED:  # names come from outside: bound the memory
                self._allowed[action, resource] = known
        return known

    def require(
        self, action: str, resource: str = "", labels: Labels = NO_LABELS, *, about: str = "",
        despite_clock: bool = False,
    ) -> None:  # fmt: skip
        """The decision on something that is about to be done. Raises Forbidden, naming what is missing.

        despite_clock: for what takes rights away, or brings only what the authority has signed. An untrusted clock
        withholds rights so that none lasts too long; it must not keep anybody from ending one.
        """
        if not despite_clock:
            is_allowed = self.decide(action, resource, labels, about)
        else:  # seldom, so not from the cache
            is_allowed = self._judge.allows(self, action, resource, labels, about, despite_clock=True)
            self._judge.decided(
                self, action, resource, labels, about, is_allowed=is_allowed, despite_clock=True
            )  # fmt: skip
        if not is_allowed:
            raise self._judge.refusal(self, action, resource, labels, about, despite_clock=despite_clock)

    def refusal(self, action: str, resource: str = "") -> Forbidden:
        return self._judge.refusal(self, action, resource, NO_LABELS)

    def decide(self, action: str, resource: str = "", labels: Labels = NO_LABELS, about: str = "") -> bool:
        """As `require`, for whoever says no in words of his own: the decision is written down."""
        is_allowed = self.allows(action, resource, labels, about)
        self._judge.decided(self, action, resource, labels, about, is_allowed=is_allowed)
        return is_allowed

    def decided(self, action: str, resource: str, *, is_allowed: bool) -> None:
        """Write down a decision that took more than one question."""
        self._judge.decided(self, action, resource, NO_LABELS, is_allowed=is_allowed)

    def act_for(self, tenant: bytes) -> str:
        """The tenant that a header names. Raises InvalidField, and Forbidden for one that is not the key's to name."""
        name = tenant.decode("latin-1")
        if _is_tenant(name) is None:
            raise InvalidField("x-autoglm-tenant", "must be a name of letters, digits and ._:@+-, at most 128")
        if name != self.tenant:
            self.require("tenant", name)
        return name

    def take(self) -> None:
        """Count one request against the key's limit. Raises RateLimited."""
        if self._rate is not None:
            self._rate.take()
