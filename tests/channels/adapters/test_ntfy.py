"""ntfy against a strict fake, both ways."""

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from autoglm.channels import web
from autoglm.channels.adapters import ntfy
from autoglm.channels.adapters.ntfy import Ntfy, NtfySettings, priority_of, read_event
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.choices import chosen_by
from autoglm.channels.settings import parse_channel
from autoglm.core.errors import StorageFull
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message, no_blob
from eventually import until
from fakes.ntfy import PASSWORD, REPLIES, TOKEN, TOPIC, USER, FakeNtfy
from fakes.vendor import HTTP_FAULTS


def channel(vendor: FakeNtfy, topic: dict[str, Any] | None = None, **fields: Any) -> Ntfy:
    known = {"name": "phones", "kind": "ntfy", "url": vendor.url, "topics": {"line": {"topic": TOPIC, **(topic or {})}}}
    settings = parse_channel({**known, **({} if "password" in fields else {"token": TOKEN}), **fields})
    assert isinstance(settings, NtfySettings)
    return Ntfy(settings, Resources("phones", no_blob))


@pytest.fixture
def vendor() -> Iterator[FakeNtfy]:
    with FakeNtfy() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: FakeNtfy) -> AsyncIterator[Rig]:
    phones = channel(vendor)
    yield Rig(
        phones, target="line", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(TOKEN, TOPIC), limit=4096,
        faults=HTTP_FAULTS,
        form=lambda filler: {"ntfy": {"title": "t", "actions": [filler]}},
    )  # fmt: skip
    await phones.aclose()


class TestContract(ChannelContract):
    pass


# --- out ---------------------------------------------------------------------------------------------


async def test_ntfys_own_code_and_pause_are_told(vendor: FakeNtfy, rig: Rig) -> None:
    vendor.faults.append("throttled")
    (found,) = await rig.send(message())
    assert (found.failure, found.code, found.retry_after_s) == ("throttled", "42901", 5.0)


async def test_title_tags_priority_and_own_fields_go_along(vendor: FakeNtfy, rig: Rig) -> None:
    view = {"action": "view", "label": "Open", "url": "https://hub.example/"}
    parts = [
        {"type": "text", "text": "It is down."},
        {"type": "image_url", "image_url": {"url": "https://cam.example/7.jpg"}},
        {"type": "json", "json": {"ntfy": {"actions": [view], "topic": "stolen"}}},
    ]
    labels = {"title": "Press", "tags": "rotating_light, line7", "click": "https://hub.example/m"}
    await rig.send(message(parts, labels=labels, priority=9))
    (found,) = vendor.messages
    assert {name: found[name] for name in found if name not in ("id", "time", "event")} == {
        "topic": TOPIC, "message": "It is down.", "title": "Press", "tags": ["rotating_light", "line7", "autoglm"],
        "click": "https://hub.example/m", "priority": 5, "attach": "https://cam.example/7.jpg", "actions": [view],
    }  # fmt: skip


async def test_further_pictures_and_files_are_named(vendor: FakeNtfy, rig: Rig) -> None:
    pictures = [{"type": "image_url", "image_url": {"url": f"https://cam.example/{one}.jpg"}} for one in (7, 8)]
    file = {"type": "file", "file": {"file_id": "f" * 64, "filename": "plan.pdf"}}
    await rig.send(message([{"type": "text", "text": "See:"}, *pictures, file]))
    (found,) = vendor.messages
    assert found["attach"] == "https://cam.example/7.jpg"
    assert vendor.texts == ["See:\nhttps://cam.example/8.jpg\n[file / 文件: plan.pdf]"]


def test_priorities_are_ntfys_five() -> None:
    assert [priority_of(priority) for priority in range(10)] == [1, 1, 2, 2, 3, 3, 3, 4, 4, 5]


async def test_a_text_of_quotes_is_no_larger_than_ntfy_takes(vendor: FakeNtfy, rig: Rig) -> None:
    """In JSON each has two bytes."""
    found = await rig.send(message('"\n' * 4000, labels={"title": '"' * 1024, "click": "https://x/" + "c" * 1000}))
    assert {delivery.outcome for delivery in found} == {"accepted"}


@pytest.mark.parametrize("size", [2 << 20, (2 << 20) + 1])
async def test_a_picture_in_the_message_is_uploaded_up_to_the_limit(vendor: FakeNtfy, rig: Rig, size: int) -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    if size > 2 << 20:
        with pytest.raises(Cannot) as caught:
            rig.channel.compose(message(content), "line")
        assert caught.value.delivery.failure == "too_large"
        return
    assert [delivery.outcome for delivery in await rig.send(message(content))] == ["accepted"]
    assert [len(upload) for upload in vendor.uploads] == [size]


@pytest.mark.parametrize("content", ["", " \n", [{"type": "json", "json": {"a": 1}}]])
def test_what_ntfy_cannot_show_is_refused(vendor: FakeNtfy, content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        channel(vendor).compose(message(content), "line")
    assert caught.value.delivery.code == "empty"


async def test_basic_authentication(vendor: FakeNtfy) -> None:
    for password, code in ((PASSWORD, ""), ("wrong", "40101")):
        phones = channel(vendor, username=USER, password=password)
        (parcel,) = phones.compose(message(), "line")
        assert (await phones.send(parcel, "k")).code == code
        assert (await phones.check()).code == code
        await phones.aclose()


@pytest.mark.parametrize("topic", ["", "a b", "a/b", "压", "x" * 65])
def test_a_topic_that_ntfy_has_not_is_refused_in_the_settings(vendor: FakeNtfy, topic: str) -> None:
    with pytest.raises(ValidationError):
        channel(vendor, {"topic": topic})


def test_two_topics_share_no_answers(vendor: FakeNtfy) -> None:
    """Nobody could say which one an answer is from."""
    topics = {name: {"topic": f"{TOPIC}-{name}", "replies": REPLIES} for name in ("a", "b")}
    with pytest.raises(ValidationError, match="named twice") as caught:
        channel(vendor, topics=topics)
    assert len(caught.value.errors()) == 1


def test_a_button_that_would_do_nothing_is_refused(vendor: FakeNtfy) -> None:
    with pytest.raises(ValidationError, match=r'senders = \["line"\]'):
        channel(vendor, {"replies": REPLIES})
    channel(vendor, {"replies": REPLIES}, senders=["li*"])


# --- in ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(phones: Ntfy, inbox: KeptInbox) -> AsyncIterator[None]:
    async with aclosing(phones), anyio.create_task_group() as tasks:
        tasks.start_soon(phones.run, inbox)
        yield
        tasks.cancel_scope.cancel()


async def test_what_a_phone_writes_comes_in_and_the_hubs_own_does_not(vendor: FakeNtfy) -> None:
    inbox, phones = KeptInbox(), channel(vendor, {"subscribe": True}, incoming_to="user:bob")
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        (parcel,) = phones.compose(message(), "line")
        await phones.send(parcel, "k")
        vendor.phone_writes("On my way", title="Li", priority=5, tags=["car"])
        await until(lambda: inbox.taken)
    (taken,) = inbox.taken
    assert (taken.from_, taken.to, taken.content, taken.priority) == ("channel:phones/line", "user:bob", "On my way", 9)
    assert (taken.labels, taken.timestamp) == ({"title": "Li", "tags": "car"}, 1_790_000_000_000)


async def test_nothing_is_lost_when_the_stream_is_cut(vendor: FakeNtfy) -> None:
    """What was written meanwhile is in the server's cache; what came already is not asked for again."""
    inbox, phones = KeptInbox(), channel(vendor, {"subscribe": True})
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        vendor.phone_writes("first")
        await until(lambda: inbox.taken)
        vendor.cut_streams()
        vendor.phone_writes("second")
        await until(lambda: len(inbox.taken) == 2)
    assert [envelope.content for envelope in inbox.taken] == ["first", "second"]
    assert vendor.sinces == ["43200s", vendor.messages[0]["id"]]


async def test_what_the_inbox_refused_comes_again(vendor: FakeNtfy) -> None:
    inbox, phones = KeptInbox(), channel(vendor, {"subscribe": True})
    inbox.refusal = StorageFull("/data")
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        vendor.phone_writes("kept")
        await until(lambda: len(vendor.sinces) > 2)
        inbox.refusal = None
        await until(lambda: inbox.taken)
    assert [envelope.content for envelope in inbox.taken] == ["kept"]


async def test_a_revoked_token_does_not_end_the_subscription(vendor: FakeNtfy) -> None:
    inbox, phones = KeptInbox(), channel(vendor, {"subscribe": True})
    vendor.faults.extend(["auth"] * 3)
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        vendor.phone_writes("back")
        await until(lambda: inbox.taken)
    assert not vendor.faults


async def test_a_stream_that_says_nothing_is_opened_anew(vendor: FakeNtfy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntfy, "IDLE_S", 0.05)
    async with listening(channel(vendor, {"subscribe": True}), KeptInbox()):
        await until(lambda: len(vendor.sinces) > 2)


async def test_the_button_acknowledges(vendor: FakeNtfy) -> None:
    """What ntfy's app would post when it is pressed is posted here."""
    inbox, phones = KeptInbox(), channel(vendor, {"replies": REPLIES}, senders=["line"])
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        (parcel,) = phones.compose(message(), "line")
        await phones.send(parcel, "k")
        (button,) = vendor.messages[0]["actions"]
        assert button["url"] == f"{vendor.url}/{REPLIES}"
        vendor.phone_writes(button["body"], REPLIES)
        await until(lambda: inbox.taken)
    (taken,) = inbox.taken
    assert (taken.reply_to, taken.labels, taken.from_) == ("m-1", {"action": "ack"}, "channel:phones/line")


@pytest.mark.parametrize(
    ("text", "shown"), [("Press 7\nIt is down.", "It is down."), ("Press 7", "Press 7"), ("Press 71", "Press 71")]
)
async def test_a_title_is_not_said_twice(vendor: FakeNtfy, text: str, shown: str) -> None:
    phones = channel(vendor)
    (parcel,) = phones.compose(message(text, labels={"title": "Press 7"}), "line")
    await phones.send(parcel, "k")
    assert (vendor.messages[0]["title"], vendor.messages[0]["message"]) == ("Press 7", shown)
    await phones.aclose()


@pytest.mark.parametrize(
    ("text", "labels", "shown"),
    [("None\nof them runs", {}, "None\nof them runs"), ("Fire\n", {"title": "Fire"}, "Fire")],
)
async def test_a_text_keeps_what_is_no_title_and_is_never_left_empty(
    vendor: FakeNtfy, rig: Rig, text: str, labels: dict[str, str], shown: str
) -> None:
    await rig.send(message(text, labels=labels))
    assert vendor.messages[0]["message"].rstrip() == shown


async def test_a_question_has_buttons_for_its_first_answers_and_the_rest_in_its_text(vendor: FakeNtfy) -> None:
    inbox, phones = KeptInbox(), channel(vendor, {"replies": REPLIES}, senders=["line"])
    question = message("Stop it?", labels={"choices": '["stop", "停", "later", "never"]'})
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        (parcel,) = phones.compose(question, "line")
        await phones.send(parcel, "k")
        (sent,) = vendor.messages
        assert [button["label"] for button in sent["actions"]] == ["stop", "停", "later"]
        assert sent["message"] == "Stop it?\n4. never"
        vendor.phone_writes(sent["actions"][1]["body"], REPLIES)
        await until(lambda: inbox.taken)
    (taken,) = inbox.taken
    assert (taken.reply_to, chosen_by(taken, ["stop", "停", "later", "never"])) == ("m-1", "停")


@pytest.mark.parametrize(
    ("own", "count"), [(5, 1), ("view", 1), ([{"action": "view", "label": "x", "url": "y"}] * 4, 3)]
)
async def test_whatever_actions_a_sender_names_the_button_is_the_first_of_three(
    vendor: FakeNtfy, own: Any, count: int
) -> None:
    phones = channel(vendor, {"replies": REPLIES}, senders=["line"])
    parts = [{"type": "text", "text": "Down."}, {"type": "json", "json": {"ntfy": {"actions": own}}}]
    (parcel,) = phones.compose(message(parts), "line")
    assert (await phones.send(parcel, "k")).outcome == "accepted"
    actions = vendor.messages[0]["actions"]
    assert (len(actions), actions[0]["label"]) == (count, "Acknowledge")
    await phones.aclose()


async def test_an_acknowledgement_of_no_message_holds_nothing_up(vendor: FakeNtfy) -> None:
    inbox, phones = KeptInbox(), channel(vendor, {"subscribe": True})
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        vendor.phone_writes("ack:\x00 no id")
        vendor.phone_writes("next")
        await until(lambda: inbox.taken)
    assert [envelope.content for envelope in inbox.taken] == ["next"]


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\n", b"[]", b'{"id":"x","event":"keepalive"}', b'{"id":"x","event":"message","time":"y"}', b"{" * 9],
)
def test_lines_that_are_no_message_are_left(line: bytes) -> None:
    assert read_event(line) is None


async def test_a_line_that_is_too_long_is_a_failure_and_no_flood(
    vendor: FakeNtfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub asks again, and goes on with what can be read."""
    monkeypatch.setattr(web, "LINE_BYTES", 10_000)
    inbox, phones = KeptInbox(), channel(vendor, {"subscribe": True})
    async with listening(phones, inbox):
        await until(lambda: vendor.streams)
        vendor.phone_writes("x" * 10_000)
        await until(lambda: len(vendor.sinces) > 1)
        vendor.messages.clear()
        vendor.phone_writes("next")
        await until(lambda: inbox.taken)
    assert [envelope.content for envelope in inbox.taken] == ["next"]
