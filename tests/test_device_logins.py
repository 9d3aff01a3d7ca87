"""The topics of a device at the hub's own broker, as the judge of a hub has them at each moment."""

from pathlib import Path

import pytest

from auth.policy.authority import Authority, policy_files
from auth.test_judge import DAY_MS, HOUR_MS, Wall, site, written
from autoglm.auth.principal import Principal
from autoglm.auth.trust import Trust
from autoglm.channels.broker.gate import Grants
from autoglm.channels.broker.gate.codec import Violation
from autoglm.core.errors import StorageFull
from autoglm.core.ports import JournalFilter
from autoglm.device_logins import JudgedTopics

MINE = "plant/7/alarm"
SCOPES = ("publish:topic:plant/7/*", "subscribe:topic:plant/7/*")


def topics(trust: Trust) -> JudgedTopics:
    principal = Principal("device:p", "device:p", SCOPES, credential="jkt:p", judge=trust.judge)
    return JudgedTopics(principal, lambda: Grants(["plant/7/+/#"], ["plant/7/+/#"]), "10.0.0.7")


def rights(found: JudgedTopics) -> tuple[bool, bool, bool]:
    return found.may_publish(MINE), found.may_read(MINE), found.may_subscribe("$share/g/plant/7/+")


@pytest.mark.attack("freeze")
async def test_a_policy_that_nobody_renews_takes_writing_then_reading(tmp_path: Path) -> None:
    wall, authority = Wall(), Authority(tmp_path / "authority")
    authority.publish(policy_files())
    async with site(tmp_path, authority, wall=wall, read_only_after_s=3600, deny_after_s=7200) as trust:
        await trust.policy.pull()
        found = topics(trust)
        assert rights(found) == (True, True, True)
        for days, hours, wanted in ((1, 1, (False, True, True)), (0, 1, (False, False, False))):
            wall.now_ms += days * DAY_MS + hours * HOUR_MS
            trust.judge.renew()
            assert rights(found) == wanted
        await trust.audit.written()
        reasons = [row.body for row in await trust.journal.find(JournalFilter(outcomes=("denied",)))]
        assert all(b'"stale"' in body for body in reasons)
        assert reasons


async def test_an_untrusted_clock_withholds_what_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()
    async with site(tmp_path, wall=wall) as trust:
        trust.judge._withheld = frozenset({"publish"})
        trust.clock._settings = trust.clock._settings.model_copy(update={"withheld_actions": ("publish",)})
        found = topics(trust)
        assert rights(found) == (True, True, True)
        wall.now_ms -= DAY_MS
        trust.clock.now_ms()
        trust.judge.look()
        assert not trust.clock.is_trusted
        assert rights(found) == (False, True, True)


@pytest.mark.attack("a flood of refusals in the audit")
async def test_who_tries_many_topics_fills_no_audit(tmp_path: Path) -> None:
    async with site(tmp_path) as trust:
        found = topics(trust)
        assert not any(found.may_publish(f"plant/8/{number}") for number in range(1000))
        assert len(await written(trust)) == 100
        assert found.may_publish(MINE)


async def test_what_cannot_be_written_down_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of MQTT 3.1.1 cannot be refused: dropped and confirmed, it would be lost by a full disk."""

    def full(*_: object, **__: object) -> None:
        raise StorageFull("hub.db")

    async with site(tmp_path) as trust:
        monkeypatch.setattr(trust.audit, "decision", full)
        with pytest.raises(Violation):
            topics(trust).may_publish(MINE)


async def test_a_pattern_that_ends_within_a_level_grants_nothing_and_says_so(tmp_path: Path) -> None:
    """To the judge the scope would cover it, to the gate no filter does; the audit has what happened."""
    async with site(tmp_path) as trust:
        principal = Principal("device:p", "device:p", ("publish:topic:plant/7*",), judge=trust.judge)
        assert not JudgedTopics(principal, lambda: Grants([], []), "").may_publish("plant/77")
        assert await written(trust) == [("publish:topic", "denied")]
