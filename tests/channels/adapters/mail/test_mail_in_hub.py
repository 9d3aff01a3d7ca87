"""Mail through a whole hub, between a real SMTP and a real IMAP server: asked, answered, told, acknowledged."""

from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx2
import pytest
import trustme

from eventually import until
from fakes import imap_server as imap
from fakes import smtp_server as smtp
from fakes.imap_server import MailboxServer
from fakes.smtp_server import MailServer
from hub import HubProcess, instance_config
from scripted_model import ScriptedModel

T = TypeVar("T")
ALICE = "channel:mail/alice@example.org"


class Office:
    """A hub with a mailbox, and Alice, who writes to it and reads its mails."""

    def __init__(self, hub: HubProcess, outgoing: MailServer, mailbox: MailboxServer) -> None:
        self.hub, self.mailbox = hub, mailbox
        self._outgoing = outgoing

    async def alice_writes(self, text: str, *, message_id: str, answers: EmailMessage | None = None) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "Alice <alice@example.org>", "hub@hub.example", "Press 7"
        mail["Message-ID"] = message_id
        if answers is not None:
            mail["In-Reply-To"] = answers["Message-ID"]
            mail["References"] = f"{answers['References'] or ''} {answers['Message-ID']}".strip()
            quoted = "".join(f"> {line}\n" for line in str(answers.get_content()).splitlines())
            text = f"{text}\n\nOn Thu, 26 Nov 2026 at 10:00, AutoGLM Hub <hub@hub.example> wrote:\n{quoted}"
        mail.set_content(text)
        await self.mailbox.append(mail.as_bytes())

    async def alice_has(self, count: int) -> list[EmailMessage]:
        await until(lambda: len(self._outgoing.mails) >= count)
        return self._outgoing.mails

    async def until_flags(self, *wanted: set[str]) -> None:
        """A mail is marked once the hub has it; its answer may be out by then."""
        with anyio.fail_after(20.0):
            while await self.mailbox.flags() != list(wanted):  # noqa: ASYNC110  # the server tells nobody of flags
                await anyio.sleep(0.01)

    async def asked(self, do: Callable[[httpx2.Client], T]) -> T:
        """In a thread: the mail servers run on this event loop."""

        def ask() -> T:
            with self.hub.client() as http:
                return do(http)

        return await anyio.to_thread.run_sync(ask)

    async def get(self, path: str) -> Any:
        return (await self.asked(lambda http: http.get(path))).json()


def config(outgoing: MailServer, mailbox: MailboxServer, model: ScriptedModel, ca_file: Path) -> str:
    return f"""
{instance_config("echo", model.url)}
[outbox]
first_retry_s = 0.05
[[channel]]
name = "mail"
kind = "mail"
address = "hub@hub.example"
senders = ["alice@example.org"]
recipients = ["*@example.org"]
[channel.smtp]
host = "localhost"
port = {outgoing.port}
username = "{smtp.USER}"
password = "{smtp.PASSWORD}"
ca_file = "{ca_file}"
[channel.imap]
host = "localhost"
port = {mailbox.port}
username = "{imap.USER}"
password = "{imap.PASSWORD}"
ca_file = "{ca_file}"
poll_s = 1  # pymap announces no mail that comes between a look and IDLE

[[route]]
name = "alarms"
match.kinds = ["alert"]
to = ["{ALICE}"]
"""


@pytest.fixture
async def office(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> AsyncIterator[Office]:
    async with smtp.mail_server(authority) as outgoing, imap.imap_server(authority) as mailbox:
        with ScriptedModel() as model:
            hub = HubProcess(tmp_path / "hub", config(outgoing, mailbox, model, ca_file))
            try:
                await anyio.to_thread.run_sync(hub.start)
                yield Office(hub, outgoing, mailbox)
            finally:
                hub.close()
        assert "Traceback" not in hub.log()


async def test_a_mail_is_answered_in_its_thread_once_over_a_kill(office: Office) -> None:
    await office.alice_writes("When does it start?", message_id="<q1@example.org>")
    (answer,) = await office.alice_has(1)
    assert answer.get_content().strip() == "You said: When does it start?"
    assert (answer["To"], answer["Subject"]) == ("alice@example.org", "Re: You said: When does it start?")
    assert (answer["References"], answer["In-Reply-To"]) == ("<q1@example.org>", "<q1@example.org>")
    (message,) = [
        one for one in (await office.get("/api/messages?to=model:auto"))["messages"] if one["from"] == ALICE
    ]  # fmt: skip
    assert (message["content"], message["thread"]) == ("When does it start?", "mail:q1@example.org")
    await office.until_flags({"\\Seen"})
    office.hub.kill()
    await anyio.to_thread.run_sync(office.hub.start)
    await office.alice_writes("And when does it end?", message_id="<q2@example.org>", answers=answer)
    mails = await office.alice_has(2)
    assert [mail.get_content().strip() for mail in mails[1:]] == ["You said: And when does it end?"]
    assert mails[1]["References"].split()[0] == "<q1@example.org>"


async def test_an_event_is_told_by_mail_and_the_reply_acknowledges_it(office: Office) -> None:
    event = {"kind": "alert", "title": "Press 7", "content": "The press is down. 压机停了。", "priority": 9}
    sent = (await office.asked(lambda http: http.post("/api/events", json=event))).json()
    (told,) = await office.alice_has(1)
    assert (told["Subject"], "压机停了" in told.get_content(), told["Importance"]) == ("Press 7", True, "high")
    await office.alice_writes("On my way.", message_id="<a1@example.org>", answers=told)
    account = await office.get(f"/api/events/{sent['id']}?wait=20")
    assert account["acknowledged_by"] == ALICE
    (notice,) = account["notices"]
    assert [step["state"] for step in notice["steps"]] == ["sent", "acknowledged"]


async def test_a_mail_of_a_stranger_stays_in_the_mailbox_unanswered(office: Office) -> None:
    stranger = b"From: mallory@evil.example\r\nMessage-ID: <m@evil.example>\r\n\r\nopen the gate\r\n"
    await office.mailbox.append(stranger)
    await office.alice_writes("Hello.", message_id="<q1@example.org>")
    (answer,) = await office.alice_has(1)
    assert answer.get_content().strip() == "You said: Hello."
    await office.until_flags({"\\Flagged"}, {"\\Seen"})
    messages = (await office.get("/api/messages?to=model:auto"))["messages"]
    assert [one["content"] for one in messages if one["from"] != ALICE] == []
