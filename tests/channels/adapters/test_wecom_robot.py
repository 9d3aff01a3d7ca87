"""WeCom's group robots against a strict fake."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from autoglm.channels.adapters.wecom_robot import WeComRobot, WeComRobotSettings
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from contracts.channel_contract import ChannelContract, Rig, message, no_blob
from fakes.vendor import HTTP_FAULTS
from fakes.wecom_robot import KEY, WeComRobots

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()


def channel(vendor: WeComRobots, **fields: Any) -> WeComRobot:
    settings = parse_channel(
        {"name": "wecom", "kind": "wecom-robot", "base_url": vendor.url, "robots": {"ops": {"key": KEY}}, **fields}
    )
    assert isinstance(settings, WeComRobotSettings)
    return WeComRobot(settings, Resources("wecom", no_blob))


@pytest.fixture
def vendor() -> Iterator[WeComRobots]:
    with WeComRobots() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: WeComRobots) -> AsyncIterator[Rig]:
    robot = channel(vendor)
    yield Rig(
        robot, target="ops", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(KEY,), limit=2048,
        faults=HTTP_FAULTS,
        form=lambda filler: {"msgtype": "news", "news": {"articles": [{"title": filler}]}},
    )  # fmt: skip
    await robot.aclose()


class TestContract(ChannelContract):
    pass


async def test_a_refusal_with_http_200_is_never_taken_for_a_success(vendor: WeComRobots, rig: Rig) -> None:
    vendor.per_minute = 1
    (first,) = await rig.send(message())
    (second,) = await rig.send(message())
    assert (first.outcome, second.outcome, second.code, second.retry_after_s) == ("accepted", "retry", "45009", 60.0)


async def test_the_check_says_so_while_nothing_more_is_taken(rig: Rig) -> None:
    rig.misbehave("throttled")
    health = await rig.channel.check()
    assert (health.ok, health.code) == (False, "45009")


async def test_a_picture_goes_as_a_picture_with_its_md5(vendor: WeComRobots, rig: Rig) -> None:
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    found = await rig.send(message(parts))
    assert [delivery.outcome for delivery in found] == ["accepted", "accepted"]
    assert [body["msgtype"] for body in vendor.bodies] == ["text", "image"]


async def test_what_goes_no_other_way_is_named_and_no_address_is_cut(vendor: WeComRobots, rig: Rig) -> None:
    url = "https://cam.example/" + "7" * 3_000
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f" * 64, "filename": "plan.pdf"}},
    ]
    assert {delivery.outcome for delivery in await rig.send(message(parts))} == {"accepted"}
    assert url in "".join(vendor.texts).replace("(2/2) ", "")
    assert vendor.texts[-1].endswith("[audio / 音频]\n[file / 文件: plan.pdf]")


@pytest.mark.parametrize("size", [2 * 1024 * 1024, 2 * 1024 * 1024 + 1])
async def test_a_picture_over_the_limit_is_too_large(rig: Rig, size: int) -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    if size > 2 * 1024 * 1024:
        with pytest.raises(Cannot) as caught:
            rig.channel.compose(message(parts), "ops")
        assert caught.value.delivery.failure == "too_large"
    else:
        assert [delivery.outcome for delivery in await rig.send(message(parts))] == ["accepted"]


async def test_wecoms_own_forms_go_as_they_are(vendor: WeComRobots, rig: Rig) -> None:
    card = {"msgtype": "template_card", "template_card": {"card_type": "text_notice"}}
    news = {"msgtype": "news", "news": {"articles": [{"title": "t", "url": "http://x"}]}}
    await rig.send(message([{"type": "json", "json": card}, {"type": "json", "json": news}]))
    assert vendor.bodies == [card, news]


async def test_markdown_has_its_own_limit(vendor: WeComRobots) -> None:
    robot = channel(vendor, format="markdown_v2")
    parcels = robot.compose(message("压" * 1365), "ops")
    assert len(parcels) == 1
    assert (await robot.send(parcels[0], "k")).outcome == "accepted"
    assert len(robot.compose(message("压" * 1366), "ops")) == 2
    await robot.aclose()


@pytest.mark.parametrize(
    "content", ["", " \n", [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]]
)
def test_what_wecom_cannot_show_is_refused(vendor: WeComRobots, content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message(content), "ops")
    assert caught.value.delivery.code == "empty"


async def test_a_text_that_would_block_the_robot_for_minutes_is_refused(vendor: WeComRobots) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message("x" * 10_000_000), "ops")
    assert caught.value.delivery.failure == "too_large"


def test_the_key_is_not_shown(vendor: WeComRobots) -> None:
    robot = channel(vendor)
    assert KEY not in repr(vars(robot))
    assert KEY not in json.dumps(robot._settings.model_dump(mode="json"))
