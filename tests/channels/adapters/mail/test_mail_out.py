"""Mail out, to a real mail server."""

import base64
import re
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.abc
import pytest
import trustme
from hypothesis import assume, given
from hypothesis import strategies as st

from autoglm.channels import web
from autoglm.channels.adapters.mail.addresses import parse_mail_address
from autoglm.channels.adapters.mail.channel import MailChannel
from autoglm.channels.adapters.mail.letter import compose_letter, to_bytes
from autoglm.channels.adapters.mail.message_id import message_id, own_id, thread_of, thread_root
from autoglm.channels.adapters.mail.settings import MailSettings
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from contracts.channel_contract import ChannelContract, Rig, message
from fakes.smtp_server import PASSWORD, USER, MailServer, Step, mail_server

BLOBS = {"b" * 64: b"%PDF-1.7 not really"}


async def read_blob(sha256: str) -> bytes | None:
    return BLOBS.get(sha256)


def channel(server: MailServer, ca_file: Path | None, smtp: dict[str, Any] | None = None, **fields: Any) -> MailChannel:
    wanted = {"host": "127.0.0.1", "port": server.port, "username": USER, "password": PASSWORD, "ca_file": ca_file}
    settings = parse_channel(
        {"name": "mail", "kind": "mail", "address": "hub@hub.example", "smtp": {**wanted, **(smtp or {})}, **fields}
    )
    assert isinstance(settings, MailSettings)
    return MailChannel(settings, Resources("mail", read_blob))


def offline_channel(**fields: Any) -> MailChannel:
    """For what is decided before anything is sent."""
    nowhere = MailServer()
    nowhere.port = 9
    return channel(nowhere, None, **fields)


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[MailServer]:
    async with mail_server(authority) as server:
        yield server


@pytest.fixture
async def rig(server: MailServer, ca_file: Path) -> AsyncIterator[Rig]:
    mail = channel(server, ca_file)
    yield Rig(
        mail, target="alice@example.org", texts=lambda: server.texts, misbehave=server.faults.append,
        stop=server.stop, secrets=(PASSWORD,),
        faults=("throttled", "transient", "auth", "permanent", "server_error", "silent", "cut", "garbage"),
        files=lambda: [part.get_content() for mail in server.mails for part in mail.iter_attachments()],
    )  # fmt: skip
    await mail.aclose()


class TestContract(ChannelContract):
    pass


# --- what the server says


@pytest.mark.parametrize(
    ("step", "reply", "outcome", "failure", "code"),
    [
        ("recipient", "450 4.2.0 <a@b>: Greylisted, try again in 300 seconds", "retry", "transient", "450 4.2.0"),
        ("recipient", "451 4.7.1 Graylisting in action", "retry", "transient", "451 4.7.1"),
        ("recipient", "451 Requested action aborted", "retry", "transient", "451"),
        ("recipient", "452 4.2.2 The mailbox is over quota", "retry", "transient", "452 4.2.2"),
        ("recipient", "452 4.5.3 Too many recipients", "retry", "throttled", "452 4.5.3"),
        ("recipient", "450 4.2.1 The user receives mail too quickly", "retry", "throttled", "450 4.2.1"),
        ("recipient", "421 4.7.0 Try again later, too many connections", "retry", "throttled", "421 4.7.0"),
        ("recipient", "421 4.3.2 System shutting down", "retry", "transient", "421 4.3.2"),
        ("recipient", "550 5.1.1 No such user", "permanent", "permanent", "550 5.1.1"),
        ("recipient", "550 No such user", "permanent", "permanent", "550"),
        ("recipient", "552 5.2.2 Mailbox full", "permanent", "permanent", "552 5.2.2"),
        ("recipient", "554 5.7.1 Relay access denied", "permanent", "permanent", "554 5.7.1"),
        ("sender", "552 5.3.4 Message too big", "permanent", "too_large", "552 5.3.4"),
        ("sender", "553 5.7.1 Sender address rejected: not owned by user", "retry", "auth", "553 5.7.1"),
        ("sender", "530 5.7.0 Authentication required", "retry", "auth", "530 5.7.0"),
        ("sender", "451 4.3.0 Try later", "retry", "transient", "451 4.3.0"),
        ("data", "552 Too much mail data", "permanent", "too_large", "552"),
        ("data", "554 5.6.0 Looks like spam", "permanent", "permanent", "554 5.6.0"),
        ("data", "451 4.3.0 Queue file write error", "retry", "transient", "451 4.3.0"),
        # An enhanced code of another class than the reply's own is not believed.
        ("recipient", "451 5.1.1 confused", "retry", "transient", "451"),
    ],
)
async def test_each_refusal_is_told_by_its_code(
    rig: Rig, server: MailServer, step: Step, reply: str, outcome: str, failure: str, code: str
) -> None:
    server.replies.append((step, reply))
    (found,) = await rig.send(message())
    assert (found.outcome, found.failure, found.code, found.is_in_doubt) == (outcome, failure, code, False)
    ChannelContract.check_words(rig, found)
    assert server.raw == []
    assert [delivery.outcome for delivery in await rig.send(message())] == ["accepted"]


@pytest.mark.parametrize(
    ("place", "in_doubt"), [("sender", False), ("recipient", False), ("reading", False), ("data", True)]
)
async def test_only_a_cut_after_the_final_dot_is_in_doubt(
    rig: Rig, server: MailServer, place: Literal["sender", "recipient", "reading", "data"], in_doubt: bool
) -> None:
    server.cut_at = place
    (found,) = await rig.send(message("x" * 15_000_000))
    assert (found.outcome, found.failure, found.code, found.is_in_doubt) == ("retry", "transient", "cut", in_doubt)
    assert len(server.raw) == (1 if in_doubt else 0)


async def test_a_wrong_password_is_tried_once_and_told(server: MailServer, ca_file: Path) -> None:
    """Servers lock an account after some failures."""
    mail = channel(server, ca_file, {"password": "wrong"})
    (found,) = [await mail.send(parcel, "k") for parcel in mail.compose(message(), "alice@example.org")]
    assert (found.outcome, found.failure, found.code) == ("retry", "auth", "535 5.7.8")
    assert server.logins == 1


# --- protection


async def test_nothing_goes_out_in_the_clear_unless_it_is_allowed(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(authority, security="none", auth=False) as plain:
        (parcel,) = channel(plain, ca_file).compose(message(), "alice@example.org")
        refused = await channel(plain, ca_file).send(parcel, "k")
        assert (refused.failure, refused.code, plain.logins, plain.raw) == ("auth", "no_starttls", 0, [])
        allowed = channel(plain, None, {"security": "none", "username": None, "password": None})
        assert (await allowed.send(parcel, "k")).outcome == "accepted"


async def test_tls_from_the_start(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(authority, security="tls") as server:
        mail = channel(server, ca_file, {"security": "tls"})
        (parcel,) = mail.compose(message(), "alice@example.org")
        assert (await mail.send(parcel, "k")).outcome == "accepted"


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_server_that_nobody_vouches_for_gets_nothing(
    authority: trustme.CA, security: Literal["starttls", "tls"]
) -> None:
    async with mail_server(authority, security=security) as server:
        mail = channel(server, None, {"security": security})
        (parcel,) = mail.compose(message(), "alice@example.org")
        found = await mail.send(parcel, "k")
        assert (found.outcome, found.code, server.logins) == ("retry", "tls", 0)
        assert not (await mail.check()).ok


async def test_a_ca_file_that_is_none_is_told(server: MailServer, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    assert (await channel(server, tmp_path / "no.pem").check()).code == "ca_file"
    assert (await channel(server, tmp_path / "absent.pem").check()).code == "ca_file"


# --- what a mail is made of


async def test_the_mail_says_what_it_is(rig: Rig, server: MailServer) -> None:
    sent = message("Line one\n.\n.dot\nFrom here", labels={"title": "压机 7 停机"}, priority=9, thread="shift-7")
    (found,) = await rig.send(sent)
    (mail,) = server.mails
    assert found.ticket == mail["Message-ID"]
    own = own_id(found.ticket, "hub.example")
    assert own is not None
    assert own.message == "m-1"
    assert (mail["From"], mail["To"]) == ("AutoGLM Hub <hub@hub.example>", "alice@example.org")
    assert (mail["Subject"], mail["Auto-Submitted"], mail["X-Priority"]) == ("压机 7 停机", "auto-generated", "1")
    assert mail["Date"].datetime.timestamp() == 1_790_000_000
    assert mail["References"] == mail["In-Reply-To"] == "<shift-7+thread@hub.example>"
    assert server.texts == ["Line one\n.\n.dot\nFrom here\n"]


async def test_a_clock_beyond_all_dates_keeps_nothing_back(rig: Rig, server: MailServer) -> None:
    (delivery,) = await rig.send(message("hello", timestamp=2**53 - 1))
    assert delivery.outcome == "accepted"
    assert server.mails[0]["Date"] == "Fri, 31 Dec 9999 23:59:59 +0000"


async def test_without_a_title_the_first_line_is_the_subject(rig: Rig, server: MailServer) -> None:
    await rig.send(message("\n  The press\tis down.\nSince 07:00."))
    assert server.mails[0]["Subject"] == "The press is down."


async def test_an_answer_in_somebodys_thread_names_their_mail(rig: Rig, server: MailServer) -> None:
    """So that their mail program shows it below the question."""
    await rig.send(message("At 7.", labels={"title": "When?"}, thread="mail:q1@their.example", reply_to="mail-abc"))
    mail = server.mails[0]
    assert mail["In-Reply-To"] == mail["References"] == "<q1@their.example>"
    assert mail["Subject"] == "Re: When?"


async def test_every_kind_of_part_arrives(rig: Rig, server: MailServer) -> None:
    pixel = b"\x89PNG\r\n\x1a\nnot really"
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(pixel).decode()}},
        {"type": "image_url", "image_url": {"url": "https://cam.example/7.jpg"}},
        {"type": "file", "file": {"file_id": "b" * 64, "filename": "../etc/报告\r\nBcc: x@y.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/html,<b>hi</b>", "filename": "hi.html"}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
        {"type": "json", "json": {"温度": 71.5}},
    ]
    assert [delivery.outcome for delivery in await rig.send(message(parts))] == ["accepted"]
    (mail,) = server.mails
    found = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in mail.iter_attachments()
    ]
    assert found == [
        ("picture-2.png", "image/png", pixel),
        ("报告 Bcc_ x@y.pdf", "application/pdf", BLOBS["b" * 64]),
        ("hi.html", "text/html", b"<b>hi</b>"),
        ("audio-6.wav", "audio/wav", b"RIFF"),
        ("data-7.json", "application/json", '{\n  "温度": 71.5\n}'.encode()),
    ]
    assert server.texts == ["See:\nhttps://cam.example/7.jpg\n"]
    assert mail["Bcc"] is None


async def test_the_same_message_is_the_same_mail(rig: Rig, server: MailServer) -> None:
    parts = [{"type": "text", "text": "twice"}, {"type": "json", "json": [1]}]
    await rig.send(message(parts))
    await rig.send(message(parts))
    assert server.raw[0] == server.raw[1]


@given(title=st.text(), text=st.text(min_size=1), name=st.text())
def test_nothing_can_start_a_header_line(title: str, text: str, name: str) -> None:
    """Whatever the title, the text and the names of files hold, the headers and the parts are ours."""
    assume(text.strip())
    parts = [{"type": "text", "text": text}, {"type": "file", "file": {"file_data": "data:,x", "filename": name}}]
    sent = message(parts, labels={"title": title})
    letter = compose_letter(sent, parse_mail_address("alice@example.org"), "hub.example", limit_bytes=1 << 20)
    raw = to_bytes(letter, "hub@hub.example", "Hub\r\nBcc: eve@example.org", {})
    mail = message_from_bytes(raw, policy=default)
    assert {header.lower() for header in mail} == {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "x-auto-response-suppress", "x-autoglm-loop",
        "mime-version", "content-type",
    }  # fmt: skip
    assert [part.get_content_type() for part in mail.walk()][:2] == ["multipart/mixed", "text/plain"]
    assert len(list(mail.walk())) == 3
    assert max(map(len, raw.splitlines())) <= 998


@given(st.text(alphabet=[chr(code) for code in range(0x21, 0x7F)], min_size=1, max_size=128))
def test_a_message_id_leads_back_to_the_message(envelope_id: str) -> None:
    made = message_id(envelope_id, "alice@example.org", "hub.example")
    assert own_id(made, "hub.example") == (envelope_id, None)
    assert re.fullmatch(r"<[A-Za-z0-9=_-]+\.[0-9a-f]{12}@hub\.example>", made)
    assert thread_of(thread_root(envelope_id, "hub.example"), "hub.example") == envelope_id
    assert own_id(made, "other.example") is None


@pytest.mark.parametrize(("knows", "wants"), [(True, True), (True, False), (False, True)])
async def test_reports_are_asked_for_and_named_where_the_server_knows_how(
    server: MailServer, ca_file: Path, knows: bool, wants: bool
) -> None:
    """Of success only where they are wanted. A report of failure names mail and recipient, whoever forwards it."""
    server.knows_reports = knows
    mail = channel(server, ca_file, {"wants_reports": wants})
    (parcel,) = mail.compose(message(id="a=1"), "alice+x@example.org")
    found = await mail.send(parcel, "k")
    ticket = found.ticket.replace("=", "+3D")
    assert found.outcome == "accepted"
    named = [f"ENVID={ticket}", "ORCPT=rfc822;alice+2Bx@example.org"]
    assert server.wanted_reports == ([*named, *(["NOTIFY=SUCCESS,FAILURE"] if wants else [])] if knows else [])


@pytest.mark.parametrize(("envelope_id", "is_named"), [("a" * 73, True), ("a" * 74, False), ("." * 128, False)])
async def test_a_mail_whose_id_is_too_long_for_an_envid_goes_without(
    server: MailServer, ca_file: Path, envelope_id: str, is_named: bool
) -> None:
    """Else the server refuses the sender, and all mails of the channel wait."""
    server.knows_reports = True
    mail = channel(server, ca_file)
    (parcel,) = mail.compose(message(id=envelope_id), "alice@example.org")
    assert (await mail.send(parcel, "k")).outcome == "accepted"
    assert any(word.startswith("ENVID=") for word in server.wanted_reports) is is_named


async def test_a_server_that_never_greets_is_no_doubt(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.2)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        silent = MailServer()
        silent.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        mail = channel(silent, ca_file)
        (parcel,) = mail.compose(message(), "alice@example.org")
        found = await mail.send(parcel, "k")
        assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "timeout", False)


# --- limits, and who may be written to


async def test_the_servers_limit_is_known_before_the_mail_is_sent(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(authority, size_bytes=100_000) as server:
        mail = channel(server, ca_file)
        (parcel,) = mail.compose(message("x" * 100_001), "alice@example.org")
        found = await mail.send(parcel, "k")
        assert (found.outcome, found.failure, found.code, server.raw) == ("permanent", "too_large", "size", [])


async def test_the_channels_own_limit(server: MailServer, ca_file: Path) -> None:
    mail = channel(server, ca_file, max_mail_bytes=65_536)
    with pytest.raises(Cannot) as caught:
        mail.compose(message("x" * 65_537), "alice@example.org")
    assert caught.value.delivery.failure == "too_large"
    (parcel,) = mail.compose(message("压" * 20_000), "alice@example.org")  # grows in base64
    assert (await mail.send(parcel, "k")).code == "too_large"
    assert server.sessions == 0


async def test_an_address_in_utf8_needs_a_server_that_knows_it(authority: trustme.CA, ca_file: Path) -> None:
    for offers, outcome in ((True, "accepted"), (False, "permanent")):
        async with mail_server(authority, utf8=offers) as server:
            mail = channel(server, ca_file)
            (parcel,) = mail.compose(message("好"), "王@例子.example")
            found = await mail.send(parcel, "k")
            assert (found.outcome, found.code) == (outcome, "" if offers else "smtputf8")
            if offers:
                assert server.mails[0]["To"] == "王@xn--fsqu00a.example"
                assert "SMTPUTF8" in server.options[0][0]


async def test_a_domain_that_is_not_ascii_needs_no_such_server(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(authority, utf8=False) as server:
        mail = channel(server, ca_file)
        (parcel,) = mail.compose(message("好"), "wang@例子.example")
        assert (await mail.send(parcel, "k")).outcome == "accepted"
        assert server.mails[0]["To"] == "wang@xn--fsqu00a.example"


@pytest.mark.parametrize(
    "target",
    ["alice", "@example.org", "alice@", "a b@example.org", "a..b@example.org", "alice@-x.org", "alice@faß.example",
     "alice@example.org>", "alice@example.org,bob", "a" * 65 + "@example.org", "alice@exa mple.org",
     "<alice@example.org>"],
)  # fmt: skip
def test_what_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(Cannot) as caught:
        offline_channel().compose(message(), target)
    assert caught.value.delivery.code == "bad_address"


def test_recipients_may_be_limited() -> None:
    mail = offline_channel(recipients=["*@Example.org", "bob@elsewhere.example"])
    for target in ("Alice@Example.Org", "bob@elsewhere.example"):
        assert mail.compose(message(), target)
    for target in ("alice@sub.example.org", "eve@elsewhere.example", "x@notexample.org"):
        with pytest.raises(Cannot) as caught:
            mail.compose(message(), target)
        assert caught.value.delivery.code == "recipient_not_allowed"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "empty"), (" \n", "empty"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,###"}}], "bad_attachment"),
        ([{"type": "file", "file": {"file_data": "no url"}}], "bad_attachment"),
    ],
)  # fmt: skip
def test_what_no_mail_can_hold_is_refused(content: Any, code: str) -> None:
    with pytest.raises(Cannot) as caught:
        offline_channel().compose(message(content), "alice@example.org")
    assert caught.value.delivery.code == code


async def test_a_file_that_is_not_here_is_told(rig: Rig, server: MailServer) -> None:
    (found,) = await rig.send(message([{"type": "file", "file": {"file_id": "c" * 64}}]))
    assert (found.outcome, found.code, server.sessions) == ("permanent", "missing_file", 0)


def test_the_password_is_not_shown() -> None:
    mail = offline_channel()
    assert PASSWORD not in repr(vars(mail))
    assert PASSWORD not in mail._settings.model_dump_json()
