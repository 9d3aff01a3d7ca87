"""`/api/channels`, `/api/outbox`: how what goes out fares. `/api/hooks`: vendors' calls."""

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from autoglm.auth.authenticator import Authenticator
from autoglm.channels.channel import HookCall, Hooked, HookReply, Inbox
from autoglm.channels.directory import ChannelHealth, Directory
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.outbox.carrier import Outgoing
from autoglm.channels.outbox.dead_letters import DeadLetter
from autoglm.channels.outbox.outbox import LaneState, Outbox
from autoglm.channels.routes.notifier import Notifier
from autoglm.core.envelope import AddressText, Content, check_texts
from autoglm.core.errors import HubError, NotFound
from autoglm.gateway import fields
from autoglm.gateway.exchange import HIGH_WATER_BYTES, Exchange
from autoglm.gateway.large_bodies import LargeBodies
from autoglm.gateway.posting import accept
from autoglm.gateway.problems import PROBLEMS
from autoglm.gateway.router import Route

MAX_LETTERS = 1000
_MAX_HOOK_BYTES = 1 << 20
"""Vendors' calls are small; nothing of them is verified before the channel looks."""


class ChannelState(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    can_receive: bool
    """Whose messages, the settings' `senders` say."""
    waiting: int
    """Messages in memory that are not at their end."""
    health: ChannelHealth | None = None
    """Where the request asked for a check."""


class ChannelList(msgspec.Struct, frozen=True):
    channels: list[ChannelState]


class OutboxState(msgspec.Struct, frozen=True, kw_only=True):
    lanes: list[LaneState]
    """Those with messages."""
    crowded: tuple[str, ...]
    """Channels with more targets than there are lanes: some of their messages wait in the log until one is free."""
    dead_letters: int


class DeadLetterList(msgspec.Struct, frozen=True):
    dead_letters: list[DeadLetter]


class Retried(msgspec.Struct, frozen=True):
    lanes: int


class NewTry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a dead letter is sent once more; as it was, where nothing is given."""

    to: AddressText | None = None
    content: Content | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None


class ChannelsGateway:
    def __init__(
        self, auth: Authenticator, directory: Directory, outbox: Outbox, mailbox: Mailbox, *, notifier: Notifier,
        inbox_of: Callable[[Outgoing], Inbox], max_body_bytes: int,
    ) -> None:  # fmt: skip
        self._auth = auth
        self._directory = directory
        self._outbox = outbox
        self._mailbox = mailbox
        self._notifier = notifier
        self._inbox_of = inbox_of
        self._max_body_bytes = max_body_bytes
        self._large = LargeBodies()
        self.refused_calls: Counter[tuple[str, int]] = Counter()
        """Of hooks, by channel and status of the answer."""

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/channels", self.channels),
            Route("POST", "/api/channels/{name}/retry", self.retry),
            Route("GET", "/api/outbox", self.outbox),
            Route("GET", "/api/outbox/dead", self.dead),
            Route("POST", "/api/outbox/dead/{id}/resend", self.resend),
            Route("DELETE", "/api/outbox/dead/{id}", self.drop),
            Route("GET", "/api/hooks/{name}", self.hook, is_for_any_host=True),
            Route("POST", "/api/hooks/{name}", self.hook, is_for_any_host=True),
        ]

    async def channels(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "channels")
        query = exchange.query()
        fields.only(query, ("check",))
        health: dict[str, ChannelHealth] = {}
        if fields.integer(query, "check", 0, high=1):
            health = {found.name: found for found in await self._directory.health()}
        waiting: dict[str, int] = {}
        for lane in self._outbox.states():
            waiting[lane.channel] = waiting.get(lane.channel, 0) + lane.waiting
        found = [
            ChannelState(
                name=name, kind=outgoing.settings.kind, can_receive=bool(outgoing.settings.senders),
                waiting=waiting.get(name, 0), health=health.get(name),
            )
            for name, outgoing in self._directory.outgoing.items()
        ]  # fmt: skip
        exchange.respond_json(200, ChannelList(found))

    async def retry(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """An operator has put something right: nothing waits for its back-off any more."""
        exchange.identify(self._auth).require("admin", "channels")
        if variables["name"] not in self._directory.outgoing:
            raise NotFound("channel", variables["name"])
        exchange.respond_json(200, Retried(self._outbox.hurry(variables["name"])))

    async def outbox(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "channels")
        count = await self._outbox.dead_letters.count()
        exchange.respond_json(
            200, OutboxState(lanes=self._outbox.states(), crowded=self._outbox.crowded, dead_letters=count)
        )

    async def dead(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "channels")
        query = exchange.query()
        fields.only(query, ("limit",))
        limit = fields.integer(query, "limit", 100, low=1, high=MAX_LETTERS)
        exchange.respond_json(200, DeadLetterList(await self._outbox.dead_letters.newest(limit)))

    async def resend(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """As a new message, edited where the body says so. Twice is once: its id follows from the letter."""
        principal = exchange.identify(self._auth)
        principal.require("admin", "channels")
        body = await exchange.body(self._max_body_bytes)
        change = fields.decode(body, NewTry) if body else NewTry()
        letter = await self._outbox.dead_letters.get(variables["id"])
        old = letter.message
        new = msgspec.structs.replace(
            old, id=f"{old.id[:100]}~{letter.time}", expires_at=None,
            to=old.to if change.to is None else change.to,
            content=old.content if change.content is None else change.content,
            priority=old.priority if change.priority is None else change.priority,
        )  # fmt: skip
        check_texts(new)
        beside = await self._notifier.sent_again(old.id, new)
        sent = await self._mailbox.send(new, sender=old.from_, beside=beside, is_own=True)
        await self._outbox.dead_letters.drop(old.id)
        accept(exchange, sent.id, sent.seq, is_new=sent.is_new)

    async def drop(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "channels")
        await self._outbox.dead_letters.drop(variables["id"])
        exchange.respond(204, b"")

    async def hook(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """A vendor's call: it has no key of ours, but what the channel verifies."""
        outgoing = self._directory.outgoing.get(variables["name"])
        if outgoing is None or not hasattr(outgoing.channel, "hook"):
            raise NotFound("hook", variables["name"])
        try:
            reply = await self._called(exchange, outgoing)
        except HubError as error:
            self.refused_calls[outgoing.settings.name, PROBLEMS[error.code].status] += 1
            raise
        if reply.status >= 400:
            self.refused_calls[outgoing.settings.name, reply.status] += 1
        exchange.respond(reply.status, reply.body, [(b"content-type", reply.content_type.encode("latin-1"))])

    async def _called(self, exchange: Exchange, outgoing: Outgoing) -> HookReply:
        hooked: Hooked = outgoing.channel  # type: ignore[assignment]  # it has the method
        call = HookCall(
            method="GET" if exchange.is_head else exchange.method,
            query=exchange.query(),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.headers.items()},
            body=await self._stranger_body(exchange),
        )
        return await hooked.hook(call, self._inbox_of(outgoing))

    async def _stranger_body(self, exchange: Exchange) -> bytes:
        """Raises PayloadTooLarge, TooManyBodies, RequestTimeout. A short body never waits for a place."""
        limit_bytes = min(self._max_body_bytes, _MAX_HOOK_BYTES)
        exchange.check_body(limit_bytes)
        length = exchange.head.length  # None in chunks: they may become many
        if exchange.has_whole_body or (length is not None and length <= HIGH_WATER_BYTES):
            return await exchange.body(limit_bytes)
        return await self._large.read(exchange, limit_bytes)
