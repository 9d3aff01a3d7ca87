"""`/api/messages`: send, read by long polling or as a stream, acknowledge."""

import asyncio
import re
from collections.abc import Callable

import anyio
import msgspec

from autoglm.auth.authenticator import Authenticator, Shown
from autoglm.auth.lasting import LastingRights
from autoglm.auth.principal import Principal
from autoglm.auth.sending import require_send
from autoglm.channels.deltas import Delta, Deltas
from autoglm.channels.mailbox import Mailbox, is_receipt, with_seq
from autoglm.channels.receipts import AckState, Receipt
from autoglm.core.envelope import AddressText, Envelope, decode_envelope
from autoglm.core.errors import Draining, InvalidField, NotFound
from autoglm.core.lasting import Asker
from autoglm.core.ports import Record
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange, GoOn
from autoglm.gateway.follower import Deliver, Event, Follower
from autoglm.gateway.groups import GroupsGateway
from autoglm.gateway.posting import Posting, accept
from autoglm.gateway.router import Route
from autoglm.gateway.standing import Standing

MAX_WAIT_S = 60.0
MAX_LIMIT = 1000

_is_reader = re.compile(r"[\x21-\x7e]{1,64}").fullmatch
_JSON = [(b"content-type", b"application/json")]
_encode = msgspec.json.Encoder().encode


class Ack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    state: AckState = "acknowledged"
    by: AddressText | None = None
    """The recipient who acknowledges; needed for groups."""


class Acked(msgspec.Struct, frozen=True):
    id: str
    state: AckState
    seq: int


class Receipts(msgspec.Struct, frozen=True):
    receipts: list[Receipt]


class MessagesGateway:
    def __init__(
        self, auth: Authenticator, mailbox: Mailbox, deltas: Deltas, *, owner_of: Callable[[str], str | None],
        standing: Standing, lasting: LastingRights, max_body_bytes: int,
    ) -> None:  # fmt: skip
        """owner_of: of a channel's address, the person or device at whose own screens it ends, if there is one."""
        self._auth = auth
        self._owner_of = owner_of
        self._standing = standing
        self._lasting = lasting
        self._mailbox = mailbox
        self._deltas = deltas
        self._max_body_bytes = max_body_bytes
        self._groups = GroupsGateway(auth, mailbox.groups, max_body_bytes=max_body_bytes)
        self._draining = anyio.Event()
        self._waiting: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/messages", self.post),
            Route("GET", "/api/messages", self.read),
            Route("GET", "/api/messages/stream", self.stream),
            Route("GET", "/api/messages/{id}", self.get),
            Route("GET", "/api/messages/{id}/receipts", self.receipts),
            Route("POST", "/api/messages/{id}/ack", self.ack),
            *self._groups.routes(),
        ]

    # --- shutdown ---

    def drain(self) -> None:
        """Send those who wait home: long polls get an empty answer, streams end."""
        self._draining.set()
        for task in self._waiting:
            task.cancel()

    async def drained(self) -> None:
        """Returns when the shutdown begins."""
        await self._draining.wait()

    def check_open(self) -> None:
        """Raises Draining once the shutdown has begun."""
        if self._draining.is_set():
            raise Draining

    @property
    def waiting(self) -> int:
        """How many long polls and streams are open."""
        return len(self._waiting)

    # --- send ---

    async def post(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        self.check_open()
        envelope = decode_envelope(await exchange.body(self._max_body_bytes))
        require_send(principal, envelope)
        await self._send(exchange, envelope, principal)

    async def _send(self, exchange: Exchange, envelope: Envelope, principal: Principal) -> None:
        asker = self.asker(envelope, exchange.shown or self._auth.of_key(principal))
        sent = await self._mailbox.send(envelope, sender=principal.address, payer=principal.payer, asker=asker)
        accept(exchange, sent.id, sent.seq, is_new=sent.is_new)

    def asker(self, envelope: Envelope, shown: Shown) -> Asker | None:
        """To be kept with what a model shall answer."""
        return self._lasting.asker(shown.principal, shown.ends_at_ms) if envelope.to.startswith("model:") else None

    def begin_post(self, exchange: Exchange, go_on: GoOn) -> None:
        """As `post`, for a request that is here as a whole; without a task where the message is a plain one (ADR 5).

        Raises what `post` raises.
        """
        principal = exchange.identify(self._auth)
        self.check_open()
        exchange.check_body(self._max_body_bytes)
        envelope = decode_envelope(exchange.whole_body())
        require_send(principal, envelope)
        posting = Posting(exchange, go_on)
        id = self._mailbox.hand_in(envelope, sender=principal.address, waiter=posting, payer=principal.payer)
        if id is None:
            go_on(exchange, self._send(exchange, envelope, principal))
        else:
            posting.id = id
            exchange.on_leave = posting.leave

    # --- read ---

    async def read(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        query = exchange.query()
        fields.only(query, ("to", "after", "limit", "wait", "reader"))
        address = fields.address(query)
        principal.require("read:message", address)
        limit = fields.integer(query, "limit", 100, low=1, high=MAX_LIMIT)
        wait_s = fields.seconds(query, "wait", high=MAX_WAIT_S)
        after = await self._after(query, address, confirms=not exchange.is_head)
        if self._draining.is_set() or exchange.is_head:
            wait_s = 0.0
        records = await self._read(exchange, address, after, limit, wait_s)
        if wait_s:
            exchange.check_still()
        messages = b",".join([with_seq(record) for record in records])
        following = records[-1].seq if records else after
        exchange.respond(200, b'{"messages":[%b],"next":%d}' % (messages, following), _JSON)

    async def _read(self, exchange: Exchange, address: str, after: int, limit: int, wait_s: float) -> list[Record]:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        exchange.cancel_when_left()
        try:
            return await self._mailbox.read(address, after=after, limit=limit, wait_s=wait_s)
        except asyncio.CancelledError:
            if not self._draining.is_set() or exchange.has_left:
                raise
            task.uncancel()  # it was `drain`: the reader gets its empty answer now and asks again elsewhere or later
            return []
        finally:
            self._waiting.discard(task)

    async def _after(self, query: dict[str, str], address: str, *, confirms: bool) -> int:
        """Where to read on. A named reader confirms by `after` what it has, and may leave it out to go on.

        confirms: False for HEAD, which changes nothing (RFC 9110, section 9.2.1).
        """
        reader = query.get("reader")
        if reader is None:
            return fields.integer(query, "after", 0)
        if _is_reader(reader) is None:
            raise InvalidField("reader", "must have 1 to 64 visible ASCII characters")
        if "after" not in query:
            return await self._mailbox.cursor(address, reader)
        after = fields.integer(query, "after", 0)
        if confirms:
            await self._mailbox.confirm(address, reader, after)
        return after

    async def get(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        _, record = await self.visible(principal, variables["id"])
        exchange.respond(200, with_seq(record), _JSON)

    # --- receipts ---

    async def receipts(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        envelope, record = await self.visible(principal, variables["id"])
        exchange.respond_json(200, Receipts(await self._mailbox.receipts(envelope, record)))

    async def ack(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        body = await exchange.body(self._max_body_bytes)
        ack = fields.decode(body, Ack) if body else Ack()
        exchange.respond_json(200, await self.acknowledge(principal, variables["id"], ack.state, ack.by))

    async def acknowledge(self, principal: Principal, id: str, state: AckState, by: str | None) -> Acked:
        """Raises NotFound, InvalidField, Forbidden, Draining, StorageFull."""
        self.check_open()
        envelope, record = await self.visible(principal, id, by)
        recipient = await self._mailbox.recipient_of(envelope, record, by)
        if not self._is_shown_to(principal, recipient):
            principal.require("read:message", recipient)
        return Acked(envelope.id, state, await self._mailbox.report(envelope, state, by=recipient))

    async def visible(self, principal: Principal, id: str, by: str | None = None) -> tuple[Envelope, Record]:
        """A message that the principal may see: read as its recipient (or as `by`), or send as its sender.

        Raises NotFound also for a message of others: that it exists, and whose it is, is theirs to know.
        """
        envelope, record = await self._mailbox.get(id)
        is_allowed = await self._may_see(principal, envelope, record, by)
        principal.decided("read:message", envelope.to, is_allowed=is_allowed)
        if not is_allowed:
            raise NotFound("message", id)
        return envelope, record

    async def _may_see(self, principal: Principal, envelope: Envelope, record: Record, by: str | None) -> bool:
        if principal.allows("read:message", envelope.to) or principal.allows("send:message", envelope.from_):
            return True
        if self._is_shown_to(principal, envelope.to):
            return True
        for address in (principal.address, by):
            may_read = address is not None and principal.allows("read:message", address)
            if address is not None and may_read and await self._mailbox.was_sent_to(envelope, record, address):
                return True
        return False

    def _is_shown_to(self, principal: Principal, address: str) -> bool:
        """Whether what goes to the channel's address is shown to the principal itself, who may read what it gets.

        A right to the one message, which its own browsers have already, and none to list or follow the address.
        """
        owner = self._owner_of(address)
        return owner is not None and owner == principal.address and principal.allows("read:message", owner)

    # --- stream ---

    async def stream(self, exchange: Exchange, _: dict[str, str]) -> None:
        """Server-sent events. Source: WHATWG HTML, section 9.2."""
        principal = exchange.identify(self._auth)
        query = exchange.query()
        fields.only(query, ("to", "after"))
        address = fields.address(query)
        principal.require("read:message", address)
        after = fields.integer(query, "after", 0)
        last_id = exchange.headers.get(b"last-event-id")
        if last_id is not None:
            after = fields.whole_number(last_id.decode("latin-1"), "last-event-id")
        exchange.cancel_when_left()
        exchange.start(200, [(b"content-type", b"text/event-stream")])
        if not exchange.is_head:
            await exchange.write(b": connected\n\n")
            await self._stream(exchange, principal, address, after)
        exchange.end()

    async def _stream(self, exchange: Exchange, principal: Principal, address: str, after: int) -> None:
        """Returns at a drain, and when the principal may not go on."""
        if self._draining.is_set():
            return
        task = asyncio.current_task()
        assert task is not None
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True
            task.cancel()

        async def deliver(event: Event) -> None:
            if principal.allows("read:message", address):  # a policy that came meanwhile may say no
                await exchange.write(_sse(event))
            elif not is_over:
                end()

        self._waiting.add(task)
        try:
            with self._standing.held(exchange.shown or self._auth.of_key(principal), end):
                await self.follower(address, deliver).run(after)
        except asyncio.CancelledError:
            if exchange.has_left or not (is_over or self._draining.is_set()):
                raise
            task.uncancel()
        finally:
            self._waiting.discard(task)

    def follower(self, address: str, deliver: Deliver) -> Follower:
        return Follower(self._mailbox, self._deltas, address, deliver)


def _sse(event: Event) -> bytes:
    if event is None:
        return b": keep-alive\n\n"
    if isinstance(event, Delta):
        return b"event: delta\ndata: %b\n\n" % _encode(event)
    name = b"receipt" if is_receipt(event) else b"message"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, name, with_seq(event))
