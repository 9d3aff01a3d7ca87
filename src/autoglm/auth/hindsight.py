"""What is said of an operation of the time when the site was cut off, by what is known now."""

from collections.abc import Callable
from typing import NamedTuple

from autoglm.auth.audit.rejudge import Conflict, Operation, judge_revocation
from autoglm.auth.policy.decider import Decider
from autoglm.auth.revocations import Revocations
from autoglm.auth.scopes import ACTIONS

ScopesOf = Callable[[Operation], tuple[str, ...] | None]
"""What the credential of then may do now; None for one that nobody knows any more."""


class _Asker(NamedTuple):
    address: str
    credential: str
    scopes: tuple[str, ...]


class Hindsight:
    """A `rejudge.Judge`."""

    def __init__(self, decider: Decider, revocations: Revocations, scopes_of: ScopesOf) -> None:
        self._decider = decider
        self._revocations = revocations
        self._scopes_of = scopes_of

    def __call__(self, operation: Operation) -> Conflict | None:
        names = operation.address, operation.credential
        found = self._of_revocations(operation, names)
        if found is not None:
            return found
        if operation.action not in ACTIONS:
            return None  # an act's own decision is an operation, too, and is judged as that
        if any(self._decider.is_revoked(name) for name in names):
            return None  # it was done before that
        scopes = self._scopes_of(operation)
        if scopes is None:
            return None  # what it was is gone, and was there then
        asker = _Asker(operation.address, operation.credential, scopes)
        verdict = self._decider.decide(asker, operation.action, operation.resource)
        if verdict.allowed or verdict.reason == "stale":
            return None
        return Conflict("scope_lost" if verdict.reason == "no_scope" else "policy_denies", verdict.detail)

    def _of_revocations(self, operation: Operation, names: tuple[str, ...]) -> Conflict | None:
        snapshot = self._decider.snapshot
        for name in names:
            central = None if snapshot is None else snapshot.revocations.get(name)
            local = self._revocations.of((name,))
            moments = [revocation.at_ms for revocation in (central, local) if revocation is not None]
            if moments and (conflict := judge_revocation(operation, min(moments), name)) is not None:
                return conflict
        return None
