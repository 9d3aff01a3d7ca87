"""Takes in the mails of a mailbox, for as long as the channel lives.

A mail is marked as read only after the inbox has it on disk. What cannot be taken stays where it is, unread and
flagged, so that a person finds it, and the log says why.
"""

import base64
import hashlib
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog

from autoglm.channels import web
from autoglm.channels.adapters.mail.addresses import BadAddress, parse_mail_address
from autoglm.channels.adapters.mail.imap import ImapError, MailboxConnection, ServerRefused
from autoglm.channels.adapters.mail.incoming import IncomingFile, IncomingMail, Unreadable, read_mail
from autoglm.channels.adapters.mail.letter import INCOMING_ID
from autoglm.channels.adapters.mail.loops import Rates, is_confirmed, loop_reason
from autoglm.channels.adapters.mail.message_id import own_id, thread_of, went_to
from autoglm.channels.adapters.mail.quotes import without_quotes
from autoglm.channels.adapters.mail.refusals import of_report
from autoglm.channels.adapters.mail.settings import ImapSettings, MailSettings
from autoglm.channels.backoff import BackOff
from autoglm.channels.channel import Health, Inbox
from autoglm.channels.delivery import Words, delivered
from autoglm.core.envelope import (
    AudioPart,
    Content,
    Envelope,
    File,
    FilePart,
    ImagePart,
    ImageUrl,
    InputAudio,
    Part,
    TextPart,
    check_texts,
)  # fmt: skip
from autoglm.core.errors import HubError, InvalidField

T = TypeVar("T")
log = structlog.get_logger()
_MOST_ASKED = 10
"""References that are looked up: an answer to an answer names few mails of the hub."""
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


_TLS = Words(
    "the TLS connection to the IMAP server failed; check the certificate", "与 IMAP 服务器的 TLS 连接失败，请检查证书"
)
_GONE = Words("the IMAP server cannot be reached", "无法连接 IMAP 服务器")
_REFUSALS = {
    "login": Words("the IMAP server refuses the user name or the password", "IMAP 服务器拒绝该用户名或密码"),
    "folder": Words("the IMAP server does not have the folder", "IMAP 服务器上没有该文件夹"),
    "tls": Words(
        "the IMAP server offers no STARTTLS; nothing was sent in the clear", "IMAP 服务器不支持 STARTTLS，未以明文发送"
    ),
}


class Intake:
    """`run` it once."""

    def __init__(self, name: str, settings: MailSettings, imap: ImapSettings) -> None:
        self._name = name
        self._settings = settings
        self._imap = imap
        self._rates = Rates(imap.per_sender_per_hour)
        self._log = log.bind(channel=name)
        self._pauses = BackOff()

    async def run(self, inbox: Inbox) -> None:
        """Until cancelled. Connects anew after each failure, at once at most once a second, at last once a minute."""
        while True:
            try:
                await self._attend(inbox)
            except Exception as error:  # noqa: BLE001  # the task's outer edge: whatever happened, the next mail must be taken
                self._log.warning("mailbox_lost", reason=type(error).__name__, code=getattr(error, "code", None))
            await anyio.sleep(self._pauses.pause_s())

    async def _attend(self, inbox: Inbox) -> None:
        """One connection, until it ends. Raises what ended it."""
        box = MailboxConnection(self._imap, web.TIMEOUT_S)
        try:
            await in_thread(box, box.open)
            self._log.info("mailbox_opened", can_idle="IDLE" in box.capabilities)
            while True:
                for uid in await in_thread(box, box.waiting):
                    await self._handle(box, uid, inbox)
                self._pauses.reset()
                await self._wait(box)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(box.close)

    async def _wait(self, box: MailboxConnection) -> None:
        """Until a mail may have come. While it waits, no thread is held."""
        if "IDLE" not in box.capabilities:
            await anyio.sleep(self._imap.poll_s)
            return
        is_news = await in_thread(box, box.begin_idle)
        with anyio.move_on_after(self._imap.poll_s):
            while not is_news:
                await anyio.wait_readable(box.socket)
                is_news = await in_thread(box, box.told)
        await in_thread(box, box.end_idle)

    async def _handle(self, box: MailboxConnection, uid: str, inbox: Inbox) -> None:
        """Raises what keeps the inbox from taking it: then it comes again."""
        try:
            size = await in_thread(box, box.size_bytes, uid)
            if size is None:
                return
            if size > self._settings.max_mail_bytes:
                raise Unreadable("too_large")
            if (raw := await in_thread(box, box.read, uid)) is None:
                return
            await self._take(raw, f"{box.uid_validity} {uid}", inbox)
        except Unreadable as error:
            self._log.warning("mail_set_aside", uid=uid, reason=error.reason)
            await in_thread(box, box.set_aside, uid)
        else:
            await in_thread(box, box.settle, uid)

    async def _take(self, raw: bytes, place: str, inbox: Inbox) -> None:
        """Raises Unreadable, HubError."""
        mail = await anyio.to_thread.run_sync(lambda: read_mail(raw, attachment_bytes=self._imap.attachment_bytes))
        if mail.reports:
            await self._report(mail, inbox)
            return
        self._check_sender(mail)
        envelope = self._envelope(mail, place, await self._answered(mail, inbox))
        try:
            check_texts(envelope)
        except InvalidField as error:
            raise Unreadable("no_address") from error  # of the sender, too long or with what no address has
        try:
            is_heard = await inbox.take(envelope)
        except HubError as error:
            if error.retryable:
                raise
            raise Unreadable(error.code) from error  # it would fail each time, and keep all others waiting
        if not is_heard:
            raise Unreadable("sender_refused")
        self._rates.count(*_rated(mail))

    def _check_sender(self, mail: IncomingMail) -> None:
        """Raises Unreadable."""
        if not mail.sender:
            raise Unreadable("no_sender")
        if (reason := loop_reason(mail, self._settings.address)) is not None:
            raise Unreadable(reason)
        if (server := self._imap.authenticated_by) is not None and not is_confirmed(mail, server):
            raise Unreadable("not_authenticated")
        if self._rates.is_too_many(*_rated(mail)):
            raise Unreadable("too_many")

    async def _report(self, mail: IncomingMail, inbox: Inbox) -> None:
        """Anybody who has seen a mail of the hub can write one. Believed is what a mail server could have sent for that
        mail: with no sender to return it to (RFC 3464, section 2; RFC 5321, section 4.5.5), and about whom it went to.
        """
        if mail.marks.get("return-path", "<>").strip() != "<>":
            raise Unreadable("report_with_a_sender")
        owned = [report for report in mail.reports if own_id(report.ticket, self._settings.domain) is not None]
        if not owned:
            raise Unreadable("report_of_no_mail_of_ours")
        fitting = [one for one in owned if any(_went_to(one.ticket, address) for address in one.recipients)]
        if not fitting:
            raise Unreadable("report_of_another_recipient")
        for report in fitting:
            match report.action:
                case "failed":
                    await inbox.report(report.ticket, of_report(report.status or "5.0.0"))
                case "delivered":
                    await inbox.report(report.ticket, delivered(report.ticket))
                case _:  # delayed, relayed, expanded: nothing is settled
                    self._log.info("mail_report_noted", action=report.action[:20], status=report.status)

    async def _answered(self, mail: IncomingMail, inbox: Inbox) -> str | None:
        """The message of the hub that this mail answers: only what this channel really sent counts, not what a
        Message-ID claims.
        """
        references = dict.fromkeys([mail.in_reply_to, *reversed(mail.references)])
        owned = [one for one in references if (own := own_id(one, self._settings.domain)) and own.message]
        for reference in owned[:_MOST_ASKED]:
            if (found := await inbox.message_of(reference)) is not None:
                return found
        return None

    def _envelope(self, mail: IncomingMail, place: str, reply_to: str | None) -> Envelope:
        mailbox = f"{self._imap.host} {self._imap.username} {self._imap.folder} {place} {mail.message_id}"
        root = next(iter(mail.references), mail.message_id)
        now_ms = int(time.time() * 1000)
        return Envelope(
            id=INCOMING_ID + hashlib.sha256(mailbox.encode()).hexdigest()[:40],
            from_=f"channel:{self._name}/{mail.sender}", to=self._settings.incoming_to,
            content=content_of(mail, is_answer=bool(mail.references)),
            labels={"title": mail.subject} if mail.subject else {},
            timestamp=now_ms if mail.sent_ms is None else min(mail.sent_ms, now_ms), reply_to=reply_to,
            thread=thread_of(root, self._settings.domain) if root else None,
        )  # fmt: skip


def _rated(mail: IncomingMail) -> list[str]:
    """Sender and, of what answers something, thread."""
    return [mail.sender, *mail.references[:1]]


def _went_to(ticket: str, recipient: str) -> bool:
    try:
        return went_to(ticket, parse_mail_address(recipient).text)
    except BadAddress:
        return False


def content_of(mail: IncomingMail, *, is_answer: bool) -> Content:
    """Plain text where there is nothing else. is_answer: what it quotes is cut off."""
    text = without_quotes(mail.text) if is_answer else mail.text.strip()
    notes = [f"[left out, it is in the mailbox | 未收取，请到邮箱查看: {entry}]" for entry in mail.left_out]
    text = "\n".join([text, *notes]).strip("\n")
    if not mail.files:
        return text or mail.subject
    return [TextPart(text=text or mail.subject), *map(_part, mail.files)]


def _part(file: IncomingFile) -> Part:
    data = base64.b64encode(file.data).decode()
    url = f"data:{file.content_type};base64,{data}"
    if file.content_type in _PICTURES:
        return ImagePart(image_url=ImageUrl(url=url))
    if file.content_type in _AUDIO:
        return AudioPart(input_audio=InputAudio(data=data, format=_AUDIO[file.content_type]))
    return FilePart(file=File(filename=file.name, file_data=url))


async def in_thread(box: MailboxConnection, function: Callable[..., T], *arguments: str) -> T:
    """Calls a method of the connection; when cancelled, ends what it waits for."""
    try:
        return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        box.abort()
        raise


async def fault_of_mailbox(imap: ImapSettings) -> Health | None:
    """Connects, logs in and looks for the folder; None where all is well."""
    box = MailboxConnection(imap, web.TIMEOUT_S)
    try:
        await in_thread(box, box.open)
    except ServerRefused as error:
        return Health(ok=False, reason=_REFUSALS[error.code], code=f"imap_{error.code}")
    except ssl.SSLError:
        return Health(ok=False, reason=_TLS, code="imap_tls")
    except (OSError, ImapError):
        return Health(ok=False, reason=_GONE, code="imap_unreachable")
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(box.close)
    return None
