"""DingTalk's group robots against a strict fake."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.dingtalk.robot import DingTalkRobot, DingTalkRobotSettings, message_bodies, sign
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from autoglm.channels.wording import MOST_PIECES, json_bytes
from contracts.channel_contract import ChannelContract, Rig, message, no_blob
from fakes.dingtalk_robot import BODY_BYTES, SECRET, TOKEN, DingTalkRobots
from fakes.vendor import HTTP_FAULTS


def channel(vendor: DingTalkRobots, *, robot: dict[str, str] | None = None, **fields: Any) -> DingTalkRobot:
    ops = {"access_token": TOKEN, "secret": SECRET, **(robot or {})}
    settings = parse_channel(
        {"name": "ding", "kind": "dingtalk-robot", "base_url": vendor.url, "robots": {"ops": ops}, **fields}
    )
    assert isinstance(settings, DingTalkRobotSettings)
    return DingTalkRobot(settings, Resources("ding", no_blob))


def rig_of(vendor: DingTalkRobots, robot: DingTalkRobot) -> Rig:
    return Rig(
        robot, target="ops", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(TOKEN, SECRET), limit=18_000, measure=json_bytes,
        faults=HTTP_FAULTS,
        form=lambda filler: {"msgtype": "text", "text": {"content": filler}},
    )  # fmt: skip


@pytest.fixture
def vendor() -> Iterator[DingTalkRobots]:
    with DingTalkRobots() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: DingTalkRobots) -> AsyncIterator[Rig]:
    robot = channel(vendor)
    yield rig_of(vendor, robot)
    await robot.aclose()


class TestContract(ChannelContract):
    pass


def test_the_signature_is_the_one_of_the_vendors_recipe() -> None:
    """Key and text as on DingTalk's page; the digest by `openssl dgst -sha256 -hmac SECRET -binary | base64`."""
    assert sign(1_577_262_236_757, "this is secret") == "hmPWwU+7lVdm3ZZz0r9tSfx0L4Q26jWOZr9+Gs6EZQM="


async def test_a_21st_message_in_a_minute_rests_for_the_block_of_ten(vendor: DingTalkRobots, rig: Rig) -> None:
    vendor.per_minute = 1
    (first,) = await rig.send(message())
    (second,) = await rig.send(message())
    assert (first.outcome, second.outcome, second.code) == ("accepted", "retry", "130101")
    assert (second.failure, second.retry_after_s) == ("throttled", 600.0)
    assert rig.channel.limits("ops").windows == ((20, 60.0),)


@pytest.mark.parametrize(("ahead_s", "side"), [(7200.0, "behind"), (-9000.0, "ahead")])
async def test_a_clock_that_is_hours_off_is_named_with_how_far(
    vendor: DingTalkRobots, rig: Rig, ahead_s: float, side: str
) -> None:
    vendor.clock_ahead_s = ahead_s
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "310000")
    hours = "2 h 0 min" if side == "behind" else "2 h 30 min"
    assert found.reason.en == f"this machine's clock is off by {hours} ({side}); set it right"
    assert found.reason.zh.startswith("本机时钟慢了" if side == "behind" else "本机时钟快了")
    assert (await rig.channel.check()).reason == found.reason


async def test_a_clock_that_is_less_than_an_hour_off_does_no_harm(vendor: DingTalkRobots, rig: Rig) -> None:
    vendor.clock_ahead_s = -3500.0
    assert [found.outcome for found in await rig.send(message())] == ["accepted"]


async def test_a_wrong_secret_names_the_secret_and_the_clock(vendor: DingTalkRobots, rig: Rig) -> None:
    vendor.secret = "SECanother"
    (found,) = await rig.send(message())
    assert (found.failure, found.code) == ("auth", "310000")
    assert "secret" in found.reason.en
    assert "clock" in found.reason.en


async def test_an_unsigned_robot_needs_no_secret(vendor: DingTalkRobots) -> None:
    vendor.secret = None
    settings = {"name": "d", "kind": "dingtalk-robot", "base_url": vendor.url}
    parsed = parse_channel({**settings, "robots": {"ops": {"access_token": TOKEN}}})
    assert isinstance(parsed, DingTalkRobotSettings)
    robot = DingTalkRobot(parsed, Resources("d", no_blob))
    assert [found.outcome for found in await rig_of(vendor, robot).send(message())] == ["accepted"]
    assert "sign=" not in vendor.requests[0].path
    await robot.aclose()


async def test_an_address_off_the_list_waits_for_an_operator(vendor: DingTalkRobots, rig: Rig) -> None:
    vendor.is_address_allowed = False
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure) == ("retry", "auth")
    assert "address" in found.reason.en


async def test_a_missing_keyword_is_final_and_the_setting_puts_it_there(vendor: DingTalkRobots, rig: Rig) -> None:
    vendor.keyword = "产线"
    (found,) = await rig.send(message())
    assert (found.outcome, found.code) == ("permanent", "310000")
    assert "keyword" in found.reason.en
    keyed = channel(vendor, robot={"keyword": "产线"})
    found_too = await rig_of(vendor, keyed).send(message("压" * 9_000))
    assert [one.outcome for one in found_too] == ["accepted", "accepted"]
    assert (await keyed.check()).ok
    await keyed.aclose()


async def test_markdown_has_a_title_and_calls_those_whom_the_label_names(vendor: DingTalkRobots) -> None:
    robot = channel(vendor, format="markdown")
    labels = {"at": "13800138000, manager7,all"}
    found = await rig_of(vendor, robot).send(message("## Press 7\n\nis *down*.", labels=labels))
    assert [one.outcome for one in found] == ["accepted"]
    (body,) = vendor.bodies
    text = "## Press 7\n\nis *down*.\n\n@13800138000 @manager7"
    assert body["markdown"] == {"title": "Press 7", "text": text}
    assert body["at"] == {"atMobiles": ["13800138000"], "atUserIds": ["manager7"], "isAtAll": True}
    await robot.aclose()


async def test_only_the_first_piece_calls_people(vendor: DingTalkRobots, rig: Rig) -> None:
    await rig.send(message("压" * 9_000, labels={"at": "all"}))
    assert [body.get("at") for body in vendor.bodies] == [{"isAtAll": True}, None]


async def test_dingtalks_own_forms_go_as_they_are(vendor: DingTalkRobots, rig: Rig) -> None:
    link = {"msgtype": "link", "link": {"title": "t", "text": "x", "messageUrl": "http://x"}}
    card = {"msgtype": "actionCard", "actionCard": {"title": "t", "text": "x", "singleTitle": "go", "singleURL": "h"}}
    await rig.send(message([{"type": "json", "json": link}, {"type": "json", "json": card}]))
    assert vendor.bodies == [link, card]


@pytest.mark.parametrize("spare", [0, 1])
def test_an_own_form_over_the_limit_is_too_large(vendor: DingTalkRobots, spare: int) -> None:
    empty = {"msgtype": "text", "text": {"content": ""}}
    room = BODY_BYTES - len(json.dumps(empty))
    form = {"msgtype": "text", "text": {"content": "x" * (room + spare)}}
    parts = [{"type": "json", "json": form}]
    if spare:
        with pytest.raises(Cannot) as caught:
            channel(vendor).compose(message(parts), "ops")
        assert caught.value.delivery.failure == "too_large"
    else:
        assert len(channel(vendor).compose(message(parts), "ops")) == 1


@given(
    text=st.text(min_size=1, max_size=30).filter(lambda text: text.strip()),
    times=st.integers(1, 1_500),
    at=st.text(max_size=1_024),
    keyword=st.text(max_size=64),
    form=st.sampled_from(["text", "markdown"]),
)
def test_no_piece_is_over_the_vendors_limit(text: str, times: int, at: str, keyword: str, form: Any) -> None:
    """Whatever is in it: control characters, which JSON writes in six bytes, lone surrogates, emoji."""
    bodies = message_bodies(message(text * times, labels={"at": at}), form, keyword)
    assert len(bodies) <= MOST_PIECES
    assert all(len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")) <= BODY_BYTES for body in bodies)


@pytest.mark.parametrize("content", ["", " \n", [{"type": "json", "json": {"temperature": 21}}]])
def test_what_dingtalk_cannot_show_is_refused(vendor: DingTalkRobots, content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message(content), "ops")
    assert caught.value.delivery.code == "empty"


def test_what_is_no_text_leaves_a_mark(vendor: DingTalkRobots) -> None:
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "https://example.com/press.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"file_id": "ab" * 32, "filename": "log.txt"}},
    ]
    (parcel,) = channel(vendor).compose(message(parts), "ops")
    text = "See:\nhttps://example.com/press.png\n[picture / 图片]\n[file / 文件: log.txt]"
    assert parcel.body == {"msgtype": "text", "text": {"content": text}}


async def test_a_text_that_would_block_the_robot_for_minutes_is_refused(vendor: DingTalkRobots) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message("x" * 10_000_000), "ops")
    assert caught.value.delivery.failure == "too_large"


async def test_an_unknown_code_is_told_and_final(vendor: DingTalkRobots, rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr(vendor, "take", lambda request: vendor.error(999_999, f"never seen {TOKEN}"))
    (found,) = await rig.send(message())
    assert (found.outcome, found.code) == ("permanent", "999999")
    assert "999999" in found.reason.en


def test_no_secret_is_shown(vendor: DingTalkRobots) -> None:
    robot = channel(vendor)
    shown = repr(vars(robot)) + json.dumps(robot._settings.model_dump(mode="json"))
    assert TOKEN not in shown
    assert SECRET not in shown
