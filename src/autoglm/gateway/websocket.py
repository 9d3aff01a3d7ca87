"""`/api/ws`: send, follow and acknowledge over one WebSocket. Frames are described in docs/api.md."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from anyio.abc import TaskGroup
from uvicorn.protocols.utils import ClientDisconnected

from autoglm.auth.audit.refusals import TURNED_AWAY, Refusals, reason_of
from autoglm.auth.authenticator import Authenticator, Shown
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.principal import Principal
from autoglm.auth.sending import require_send
from autoglm.auth.tokens.challenge import Challenge
from autoglm.channels.deltas import Delta
from autoglm.channels.mailbox import Mailbox, is_receipt, with_seq
from autoglm.channels.receipts import AckState
from autoglm.core.address import check_address
from autoglm.core.envelope import Envelope, check_texts, decode_body
from autoglm.core.errors import HubError, InvalidField, SessionEnded, TooManyFailures, Unauthorized, UnknownPath
from autoglm.core.tasks import one_task_group
from autoglm.gateway.exchange import next_request_id
from autoglm.gateway.follower import Event, Follower
from autoglm.gateway.headers import API_HEADERS
from autoglm.gateway.messages import MessagesGateway
from autoglm.gateway.problems import problem, problem_response
from autoglm.gateway.standing import Standing
from autoglm.gateway.visitors import SESSION, cookie, is_secure

HELLO_S = 10.0
MAX_SUBSCRIPTIONS = 100
STRANGER_BYTES = 256 * 1024
"""The longest message of a connection that has not said hello; afterwards the limit is that of bodies."""
ADMIT = "autoglm.admit"
"""Key of the scope's state under which the server is told that the client is known."""
_PATH = "/api/ws"
CLIENT = "autoglm.client"
"""Key of the scope's state that has the client's address."""
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_GOING_AWAY = 1001
_encode = msgspec.json.Encoder().encode

Read = TypeVar("Read")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Ref = Annotated[str, msgspec.Meta(max_length=256)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", forbid_unknown_fields=True):
    """With neither key nor token: whoever the session's cookie stands for."""

    key: str = ""
    token: str = ""
    """In place of a key: the hub answers with a challenge, and the client with a proof that has its nonce."""
    ref: Ref | None = None


class ProofFrame(msgspec.Struct, frozen=True, kw_only=True, tag="proof", forbid_unknown_fields=True):
    proof: str
    ref: Ref | None = None


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag="subscribe", forbid_unknown_fields=True):
    to: str
    after: Position = 0
    ref: Ref | None = None


class SendFrame(msgspec.Struct, frozen=True, kw_only=True, tag="send", forbid_unknown_fields=True):
    message: Envelope
    ref: Ref | None = None


class AckFrame(msgspec.Struct, frozen=True, kw_only=True, tag="ack", forbid_unknown_fields=True):
    id: str
    state: AckState = "acknowledged"
    by: str | None = None
    ref: Ref | None = None


Frame = Hello | Subscribe | SendFrame | AckFrame
_frames: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
# Anybody may send the first frame: a decoder that knows nothing else reads nothing else.
_first_frame: msgspec.json.Decoder[Hello] = msgspec.json.Decoder(Hello)
_second_frame: msgspec.json.Decoder[ProofFrame] = msgspec.json.Decoder(ProofFrame)


class SocketGateway:
    """Accepts WebSockets; each gets its own Conversation."""

    def __init__(
        self, auth: Authenticator, mailbox: Mailbox, messages: MessagesGateway, standing: Standing,
        refusals: Refusals,
    ) -> None:  # fmt: skip
        self.auth = auth
        self._refusals = refusals
        self.standing = standing
        self.mailbox = mailbox
        self.messages = messages

    async def handle(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """An ASGI application. Who names a wrong key in the header is refused before the handshake, as everywhere."""
        await receive()  # websocket.connect
        try:
            if scope["path"] != _PATH:
                raise UnknownPath(scope["path"][:200])
            self.messages.check_open()
            headers, state = dict(scope["headers"]), scope["state"]
            header = headers.get(b"authorization")
            shown = None if header is None else self._shown(header, headers.get(b"dpop"), state[CLIENT])
        except HubError as error:
            request_id = next_request_id()
            self.turned_away(error, scope["state"][CLIENT], request_id)
            await _refuse(error, send, request_id)
            raise ClientDisconnected from None  # to return would be an error of ours in uvicorn's log
        await send({"type": "websocket.accept"})
        # The server has refused pages of other origins.
        session = cookie(headers, SESSION, is_secure=scope["scheme"] == "wss" or is_secure(headers))
        await _Conversation(
            self, shown, receive, send, state[ADMIT], client=state[CLIENT], session=session
        ).run()  # fmt: skip

    def turned_away(self, error: HubError, client: str, request_id: str) -> None:
        """As everywhere: whoever showed nothing that counts."""
        if isinstance(error, TURNED_AWAY):
            self._refusals.note(_PATH, client, reason_of(error), request_id=request_id)

    def _shown(self, header: bytes, dpop: bytes | None, client: str) -> Shown:
        """Raises Unauthorized, TooManyFailures."""
        if header[:5].lower() == b"dpop ":
            return self.auth.by_proof(header, dpop, "GET", _PATH, client)
        return self.auth.of_key(self.auth.by_header(header, client))


async def _refuse(error: HubError, send: Send, request_id: str) -> None:
    status, headers, body = problem_response(error, request_id)
    headers += [(b"x-request-id", request_id.encode()), *API_HEADERS]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


class _Gone(Exception):
    """The connection is closed."""


class _Conversation:
    """One connection. Frames are answered in the order in which they came.

    A client that does not read is not read from either: its messages wait in the log, and its frames in the network.
    """

    def __init__(
        self, gateway: SocketGateway, shown: Shown | None, receive: Receive, send: Send,
        admit: Callable[[], None], *, client: str, session: str | None,
    ) -> None:  # fmt: skip
        self._admit = admit
        self._session = session
        self._client = client
        self._gateway = gateway
        self._shown = shown
        self._receive = receive
        self._send_event = send
        self._followed: set[str] = set()

    async def run(self) -> None:
        async with one_task_group() as tasks:
            tasks.start_soon(self._end_at_drain)
            try:
                shown = await self._greet()
                if shown is not None:
                    with self._gateway.standing.held(shown, lambda: tasks.start_soon(self._end_refused)):
                        while True:
                            frame = await self._next(_frames)
                            if not self._gateway.auth.is_current(shown):
                                await self._end_refused()
                                break
                            if frame is not None:
                                await self._answer(frame, shown, tasks)
            except _Gone:
                pass
            tasks.cancel_scope.cancel()

    async def _greet(self) -> Shown | None:
        """Find out who this is: by header, or by what comes within 10 s. None: it was turned away."""
        shown = self._shown
        if shown is None:
            try:
                async with asyncio.timeout(HELLO_S):
                    shown = await self._introduced()
            except TimeoutError:
                await self._close(_POLICY_VIOLATION, "no hello came")
                return None
            except (Unauthorized, SessionEnded, TooManyFailures) as error:
                self._gateway.turned_away(error, self._client, next_request_id())
                await self._send({"type": "error", "problem": problem(error)})
                await self._close(_POLICY_VIOLATION, "unauthorized")
                return None
        self._admit()
        principal = shown.principal
        await self._send({"type": "welcome", "principal": principal.name, "address": principal.address})
        return shown

    async def _introduced(self) -> Shown:
        """Raises Unauthorized, SessionEnded, TooManyFailures."""
        auth = self._gateway.auth
        hello = await self._next(_first_frame)
        if hello is not None and self._session is not None and not (hello.key or hello.token):
            return await auth.by_session(self._session)
        if hello is None or not (hello.key or hello.token):
            raise Unauthorized('the first frame must be {"type": "hello", "key": KEY}')
        if not hello.token:
            return auth.of_key(auth.by_key(hello.key.encode(), self._client))
        challenge = Challenge("WEBSOCKET")
        await self._send({"type": "challenge", "nonce": challenge.nonce, "audience": auth.issuer.site}, hello.ref)
        answer = await self._next(_second_frame)
        if answer is None:
            raise Unauthorized('the answer to a challenge must be {"type": "proof", "proof": PROOF}')
        return auth.by_answer(hello.token.encode(), answer.proof.encode(), challenge, self._client)

    async def _next(self, decoder: msgspec.json.Decoder[Read]) -> Read | None:
        """The next frame; None when it was wrong (the client was told). Raises _Gone."""
        event: MutableMapping[str, Any] = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise _Gone
        text = event.get("text")
        try:
            if text is None:
                raise InvalidField("frame", "must be text, not binary")
            return decode_body(text.encode(), decoder)
        except HubError as error:
            await self._send({"type": "error", "problem": problem(error)})
            return None

    async def _answer(self, frame: Frame, shown: Shown, tasks: TaskGroup) -> None:
        principal = shown.principal
        try:
            occasion.set(Occasion(next_request_id(), self._client, ids=shown.token_ids))
            principal.take()
            match frame:
                case Hello():
                    raise InvalidField("type", "hello was said already")
                case Subscribe():
                    await self._subscribe(frame, principal, tasks)
                case SendFrame():
                    await self._store(frame, shown)
                case AckFrame():
                    await self._ack(frame, principal)
        except HubError as error:
            await self._send({"type": "error", "problem": problem(error)}, frame.ref)

    async def _subscribe(self, frame: Subscribe, principal: Principal, tasks: TaskGroup) -> None:
        check_address(frame.to)
        principal.require("read:message", frame.to)
        if frame.to in self._followed:
            raise InvalidField("to", f"{frame.to!r} is subscribed to already on this connection")
        if len(self._followed) >= MAX_SUBSCRIPTIONS:
            raise InvalidField("to", f"one connection follows at most {MAX_SUBSCRIPTIONS} addresses")
        self._followed.add(frame.to)
        await self._send({"type": "subscribed", "to": frame.to, "after": frame.after}, frame.ref)
        deliver = partial(self._deliver_allowed, principal, frame.to)
        tasks.start_soon(self._follow, self._gateway.messages.follower(frame.to, deliver), frame.after)

    async def _follow(self, follower: Follower, after: int) -> None:
        try:
            await follower.run(after)
        except _Gone:
            return  # the reading side ends the conversation

    async def _store(self, frame: SendFrame, shown: Shown) -> None:
        principal = shown.principal
        self._gateway.messages.check_open()
        check_texts(frame.message, prefix="message.")
        require_send(principal, frame.message)
        mailbox, message = self._gateway.mailbox, frame.message
        asker = self._gateway.messages.asker(message, shown)
        sent = await mailbox.send(message, sender=principal.address, payer=principal.payer, asker=asker)
        await self._send({"type": "accepted", "id": sent.id, "seq": sent.seq, "repeated": not sent.is_new}, frame.ref)

    async def _ack(self, frame: AckFrame, principal: Principal) -> None:
        acked = await self._gateway.messages.acknowledge(principal, frame.id, frame.state, frame.by)
        await self._send({"type": "acked", "id": acked.id, "state": acked.state, "seq": acked.seq}, frame.ref)

    async def _deliver_allowed(self, principal: Principal, address: str, event: Event) -> None:
        """What a policy that came meanwhile forbids is not delivered any more."""
        if principal.allows("read:message", address):
            await self._deliver(event)

    async def _deliver(self, event: Event) -> None:
        if event is None:
            return  # the server pings
        if isinstance(event, Delta):
            await self._send({"type": "delta", "delta": event})
            return
        kind = "receipt" if is_receipt(event) else "message"
        await self._send({"type": kind, kind: msgspec.Raw(with_seq(event))})

    async def _end_refused(self) -> None:
        with contextlib.suppress(_Gone):
            await self._close(_POLICY_VIOLATION, "the token or key has ended, or was revoked")

    async def _end_at_drain(self) -> None:
        await self._gateway.messages.drained()
        with contextlib.suppress(_Gone):
            await self._close(_GOING_AWAY, "the hub is shutting down")

    async def _send(self, frame: dict[str, Any], ref: str | None = None) -> None:
        if ref is not None:
            frame["ref"] = ref
        await self._emit({"type": "websocket.send", "text": _encode(frame).decode()})

    async def _close(self, code: int, reason: str) -> None:
        await self._emit({"type": "websocket.close", "code": code, "reason": reason})

    async def _emit(self, event: dict[str, Any]) -> None:
        try:
            await self._send_event(event)
        except (OSError, RuntimeError) as error:  # uvicorn's words for a connection that closed meanwhile
            raise _Gone from error
