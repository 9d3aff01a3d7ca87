"""What another policy would have said to what was really asked, before it is signed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from autoglm.auth.policy.decider import CompiledPolicy, Decider, Verdict
from autoglm.auth.policy.snapshot import MAX_TIME_MS
from autoglm.core.errors import PolicyRefused

_MAX_LINE_BYTES = 64 << 10


class PastDecision(Protocol):
    """What the audit keeps of a decision."""

    @property
    def address(self) -> str: ...
    @property
    def credential(self) -> str: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...
    @property
    def action(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def labels(self) -> frozenset[str]: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def allowed(self) -> bool: ...


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of JSON of an export; what else stands in it is left out."""

    address: str
    action: str
    allowed: bool
    at_ms: int
    resource: str = ""
    credential: str = ""
    scopes: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Change:
    past: PastDecision
    verdict: Verdict


def changes(past: Iterable[PastDecision], policy: CompiledPolicy, time_zone: str = "UTC") -> Iterator[Change]:
    """Those that would go the other way. Each is judged at its own time of day; staleness is not looked at."""
    at_ms = 0
    fresh = msgspec.structs.replace(policy.snapshot, expires_ms=MAX_TIME_MS)
    decider = Decider(lambda: at_ms, time_zone=time_zone)
    decider.swap(CompiledPolicy(fresh, policy.cedar))
    for decision in past:
        at_ms = decision.at_ms
        verdict = decider.decide(decision, decision.action, decision.resource, labels=decision.labels)
        if verdict.allowed is not decision.allowed:
            yield Change(decision, verdict)


def read_decisions(file: Path) -> Iterator[DecisionLine]:
    """One JSON object a line. Raises PolicyRefused, naming the line."""
    decode = msgspec.json.Decoder(DecisionLine).decode
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                if line.strip():
                    yield decode(line)
    except OSError as error:
        raise PolicyRefused(str(file), f"it cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PolicyRefused(f"{file}, line {number}", str(error)) from error
