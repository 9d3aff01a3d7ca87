"""How rights shrink while nobody renews the policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.policy.authority import DAY_MS
from autoglm.auth.policy.ladder import STAGES, Stage, lets_through, rung
from autoglm.auth.policy.settings import LadderSettings, PolicySettings

SETTINGS = LadderSettings(warn_after_s=0, read_only_after_s=86_400, deny_after_s=2 * 86_400)
ACTIONS = ("read:message", "send:message", "publish:topic", "model:use", "admin", "tenant", "read:audit", "unheard")


@pytest.mark.parametrize(
    ("late_ms", "stage"),
    [(-1, "fresh"), (0, "warn"), (DAY_MS - 1, "warn"), (DAY_MS, "read_only"), (2 * DAY_MS - 1, "read_only"),
     (2 * DAY_MS, "deny"), (10_000 * DAY_MS, "deny")],
)  # fmt: skip
def test_each_stage_begins_in_its_time(late_ms: int, stage: Stage) -> None:
    found = rung(10**12, 10**12 + late_ms, SETTINGS)
    assert found.stage == stage
    assert found.stage == "deny" or rung(10**12, found.until_ms, SETTINGS).stage != stage


def through(stage: Stage, labels: frozenset[str] = frozenset()) -> set[str]:
    return {action for action in ACTIONS if lets_through(stage, action, labels, SETTINGS)}


def test_while_it_is_read_only_alarms_still_go_out() -> None:
    reading = {"read:message", "model:use", "read:audit"}
    assert through("read_only") == through("read_only", frozenset({"kind=task"})) == reading
    assert through("read_only", frozenset({"kind=alert"})) == reading | {"send:message", "publish:topic"}
    assert through("deny", frozenset({"kind=alert"})) == set()
    assert through("warn") == through("fresh") == through("none") == set(ACTIONS)


@given(st.integers(0, 2 * 10**12), st.integers(0, 10**12), st.sampled_from(ACTIONS), st.booleans())
def test_time_never_gives_anything_back(now_ms: int, later_ms: int, action: str, is_alarm: bool) -> None:
    labels = frozenset({"kind=alert"} if is_alarm else ())
    before, after = rung(10**12, now_ms, SETTINGS).stage, rung(10**12, now_ms + later_ms, SETTINGS).stage
    assert STAGES.index(after) >= STAGES.index(before)
    assert lets_through(before, action, labels, SETTINGS) >= lets_through(after, action, labels, SETTINGS)


def test_the_steps_are_in_order() -> None:
    with pytest.raises(ValueError, match="must grow in this order"):
        LadderSettings(read_only_after_s=10, deny_after_s=9)
    with pytest.raises(ValueError, match="is no time zone"):
        PolicySettings(time_zone="Mars/Olympus")
    assert PolicySettings(time_zone="Asia/Shanghai").warn_after_s == 0
