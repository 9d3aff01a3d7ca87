"""Feishu's custom bots against a strict fake."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.feishu.robot import FeishuRobot, FeishuRobotSettings, message_bodies, sign
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from autoglm.channels.wording import json_bytes
from contracts.channel_contract import ChannelContract, Rig, message, no_blob
from fakes.feishu_robot import BODY_BYTES, SECRET, TOKEN, FeishuRobots
from fakes.vendor import HTTP_FAULTS


def channel(vendor: FeishuRobots, *, robot: dict[str, str] | None = None, **fields: Any) -> FeishuRobot:
    ops = {"token": TOKEN, "secret": SECRET, **(robot or {})}
    settings = parse_channel(
        {"name": "feishu", "kind": "feishu-robot", "base_url": vendor.url, "robots": {"ops": ops}, **fields}
    )
    assert isinstance(settings, FeishuRobotSettings)
    return FeishuRobot(settings, Resources("feishu", no_blob))


def rig_of(vendor: FeishuRobots, robot: FeishuRobot) -> Rig:
    return Rig(
        robot, target="ops", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(TOKEN, SECRET), limit=18_000, measure=json_bytes,
        faults=HTTP_FAULTS,
        form=lambda filler: {"msg_type": "text", "content": {"text": filler}},
    )  # fmt: skip


@pytest.fixture
def vendor() -> Iterator[FeishuRobots]:
    with FeishuRobots() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: FeishuRobots) -> AsyncIterator[Rig]:
    robot = channel(vendor)
    yield rig_of(vendor, robot)
    await robot.aclose()


class TestContract(ChannelContract):
    pass


def test_time_and_secret_are_the_key_of_the_signature_and_its_message_is_empty() -> None:
    """By `printf '' | openssl dgst -sha256 -mac HMAC -macopt "key:$(printf '1599360473\\ndemo')" -binary | base64`."""
    assert sign(1_599_360_473, "demo") == "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="


async def test_at_full_hours_the_bot_rests_for_a_minute(vendor: FeishuRobots, rig: Rig) -> None:
    vendor.is_full_hour = True
    (found,) = await rig.send(message())
    assert (found.failure, found.code, found.retry_after_s) == ("throttled", "11232", 60.0)
    assert rig.channel.limits("ops").windows == ((5, 1.0), (100, 60.0))


@pytest.mark.parametrize(("ahead_s", "words"), [(3700.0, "1 h 2 min (behind)"), (-86_400.0, "24 h 0 min (ahead)")])
async def test_a_clock_that_is_over_an_hour_off_is_named_with_how_far(
    vendor: FeishuRobots, rig: Rig, ahead_s: float, words: str
) -> None:
    vendor.clock_ahead_s = ahead_s
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "19021")
    assert found.reason.en == f"this machine's clock is off by {words}; set it right"
    assert (await rig.channel.check()).reason == found.reason


async def test_a_wrong_secret_names_the_secret_and_the_clock(vendor: FeishuRobots, rig: Rig) -> None:
    vendor.secret = "another"
    (found,) = await rig.send(message())
    assert (found.failure, found.code) == ("auth", "19021")
    assert "secret" in found.reason.en
    assert "clock" in found.reason.en


async def test_an_unsigned_bot_sends_no_signature(vendor: FeishuRobots) -> None:
    vendor.secret = None
    parsed = parse_channel(
        {"name": "f", "kind": "feishu-robot", "base_url": vendor.url, "robots": {"ops": {"token": TOKEN}}}
    )
    assert isinstance(parsed, FeishuRobotSettings)
    robot = FeishuRobot(parsed, Resources("f", no_blob))
    assert [found.outcome for found in await rig_of(vendor, robot).send(message())] == ["accepted"]
    assert vendor.requests[0].json() == {"msg_type": "text", "content": {"text": "The press is down."}}
    await robot.aclose()


async def test_an_address_off_the_list_waits_for_an_operator(vendor: FeishuRobots, rig: Rig) -> None:
    vendor.is_address_allowed = False
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "19022")


async def test_a_missing_keyword_is_final_and_the_setting_puts_it_there(vendor: FeishuRobots, rig: Rig) -> None:
    vendor.keyword = "产线"
    (found,) = await rig.send(message())
    assert (found.outcome, found.code) == ("permanent", "19024")
    keyed = channel(vendor, robot={"keyword": "产线"})
    assert [one.outcome for one in await rig_of(vendor, keyed).send(message("压" * 9_000))] == ["accepted"] * 2
    assert all(text.startswith("产线 (") for text in vendor.texts)
    await keyed.aclose()


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("text", '<at user_id="all"></at> <at user_id="ou_18eac8"></at> **down**'),
        ("markdown", "<at id=all></at> <at id=ou_18eac8></at> **down**"),
    ],
)
async def test_the_label_calls_people_and_nothing_else_gets_into_the_tag(
    vendor: FeishuRobots, form: str, text: str
) -> None:
    robot = channel(vendor, format=form)
    labels = {"at": 'all, ou_18eac8, ou_"></at>, 13800138000'}
    assert [one.outcome for one in await rig_of(vendor, robot).send(message("**down**", labels=labels))] == ["accepted"]
    assert vendor.texts == [text]
    await robot.aclose()


async def test_only_the_first_piece_calls_people(vendor: FeishuRobots, rig: Rig) -> None:
    await rig.send(message("压" * 9_000, labels={"at": "all"}))
    assert ["<at" in text for text in vendor.texts] == [True, False]


async def test_feishus_own_forms_go_as_they_are(vendor: FeishuRobots, rig: Rig) -> None:
    post = {"msg_type": "post", "content": {"post": {"zh_cn": {"title": "t", "content": [[{"tag": "text"}]]}}}}
    card = {"msg_type": "interactive", "card": {"elements": [{"tag": "hr"}]}}
    found = await rig.send(message([{"type": "json", "json": post}, {"type": "json", "json": card}]))
    assert [one.outcome for one in found] == ["accepted", "accepted"]
    assert vendor.bodies == [post, card]


@pytest.mark.parametrize("spare", [0, 1])
async def test_an_own_form_fits_with_its_signature_or_is_too_large(vendor: FeishuRobots, rig: Rig, spare: int) -> None:
    room = BODY_BYTES - 200 - len(json.dumps({"msg_type": "text", "content": {"text": ""}}))
    parts = [{"type": "json", "json": {"msg_type": "text", "content": {"text": "x" * (room + spare)}}}]
    if spare:
        with pytest.raises(Cannot) as caught:
            rig.channel.compose(message(parts), "ops")
        assert caught.value.delivery.failure == "too_large"
    else:
        assert [one.outcome for one in await rig.send(message(parts))] == ["accepted"]


@given(
    text=st.text(min_size=1, max_size=30).filter(lambda text: text.strip()),
    times=st.integers(1, 1_500),
    at=st.integers(0, 60),
    keyword=st.text(max_size=64),
    form=st.sampled_from(["text", "markdown"]),
)
def test_no_piece_is_over_the_vendors_limit(text: str, times: int, at: int, keyword: str, form: Any) -> None:
    """Whatever is in it: control characters, which JSON writes in six bytes, lone surrogates, emoji."""
    labels = {"at": ",".join(["ou_123456"] * at)}
    bodies = message_bodies(message(text * times, labels=labels), form, keyword)
    sizes = [len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")) for body in bodies]
    assert max(sizes) <= BODY_BYTES - 200


@pytest.mark.parametrize("content", ["", " \n", [{"type": "json", "json": {"temperature": 21}}]])
def test_what_feishu_cannot_show_is_refused(vendor: FeishuRobots, content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message(content), "ops")
    assert caught.value.delivery.code == "empty"


async def test_an_answer_of_the_former_form_is_understood(
    vendor: FeishuRobots, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = b'HTTP/1.1 200 OK\r\nContent-Length: 49\r\n\r\n{"Extra":null,"StatusCode":0,"StatusMessage":"ok"}'
    monkeypatch.setattr(vendor, "take", lambda request: old.replace(b"49", b"50"))
    assert [found.outcome for found in await rig.send(message())] == ["accepted"]


async def test_too_many_requests_are_told_from_one_that_cannot_be_read(
    vendor: FeishuRobots, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feishu's gateway has one code for both."""
    for said, expected in (("too many request", "retry"), ("Bad Request", "permanent")):
        monkeypatch.setattr(vendor, "take", lambda request, said=said: vendor.error(9499, said))
        (found,) = await rig.send(message())
        assert (found.outcome, found.code) == (expected, "9499")


async def test_an_unknown_code_is_told_and_final(
    vendor: FeishuRobots, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "take", lambda request: vendor.error(999_999, f"never seen {TOKEN}"))
    (found,) = await rig.send(message())
    assert (found.outcome, found.code) == ("permanent", "999999")


def test_no_secret_is_shown(vendor: FeishuRobots) -> None:
    robot = channel(vendor)
    shown = repr(vars(robot)) + json.dumps(robot._settings.model_dump(mode="json"))
    assert TOKEN not in shown
    assert SECRET not in shown
