"""Two mailboxes that answer each other, between real SMTP and IMAP servers: it stops, after a number that is known."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from autoglm.channels.adapters.mail.channel import MailChannel
from autoglm.channels.adapters.mail.settings import MailSettings
from autoglm.channels.channel import Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope
from contracts.channel_contract import KeptInbox, message, no_blob
from fakes import imap_server as imap
from fakes import smtp_server as smtp

MARKS = (b"auto-submitted:", b"x-auto", b"x-autoglm-loop:")
"""What tells a machine, as some gateways take it away."""
Change = Callable[[bytes, int], bytes]


class Hub(KeptInbox):
    """A mailbox that answers each mail that it takes, as a hub does whose mails go to a model."""

    def __init__(self, name: str, mail: MailChannel, outgoing: smtp.MailServer, mailbox: imap.MailboxServer) -> None:
        super().__init__()
        self.address = f"{name}@{name}.example"
        self.mail, self.outgoing, self.mailbox = mail, outgoing, mailbox

    async def take(self, envelope: Envelope) -> bool:
        is_taken = await super().take(envelope)
        await self.write(envelope.from_.partition("/")[2], reply_to=envelope.id, thread=envelope.thread)
        return is_taken

    async def write(self, to: str, **fields: Any) -> None:
        number = len(self.outgoing.raw) + 1
        (parcel,) = self.mail.compose(message(f"Number {number}.", id=f"m-{number}", **fields), to)
        assert (await self.mail.send(parcel, "k")).outcome == "accepted"


@asynccontextmanager
async def hub(name: str, authority: trustme.CA, ca_file: Path, per_hour: int) -> AsyncIterator[Hub]:
    async with smtp.mail_server(authority) as outgoing, imap.imap_server(authority) as mailbox:
        known = {"host": "localhost", "ca_file": ca_file}
        settings = parse_channel({
            "name": "mail", "kind": "mail", "address": f"{name}@{name}.example", "senders": ["*"],
            "smtp": {**known, "port": outgoing.port, "username": smtp.USER, "password": smtp.PASSWORD},
            "imap": {**known, "port": mailbox.port, "username": imap.USER, "password": imap.PASSWORD,
                     "per_sender_per_hour": per_hour, "poll_s": 1},
        })  # fmt: skip
        assert isinstance(settings, MailSettings)
        mail = MailChannel(settings, Resources("mail", no_blob))
        found = Hub(name, mail, outgoing, mailbox)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mail.run, found)
            yield found
            tasks.cancel_scope.cancel()
        await mail.aclose()


async def carry(one: Hub, other: Hub, change: Change) -> int:
    """Bring what each sends to the other, until both have looked at all and write no more: how many mails it took."""
    brought = {one: 0, other: 0}
    with anyio.fail_after(30.0):
        while True:
            for sender, receiver in ((one, other), (other, one)):
                for raw in sender.outgoing.raw[brought[sender] :]:
                    brought[sender] += 1
                    trace = f"Return-Path: <{sender.address}>\r\n".encode()
                    await receiver.mailbox.append(trace + change(raw, brought[sender]))
            flags = [await each.mailbox.flags() for each in (one, other)]
            is_all_seen = all(flag & {"\\Seen", "\\Flagged"} for each in flags for flag in each)
            # A mail is marked after its answer is out: what is not brought by now was not sent.
            if is_all_seen and all(brought[each] == len(each.outgoing.raw) for each in brought):
                return sum(brought.values())
            await anyio.sleep(0.01)


def as_it_is(raw: bytes, number: int) -> bytes:
    return raw


def unmarked(raw: bytes, number: int) -> bytes:
    head, _, body = raw.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(MARKS)]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


def from_anew(raw: bytes, number: int) -> bytes:
    """As ticket systems do: each answer is from an address of its own."""
    return unmarked(raw, number).replace(b"From: AutoGLM Hub <", b"From: AutoGLM Hub <ticket-%d." % number)


@pytest.mark.parametrize(
    ("change", "mails"),
    [(as_it_is, 1), (unmarked, 1 + 2 * 3), (from_anew, 1 + 2 * 3)],
    ids=["as_it_is", "marks_taken_away", "new_addresses"],
)
async def test_two_hubs_that_answer_each_other_stop(
    authority: trustme.CA, ca_file: Path, change: Change, mails: int
) -> None:
    """By their marks at the first mail; without these when each has taken three, as the settings say."""
    async with AsyncExitStack() as stack:
        north = await stack.enter_async_context(hub("north", authority, ca_file, 3))
        south = await stack.enter_async_context(hub("south", authority, ca_file, 3))
        await north.write(south.address, thread="t-1")
        assert await carry(north, south, change) == mails
        assert len(north.taken) + len(south.taken) == mails - 1
        assert [{"\\Flagged"}] == [flags for flags in await south.mailbox.flags() if "\\Seen" not in flags]
