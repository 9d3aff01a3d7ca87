"""A WeCom AI bot against a real WebSocket server that behaves as WeCom's."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.channels.adapters.wechat.cards import task_of
from autoglm.channels.adapters.wecom_aibot import WeComAiBot, line
from autoglm.channels.adapters.wecom_aibot.frames import BadFrame, parse_frame
from autoglm.channels.adapters.wecom_aibot.settings import WeComAiBotSettings
from autoglm.channels.channel import Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope
from autoglm.core.errors import InvalidField, StorageFull
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message
from eventually import until
from fakes.wecom_aibot import BOT_ID, GROUP, SECRET, WeComAiBots
from scripted_model import ScriptedModel

BLOBS = {"a" * 64: b"%PDF-1.7 of a report", "b" * 64: bytes(range(256)) * 5000}


async def read_blob(sha256: str) -> bytes | None:
    return BLOBS.get(sha256)


def channel(vendor: WeComAiBots, **more: Any) -> WeComAiBot:
    wanted = {"name": "bot", "kind": "wecom-aibot", "bot_id": BOT_ID, "secret": SECRET, "url": vendor.url, **more}
    settings = parse_channel(wanted)
    assert isinstance(settings, WeComAiBotSettings)
    return WeComAiBot(settings, Resources("bot", read_blob))


@asynccontextmanager
async def running(vendor: WeComAiBots, inbox: KeptInbox | None = None, **more: Any) -> AsyncIterator[WeComAiBot]:
    bot = channel(vendor, **more)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bot.run, inbox or KeptInbox())
        yield bot
        tasks.cancel_scope.cancel()
    await bot.aclose()


@pytest.fixture
def vendor() -> Iterator[WeComAiBots]:
    with WeComAiBots() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: WeComAiBots) -> AsyncIterator[Rig]:
    async with running(vendor, buttons={"ack": "Got it"}) as bot:
        await until(lambda: bot.is_connected)
        yield Rig(
            bot, target="alice", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
            secrets=(SECRET,), limit=20_480, unknown_target="@nobody",
            faults=("throttled", "transient", "auth", "permanent", "silent", "cut", "garbage", "empty_json"),
            form=lambda filler: {"msgtype": "markdown", "markdown": {"content": filler}},
            files=lambda: [data for _, _, data in vendor.media.values()],
        )  # fmt: skip


class TestContract(ChannelContract):
    async def test_a_host_that_is_gone_is_told_without_doubt(self, rig: Rig) -> None:
        """Once the hub knows: what goes out in the moment in between is in doubt, and told so."""
        rig.stop()
        await until(lambda: not rig.channel.is_connected)  # type: ignore[attr-defined]  # of the one that it is
        await super().test_a_host_that_is_gone_is_told_without_doubt(rig)


# --- the connection ---------------------------------------------------------------------------------


async def test_a_wrong_secret_is_told_and_tried_on(vendor: WeComAiBots) -> None:
    vendor.secret = "another"
    async with running(vendor) as bot:
        (parcel,) = bot.compose(message(), "alice")
        found = await bot.send(parcel, "k")
        assert (found.outcome, found.failure, found.code, found.is_in_doubt) == ("retry", "auth", "853000", False)
        assert (await bot.check()).code == "853000"
        vendor.secret = SECRET
        await until(lambda: bot.is_connected)
        assert (await bot.send(parcel, "k")).outcome == "accepted"


async def test_a_connection_that_was_cut_comes_back_and_brings_on_what_is_said(vendor: WeComAiBots) -> None:
    inbox = KeptInbox()
    async with running(vendor, inbox) as bot:
        for number in range(3):
            await until(partial(has_subscriptions, vendor, number + 1))
            await until(lambda number=number: bot.link_state == (True, number + 1))  # type: ignore[misc]  # of this round
            vendor.say(said(f"n {number}", msgid=f"m{number}"), req_id=f"r{number}")
            await until(partial(has, inbox, number + 1))
            vendor.cut()
    assert [one.content for one in inbox.taken] == ["n 0", "n 1", "n 2"]


async def test_two_programs_of_one_bot_are_told_of_each_other(vendor: WeComAiBots) -> None:
    """WeCom leaves the old socket open and says nothing on it: it is closed, and the other program is left in peace."""
    async with running(vendor) as first:
        await until(lambda: first.is_connected)
        async with running(vendor) as second:
            await until(lambda: second.is_connected and not first.is_connected)
            (parcel,) = first.compose(message("from the first"), "alice")
            found = await first.send(parcel, "k")
            assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "taken_over", False)
            assert "another program" in (await first.check()).reason.en
            assert (await second.send(parcel, "k")).outcome == "accepted"
            await until(lambda: vendor.closed_by_client == 1)
    assert vendor.subscriptions == 2


async def test_two_programs_do_not_fight_on(vendor: WeComAiBots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tries once more soon, and then rests for long: else nobody would hear a whole message."""
    monkeypatch.setattr(line, "TAKEN_OVER_RETRY_S", (0.05, 300.0))
    async with running(vendor) as first:
        await until(lambda: first.is_connected)
        async with running(vendor) as second:
            await until(lambda: vendor.subscriptions == 4)
            await until(lambda: second.is_connected and not first.is_connected)
            assert vendor.subscriptions == 4


async def test_a_connection_whose_pings_are_not_answered_is_given_up(vendor: WeComAiBots) -> None:
    vendor.answers_pings = False
    async with running(vendor, ping_s=1.0):
        await until(lambda: vendor.subscriptions == 2)


async def test_pings_go_out(vendor: WeComAiBots) -> None:
    async with running(vendor, ping_s=1.0):
        await until(lambda: vendor.pings == 2)
        assert vendor.subscriptions == 1


async def test_many_messages_at_once_get_their_own_answers(vendor: WeComAiBots) -> None:
    async with running(vendor) as bot, anyio.create_task_group() as tasks:
        for number in range(30):
            (parcel,) = bot.compose(message(f"n {number}"), "alice")
            tasks.start_soon(bot.send, parcel, f"k{number}")
    assert sorted(vendor.texts) == sorted(f"n {number}" for number in range(30))


async def test_what_is_sent_while_nobody_listens_is_told_at_once(vendor: WeComAiBots) -> None:
    vendor.__exit__()
    async with running(vendor) as bot:
        (parcel,) = bot.compose(message(), "alice")
        found = await bot.send(parcel, "k")
        assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "refused", False)


@pytest.mark.parametrize("noise", ["[]", "null", "{", '{"cmd": 1}', '{"body": []}', '{"cmd": "unheard_of"}', "\x00"])
async def test_noise_from_outside_ends_no_more_than_the_connection(vendor: WeComAiBots, noise: str) -> None:
    async with running(vendor) as bot:
        await until(lambda: bot.is_connected)
        vendor.push_raw(noise)
        (parcel,) = bot.compose(message(), "alice")
        await until(lambda: bot.is_connected)
        found = await bot.send(parcel, "k")
        if found.outcome == "retry":  # it crossed the noise
            assert found.code in ("unreadable", "not_connected", "cut")
            found = await bot.send(parcel, "k")
        assert found.outcome == "accepted"


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_whatever_comes_is_a_frame_or_none(data: str | bytes) -> None:
    try:
        frame = parse_frame(data)
    except BadFrame:
        return
    assert isinstance(frame.body, dict)


def has(inbox: KeptInbox, count: int) -> bool:
    return len(inbox.taken) == count


def has_subscriptions(vendor: WeComAiBots, count: int) -> bool:
    return vendor.subscriptions == count


# --- forms ------------------------------------------------------------------------------------------


async def test_groups_are_addressed_by_their_id(vendor: WeComAiBots, rig: Rig) -> None:
    (parcel,) = rig.channel.compose(message("to all"), f"@group:{GROUP}")
    assert (await rig.channel.send(parcel, "k")).outcome == "accepted"
    assert [chat for chat, _ in vendor.shown] == [GROUP]


async def test_pictures_and_files_are_uploaded_in_pieces(vendor: WeComAiBots, rig: Rig) -> None:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n..").decode()
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
        {"type": "file", "file": {"file_id": "b" * 64, "filename": "日志.bin"}},
    ]
    found = await rig.send(message(parts))
    assert [one.outcome for one in found] == ["accepted"] * 2
    assert [(kind, name, len(data)) for kind, name, data in vendor.media.values()] == [
        ("image", "picture.png", 10),
        ("file", "日志.bin", 1_280_000),
    ]


async def test_an_alert_has_buttons_that_name_it(vendor: WeComAiBots, rig: Rig) -> None:
    (found,) = await rig.send(message(kind="alert"))
    card = vendor.shown[0][1]["template_card"]
    assert (card["button_list"][0]["key"], found.ticket) == ("ack", task_of("m-1", "alice"))


async def test_a_question_has_a_button_for_each_answer_that_it_offers(vendor: WeComAiBots, rig: Rig) -> None:
    await rig.send(message("Stop?", labels={"choices": '["Yes", "No"]'}))
    card = vendor.shown[0][1]["template_card"]
    assert [one["key"] for one in card["button_list"]] == ["choice:1", "choice:2"]


async def test_limits_are_those_of_a_conversation(rig: Rig) -> None:
    assert rig.channel.limits("alice").windows == ((30, 60.0), (1000, 3600.0))


# --- what comes in ----------------------------------------------------------------------------------


def said(text: str = "现在几度？", *, msgid: str = "m1", **more: Any) -> dict[str, Any]:
    return {
        "msgid": msgid, "aibotid": BOT_ID, "chattype": "single", "from": {"userid": "alice"}, "msgtype": "text",
        "text": {"content": text}, "create_time": 1_790_000_000, **more,
    }  # fmt: skip


@asynccontextmanager
async def hearing(vendor: WeComAiBots, **more: Any) -> AsyncIterator[tuple[WeComAiBot, KeptInbox]]:
    inbox = KeptInbox()
    async with running(vendor, inbox, buttons={"ack": "Got it"}, **more) as bot:
        await until(lambda: bot.is_connected)
        yield bot, inbox


async def test_a_question_comes_in_once_and_its_answer_goes_where_it_was_asked(vendor: WeComAiBots) -> None:
    async with hearing(vendor) as (bot, inbox):
        for _ in range(2):
            vendor.say(said(chattype="group", chatid=GROUP), req_id="r1")
        await until(lambda: inbox.taken)
        (question,) = inbox.taken
        assert (question.from_, question.content) == ("channel:bot/alice", "现在几度？")
        assert question.thread == f"bot.{GROUP}"
        (parcel,) = bot.compose(message("22 度", reply_to=question.id), "alice")
        for _ in range(2):  # a repeated attempt replaces itself
            assert (await bot.send(parcel, "k")).outcome == "accepted"
        assert [(chat, body["stream"]["content"]) for chat, body in vendor.shown] == [(GROUP, "22 度")]


async def test_a_long_answer_goes_on_as_messages(vendor: WeComAiBots) -> None:
    async with hearing(vendor) as (bot, inbox):
        vendor.say(said(chattype="group", chatid=GROUP), req_id="r1")
        await until(lambda: inbox.taken)
        parcels = bot.compose(message("压" * 10_000, reply_to=inbox.taken[0].id), "alice")
        for index, parcel in enumerate(parcels):
            assert (await bot.send(parcel, f"k{index}")).outcome == "accepted"
        assert [(chat, body["msgtype"]) for chat, body in vendor.shown] == [(GROUP, "stream"), (GROUP, "markdown")]


async def test_an_answer_that_comes_too_late_goes_out_as_a_message(vendor: WeComAiBots) -> None:
    async with hearing(vendor) as (bot, inbox):
        vendor.say(said(), req_id="r1")
        await until(lambda: inbox.taken)
        vendor.forget_questions()
        (parcel,) = bot.compose(message("22 度", reply_to=inbox.taken[0].id), "alice")
        assert (await bot.send(parcel, "k")).outcome == "accepted"
        assert [(chat, body["msgtype"]) for chat, body in vendor.shown] == [("alice", "markdown")]


async def test_what_cannot_be_kept_is_kept_later_and_nothing_is_lost(vendor: WeComAiBots) -> None:
    async with hearing(vendor) as (_, inbox):
        inbox.refusal = StorageFull("disk")
        for number in range(5):
            vendor.say(said(f"n {number}", msgid=f"m{number}"), req_id=f"r{number}")
        vendor.cut()
        await until(lambda: vendor.subscriptions == 2)
        inbox.refusal = None
        await until(lambda: len(inbox.taken) == 5)
    assert [one.content for one in inbox.taken] == [f"n {number}" for number in range(5)]


class Choosy(KeptInbox):
    """Takes nothing that is bad, whenever it comes."""

    async def take(self, envelope: Envelope) -> bool:
        if envelope.content == "bad":
            raise InvalidField("from", "is none")
        return await super().take(envelope)


async def test_what_can_never_be_taken_does_not_hold_up_the_rest(vendor: WeComAiBots) -> None:
    inbox = Choosy()
    async with running(vendor, inbox) as bot:
        await until(lambda: bot.is_connected)
        for number, text in enumerate(("bad", "good")):
            vendor.say(said(text, msgid=f"m{number}"), req_id=f"r{number}")
        await until(lambda: inbox.taken)
    assert [one.content for one in inbox.taken] == ["good"]


async def test_a_button_acknowledges_the_message_that_it_stands_under(vendor: WeComAiBots) -> None:
    async with hearing(vendor) as (_, inbox):
        inbox.messages["autoglm-1"] = "m-1"
        inner = {"event_key": "ack", "task_id": "autoglm-1", "card_type": "button_interaction"}
        presses: list[dict[str, Any]] = [{"template_card_event": inner}, {**inner}]
        for number, event in enumerate(presses):
            press = {"eventtype": "template_card_event", **event}
            vendor.say(said(msgid=f"e{number}", msgtype="event", event=press), req_id="r", cmd="aibot_event_callback")
        await until(lambda: len(inbox.taken) == 2)
    assert {(one.reply_to, one.labels["action"], str(one.content)) for one in inbox.taken} == {("m-1", "ack", "Got it")}


@pytest.mark.parametrize(
    ("more", "content"),
    [
        ({"msgtype": "voice", "voice": {"content": "停机"}}, "停机"),
        ({"quote": {"msgtype": "text", "text": {"content": "a\nb"}}}, "> a\n> b\n现在几度？"),
        ({"msgtype": "file", "file": {"url": "https://x", "aeskey": "k"}}, "[file]"),
        ({"msgtype": "text", "text": None}, ""),
        ({"msgtype": "mixed", "mixed": {"msg_item": [{"msgtype": "text", "text": {"content": "x"}}]}}, "x"),
        ({"msgtype": "mixed", "mixed": "odd"}, ""),
        ({"msgtype": "mixed", "mixed": {"msg_item": ["odd", {"mixed": {"msg_item": []}}, None]}}, "[None]\n[None]"),
        ({"msgtype": "image", "image": {"url": "https://127.0.0.1:9/gone", "aeskey": "k"}}, "[image]"),
    ],
)
async def test_messages_of_other_kinds_become_text(vendor: WeComAiBots, more: dict[str, Any], content: str) -> None:
    async with hearing(vendor) as (_, inbox):
        vendor.say(said(**more), req_id="r1")
        await until(lambda: inbox.taken)
        assert inbox.taken[0].content == content


async def test_a_picture_is_fetched_and_decrypted_at_once(vendor: WeComAiBots) -> None:
    """Its address holds for five minutes, and each has a key of its own."""
    key, picture = bytes(range(32)), b"\x89PNG of a gauge"
    pad = 32 - len(picture) % 32
    step = Cipher(AES256(key), CBC(key[:16])).encryptor()
    sealed = step.update(picture + bytes([pad]) * pad) + step.finalize()
    with ScriptedModel() as files:
        files.answer_to_get = lambda request: http(sealed)  # type: ignore[method-assign]  # a file server's answer
        url = f"http://127.0.0.1:{files.port}/p"
        async with hearing(vendor) as (_, inbox):
            item = {"msgtype": "image", "image": {"url": url, "aeskey": base64.b64encode(key).decode().rstrip("=")}}
            words = {"msgtype": "text", "text": {"content": "See:"}}
            vendor.say(said(msgtype="mixed", mixed={"msg_item": [words, item]}), req_id="r1")
            await until(lambda: inbox.taken)
    shown = json.dumps([str(part) for part in inbox.taken[0].content])
    assert "See:" in shown
    assert f"data:image/png;base64,{base64.b64encode(picture).decode()}" in shown


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_no_secret_is_shown(vendor: WeComAiBots) -> None:
    bot = channel(vendor)
    assert SECRET not in repr(vars(bot)) + json.dumps(bot._settings.model_dump(mode="json"))
