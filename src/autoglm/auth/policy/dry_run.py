"""What another policy would have said to what was really asked, before it is signed."""

from collections.abc import Iterable

import msgspec

from autoglm.auth.audit.entry import label_digest
from autoglm.auth.policy.decider import Circumstances, CompiledPolicy, Decider, Verdict
from autoglm.auth.policy.past import Gap, PastDecision, Unjudged


class Change(msgspec.Struct, kw_only=True):
    """Equal decisions that would go the other way."""

    past: PastDecision
    """The first of them in the file."""
    verdict: Verdict
    count: int = 0
    first_ms: int
    last_ms: int
    policy_versions: set[int]
    """By which they were decided; 0 for none."""

    def add(self, past: PastDecision) -> None:
        self.count += past.count
        self.first_ms, self.last_ms = min(self.first_ms, past.begins_ms), max(self.last_ms, past.ends_ms)
        self.policy_versions.add(past.policy_version)


class DryRun:
    """Counts are of decisions: a sum in the audit stands for as many as it says."""

    def __init__(self, policy: CompiledPolicy, time_zone: str = "UTC") -> None:
        self._decider = Decider(lambda: 0, time_zone=time_zone)
        self._decider.swap(policy)
        self._by_digest = {label_digest(word): word for word in self._decider.words}
        self._changes: dict[tuple[object, ...], Change] = {}
        self.judged = 0
        self.unjudged: dict[Gap, int] = {}

    @property
    def changes(self) -> list[Change]:
        """The most frequent first."""
        return sorted(self._changes.values(), key=lambda change: (-change.count, change.first_ms))

    def take(self, decisions: Iterable[PastDecision | Unjudged]) -> None:
        """Each is judged under its own circumstances; how old a policy was is not looked at."""
        for past in decisions:
            if isinstance(past, Unjudged):
                self._leave(past.why, past.count)
                continue
            verdict = self._judged(past)
            if not isinstance(verdict, Verdict):
                self._leave(verdict, past.count)
                continue
            self.judged += past.count
            if verdict.allowed is not past.allowed:
                key = (past.address, past.action, past.resource, past.about, past.allowed, verdict)
                if key not in self._changes:
                    self._changes[key] = Change(
                        past=past, verdict=verdict, first_ms=past.begins_ms, last_ms=past.ends_ms, policy_versions=set()
                    )
                self._changes[key].add(past)

    def _leave(self, why: Gap, count: int) -> None:
        self.unjudged[why] = self.unjudged.get(why, 0) + count

    def _judged(self, past: PastDecision) -> Verdict | Gap:
        name = next((name for name in past.names if self._decider.is_revoked(name)), None)
        if name is not None:
            return Verdict(False, "revoked", f"{name} is revoked", (), self._decider.version, self._decider.stage)
        # The ends of a sum, which may lie on both sides of an hour at which a policy turns.
        verdicts = [self._judged_at(past, at_ms) for at_ms in dict.fromkeys((past.begins_ms, past.ends_ms))]
        first = verdicts[0]
        if isinstance(first, str):
            return first
        return first if all(not isinstance(v, str) and v.allowed is first.allowed for v in verdicts) else "time_unsure"

    def _judged_at(self, past: PastDecision, at_ms: int) -> Verdict | Gap:
        labels = frozenset(self._by_digest.get(label, label) for label in past.labels)
        then = Circumstances(at_ms, past.is_offline, past.is_clock_trusted, labels)
        verdict = self._decider.decide_then(past, past.action, past.resource, then, about=past.about)
        if past.knows_scopes:
            is_unsure = verdict.allowed and not past.allowed and past.may_be_limited
            return "no_scope_recorded" if is_unsure else verdict
        # Whatever he had, it was no more than what he asked for, and no less than nothing.
        scope = f"{past.action}:{past.resource}" if past.resource else past.action
        most = msgspec.structs.replace(past, scopes=(scope,))
        at_most = self._decider.decide_then(most, past.action, past.resource, then, about=past.about)
        return verdict if verdict.allowed is at_most.allowed else "no_scope_recorded"
