"""An outbox on a real store, with a channel that behaves as told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from autoglm.channels.channel import Channel, Limits
from autoglm.channels.groups import Groups
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.outbox.carrier import Outgoing
from autoglm.channels.outbox.outbox import Outbox
from autoglm.channels.receipts import Receipt, subject_of_message
from autoglm.channels.settings import ChannelSettings, OutboxSettings
from autoglm.core.envelope import Envelope
from autoglm.store import Store, StoreSettings, open_store
from eventually import until

EAGER = OutboxSettings(first_retry_s=0.02, max_retry_s=0.1, attempt_timeout_s=2.0)


class AnyChannelSettings(ChannelSettings, frozen=True):
    """Of no kind in the table: the outbox looks at what all have."""


def settings(name: str = "c", **fields: Any) -> ChannelSettings:
    return AnyChannelSettings.model_validate({"name": name, "kind": "scripted", **fields})


class Office:
    def __init__(self, store: Store, channels: dict[str, Outgoing], outbox_settings: OutboxSettings) -> None:
        self.store = store
        self.outbox = Outbox(store.log, store.keyvalue, store.blobs, channels, outbox_settings)
        self.mailbox = Mailbox(
            store.log, store.keyvalue, Groups(store.keyvalue), lambda name: True, lambda _: None, ends=self.outbox.ends
        )

    async def post(self, content: str | list[dict[str, Any]], to: str = "channel:c/t", **fields: Any) -> str:
        envelope = msgspec.convert({"to": to, "content": content, "from": "user:a", **fields}, Envelope)
        return (await self.mailbox.send(envelope, sender="user:a")).id

    async def steps(self, id: str) -> list[Receipt]:
        return (await self.mailbox.receipts(*await self.mailbox.get(id)))[1:]

    async def ends(self, *ids: str, timeout_s: float = 30.0) -> list[Receipt]:
        """The last step of each message, once each has one that is no `queued`."""
        with anyio.fail_after(timeout_s):
            return [await self._end(id) for id in ids]

    async def _end(self, id: str) -> Receipt:
        after = 0
        while True:  # each receipt is a record of its own
            records = await self.store.log.next(subject_of_message(id), after=after, timeout_s=60.0)
            for record in records:
                step = msgspec.json.decode(record.body, type=Receipt)
                after = record.seq
                if step.state != "queued":
                    return step

    async def has_step(self, id: str) -> None:
        with anyio.fail_after(30.0):
            await self.store.log.next(subject_of_message(id), after=0, timeout_s=60.0)

    async def read(self, id: str) -> None:
        """The outbox has come as far as this message."""
        _, record = await self.mailbox.get(id)
        await until(lambda: self.outbox._read_seq >= record.seq)

    async def settled(self) -> None:
        """Nothing waits any more."""
        await self.settled_but(0)

    async def settled_but(self, count: int) -> None:
        await until(lambda: sum(state.waiting for state in self.outbox.states()) == count)


@asynccontextmanager
async def office(
    folder: Path, *channels: tuple[Channel, ChannelSettings], outbox: OutboxSettings = EAGER
) -> AsyncIterator[Office]:
    """Runs until the end of the block; then it is cut off, as by kill -9 but for the disk."""
    async with open_store(folder, StoreSettings()) as store:
        made = Office(store, {own.name: Outgoing(channel, own) for channel, own in channels}, outbox)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.outbox.run)
            tasks.start_soon(made.mailbox.run)
            yield made
            tasks.cancel_scope.cancel()


def robot(count: int = 20, per_s: float = 60.0, digest_bytes: int = 0) -> Limits:
    """As a group robot has them."""
    return Limits(windows=((count, per_s),), parallel=1, digest_bytes=digest_bytes)
