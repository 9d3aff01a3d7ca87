"""How long an attempt may take follows from what goes over the link."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import msgspec

from autoglm.channels.outbox.letter import size_bytes
from autoglm.core.envelope import Envelope
from autoglm.store import StoreSettings, open_store

FILE = bytes(range(256)) * 4000  # 1 MB


async def chunks() -> AsyncIterator[bytes]:
    yield FILE


async def test_a_file_counts_as_large_as_a_mail_makes_it(tmp_path: Path) -> None:
    mail = EmailMessage(policy=SMTP)
    mail.set_content(FILE, maintype="application", subtype="pdf")
    async with open_store(tmp_path, StoreSettings()) as store:
        parts = [{"type": "text", "text": "x"}, {"type": "file", "file": {"file_id": await store.blobs.put(chunks())}}]
        envelope = msgspec.convert({"to": "channel:mail/a@example.com", "content": parts}, Envelope)
        size = await size_bytes(envelope, store.blobs)
    _, _, body = mail.as_bytes().partition(b"\r\n\r\n")
    assert 0 <= size - len(body) < 200
