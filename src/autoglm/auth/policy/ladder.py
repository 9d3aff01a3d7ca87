"""How far a policy is believed that nobody has renewed: fresh, warn, read-only, deny.

A hub that is cut off cannot know whether its policy was changed, and a ward must go on meanwhile. So rights shrink by
steps: first somebody is told, then nothing is changed any more save that alarms go out, then nothing goes at all.
"""

from typing import Literal, NamedTuple, get_args

from autoglm.auth.policy.settings import LadderSettings
from autoglm.auth.policy.snapshot import MAX_TIME_MS

Stage = Literal["none", "fresh", "warn", "read_only", "deny"]
"""none: this hub has no policy snapshots, and scopes decide alone."""
STAGES: tuple[Stage, ...] = get_args(Stage)
ALARM = "kind=alert"
"""The label by which a message is an alarm."""


class Rung(NamedTuple):
    stage: Stage
    until_ms: int
    """From when on the next stage holds."""


def rung(expires_ms: int, now_ms: int, settings: LadderSettings) -> Rung:
    """expires_ms: of the snapshot, which is when the first of its signatures ends."""
    steps: tuple[tuple[Stage, int], ...] = (
        ("fresh", expires_ms + settings.warn_after_s * 1000),
        ("warn", expires_ms + settings.read_only_after_s * 1000),
        ("read_only", expires_ms + settings.deny_after_s * 1000),
    )
    for stage, until_ms in steps:
        if now_ms < until_ms:
            return Rung(stage, until_ms)
    return Rung("deny", MAX_TIME_MS)


def lets_through(stage: Stage, action: str, labels: frozenset[str], settings: LadderSettings) -> bool:
    """Whether the stage leaves the action to those who decide after it."""
    match stage:
        case "none" | "fresh" | "warn":
            return True
        case "read_only":
            return action in settings.read_actions or (action in settings.alarm_actions and ALARM in labels)
        case "deny":
            return False
