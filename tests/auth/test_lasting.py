"""Rights that no request asks for: a key's, a device's, a passing token's, and what a policy says meanwhile."""

from pathlib import Path

import pytest

from auth.policy.authority import Authority, policy_files, revoking
from auth.test_judge import Wall, site
from autoglm.auth.principal import Principal
from autoglm.auth.trust import Trust
from autoglm.core.lasting import LastingRight, RightState

READ = ("read:message", "device:wall")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def state(trust: Trust, right: LastingRight, address: str = "device:wall") -> RightState:
    return trust.lasting.state(right, address, *READ)


async def enrolled(trust: Trust) -> LastingRight:
    code, _ = await trust.devices.invite(
        "wall", ("read:message",), token_ttl_s=60, ends_in_s=60, created_by="user:boss"
    )
    device = await trust.devices.redeem(code, jkt="j" * 43, public_key="p" * 43)
    # As if by a token that ends soon: the device gets another one, so that says nothing.
    shown = Principal(device.address, device.address, device.scopes, credential=f"jkt:{device.jkt}")
    return trust.lasting.of(shown, ends_at_ms=1)


async def test_a_device_s_right_lasts_as_long_as_the_device(tmp_path: Path) -> None:
    async with site(tmp_path) as trust:
        right = await enrolled(trust)
        assert state(trust, right) == "holds"
        await trust.devices.remove("wall")
        assert state(trust, right) == "over"


async def test_a_key_s_right_is_bound_to_its_address_and_its_end(tmp_path: Path) -> None:
    wall = Wall()
    async with site(tmp_path, wall=wall) as trust:
        value = await trust.keys.issue(
            "wall", ("read:message",), ends_at_ms=trust.clock.now_ms() + 1000, created_by="user:boss"
        )
        right = trust.lasting.of(trust.keys.by_key(value.encode()))
        assert (state(trust, right), state(trust, right, "device:other")) == ("holds", "over")
        wall.now_ms += 1000
        assert state(trust, right) == "over"


async def test_who_is_known_by_a_token_alone_has_a_right_until_it_ends(tmp_path: Path) -> None:
    wall = Wall()
    async with site(tmp_path, wall=wall) as trust:
        visitor = Principal("device:wall", "device:wall", ("read:message",), credential="jkt:" + "v" * 43)
        right = trust.lasting.of(visitor, ends_at_ms=trust.clock.now_ms() + 1000)
        assert state(trust, right) == "holds"
        wall.now_ms += 1000
        assert state(trust, right) == "over"
        assert state(trust, LastingRight()) == "holds"  # of before rights were kept


async def test_what_a_policy_forbids_rests_and_what_it_revokes_is_over(tmp_path: Path, authority: Authority) -> None:
    authority.publish(policy_files('forbid(principal == Device::"wall", action, resource);'))
    async with site(tmp_path, authority) as trust:
        right = await enrolled(trust)
        await trust.policy.pull()
        assert state(trust, right) == "rests"
        authority.publish(policy_files())
        await trust.policy.pull()
        assert state(trust, right) == "holds"
        authority.publish(revoking("device:wall"))
        await trust.policy.pull()
        assert state(trust, right) == "over"
