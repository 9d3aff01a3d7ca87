"""Tests of a policy, in sentences that people can check: `user:alice may not send:message to group:all`."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from autoglm.auth.policy.decider import CompiledPolicy, Decider, Verdict
from autoglm.auth.policy.ladder import ALARM
from autoglm.auth.policy.settings import LadderSettings
from autoglm.auth.policy.snapshot import MAX_TIME_MS
from autoglm.auth.scopes import flaw
from autoglm.core.errors import PolicyRefused

TESTS = "tests.toml"
_is_sentence = re.compile(r"(\S+) may( not)? ([a-z]+(?::[a-z]+)?)(?:(?: to| on| of)? (\S+))?").fullmatch
_HOUR_MS = 3_600_000


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    says: str
    scopes: tuple[str, ...] = ()
    credential: str = ""
    labels: tuple[str, ...] = ()
    alarm: bool = False
    at: str = "2026-01-05T12:00"
    offline: bool = False
    clock_trusted: bool = True
    hours_after_its_end: float | None = None


@dataclass(frozen=True)
class Sentence:
    """Who, what, and what is expected. His scopes are those that are given here, beside those of his roles."""

    text: str
    address: str
    action: str
    resource: str
    expected: bool
    given: _Line

    @property
    def scopes(self) -> tuple[str, ...]:
        return self.given.scopes

    @property
    def credential(self) -> str:
        return self.given.credential


@dataclass(frozen=True)
class Outcome:
    sentence: Sentence
    verdict: Verdict

    @property
    def holds(self) -> bool:
        return self.verdict.allowed is self.sentence.expected


def parse_sentences(text: str) -> list[Sentence]:
    """`[[test]]` tables of TOML. Raises PolicyRefused."""
    try:
        tree: Any = tomllib.loads(text)
        lines = msgspec.convert(tree.pop("test", []), list[_Line])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PolicyRefused(TESTS, str(error)) from error
    if tree:
        raise PolicyRefused(TESTS, f"it has tables of [[test]] only, no {', '.join(tree)}")
    return [_sentence(line) for line in lines]


def outcomes(
    sentences: Sequence[Sentence], policy: CompiledPolicy, *, time_zone: str = "UTC",
    settings: LadderSettings | None = None,
) -> list[Outcome]:  # fmt: skip
    """What the policy says to each. It is fresh for those that do not say how long after its end they are."""
    return [Outcome(sentence, _verdict(sentence, policy, time_zone, settings)) for sentence in sentences]


def _sentence(line: _Line) -> Sentence:
    match = _is_sentence(line.says)
    if match is None:
        raise PolicyRefused(
            TESTS, f"{line.says[:120]!r} is no sentence such as 'user:alice may not send:message group:all'"
        )
    if (wrong := flaw(line.scopes)) is not None:
        raise PolicyRefused(TESTS, f"{line.says!r}: {wrong}")
    try:
        datetime.fromisoformat(line.at)
    except ValueError as error:
        raise PolicyRefused(TESTS, f"{line.at!r} is no time such as 2026-01-05T23:30") from error
    return Sentence(line.says, match[1], match[3], match[4] or "", match[2] is None, line)


def _verdict(sentence: Sentence, policy: CompiledPolicy, time_zone: str, settings: LadderSettings | None) -> Verdict:
    given = sentence.given
    at_ms = int(datetime.fromisoformat(given.at).replace(tzinfo=ZoneInfo(time_zone)).timestamp() * 1000)
    late_ms = None if given.hours_after_its_end is None else int(given.hours_after_its_end * _HOUR_MS)
    snapshot = msgspec.structs.replace(policy.snapshot, expires_ms=MAX_TIME_MS if late_ms is None else at_ms - late_ms)
    decider = Decider(
        lambda: at_ms, settings, time_zone=time_zone, is_offline=lambda: given.offline,
        is_clock_trusted=lambda: given.clock_trusted,
    )  # fmt: skip
    decider.swap(CompiledPolicy(snapshot, policy.cedar))
    labels = frozenset((*given.labels, ALARM) if given.alarm else given.labels)
    return decider.decide(sentence, sentence.action, sentence.resource, labels=labels)
