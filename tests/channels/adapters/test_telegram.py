"""Telegram bots against a strict fake, both ways."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from autoglm.channels.adapters.telegram.answers import failure_of
from autoglm.channels.adapters.telegram.channel import Telegram, TelegramSettings
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.pieces import utf16_units
from autoglm.channels.settings import parse_channel
from autoglm.channels.web import Answer
from autoglm.core.envelope import File, FilePart, ImagePart, ImageUrl, TextPart
from autoglm.core.errors import StorageFull, UnknownRecipient
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message
from eventually import until
from fakes.telegram import BLOCKED, BOT, CHAT, GROUP, MOVED, SUPERGROUP, TOKEN, FakeTelegram
from fakes.vendor import HTTP_FAULTS

BLOB = "f" * 64


async def blobs(sha256: str) -> bytes | None:
    return b"blob" if sha256 == BLOB else None


def channel(vendor: FakeTelegram, **fields: Any) -> Telegram:
    chats = {"li": CHAT, "hall": GROUP, "gone": BLOCKED, "moved": MOVED}
    known = {"name": "tg", "kind": "telegram", "base_url": vendor.url, "token": TOKEN, "chats": chats}
    settings = parse_channel({**known, **fields})
    assert isinstance(settings, TelegramSettings)
    return Telegram(settings, Resources("tg", blobs))


@pytest.fixture
def vendor() -> Iterator[FakeTelegram]:
    with FakeTelegram() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: FakeTelegram) -> AsyncIterator[Rig]:
    bot = channel(vendor)
    yield Rig(
        bot, target="li", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(TOKEN,), limit=4096, measure=utf16_units,
        faults=HTTP_FAULTS,
        form=lambda filler: {"telegram": {"reply_markup": {"text": filler}}},
        files=lambda: [data for _, data in vendor.uploads],
    )  # fmt: skip
    await bot.aclose()


class TestContract(ChannelContract):
    pass


# --- out ---------------------------------------------------------------------------------------------


async def send(bot: Telegram, target: str = "li", content: Any = "x") -> str:
    (parcel,) = bot.compose(message(content), target)
    found = await bot.send(parcel, "k")
    return f"{found.outcome} {found.failure or ''} {found.code}{found.ticket}"


async def test_each_refusal_is_told_for_what_it_is(vendor: FakeTelegram, rig: Rig) -> None:
    bot = channel(vendor)
    async with aclosing(bot):
        assert await send(bot) == f"accepted  {CHAT}:101"
        assert await send(bot, "gone") == "permanent permanent 403"
        assert await send(bot, "31337") == "permanent permanent 400"
        vendor.token = "another"
        assert await send(bot) == "retry auth 401"


@pytest.mark.parametrize(("target", "count"), [("li", 60), ("hall", 20), ("31337", 60), ("-31337", 20)])
def test_a_chat_has_its_limit_and_the_bot_30_a_second(vendor: FakeTelegram, target: str, count: int) -> None:
    limits = channel(vendor).limits(target)
    assert (limits.windows, limits.shared, limits.per) == (((count, 60.0),), ((30, 1.0),), "target")


async def test_the_pause_that_telegram_wants_is_kept(vendor: FakeTelegram, rig: Rig) -> None:
    vendor.faults.append("throttled")
    (found,) = await rig.send(message())
    assert (found.code, found.retry_after_s) == ("429", 9.0)


async def test_a_group_that_became_a_supergroup_is_found(vendor: FakeTelegram) -> None:
    bot = channel(vendor)
    async with aclosing(bot):
        assert await send(bot, "moved") == f"accepted  {SUPERGROUP}:101"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"ok": False, "error_code": 400, "description": "Bad Request: message is too long"}, "too_large"),
        ({"ok": False, "error_code": 413, "description": "Request Entity Too Large"}, "too_large"),
        ({"ok": False, "error_code": 404, "description": "Not Found"}, "auth"),
        ({"ok": False, "error_code": 409, "description": "Conflict"}, "transient"),
        ({"ok": False, "error_code": 429, "parameters": {"retry_after": "soon"}}, "throttled"),
        ({"ok": False, "error_code": 418}, "permanent"),
        ({"ok": False}, "transient"),
    ],
)
def test_a_refusal_counts_whatever_the_http_status_is(body: dict[str, Any], expected: str) -> None:
    failure = failure_of(Answer(200, {}, json.dumps(body).encode()))
    assert failure is not None
    assert failure.failure == expected


@pytest.mark.parametrize(("code", "is_in_doubt"), [(500, False), (502, True), (503, False), (504, True)])
def test_a_front_end_of_telegram_that_fails_leaves_a_doubt(code: int, is_in_doubt: bool) -> None:
    failure = failure_of(Answer(code, {}, json.dumps({"ok": False, "error_code": code}).encode()))
    assert failure is not None
    assert (failure.failure, failure.is_in_doubt) == ("transient", is_in_doubt)


async def test_alerts_have_a_button_and_quiet_messages_make_no_sound(vendor: FakeTelegram, rig: Rig) -> None:
    await rig.send(message(kind="alert", priority=9))
    await rig.send(message(kind="alert", priority=1, id="i" * 128))
    await rig.send(message())
    buttons = [
        fields["reply_markup"]["inline_keyboard"][0][0]["callback_data"] if "reply_markup" in fields else None
        for _, fields in vendor.sent
    ]
    assert buttons == ["ack:m-1", "ack:", None]
    assert [fields.get("disable_notification") for _, fields in vendor.sent] == [None, True, None]


@pytest.mark.parametrize("label", [["no"] * 160, [" ", "yes", "\ud83d"]], ids=["hundreds", "odd"])
async def test_a_label_with_any_answers_has_buttons_that_telegram_takes(
    vendor: FakeTelegram, rig: Rig, label: list[str]
) -> None:
    (found,) = await rig.send(message("Which?", labels={"choices": json.dumps(label)}))
    assert found.outcome == "accepted"
    rows = vendor.sent[0][1]["reply_markup"]["inline_keyboard"]
    assert [button["callback_data"] for (button,) in rows][:2] == (
        ["choice:1", "choice:2"] if len(label) > 3 else ["choice:2", "choice:3"]
    )
    assert vendor.texts[0].endswith("\n160. no" if len(label) > 3 else "Which?")


async def test_answers_stand_in_the_text_where_their_buttons_have_no_place(vendor: FakeTelegram, rig: Rig) -> None:
    own = {"reply_markup": {"inline_keyboard": [[{"text": "Map", "callback_data": "map"}]]}}
    parts = [{"type": "text", "text": "Which?"}, {"type": "json", "json": {"telegram": own}}]
    await rig.send(message(parts, labels={"choices": '["yes", "no"]'}))
    assert vendor.texts == ["Which?\n1. yes\n2. no"]
    assert vendor.sent[0][1]["reply_markup"] == own["reply_markup"]


async def test_only_the_last_piece_has_the_button(vendor: FakeTelegram, rig: Rig) -> None:
    await rig.send(message("压" * 9000, kind="alert"))
    assert ["reply_markup" in fields for _, fields in vendor.sent] == [False, False, True]


async def test_pictures_sound_and_files_go_along(vendor: FakeTelegram, rig: Rig) -> None:
    data = base64.b64encode(b"\x00\r\n--bytes\xff").decode()
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "https://cam.example/7.jpg"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"file_data": f"data:text/plain;base64,{data}", "filename": '压"机\r\n.txt'}},
        {"type": "file", "file": {"file_id": BLOB, "filename": "a.pdf"}},
        {"type": "json", "json": {"telegram": {"protect_content": True, "chat_id": 1}}},
    ]
    found = await rig.send(message(parts))
    assert [delivery.outcome for delivery in found] == ["accepted"] * 6
    assert [method for method, _ in vendor.sent] == ["sendMessage", *["sendPhoto"] * 2, *["sendDocument"] * 3]
    assert [data for _, data in vendor.uploads] == [b"\x00\r\n--bytes\xff"] * 3 + [b"blob"]
    assert {int(fields["chat_id"]) for _, fields in vendor.sent} == {CHAT}
    assert [json.loads(str(fields["protect_content"]).lower()) for _, fields in vendor.sent] == [True] * 6


async def test_a_file_that_the_hub_has_not_is_told(rig: Rig) -> None:
    (found,) = await rig.send(message([{"type": "file", "file": {"file_id": "0" * 64}}]))
    assert (found.outcome, found.code) == ("permanent", "no_file")


def test_a_photo_over_10_mb_is_too_large(vendor: FakeTelegram) -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes((10 << 20) + 1)).decode()
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message([{"type": "image_url", "image_url": {"url": url}}]), "li")
    assert caught.value.delivery.failure == "too_large"


@pytest.mark.parametrize("content", ["", " \n", [{"type": "json", "json": {"a": 1}}]])
def test_what_telegram_cannot_show_is_refused(vendor: FakeTelegram, content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message(content), "li")
    assert caught.value.delivery.code == "empty"


def test_a_chat_with_a_name_is_not_reached_by_its_number(vendor: FakeTelegram) -> None:
    """What it answers comes from its name, and would not be joined to a message to the number."""
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message(), str(CHAT))
    assert caught.value.delivery.code == "unknown_target"
    assert channel(vendor).compose(message(), "31337")


@pytest.mark.parametrize("token", ["", "x", "123:short", f"{TOKEN}/x"])
def test_a_token_that_no_bot_has_is_refused_in_the_settings(vendor: FakeTelegram, token: str) -> None:
    with pytest.raises(ValidationError, match="token"):
        channel(vendor, token=token)


async def test_a_webhook_that_takes_the_messages_shows_in_the_check(vendor: FakeTelegram) -> None:
    vendor.webhook = "https://elsewhere.example/"
    for receive, is_ok in ((True, False), (False, True)):
        bot = channel(vendor, receive=receive)
        async with aclosing(bot):
            assert (await bot.check()).ok is is_ok


# --- in ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(bot: Telegram, inbox: KeptInbox) -> AsyncIterator[None]:
    async with aclosing(bot), anyio.create_task_group() as tasks:
        tasks.start_soon(bot.run, inbox)
        yield
        tasks.cancel_scope.cancel()


async def test_a_message_comes_in_and_can_be_answered(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor, incoming_to="model:auto")
    async with listening(bot, inbox):
        vendor.writes("压机怎么了？")
        vendor.writes("And I?", chat=99)
        await until(lambda: len(inbox.taken) == 2)
    known, unknown = inbox.taken
    assert (known.from_, known.to, known.content) == ("channel:tg/li", "model:auto", "压机怎么了？")
    assert (known.labels, known.thread) == ({"user_id": "7", "user": "li"}, f"tg-{BOT}-{CHAT}")
    assert known.timestamp == 1_790_000_000_000
    assert unknown.from_ == "channel:tg/99"
    assert bot.compose(message("An answer"), "99")


async def test_a_reply_answers_the_message_of_the_hub(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor)
    async with listening(bot, inbox):
        (parcel,) = bot.compose(message(), "li")
        inbox.messages[(await bot.send(parcel, "k")).ticket] = "m-1"
        chat = {"id": CHAT, "type": "private"}
        vendor.writes("On my way", reply_to_message={"message_id": 101, "date": 0, "chat": chat})
        vendor.writes("Which one?", reply_to_message={"message_id": 9, "date": 0, "chat": chat})
        await until(lambda: len(inbox.taken) == 2)
    assert [envelope.reply_to for envelope in inbox.taken] == ["m-1", None]


@pytest.mark.parametrize("message_id", ["m-1", "i" * 128])
async def test_the_button_acknowledges(vendor: FakeTelegram, message_id: str) -> None:
    """Of an id that is too long for the button's data, too."""
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"])
    async with listening(bot, inbox):
        (parcel,) = bot.compose(message(kind="alert", id=message_id), "li")
        inbox.messages[(await bot.send(parcel, "k")).ticket] = message_id
        button = vendor.sent[0][1]["reply_markup"]["inline_keyboard"][0][0]
        vendor.presses(button["callback_data"], 101)
        await until(lambda: vendor.pressed)
    (taken,) = inbox.taken
    assert (taken.reply_to, taken.labels) == (message_id, {"user_id": "7", "user": "Li", "action": "ack"})
    assert vendor.pressed == [(button["callback_data"], "✓")]


async def test_a_press_that_is_not_heard_does_not_look_so(vendor: FakeTelegram) -> None:
    """Of somebody whom the settings do not name, and of data that no message has."""
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"])
    inbox.strangers = {"99"}
    async with listening(bot, inbox):
        vendor.presses("ack:m-1", 101, chat=99)
        vendor.presses("ack:no id at all", 101)
        vendor.presses("ack:m-1", 101)
        await until(lambda: len(vendor.pressed) == 3)
    assert vendor.pressed == [("ack:m-1", ""), ("ack:no id at all", ""), ("ack:m-1", "✓")]


async def test_an_update_is_confirmed_only_after_the_inbox_has_it(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor)
    inbox.refusal = StorageFull("/data")
    async with listening(bot, inbox):
        vendor.writes("kept")
        await until(lambda: len(vendor.offsets) > 3)
        assert set(vendor.offsets) == {None}
        inbox.refusal = None
        await until(lambda: vendor.offsets[-1] is not None)
        await until(lambda: not vendor.updates)
    assert [envelope.content for envelope in inbox.taken] == ["kept"]


async def test_what_leads_nowhere_holds_nothing_up(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor)
    inbox.refusal = UnknownRecipient("model:auto", "no instance serves it")
    async with listening(bot, inbox):
        vendor.writes("nowhere")
        await until(lambda: vendor.offsets[-1:] not in ([], [None]))
        inbox.refusal = None
        vendor.writes("kept")
        await until(lambda: [envelope.content for envelope in inbox.taken] == ["kept"])


async def test_what_cannot_be_read_holds_nothing_up(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor)
    async with listening(bot, inbox):
        vendor.arrives(message={"message_id": "odd"})
        vendor.arrives(edited_message={})
        vendor.writes("", new_chat_title="no text")
        vendor.presses("ack:no id at all \x00", 9)
        vendor.writes("", caption="a picture", photo=[{"file_id": "f"}])
        await until(lambda: inbox.taken)
    (taken,) = inbox.taken
    assert (taken.content, taken.labels["attachment"]) == ("a picture\n[photo]", "photo")


def photo(**fields: Any) -> dict[str, Any]:
    """In its sizes, as Telegram has them."""
    small = {"file_id": "small", "file_unique_id": "s", "width": 90, "height": 67, "file_size": 900}
    return {"photo": [small, {**small, "file_id": "large", "width": 1280, "file_size": 90_000, **fields}]}


DOCUMENT = {"file_id": "doc", "file_unique_id": "d", "file_name": "计划.pdf", "mime_type": "application/pdf"}


async def test_pictures_and_files_come_along(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"])
    vendor.files |= {"large": ("photos/file_7.jpg", b"\xff\xd8gauge"), "doc": ("documents/file_8.pdf", b"%PDF")}
    async with listening(bot, inbox):
        vendor.writes("", caption="The gauge", **photo())
        vendor.writes("", document={**DOCUMENT, "file_size": 4})
        await until(lambda: len(inbox.taken) == 2)
    first, second = (envelope.content for envelope in inbox.taken)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [type(part).__name__ for part in (*first, *second)] == ["TextPart", "ImagePart", "FilePart"]
    url = "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8gauge").decode()
    assert first == [TextPart(text="The gauge"), ImagePart(image_url=ImageUrl(url=url))]
    url = "data:application/pdf;base64," + base64.b64encode(b"%PDF").decode()
    assert second == [FilePart(file=File(filename="计划.pdf", file_data=url))]


async def test_of_a_photo_the_largest_size_that_is_allowed_comes(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"], attachment_bytes=1_000)
    vendor.files["small"] = ("photos/file_1.jpg", b"\xff\xd8")
    async with listening(bot, inbox):
        vendor.writes("", **photo())
        await until(lambda: inbox.taken)
    assert "/9g=" in str(inbox.taken[0].content)


@pytest.mark.parametrize(
    ("fields", "path", "data"),
    [
        ({"file_size": 1_001}, "documents/file_8.pdf", b"%PDF"),
        ({"file_size": 4}, "documents/file_8.pdf", b"x" * 1_001),  # more than it says
        ({"file_size": -1}, "documents/file_8.pdf", b"%PDF"),
        ({"file_id": "gone"}, "documents/file_8.pdf", b"%PDF"),
        ({}, f"../bot{TOKEN}/close", b"%PDF"),
        ({}, "documents/../../x", b"%PDF"),
        ({}, "/var/lib/telegram-bot-api/file_8.pdf", b"%PDF"),  # of a server with --local
        ({}, "documents/file_8.pdf?x#y", b"%PDF"),
    ],
)
async def test_a_file_that_is_not_to_be_had_is_named(
    vendor: FakeTelegram, fields: dict[str, Any], path: str, data: bytes
) -> None:
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"], attachment_bytes=1_000)
    vendor.files["doc"] = (path, data)
    async with listening(bot, inbox):
        vendor.writes("", document={**DOCUMENT, **fields}, caption="See")
        await until(lambda: inbox.taken)
    assert (inbox.taken[0].content, inbox.taken[0].labels["attachment"]) == ("See\n[document]", "document")


@pytest.mark.parametrize(("failures", "comes"), [(2, True), (3, False)])
async def test_a_file_is_tried_three_times_and_holds_up_nothing_more(
    vendor: FakeTelegram, failures: int, comes: bool
) -> None:
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"])
    vendor.files["doc"] = ("documents/file_8.pdf", b"%PDF")
    vendor.file_faults.extend([b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"] * failures)
    async with listening(bot, inbox):
        vendor.writes("", document=DOCUMENT)
        vendor.writes("next")
        await until(lambda: len(inbox.taken) == 2)
    assert ("data:" in str(inbox.taken[0].content), inbox.taken[1].content) == (comes, "next")


async def test_a_strangers_file_is_not_fetched(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor, senders=["li"])
    vendor.files["doc"] = ("documents/file_8.pdf", b"%PDF")
    async with listening(bot, inbox):
        vendor.writes("", document=DOCUMENT, chat=99)
        await until(lambda: inbox.taken)
    assert inbox.taken[0].content == "[document]"
    assert not [request for request in vendor.requests if request.path.endswith("/getFile")]


async def test_two_programs_that_poll_are_told_of_each_other(vendor: FakeTelegram) -> None:
    first, second = channel(vendor), channel(vendor)
    async with listening(first, KeptInbox()):
        await until(lambda: vendor.polls)
        async with listening(second, KeptInbox()):
            await until(lambda: second._has_conflict)
            health = await second.check()
    assert (health.ok, health.code) == (False, "409")


async def test_polling_survives_what_telegram_does(vendor: FakeTelegram) -> None:
    inbox, bot = KeptInbox(), channel(vendor)
    vendor.faults.extend(["transient", "auth", "server_error", "cut", "garbage"])
    async with listening(bot, inbox):
        await until(lambda: vendor.polls)
        vendor.writes("still here")
        await until(lambda: inbox.taken)
    assert not vendor.faults


async def test_a_bot_that_shall_not_receive_does_not_poll(vendor: FakeTelegram) -> None:
    with anyio.fail_after(5):
        await channel(vendor, receive=False).run(KeptInbox())
    assert vendor.offsets == []
