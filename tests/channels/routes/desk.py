"""A notifier with an outbox on a real store: routes from TOML, channels that behave as told."""

import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from autoglm.channels.groups import Groups
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.outbox.carrier import Outgoing
from autoglm.channels.outbox.outbox import Outbox
from autoglm.channels.routes.event import Event
from autoglm.channels.routes.notifier import EventAccount, Notifier
from autoglm.channels.routes.settings import InhibitSettings, PersonSettings, RouteSettings
from autoglm.core.envelope import Envelope, decode_envelope, text_of
from autoglm.core.errors import NotFound
from autoglm.store import Store, StoreSettings, open_store
from channels.outbox.office import EAGER, settings
from channels.scripted_channel import ScriptedChannel


class Desk:
    def __init__(self, store: Store, config: str, channels: dict[str, ScriptedChannel]) -> None:
        tree = tomllib.loads(config)
        self.store = store
        self.groups = Groups(store.keyvalue)
        outgoing = {name: Outgoing(channel, settings(name)) for name, channel in channels.items()}
        self.outbox = Outbox(store.log, store.keyvalue, store.blobs, outgoing, EAGER)
        self.mailbox = Mailbox(
            store.log, store.keyvalue, self.groups, lambda name: True, lambda _: None, ends=self.outbox.ends
        )
        self.notifier = Notifier(
            store.log, store.keyvalue, self.mailbox, members=self._members,
            routes=[RouteSettings.model_validate(entry) for entry in tree.get("route", ())],
            inhibits=[InhibitSettings.model_validate(entry) for entry in tree.get("inhibit", ())],
            people=[PersonSettings.model_validate(entry) for entry in tree.get("person", ())],
        )  # fmt: skip

    def _members(self, name: str) -> tuple[str, ...]:
        try:
            return self.groups.get(name).members
        except NotFound:
            return ()

    async def raise_event(self, content: str = "The press is down.", **fields: Any) -> str:
        event = msgspec.convert({"content": content, "from": "device:press-7", **fields}, Event)
        return (await self.notifier.submit(event, sender="device:press-7")).id

    async def mail(self, address: str) -> list[Envelope]:
        return [decode_envelope(record.body) for record in await self.store.log.read(f"to:{address}", limit=1000)]

    async def texts(self, address: str) -> list[str]:
        return [text_of(envelope.content) for envelope in await self.mail(address)]

    async def has_mail(self, address: str, count: int = 1) -> list[Envelope]:
        """Once there are so many."""
        with anyio.fail_after(30.0):
            while len(found := await self.mail(address)) < count:
                await self.store.log.next(f"to:{address}", after=await self.store.log.last_seq(), timeout_s=0.05)
        return found

    async def account(self, id: str, holds: Callable[[EventAccount], object]) -> EventAccount:
        """Once it is so."""
        with anyio.fail_after(30.0):
            while not holds(account := await self.notifier.account(id)):
                await self.store.log.next("never", after=0, timeout_s=0.01)
        return account

    async def closed(self, id: str) -> EventAccount:
        """Once nothing is left to do about it."""
        await self.taken()
        return await self.account(id, lambda account: not account.is_open)

    async def taken(self) -> None:
        """All events so far were looked at."""
        last = max([0, *(record.seq for record in await self.store.log.read_last("events", limit=1))])
        with anyio.fail_after(30.0):
            while self.notifier._backlog.read_seq < last:
                await self.store.log.next("never", after=0, timeout_s=0.01)


@asynccontextmanager
async def desk(folder: Path, config: str, **channels: ScriptedChannel) -> AsyncIterator[Desk]:
    """Runs until the end of the block; then it is cut off, as by kill -9 but for the disk."""
    async with open_store(folder, StoreSettings()) as store:
        made = Desk(store, config, channels)
        await made.groups.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.outbox.run)
            tasks.start_soon(made.notifier.run)
            yield made
            await made.notifier.save()
            tasks.cancel_scope.cancel()
