"""Durable messages without HTTP: what the mailbox and the store make of SQLite's group commit."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import uvloop

from autoglm.channels.groups import Groups
from autoglm.channels.mailbox import Mailbox
from autoglm.core.envelope import decode_envelope
from autoglm.store import open_store
from autoglm.store.settings import StoreSettings
from benchmarks.samples import now_s


def messages_per_s(folder: Path, text_bytes: int, senders: int, seconds: float) -> float:
    """Senders hand JSON to the mailbox of a new store; each awaits that its message is on disk before the next one.

    In this process and event loop, as the awaited rows of raw_sqlite.py. Raises RuntimeError when a message that was
    acknowledged is not there once the store was opened anew.
    """
    shutil.rmtree(folder, ignore_errors=True)
    return uvloop.run(_measure(folder, text_bytes, senders, seconds))


async def _measure(folder: Path, text_bytes: int, senders: int, seconds: float) -> float:
    text = "x" * text_bytes
    async with open_store(folder, StoreSettings()) as store:
        mailbox = Mailbox(store.log, store.keyvalue, Groups(store.keyvalue), serves_model=lambda name: False)

        async def send(sender: int) -> int:
            count = 0
            while now_s() - started_s < seconds:
                count += 1
                message = {"id": f"{sender}-{count}", "to": f"user:reader-{count % 100}", "content": text}
                await mailbox.send(decode_envelope(msgspec.json.encode(message)), sender="device:benchmark")
            return count

        started_s = now_s()
        acknowledged = sum(await asyncio.gather(*(send(sender) for sender in range(senders))))
        elapsed_s = now_s() - started_s
    async with open_store(folder, StoreSettings()) as store:
        if store.recovered.last_seq != acknowledged:
            raise RuntimeError(f"{acknowledged} were acknowledged, and the store holds {store.recovered.last_seq}")
    return acknowledged / elapsed_s
