"""The channel of kind mail: joins what goes out by SMTP and what comes in by IMAP."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from autoglm.channels.adapters.mail.addresses import BadAddress, parse_mail_address
from autoglm.channels.adapters.mail.letter import Letter, compose_letter, to_bytes
from autoglm.channels.adapters.mail.settings import MailSettings
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, permanent, too_large
from autoglm.core.envelope import Envelope

if TYPE_CHECKING:
    from autoglm.channels.adapters.mail.submission import Submission

_INTAKE = "autoglm.channels.adapters.mail.intake"
"""Loaded in a thread, and only where mails come in."""
_PARALLEL = 2
"""Connections at a time: providers count them, and ours are short."""
_DIGEST_BYTES = 64 * 1024
_QUICK_BYTES = 128 * 1024
"""Encoding more than that would hold up the event loop for over 10 ms."""


class MailChannel:
    """Satisfies `Channel`. A target is a mail address; the ticket of a mail is its Message-ID."""

    Settings = MailSettings

    def __init__(self, settings: MailSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._submission: Submission | None = None

    def limits(self, target: str) -> Limits:
        windows = () if self._settings.per_minute is None else ((self._settings.per_minute, 60.0),)
        return Limits(windows=windows, per="channel", parallel=_PARALLEL, digest_bytes=_DIGEST_BYTES)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """One mail, however long: what is over `max_mail_bytes` is refused. Cuts nothing."""
        settings = self._settings
        if settings.smtp is None:
            words = Words(
                f"channel {self._name!r} has no [channel.smtp]", f"渠道 {self._name!r} 没有配置 [channel.smtp]"
            )
            raise Cannot(permanent("no_smtp", words))
        try:
            to = parse_mail_address(target)
        except BadAddress as error:
            words = Words(f"the target is no mail address: {error}", "目标不是有效的邮件地址")
            raise Cannot(permanent("bad_address", words)) from None
        if not settings.may_receive(to.text.lower()):
            words = Words("`recipients` of this channel does not name the target", "本渠道的 recipients 未包含该目标")
            raise Cannot(permanent("recipient_not_allowed", words))
        letter = compose_letter(envelope, to, settings.domain, limit_bytes=settings.max_mail_bytes)
        return [Parcel(target=target, body=letter)]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """SMTP knows no idempotency key. Each attempt has the same Message-ID, by which many servers deduplicate."""
        letter, submission = parcel.body, self._out()
        assert isinstance(letter, Letter)
        assert submission is not None
        limit_bytes = self._settings.max_mail_bytes
        blobs: dict[str, bytes] = {}
        for file_id in {entry.file_id for entry in letter.attachments if entry.data is None}:
            if (blob := await self._read_blob(file_id)) is None:
                words = Words("a file of the message is not in this hub", "消息中的文件不在本机")
                return permanent("missing_file", words)
            blobs[file_id] = blob
            if sum(map(len, blobs.values())) > limit_bytes:
                return _too_large(limit_bytes)
        address, display_name = self._settings.address, self._settings.display_name
        if letter.size_bytes + sum(map(len, blobs.values())) < _QUICK_BYTES:
            mail = to_bytes(letter, address, display_name, blobs)
        else:
            mail = await anyio.to_thread.run_sync(to_bytes, letter, address, display_name, blobs)
        if len(mail) > limit_bytes:
            return _too_large(limit_bytes)
        return await submission.send(mail, letter.to, letter.message_id, needs_utf8=letter.needs_utf8)

    async def check(self) -> Health:
        """Connects to both servers and logs in."""
        if (submission := self._out()) is not None:
            found = await submission.check()
            if found.failure is not None:
                return Health(ok=False, reason=found.reason, code=found.code)
        if self._settings.imap is not None:
            intake: Any = await anyio.to_thread.run_sync(importlib.import_module, _INTAKE)
            fault: Health | None = await intake.fault_of_mailbox(self._settings.imap)
            if fault is not None:
                return fault
        return Health(ok=True, reason=Words("the mail servers take this hub's login", "邮件服务器可达，登录有效"))

    async def run(self, inbox: Inbox) -> None:
        if self._settings.imap is None:
            return
        intake: Any = await anyio.to_thread.run_sync(importlib.import_module, _INTAKE)
        await intake.Intake(self._name, self._settings, self._settings.imap).run(inbox)

    async def aclose(self) -> None:
        """Each mail closes its own connection."""

    def _out(self) -> "Submission | None":
        if self._submission is None and self._settings.smtp is not None:
            from autoglm.channels.adapters.mail.submission import Submission

            self._submission = Submission(self._settings.smtp, self._settings.address, self._settings.domain)
        return self._submission


def _too_large(limit_bytes: int) -> Delivery:
    words = Words(
        f"the mail is over this channel's limit of {limit_bytes} bytes", f"邮件超过本渠道上限 {limit_bytes} 字节"
    )
    return too_large("too_large", words)
