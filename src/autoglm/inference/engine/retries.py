"""Notices when somebody asks the same again soon: the answer was not what they wanted."""

import hashlib
from collections import OrderedDict

import msgspec

from autoglm.inference.decision import Arm, Decision, Outcome
from autoglm.inference.engine.account import arm_of
from autoglm.inference.features import Features

SOON_S = 60.0
"""Who asks the same later may just want it again."""
_MAX_REMEMBERED = 10_000


class Judgeable(msgspec.Struct, frozen=True):
    """What of a decision a judgement needs: the whole would take some kilobytes."""

    id: str
    features: Features
    arm: Arm


def judgeable(decision: Decision, outcome: Outcome) -> Judgeable:
    return Judgeable(decision.id, decision.features, arm_of(decision, outcome))


class _Messages(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Messages).decode


def digest_of(tenant: str, body: bytes) -> bytes:
    """Names what a tenant asks, whatever the parameters. The words themselves are not kept."""
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    name = hashlib.blake2b(tenant.encode(), digest_size=16)
    for part in (asked.messages, asked.prompt, asked.input):
        name.update(b"\0")
        name.update(part)
    return name.digest()


class Retries:
    """The last answers, by what was asked; the oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self._answered: OrderedDict[bytes, tuple[Judgeable, float]] = OrderedDict()
        self._repeated: OrderedDict[bytes, None] = OrderedDict()
        """What was asked more than once."""

    def answered(self, digest: bytes, answer: Judgeable, now_s: float) -> None:
        """now_s: monotonic."""
        self._answered[digest] = answer, now_s
        self._answered.move_to_end(digest)
        if len(self._answered) > _MAX_REMEMBERED:
            self._answered.popitem(last=False)

    def asked(self, digest: bytes, now_s: float) -> Judgeable | None:
        """The decision whose answer this asks for again; None when it is no retry.

        Who goes on asking the same is a program that wants just that: only the first repeat says something.
        """
        before = self._answered.get(digest)
        if before is None or now_s - before[1] > SOON_S or digest in self._repeated:
            return None
        self._repeated[digest] = None
        if len(self._repeated) > _MAX_REMEMBERED:
            self._repeated.popitem(last=False)
        return before[0]
