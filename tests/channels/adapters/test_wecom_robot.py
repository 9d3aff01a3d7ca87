"""WeCom's group robots against a strict fake."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from autoglm.channels.adapters.wecom_robot import WeComRobot, WeComRobotSettings
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from contracts.channel_contract import ChannelContract, Rig, message
from fakes.vendor import HTTP_FAULTS, Fault
from fakes.wecom_robot import KEY, WeComRobots

PNG = b"\x89PNG\r\n\x1a\nnot really"
BLOBS = {"a" * 64: b"%PDF-1.7 the plan", "c" * 64: bytes(20 * 2**20 + 1)}
PLAN = {"type": "file", "file": {"file_id": "a" * 64, "filename": "plan.pdf"}}


async def blob(sha256: str) -> bytes | None:
    return BLOBS.get(sha256)


def picture(data: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(data).decode()}"}}


def channel(vendor: WeComRobots, **fields: Any) -> WeComRobot:
    settings = parse_channel(
        {"name": "wecom", "kind": "wecom-robot", "base_url": vendor.url, "robots": {"ops": {"key": KEY}}, **fields}
    )
    assert isinstance(settings, WeComRobotSettings)
    return WeComRobot(settings, Resources("wecom", blob))


@pytest.fixture
def vendor() -> Iterator[WeComRobots]:
    with WeComRobots() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: WeComRobots) -> AsyncIterator[Rig]:
    robot = channel(vendor)
    yield Rig(
        robot, target="ops", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(KEY,), limit=2048, faults=HTTP_FAULTS, files=lambda: [data for *_, data in vendor.media.values()],
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
    found = await rig.send(message([{"type": "text", "text": "See:"}, picture(PNG)]))
    assert [delivery.outcome for delivery in found] == ["accepted", "accepted"]
    assert [body["msgtype"] for body in vendor.bodies] == ["text", "image"]


async def test_what_goes_no_other_way_is_named_and_no_address_is_cut(vendor: WeComRobots, rig: Rig) -> None:
    url = "https://cam.example/" + "7" * 3_000
    unknown = {"type": "file", "file": {"filename": "plan.pdf"}}
    parts = [picture(PNG), {"type": "image_url", "image_url": {"url": url}}, unknown]
    assert {delivery.outcome for delivery in await rig.send(message(parts))} == {"accepted"}
    assert url in "".join(vendor.texts).replace("(2/2) ", "")
    assert vendor.texts[-1].endswith("[file / 文件: plan.pdf]")


# --- files ------------------------------------------------------------------------------------------


async def test_files_and_sound_are_uploaded_and_go_out_with_their_names(vendor: WeComRobots, rig: Rig) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF-sound").decode(), "format": "wav"}}
    inline = {
        "type": "file",
        "file": {"file_data": "data:text/csv;base64,YSxiLGMKMSwyLDM=", "filename": '报告 "1".csv'},
    }
    found = await rig.send(message([{"type": "text", "text": "See:"}, PLAN, inline, sound]))
    assert [delivery.outcome for delivery in found] == ["accepted"] * 4
    assert vendor.texts == ["See:"]
    assert list(vendor.media.values()) == [
        (KEY, "file", "plan.pdf", BLOBS["a" * 64]),
        (KEY, "file", "报告 _1_.csv", b"a,b,c\n1,2,3"),
        (KEY, "file", "audio.wav", b"RIFF-sound"),
    ]
    assert [body["file"] for body in vendor.bodies[1:]] == [{"media_id": id} for id in vendor.media]


@pytest.mark.parametrize(
    ("data", "msgtype"),
    [
        (PNG.ljust(2 * 2**20, b"."), "image"),
        (b"\xff\xd8\xff\xe0 a JPEG", "image"),
        (PNG.ljust(2 * 2**20 + 1, b"."), "file"),
        (b"RIFF....WEBPVP8 ", "file"),
    ],
    ids=["2_MiB", "jpeg", "over_2_MiB", "webp"],
)
async def test_a_picture_that_wecom_does_not_show_goes_as_a_file(
    vendor: WeComRobots, rig: Rig, data: bytes, msgtype: str
) -> None:
    (found,) = await rig.send(message([picture(data)]))
    assert (found.outcome, [body["msgtype"] for body in vendor.bodies]) == ("accepted", [msgtype])
    assert [file for *_, file in vendor.media.values()] == ([data] if msgtype == "file" else [])


async def test_a_picture_that_is_sent_as_a_file_stays_one_with_its_name(vendor: WeComRobots, rig: Rig) -> None:
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    (found,) = await rig.send(message([{"type": "file", "file": {"file_data": data, "filename": "press-7.png"}}]))
    assert (found.outcome, list(vendor.media.values())) == ("accepted", [(KEY, "file", "press-7.png", PNG)])


async def test_a_long_name_keeps_its_end(vendor: WeComRobots, rig: Rig) -> None:
    """Without its suffix nobody can open the file."""
    await rig.send(message([{"type": "file", "file": {"file_id": "a" * 64, "filename": f"{'压' * 200}.pdf"}}]))
    ((_, _, name, _),) = vendor.media.values()
    assert (len(name), name) == (128, "压" * 124 + ".pdf")


async def test_a_file_is_uploaded_once_and_again_when_wecom_lost_it(vendor: WeComRobots, rig: Rig) -> None:
    (parcel,) = rig.channel.compose(message([PLAN]), "ops")
    await rig.channel.check()  # the first request of a channel takes longer
    vendor.per_minute = 1
    assert [(await rig.channel.send(parcel, "k")).code for _ in range(2)] == ["45009", "45009"]
    vendor.per_minute = 1_000_000
    assert (await rig.channel.send(parcel, "k")).outcome == "accepted"
    assert len(vendor.media) == 1
    vendor.media.clear()
    assert (await rig.channel.send(parcel, "k2")).outcome == "accepted"
    assert [body["msgtype"] for body in vendor.bodies] == ["file", "file"]


async def test_a_robot_does_not_send_what_another_one_uploaded(vendor: WeComRobots) -> None:
    vendor.keys.add("the-other-key")
    robot = channel(vendor, robots={"ops": {"key": KEY}, "yard": {"key": "the-other-key"}})
    for target in ("ops", "yard"):
        (parcel,) = robot.compose(message([PLAN]), target)
        assert (await robot.send(parcel, "k")).outcome == "accepted"
    await robot.aclose()
    assert [key for key, *_ in vendor.media.values()] == [KEY, "the-other-key"]


@pytest.mark.parametrize("fault", HTTP_FAULTS)
async def test_an_upload_that_fails_is_told_for_what_it_is_and_leaves_no_doubt(
    vendor: WeComRobots, rig: Rig, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    (parcel,) = rig.channel.compose(message([PLAN]), "ops")
    await rig.channel.check()
    vendor.faults.append(fault)
    with monkeypatch.context() as patch:  # for this attempt alone: on a busy machine a good one may take as long
        if fault == "silent":
            patch.setattr("autoglm.channels.web.TIMEOUT_S", 0.5)
        found = await rig.channel.send(parcel, "k")
    expected = fault if fault in ("throttled", "auth", "permanent") else "transient"
    assert (found.failure, found.is_in_doubt, vendor.bodies) == (expected, False, [])
    ChannelContract.check_words(rig, found)
    assert (await rig.channel.send(parcel, "k")).outcome == "accepted"


@pytest.mark.parametrize(
    ("part", "failure", "code"),
    [
        ({"type": "file", "file": {"file_id": "b" * 64}}, "permanent", "no_file"),
        ({"type": "file", "file": {"file_id": "c" * 64}}, "too_large", "media_too_large"),
        ({"type": "file", "file": {"file_data": "data:;base64,QUJDREU="}}, "permanent", "media_too_small"),
        (picture(bytes(20 * 2**20 + 1)), "too_large", "media_too_large"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}, "permanent", "bad_media"),
    ],
    ids=["not_here", "over_20_MiB", "5_bytes", "picture_over_20_MiB", "no_base64"],
)
async def test_a_file_that_cannot_go_is_told(
    vendor: WeComRobots, rig: Rig, part: dict[str, Any], failure: str, code: str
) -> None:
    try:
        (found,) = await rig.send(message([part]))
    except Cannot as error:
        found = error.delivery
    assert (found.failure, found.code, vendor.requests) == (failure, code, [])


# --- WeCom's own forms ------------------------------------------------------------------------------

ACTION = {"type": 1, "url": "https://mes.example/press-7"}
CARDS = [
    {"card_type": "text_notice", "main_title": {"title": "Press 7"}, "card_action": ACTION},
    {
        "card_type": "news_notice", "main_title": {"title": "Press 7"}, "card_action": ACTION,
        "card_image": {"url": "https://mes.example/7.png"},
    },
]  # fmt: skip


@pytest.mark.parametrize("card", CARDS, ids=["text_notice", "news_notice"])
async def test_wecoms_own_forms_go_as_they_are(vendor: WeComRobots, rig: Rig, card: dict[str, Any]) -> None:
    forms = [
        {"msgtype": "template_card", "template_card": card},
        {"msgtype": "news", "news": {"articles": [{"title": "t", "url": "http://x"}]}},
    ]
    found = await rig.send(message([{"type": "json", "json": form} for form in forms]))
    assert [delivery.outcome for delivery in found] == ["accepted", "accepted"]
    assert vendor.bodies == forms


@pytest.mark.parametrize(
    "form",
    [
        {"msgtype": "template_card", "template_card": {"card_type": "text_notice", "main_title": {"title": "Press 7"}}},
        {"msgtype": "template_card", "template_card": {"card_type": "button_interaction", "card_action": ACTION}},
        {"msgtype": "news", "news": {"articles": [{"title": "no url"}]}},
        {"msgtype": "file", "file": {"media_id": "of another robot"}},
    ],
    ids=["no_action", "button_interaction", "no_url", "unknown_file"],
)
async def test_a_form_that_wecom_does_not_take_fails_for_good(
    vendor: WeComRobots, rig: Rig, form: dict[str, Any]
) -> None:
    (found,) = await rig.send(message([{"type": "json", "json": form}]))
    assert (found.outcome, found.failure, vendor.bodies) == ("permanent", "permanent", [])


# --- texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["markdown", "markdown_v2"])
async def test_markdown_has_its_own_limit(vendor: WeComRobots, form: str) -> None:
    robot, longest = channel(vendor, format=form), "压" * 1365 + "."  # 4,096 bytes
    (parcel,) = robot.compose(message(longest), "ops")
    assert (await robot.send(parcel, "k")).outcome == "accepted"
    assert vendor.bodies == [{"msgtype": form, form: {"content": longest}}]
    assert len(robot.compose(message(longest + "."), "ops")) == 2
    await robot.aclose()


@pytest.mark.parametrize("content", ["", " \n", [{"type": "file", "file": {"filename": "plan.pdf"}}]])
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
