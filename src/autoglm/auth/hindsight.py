"""What is said of an operation of the time when the site was cut off, by what is known now.

Who, on what, and under which circumstances is what its entry says; rights are those of now. What decides:

1. Revocations: what came after the moment of one is a conflict, what came before it is judged on like all else.
2. Rights. Of a credential that is still here, its scopes; of one that is not (a key that was removed, a session that is
   over, a device of another site), the scope by which it was allowed: taking it away was an act of this hub, which held
   from then on. Roles are the policy's, as they hold at the time of the operation. What the hub lets everybody do with
   what is his own needs neither.
3. Policies, at the time of day of the operation, with its labels, and with whom it was about.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from autoglm.auth.audit.entry import label_digest
from autoglm.auth.audit.rejudge import Conflict, Operation, judge_revocation
from autoglm.auth.policy.decider import Circumstances, Decider, Verdict
from autoglm.auth.revocations import Revocations
from autoglm.auth.scopes import ACTIONS

ScopesOf = Callable[[Operation], tuple[str, ...] | None]
"""What the credential of then may do now; None for one that is not here any more, or never was."""


class _Asker(NamedTuple):
    address: str
    credential: str
    scopes: tuple[str, ...]


class Hindsight:
    """A `rejudge.Judge`."""

    def __init__(
        self, decider: Decider, revocations: Revocations, scopes_of: ScopesOf, *, read_actions: tuple[str, ...] = ()
    ) -> None:
        """read_actions: what changes nothing, so that no matter how old the policy was by which it was allowed."""
        self._decider = decider
        self._revocations = revocations
        self._scopes_of = scopes_of
        self._reads = frozenset(read_actions)
        self._words: frozenset[str] = frozenset()
        self._by_digest: dict[str, str] = {}

    def __call__(self, operation: Operation) -> Conflict | None:
        found = self._of_revocations(operation)
        if found is not None:
            return found
        if operation.action not in ACTIONS:
            return None  # an act's own decision is an operation, too, and is judged as that
        if not (operation.scope or operation.role):
            return None
        return self._of_rights(operation)

    def _of_revocations(self, operation: Operation) -> Conflict | None:
        snapshot = self._decider.snapshot
        for name in _names(operation):
            central = None if snapshot is None else snapshot.revocations.get(name)
            local = self._revocations.of((name,))
            moments = [revocation.at_ms for revocation in (central, local) if revocation is not None]
            if moments and (conflict := judge_revocation(operation, min(moments), name)) is not None:
                return conflict
        return None

    def _of_rights(self, operation: Operation) -> Conflict | None:
        scopes = self._scopes_of(operation)
        if scopes is None:
            scopes = (operation.scope,) if operation.scope else ()
        asker, labels = _Asker(operation.address, operation.credential, scopes), self._labels_of(operation)
        # The ends of a sum, which may lie on both sides of an hour at which a policy turns.
        verdicts = [
            self._decider.decide_then(
                asker, operation.action, operation.resource,
                Circumstances(at_ms, operation.is_offline, operation.is_clock_trusted, labels), about=operation.about,
            )
            for at_ms in dict.fromkeys((operation.begins_ms, operation.ends_ms))
        ]  # fmt: skip
        refusals = [verdict for verdict in verdicts if not verdict.allowed]
        if not refusals:
            return self._of_version(operation, verdicts[0])
        if len(refusals) < len(verdicts):
            return Conflict("time_unsure", f"{refusals[0].detail}, for some of the {operation.count} equal ones")
        return Conflict("scope_lost" if refusals[0].reason == "no_scope" else "policy_denies", refusals[0].detail)

    def _of_version(self, operation: Operation, verdict: Verdict) -> Conflict | None:
        """Of what is allowed now as well: was it allowed by a policy that had been replaced by then?"""
        snapshot = self._decider.snapshot
        if snapshot is None or not snapshot.published_ms or verdict.reason == "policy_admin":
            return None
        is_older = 0 < operation.policy_version < snapshot.version
        if not (is_older and operation.is_offline and operation.is_clock_trusted) or operation.action in self._reads:
            return None
        if operation.ends_ms < snapshot.published_ms:
            return None
        published = datetime.fromtimestamp(snapshot.published_ms / 1000, UTC).isoformat(timespec="seconds")[:19]
        went_by = f"from here on by policy {operation.policy_version}"
        return Conflict("stale_version", f"{went_by}, though {snapshot.version} was out since {published} UTC")

    def _labels_of(self, operation: Operation) -> frozenset[str]:
        """Those that policies ask for by their name; of the others, that there are some."""
        if not operation.labels:
            return operation.labels
        if self._decider.words is not self._words:
            self._words = self._decider.words
            self._by_digest = {label_digest(word): word for word in self._words}
        return frozenset(self._by_digest.get(digest, f"#{digest}") for digest in operation.labels)


def _names(operation: Operation) -> tuple[str, ...]:
    """All by which whoever did it could be revoked: whoever is of a site goes with it."""
    names = (operation.address, operation.credential, *operation.token)
    if operation.address.startswith("site:"):
        return (*names, operation.address.partition("/")[0])
    return names
