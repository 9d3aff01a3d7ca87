"""Mail in, from a real IMAP server."""

import asyncio
import base64
import contextlib
import functools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from structlog.testing import capture_logs

from autoglm.channels import web
from autoglm.channels.adapters.mail import imap
from autoglm.channels.adapters.mail.channel import MailChannel
from autoglm.channels.adapters.mail.message_id import message_id
from autoglm.channels.adapters.mail.settings import MailSettings
from autoglm.channels.channel import Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope, FilePart, ImagePart, Part, TextPart
from autoglm.core.errors import PayloadTooLarge, StorageFull
from contracts.channel_contract import KeptInbox, no_blob
from eventually import until
from fakes.imap_server import PASSWORD, USER, MailboxServer, Security, imap_server

SENT = message_id("m-1", "alice@example.org", "hub.example")
"""The Message-ID of a mail that the hub sent."""


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[MailboxServer]:
    async with imap_server(authority) as server:
        yield server


def channel(
    server: MailboxServer, ca_file: Path | None, imap: dict[str, Any] | None = None, **fields: Any
) -> MailChannel:
    wanted = {"host": "localhost", "port": server.port, "username": USER, "password": PASSWORD, "ca_file": ca_file}
    settings = parse_channel(
        {"name": "mail", "kind": "mail", "address": "hub@hub.example", "senders": ["*"], "incoming_to": "model:auto",
         "imap": {**wanted, "security": server.security, **(imap or {})}, **fields}
    )  # fmt: skip
    assert isinstance(settings, MailSettings)
    return MailChannel(settings, Resources("mail", no_blob))


@asynccontextmanager
async def running(mail: MailChannel, inbox: KeptInbox) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mail.run, inbox)
        yield
        tasks.cancel_scope.cancel()
        ended_s = time.monotonic()
    assert time.monotonic() - ended_s < 5.0, "it waited for the server"


def mail_of(text: str = "When does it start?", **headers: str) -> EmailMessage:
    mail = EmailMessage()
    wanted = {"From": "Alice <Alice@Example.org>", "To": "hub@hub.example", "Subject": "A question",
              "Message-ID": "<q1@their.example>", "Date": "Thu, 26 Nov 2026 10:00:00 +0800"}  # fmt: skip
    for name, value in {**wanted, **{name.replace("_", "-"): value for name, value in headers.items()}}.items():
        if value:
            mail[name] = value
    mail.set_content(text)
    return mail


async def taken(server: MailboxServer, ca_file: Path, *mails: EmailMessage | bytes, **fields: Any) -> KeptInbox:
    """What the hub has after it has seen all mails."""
    inbox = KeptInbox()
    inbox.messages[SENT] = "m-1"
    inbox.strangers = fields.pop("strangers", set())
    for mail in mails:
        await server.append(mail if isinstance(mail, bytes) else mail.as_bytes())
    async with running(channel(server, ca_file, fields.pop("imap", None), **fields), inbox):
        await settled(server, len(mails))
    return inbox


def parts_of(inbox: KeptInbox) -> list[Part]:
    content = inbox.taken[0].content
    assert isinstance(content, list)
    return content


def has(inbox: KeptInbox, count: int) -> Callable[[], bool]:
    return lambda: len(inbox.taken) == count


def has_more_sessions(server: MailboxServer, before: int) -> bool:
    return server.sessions > before


async def settled(server: MailboxServer, count: int) -> None:
    """Each mail is read or set aside."""
    await until_flags(server, lambda flags: sum(bool(one & {"\\Seen", "\\Flagged"}) for one in flags) == count)


async def until_flags(server: MailboxServer, condition: Callable[[list[set[str]]], bool]) -> None:
    with anyio.fail_after(20.0):
        while not condition(await server.flags()):  # noqa: ASYNC110  # the server tells nobody of flags
            await anyio.sleep(0.01)


# --- taking in


async def test_a_mail_becomes_a_message(server: MailboxServer, ca_file: Path) -> None:
    inbox = await taken(server, ca_file, mail_of("When does it start? 几点开始？"))
    (envelope,) = inbox.taken
    assert (envelope.from_, envelope.to) == ("channel:mail/alice@example.org", "model:auto")
    assert (envelope.content, envelope.labels) == ("When does it start? 几点开始？", {"title": "A question"})
    assert (envelope.thread, envelope.reply_to) == ("mail:q1@their.example", None)
    assert envelope.timestamp == 1_795_658_400_000
    assert await server.flags() == [{"\\Seen"}]


@pytest.mark.parametrize("security", ["starttls", "none"])
async def test_it_comes_in_by_each_way(authority: trustme.CA, ca_file: Path, security: Security) -> None:
    async with imap_server(authority, security=security) as server:
        assert (await channel(server, ca_file).check()).ok
        assert len((await taken(server, ca_file, mail_of())).taken) == 1


async def test_a_new_mail_is_announced(server: MailboxServer, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By IDLE: it does not wait for the next look, which is in 25 minutes; and looks only when told."""
    looks: list[list[str]] = []
    waiting = imap.MailboxConnection.waiting

    def counted(box: imap.MailboxConnection) -> list[str]:
        looks.append(waiting(box))
        return looks[-1]

    idles: list[bool] = []
    begin_idle = imap.MailboxConnection.begin_idle

    def idling(box: imap.MailboxConnection) -> bool:
        idles.append(begin_idle(box))
        return idles[-1]

    monkeypatch.setattr(imap.MailboxConnection, "waiting", counted)
    monkeypatch.setattr(imap.MailboxConnection, "begin_idle", idling)
    inbox = KeptInbox()
    async with running(channel(server, ca_file, {"poll_s": 1500}), inbox):
        for number in range(3):
            seen = len(looks)
            # pymap announces no mail that comes between a look and IDLE
            await until(lambda seen=seen: idles and len(idles) == len(looks) >= max(1, seen))  # type: ignore[misc]
            await server.append(mail_of(f"number {number}").as_bytes())
            await until(has(inbox, number + 1))
    assert [envelope.content for envelope in inbox.taken] == ["number 0", "number 1", "number 2"]
    assert len(looks) <= 10, looks


async def test_without_idle_it_looks_again_and_again(authority: trustme.CA, ca_file: Path) -> None:
    inbox = KeptInbox()
    async with (
        imap_server(authority, can_idle=False) as server,
        running(channel(server, ca_file, {"poll_s": 1}), inbox),
    ):
        await until(lambda: server.sessions == 1)
        await server.append(mail_of().as_bytes())
        await until(lambda: inbox.taken)
        assert server.sessions == 2  # ours, and that of `append`


async def test_a_lost_connection_comes_back(server: MailboxServer, ca_file: Path) -> None:
    inbox = KeptInbox()
    async with running(channel(server, ca_file, {"poll_s": 1}), inbox):
        await until(lambda: server.sessions == 1)
        for number in range(3):
            server.cut()
            await until(functools.partial(has_more_sessions, server, server.sessions))
            await server.append(mail_of(f"number {number}").as_bytes())
            await until(has(inbox, number + 1))
    assert [envelope.content for envelope in inbox.taken] == ["number 0", "number 1", "number 2"]


async def test_a_connection_that_dies_without_a_word_is_noticed(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a router that forgot it: the hub waits to be told, nothing comes any more, and nothing says so."""
    monkeypatch.setattr(web, "TIMEOUT_S", 0.5)
    idling = asyncio.Event()
    relayed: list[int] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, dies: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not (dies and idling.is_set()):
                    writer.write(data)
                if data.startswith(b"+ "):  # the server's word that it will tell (RFC 2177)
                    idling.set()
        writer.close()

    async with imap_server(authority, security="none") as server:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            relayed.append(1)
            dies = len(relayed) == 1
            from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(functools.partial(pass_on, reader, to_server, dies=dies))
                tasks.start_soon(functools.partial(pass_on, from_server, writer, dies=dies))

        inbox = KeptInbox()
        async with await asyncio.start_server(relay, "127.0.0.1", 0) as between:
            port = between.sockets[0].getsockname()[1]
            async with running(channel(server, ca_file, {"port": port, "poll_s": 1}), inbox):
                await idling.wait()
                await server.append(mail_of().as_bytes())
                await until(has(inbox, 1))
    assert len(relayed) == 2


async def test_a_server_that_is_down_at_first_is_waited_for(authority: trustme.CA, ca_file: Path) -> None:
    async with imap_server(authority) as first:
        mail = channel(first, ca_file)
    inbox = KeptInbox()
    async with running(mail, inbox):
        with capture_logs() as logs:
            await until(lambda: [entry for entry in logs if entry["event"] == "mailbox_lost"])
        async with imap_server(authority, port=first.port) as second:
            await second.append(mail_of().as_bytes())
            await until(lambda: inbox.taken)


async def test_what_the_inbox_refuses_stays_unread_and_is_taken_later_once(
    server: MailboxServer, ca_file: Path
) -> None:
    inbox = KeptInbox()
    inbox.refusal = StorageFull("disk full")
    await server.append(mail_of().as_bytes())
    async with running(channel(server, ca_file), inbox):
        with capture_logs() as logs:
            await until(lambda: len([entry for entry in logs if entry["event"] == "mailbox_lost"]) >= 2)
        assert await server.flags() == [set()]
        inbox.refusal = None
        await settled(server, 1)
    assert len(inbox.taken) == 1


async def test_what_the_inbox_will_never_take_holds_up_nothing(server: MailboxServer, ca_file: Path) -> None:
    class Picky(KeptInbox):
        async def take(self, envelope: Envelope) -> bool:
            if envelope.content == "poison":
                raise PayloadTooLarge(1)
            return await super().take(envelope)

    inbox = Picky()
    for text in ("poison", "good"):
        await server.append(mail_of(text).as_bytes())
    async with running(channel(server, ca_file), inbox):
        await settled(server, 2)
    assert [envelope.content for envelope in inbox.taken] == ["good"]
    assert await server.flags() == [{"\\Flagged"}, {"\\Seen"}]


@pytest.mark.parametrize("security", ["none", "tls"])
async def test_a_server_that_says_nothing_does_not_hold_up_the_end(ca_file: Path, security: Security) -> None:
    """`run` can be cancelled while its thread waits for a greeting, and the thread ends as well."""
    connected, ended = anyio.Event(), anyio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        silent = MailboxServer(security, ssl.create_default_context())
        silent.port = server.sockets[0].getsockname()[1]
        with anyio.fail_after(5.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel(silent, ca_file).run, KeptInbox())
                await connected.wait()
                tasks.cancel_scope.cancel()
            await ended.wait()


async def test_a_cut_between_taking_and_marking_brings_the_same_id_again(server: MailboxServer, ca_file: Path) -> None:
    """So that the inbox takes it once."""
    ids: list[str] = []

    class Counting(KeptInbox):
        async def take(self, envelope: Envelope) -> bool:
            ids.append(envelope.id)
            if len(ids) == 1:
                server.cut()
            return await super().take(envelope)

    inbox = Counting()
    await server.append(mail_of().as_bytes())
    async with running(channel(server, ca_file), inbox):
        await until(lambda: len(ids) == 2)
        await settled(server, 1)
    assert len(set(ids)) == len(inbox.taken) == 1


async def test_the_same_message_id_twice_is_two_messages(server: MailboxServer, ca_file: Path) -> None:
    """Anybody can copy a Message-ID; the place in the mailbox is the server's own."""
    inbox = await taken(server, ca_file, mail_of("one"), mail_of("two"))
    assert [envelope.content for envelope in inbox.taken] == ["one", "two"]


async def test_taken_mails_can_be_moved(server: MailboxServer, ca_file: Path) -> None:
    inbox = KeptInbox()
    await server.append(mail_of().as_bytes())
    async with running(channel(server, ca_file, {"move_to": "已处理"}), inbox):
        await until(lambda: inbox.taken)
        await until_flags(server, lambda flags: not flags)
    assert await server.flags('"&XfJZBHQG-"') == [{"\\Seen"}]


async def test_what_others_marked_as_deleted_is_not_expunged(server: MailboxServer, ca_file: Path) -> None:
    await server.append(mail_of().as_bytes(), flags="(\\Deleted)")
    inbox = KeptInbox()
    await server.append(mail_of("second").as_bytes())
    async with running(channel(server, ca_file), inbox):
        await settled(server, 1)
    assert await server.flags() == [{"\\Deleted"}, {"\\Seen"}]
    assert [envelope.content for envelope in inbox.taken] == ["second"]


# --- conversations


async def test_an_answer_names_the_message_that_it_answers(server: MailboxServer, ca_file: Path) -> None:
    text = "Yes, do it.\n\nOn Thu, 26 Nov 2026 at 10:00, AutoGLM Hub\n<hub@hub.example> wrote:\n> Shall I?\n> Really?\n"
    root = "<shift-7+thread@hub.example>"
    inbox = await taken(server, ca_file, mail_of(text, In_Reply_To=SENT, References=f"{root} {SENT}"))
    (envelope,) = inbox.taken
    assert (envelope.content, envelope.reply_to, envelope.thread) == ("Yes, do it.", "m-1", "shift-7")


async def test_a_message_id_that_this_hub_never_sent_acknowledges_nothing(server: MailboxServer, ca_file: Path) -> None:
    """Or anybody could approve what somebody else was asked."""
    forged = message_id("m-2", "alice@example.org", "hub.example")
    inbox = await taken(server, ca_file, mail_of(In_Reply_To=forged))
    assert [envelope.reply_to for envelope in inbox.taken] == [None]


async def test_mails_of_one_thread_are_one_conversation(server: MailboxServer, ca_file: Path) -> None:
    second = mail_of(Message_ID="<q2@their.example>", References="<q1@their.example> <x@y>", In_Reply_To="<x@y>")
    inbox = await taken(server, ca_file, mail_of(), second)
    assert {envelope.thread for envelope in inbox.taken} == {"mail:q1@their.example"}


# --- what is in a mail


async def test_attachments_become_parts(server: MailboxServer, ca_file: Path) -> None:
    mail = mail_of("See:")
    mail.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="a.png")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="报告.pdf")
    mail.add_attachment(bytes(3000), maintype="application", subtype="zip", filename="large.zip")
    inbox = await taken(server, ca_file, mail, imap={"attachment_bytes": 1000})
    text, picture, file = parts_of(inbox)
    assert isinstance(text, TextPart)
    assert text.text.splitlines()[0] == "See:"
    assert "large.zip, 3000 bytes" in text.text
    assert isinstance(picture, ImagePart)
    assert picture.image_url.url == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert isinstance(file, FilePart)
    assert (file.file.filename, file.file.file_data) == ("报告.pdf", "data:application/pdf;base64,JVBERg==")


# --- what is not taken


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Auto_Submitted": "auto-replied"}, "automatic"),
        ({"Auto_Submitted": "auto-generated (a program)"}, "automatic"),
        ({"X_AutoGLM_Loop": "other@hub.example"}, "own_mail"),
        ({"From": "hub@hub.example"}, "own_mail"),
        ({"Precedence": "Bulk"}, "mailing_list"),
        ({"List_Id": "<ops.example.org>"}, "mailing_list"),
        ({"Return_Path": "<>"}, "daemon"),
        ({"From": "Mail Delivery <MAILER-DAEMON@mx.example>"}, "daemon"),
        ({"From": ""}, "no_sender"),
        ({"From": "undisclosed"}, "no_sender"),
        ({"From": f"{'a' * 200}@example.org"}, "no_address"),
    ],
)
async def test_what_a_machine_wrote_is_set_aside_and_told(
    server: MailboxServer, ca_file: Path, headers: dict[str, str], reason: str
) -> None:
    with capture_logs() as logs:
        inbox = await taken(server, ca_file, mail_of(**headers), mail_of("by a person", Message_ID="<p@x>"))
    assert [envelope.content for envelope in inbox.taken] == ["by a person"]
    assert [entry["reason"] for entry in logs if entry["event"] == "mail_set_aside"] == [reason]
    assert await server.flags() == [{"\\Flagged"}, {"\\Seen"}]


async def test_an_explicit_no_is_a_person(server: MailboxServer, ca_file: Path) -> None:
    assert len((await taken(server, ca_file, mail_of(Auto_Submitted="no"))).taken) == 1


async def test_too_many_of_one_sender_are_set_aside(server: MailboxServer, ca_file: Path) -> None:
    mails = [mail_of(f"number {number}") for number in range(4)]
    other = mail_of("by bob", From="bob@example.org")
    inbox = await taken(server, ca_file, *mails, other, imap={"per_sender_per_hour": 2})
    assert [envelope.content for envelope in inbox.taken] == ["number 0", "number 1", "by bob"]
    assert await server.flags() == [{"\\Seen"}, {"\\Seen"}, {"\\Flagged"}, {"\\Flagged"}, {"\\Seen"}]


@pytest.mark.parametrize(
    ("results", "is_taken"),
    [
        ("mx.hub.example; spf=pass smtp.mailfrom=a@b; dmarc=pass header.from=example.org", True),
        ("mx.hub.example 1; dmarc=pass (p=reject) header.from=example.org", True),
        ("mx.hub.example; dmarc=fail header.from=example.org", False),
        ("mx.evil.example; dmarc=pass", False),
        ("mx.hub.example; spf=pass (dmarc=pass)", False),
        ("MX.Hub.Example; dmarc = PASS header.from=Example.ORG", True),
        ("mx.hub.example; dmarc=pass header.from=evil.example", False),
        ("mx.hub.example; dmarc=pass", False),
        # What follows has text of the sender's in it: of the address that the mail came from, and of comments.
        ('mx.hub.example; spf=pass smtp.mailfrom="; dmarc=pass header.from=example.org "@evil.example', False),
        ('mx.hub.example; spf=pass smtp.mailfrom="\\"; dmarc=pass header.from=example.org "@evil.example', False),
        ("mx.hub.example; spf=none (a (b); dmarc=pass header.from=example.org )", False),
        (
            "mx.hub.example; spf=pass "
            "smtp.mailfrom==?us-ascii?q?x=3B_dmarc=3Dpass_header.from=3Dexample.org_?=@evil.example",
            False,
        ),
        ("mx.hub.example; dmarc=pass header.from=example.org; dmarc=fail header.from=example.org", False),
        # As Microsoft, Gmail and others write it.
        ("mx.hub.example; dmarc=pass action=none header.from=example.org;compauth=pass reason=100", True),
        ("mx.hub.example; dmarc=pass(p=REJECT)header.from=example.org;", True),
        ("mx.hub.example; dmarc/1 = pass header.from = alice@example.org.", True),
        # Only the property itself counts, and each of them.
        ("mx.hub.example; dmarc=pass policy.x-header.from=example.org", False),
        ("mx.hub.example; dmarc=pass smtp.helo=a/header.from=example.org header.from=evil.example", False),
        ("mx.hub.example; dmarc=pass header.from=example.org header.from=evil.example", False),
        ("mx.hub.example; dmarc=pass header.from=example.org.evil.example", False),
        ("mx.hub.example; dmarc=pass header.from=evil-example.org", False),
        ("mx.hub.example; dmarc=pass header.from=sub.example.org", False),
        ("mx.hub.example; x-dmarc=pass header.from=example.org", False),
        ("mx.hub.example; dmarc=passed header.from=example.org", False),
        ("mx.hub.example.evil.example; dmarc=pass header.from=example.org", False),
        ("", False),
    ],
)
async def test_a_sender_can_have_to_be_confirmed(
    server: MailboxServer, ca_file: Path, results: str, is_taken: bool
) -> None:
    mail = f"Authentication-Results: {results}\r\n".encode() + mail_of().as_bytes()  # as it is, unlike EmailMessage's
    inbox = await taken(server, ca_file, mail, imap={"authenticated_by": "mx.hub.example"})
    assert bool(inbox.taken) is is_taken


@pytest.mark.parametrize("domain", ["bücher.example", "xn--bcher-kva.example"])
async def test_a_domain_of_another_script_is_confirmed_in_either_form(
    server: MailboxServer, ca_file: Path, domain: str
) -> None:
    results = f"Authentication-Results: mx.hub.example; dmarc=pass header.from={domain}"
    mail = f"{results}\r\nFrom: alice@bücher.example\r\nMessage-ID: <q1@x>\r\n\r\nhello\r\n".encode()
    inbox = await taken(server, ca_file, mail, imap={"authenticated_by": "mx.hub.example"})
    assert len(inbox.taken) == 1


@pytest.mark.parametrize(
    "sender",
    [
        "=?utf-8?q?boss=40example=2Eorg=2C?= <attacker@evil.example>",
        "boss@example.org]<attacker@evil.example>",
        "boss@example.org, attacker@evil.example",
        "boss@example.org\r\nFrom: attacker@evil.example",
    ],
)
async def test_nobody_confirmed_writes_in_anothers_name(server: MailboxServer, ca_file: Path, sender: str) -> None:
    """The mail server vouches for evil.example, which wrote so that other readers see somebody else's address."""
    results = "Authentication-Results: mx.hub.example; dmarc=pass header.from=evil.example"
    mail = f"{results}\r\nFrom: {sender}\r\nMessage-ID: <q1@evil.example>\r\n\r\napproved\r\n".encode()
    inbox = await taken(server, ca_file, mail, imap={"authenticated_by": "mx.hub.example"})
    assert "boss" not in "".join(envelope.from_ for envelope in inbox.taken)


async def test_a_mail_of_a_stranger_is_not_marked_as_read(server: MailboxServer, ca_file: Path) -> None:
    """It is not on the hub's disk: whoever looks into the mailbox must find it."""
    with capture_logs() as logs:
        await taken(server, ca_file, mail_of(), senders=["bob@example.org"], strangers={"alice@example.org"})
    assert [entry["reason"] for entry in logs if entry["event"] == "mail_set_aside"] == ["sender_refused"]
    assert await server.flags() == [{"\\Flagged"}]


@pytest.mark.attack("mail bomb")
async def test_a_bomb_is_set_aside_and_the_next_mail_is_taken(server: MailboxServer, ca_file: Path) -> None:
    """Others are in test_incoming_mail.py: this server cannot store them."""
    bomb = b"From: a@b.example\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\nhi\r\n"
    with capture_logs() as logs:
        inbox = await taken(server, ca_file, bomb, mail_of("after it"))
    assert [envelope.content for envelope in inbox.taken] == ["after it"]
    assert [entry["reason"] for entry in logs if entry["event"] == "mail_set_aside"] == ["header_too_long"]
    assert await server.flags() == [{"\\Flagged"}, {"\\Seen"}]


async def test_a_mail_of_10_mb_is_taken(server: MailboxServer, ca_file: Path) -> None:
    mail = mail_of("See:")
    mail.add_attachment(bytes(7_500_000), maintype="application", subtype="zip", filename="a.zip")
    inbox = await taken(server, ca_file, mail)
    _, file = parts_of(inbox)
    assert isinstance(file, FilePart)
    assert file.file.file_data is not None
    assert len(base64.b64decode(file.file.file_data.partition(",")[2])) == 7_500_000


async def test_a_mail_over_the_limit_is_not_even_fetched(
    server: MailboxServer, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    read = imap.MailboxConnection.read

    def counted(box: imap.MailboxConnection, uid: str) -> bytes | None:
        fetched.append(uid)
        return read(box, uid)

    monkeypatch.setattr(imap.MailboxConnection, "read", counted)
    inbox = await taken(server, ca_file, mail_of("x" * 70_000), mail_of("small"), max_mail_bytes=65_536)
    assert [envelope.content for envelope in inbox.taken] == ["small"]
    assert len(fetched) == 1
    assert await server.flags() == [{"\\Flagged"}, {"\\Seen"}]


# --- reports


def report(
    action: str, status: str, *, original: str = f"Message-ID: {SENT}\r\nSubject: x\r\n", extra: str = "",
    recipient: str = "Final-Recipient: rfc822; alice@example.org", return_path: str = "Return-Path: <>\r\n",
) -> bytes:  # fmt: skip
    """As Postfix writes it, and as it is delivered."""
    return (
        f"{return_path}From: MAILER-DAEMON@mx.example\r\nTo: hub@hub.example\r\nAuto-Submitted: auto-replied\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\nMIME-Version: 1.0\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nI'm sorry to have to inform you.\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n{extra}\r\n"
        f"{recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{original}\r\n--b--\r\n"
    ).encode()


_ENVELOPE_ID = f"Original-Envelope-Id: {SENT.replace('=', '+3D')}\r\n"


def _with_whole_mail(raw: bytes) -> bytes:
    return raw.replace(b"text/rfc822-headers", b"message/rfc822")


@pytest.mark.parametrize(
    ("raw", "outcome", "failure", "code"),
    [
        (report("failed", "5.1.1"), "permanent", "permanent", "5.1.1"),
        (report("failed", "4.4.1 (timed out)"), "permanent", "permanent", "4.4.1"),
        (report("failed", "5.3.4"), "permanent", "too_large", "5.3.4"),
        (report("Delivered", "2.0.0"), "delivered", None, ""),
        (report("failed", "5.2.2", original="", extra=_ENVELOPE_ID), "permanent", "permanent", "5.2.2"),
        (_with_whole_mail(report("failed", "5.1.1")), "permanent", "permanent", "5.1.1"),
        (
            report("failed", "5.1.1", recipient="Final-Recipient: RFC822;<Alice@Example.org>"),
            "permanent", "permanent", "5.1.1",
        ),
        (
            report("failed", "5.1.1", recipient="Original-Recipient: rfc822; alice@example.org\r\n"
                   "Final-Recipient: rfc822; alice@forwarded.example"),
            "permanent", "permanent", "5.1.1",
        ),
        (
            report("failed", "5.1.1", recipient="Original-Recipient: rfc822;al+69ce@example.org\r\n"
                   "Final-Recipient: rfc822; alice@forwarded.example"),
            "permanent", "permanent", "5.1.1",
        ),
        (
            report("failed", "5.1.1", recipient="Final-Recipient: utf-8; alice@example.org"),
            "permanent", "permanent", "5.1.1",
        ),
        (report("failed", "5.1.1", return_path=""), "permanent", "permanent", "5.1.1"),
    ],
)  # fmt: skip
async def test_a_report_tells_what_became_of_a_mail(
    server: MailboxServer, ca_file: Path, raw: bytes, outcome: str, failure: str | None, code: str
) -> None:
    inbox = await taken(server, ca_file, raw)
    ((ticket, found),) = inbox.reported
    assert (ticket, found.outcome, found.failure, found.code) == (SENT, outcome, failure, code)
    assert inbox.taken == []
    assert await server.flags() == [{"\\Seen"}]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"return_path": "Return-Path: <mallory@evil.example>\r\n"}, "report_with_a_sender"),
        ({"return_path": "Return-Path: <m@evil.example>\r\nReturn-Path: <>\r\n"}, "report_with_a_sender"),
        ({"recipient": "Final-Recipient: rfc822; mallory@evil.example"}, "report_of_another_recipient"),
        ({"recipient": "Final-Recipient: x400; alice@example.org"}, "report_of_another_recipient"),
        ({"recipient": "X-Recipient: alice@example.org"}, "report_of_another_recipient"),
        ({"recipient": "Final-Recipient: rfc822; @"}, "report_of_another_recipient"),
        ({"original": "Message-ID: <a@b>\r\n"}, "report_of_no_mail_of_ours"),
    ],
)
@pytest.mark.parametrize("action", ["failed", "delivered"])
async def test_a_report_that_no_mail_server_wrote_for_this_mail_is_set_aside(
    server: MailboxServer, ca_file: Path, action: str, fields: dict[str, str], reason: str
) -> None:
    with capture_logs() as logs:
        inbox = await taken(server, ca_file, report(action, "5.1.1", **fields))
    assert (inbox.reported, inbox.taken) == ([], [])
    assert [entry["reason"] for entry in logs if entry["event"] == "mail_set_aside"] == [reason]
    assert await server.flags() == [{"\\Flagged"}]


async def test_a_delay_settles_nothing(server: MailboxServer, ca_file: Path) -> None:
    inbox = await taken(server, ca_file, report("delayed", "4.4.1"))
    assert (inbox.reported, inbox.taken) == ([], [])


# --- the check


async def test_the_check_tells_what_is_wrong(server: MailboxServer, ca_file: Path) -> None:
    assert (await channel(server, ca_file).check()).ok
    for changed, code in (({"password": "wrong"}, "imap_login"), ({"folder": "Nowhere"}, "imap_folder")):
        assert (await channel(server, ca_file, changed).check()).code == code
    assert (await channel(server, None).check()).code == "imap_tls"
    server.stop()
    assert (await channel(server, ca_file).check()).code == "imap_unreachable"


async def test_a_server_without_starttls_gets_no_password(authority: trustme.CA, ca_file: Path) -> None:
    async with imap_server(authority, security="none") as server:
        assert (await channel(server, ca_file, {"security": "starttls"}).check()).code == "imap_tls"
