"""One device at the gate: its login, its way to the broker, and its end."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Literal, NamedTuple

import anyio
import structlog

from autoglm.channels.broker.gate import codec, connect
from autoglm.channels.broker.gate.codec import Violation
from autoglm.channels.broker.gate.connect import Connack, Connect
from autoglm.channels.broker.gate.passage import Passage, read_auth
from autoglm.channels.broker.gate.rights import METHOD, Attempt, Authenticate, Challenge, Decision, Record, Rights
from autoglm.channels.broker.gate.wire import Wire
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Unauthorized

log = structlog.get_logger()

LOGIN_S = 10.0
"""From the TCP connection to the broker's welcome."""
ROUNDS = 3
RENEW_EVERY_S = 1.0
"""A device may authenticate anew so often."""


class Behind(NamedTuple):
    """The broker that the gate stands before, on 127.0.0.1."""

    port: int
    username: str
    password: str
    levels: frozenset[int]
    """Protocol levels that it speaks: 3 for MQTT 3.1, 4 for 3.1.1, 5."""
    max_packet_bytes: int


class Terms(NamedTuple):
    """What holds for all connections of a gate."""

    behind: Behind
    authenticate: Authenticate
    record: Record
    now_ms: Callable[[], int]
    has_room: Callable[[], bool]
    start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
    """Runs something beside the connection; the gate ends it with itself."""


class Connection:
    def __init__(self, device: Wire, address: str, terms: Terms) -> None:
        self._device = device
        self._address = address
        self._terms = terms
        self._broker = Wire()
        self._level = 0
        self._connect: Connect | None = None
        self._client_id = ""
        self._name = ""
        self._rights: Rights | None = None
        self._passage: Passage | None = None
        self._will_epoch = -1
        self._may_will = True
        self._over = asyncio.get_running_loop().create_future()
        self._challenge = b""
        self._rounds = 0
        self._is_renewing = False
        self._renewed_s = -RENEW_EVERY_S

    # --- the login ---

    async def admit(self) -> bool:
        """Whether the broker has welcomed it; else it has been told why not. Within 10 s."""
        try:
            with anyio.fail_after(LOGIN_S):
                await self._log_in()
        except Violation as refusal:
            if refusal.code == codec.UNSUPPORTED_VERSION and not self._level:
                self._level = 5  # of a later version, says section 3.1.2.2
            if self._level:
                self._record("connect", "", str(refusal))
                self._device.write(connect.refusal(self._level, refusal.code))
        except (TimeoutError, OSError) as error:  # slow, or gone
            if self._connect is not None:
                self._record("connect", "", f"it did not end: {type(error).__name__}")
        else:
            return True
        self.close()
        return False

    async def _log_in(self) -> None:
        data, at = await self._device.packet(codec.CONNECT << 4, connect.CONNECT_BYTES)
        level = connect.level_of(data, at)
        if level not in self._terms.behind.levels:
            self._level = level
            raise Violation(codec.UNSUPPORTED_VERSION, "the broker does not speak this version of MQTT")
        self._level = level
        found = self._connect = connect.read_connect(data, at)
        self._client_id = found.client_id
        if not found.client_id and level < 5 and (level == 3 or not found.is_clean):
            raise Violation(codec.CLIENT_ID_NOT_VALID, "a session needs a client identifier")
        if not self._terms.has_room():
            raise Violation(codec.QUOTA_EXCEEDED, "as many devices are connected as may be")
        if found.method not in ("", METHOD):
            raise Violation(codec.BAD_METHOD, "the authentication method is unknown")
        rights = await self._authenticated(found)
        self._name = rights.name
        if not self._is_valid(rights):
            raise Violation(codec.NOT_AUTHORIZED, "expired or revoked")
        if found.will is not None and not rights.topics.may_publish(found.will.topic):
            self._record("publish:topic", found.will.topic, "will")
            raise Violation(codec.NOT_AUTHORIZED, "the will is to a topic outside of the rights")
        self._client_id = found.client_id or f"auto-{secrets.token_hex(8)}"
        alias_max = await self._dial(found, rights)
        self._rights = rights
        self._passage = Passage(
            level, rights.topics, max_packet_bytes=self._terms.behind.max_packet_bytes, alias_max=alias_max,
            refused=lambda action, topic: self._record(action, topic, "scope"), on_auth=self._on_auth,
        )  # fmt: skip
        self._record("connect", "", "ok", is_allowed=True)

    async def _authenticated(self, found: Connect) -> Rights:
        data = found.data
        challenge = b""
        for _ in range(ROUNDS):
            try:
                answer = await self._terms.authenticate(self._attempt(found, data, challenge))
            except Unauthorized as error:
                code = codec.NOT_AUTHORIZED if found.method else codec.BAD_LOGIN
                raise Violation(code, _reason(error)) from error
            if isinstance(answer, Rights):
                return answer
            if not found.method:
                break
            challenge = answer.data
            self._device.write(codec.auth(codec.CONTINUE_AUTHENTICATION, found.method, challenge))
            reason, method, data = read_auth(*await self._device.packet(codec.AUTH << 4, connect.CONNECT_BYTES))
            if reason != codec.CONTINUE_AUTHENTICATION or method != found.method:
                raise Violation(codec.PROTOCOL_ERROR, "this AUTH does not answer the challenge")
        raise Violation(codec.NOT_AUTHORIZED, "the login takes too many rounds")

    def _attempt(self, found: Connect, data: bytes, challenge: bytes) -> Attempt:
        return Attempt(
            found.username or "", found.password or b"", found.method, data, challenge, found.client_id, self._address
        )  # fmt: skip

    async def _dial(self, found: Connect, rights: Rights) -> int:
        """Speak to the broker as the device; its topic aliases. Raises Violation with its refusal, OSError."""
        behind = self._terms.behind
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._broker, "127.0.0.1", behind.port)
        except OSError as error:
            raise Violation(codec.SERVER_UNAVAILABLE, "the broker does not run") from error
        left_s = None if rights.ends_at_ms is None else max(0, (rights.ends_at_ms - self._terms.now_ms()) // 1000)
        self._broker.write(
            connect.written(
                found,
                client_id=behind_id(rights.name, self._client_id),
                username=behind.username,
                password=behind.password,
                will_delay_max_s=left_s,
            )
        )
        try:
            data, at = await self._broker.packet(codec.CONNACK << 4, connect.CONNECT_BYTES)
        except OSError as error:
            raise Violation(codec.SERVER_UNAVAILABLE, "the broker has hung up") from error
        answer = connect.read_connack(data, at, self._level)
        if answer.code in (4, 5, codec.BAD_LOGIN, codec.NOT_AUTHORIZED):  # the gate's login: it is not of that broker
            raise Violation(codec.SERVER_UNAVAILABLE, "the broker does not let the gate in")
        own = [(codec.ASSIGNED_CLIENT_ID, codec.string(self._client_id))] if not found.client_id else []
        own += [(codec.METHOD, codec.string(found.method))] if found.method else []  # section 3.2.2.3.17
        self._device.write(connect.connack(Connack(answer.flags, answer.code, [*answer.properties, *own]), self._level))
        if answer.code:
            raise ConnectionRefusedError
        return answer.alias_max

    # --- the relay ---

    async def relay(self) -> None:
        """Until either side ends, or `end`. Both are closed then."""
        self._device.twin, self._broker.twin = self._broker, self._device
        try:
            self._broker.relay(self._from_broker, self._finish)
            self._device.relay(self._from_device, self._finish)
            await self._over
        finally:
            if self._has_lost_will() and self._passage is not None and self._passage.can_end_broker:
                self._broker.write(codec.packet(codec.DISCONNECT << 4, b""))  # without it, the broker publishes it
            self.close()

    def _from_device(self, data: bytes) -> None:
        if self._passage is None or self._over.done():
            return
        try:
            onward, back = self._passage.from_device(data)
        except Violation as violation:
            self.end(violation.code, str(violation))
            return
        if onward:
            self._broker.write(onward)
        if back:
            self._device.answer(back)

    def _from_broker(self, data: bytes) -> None:
        if self._passage is None or self._over.done():
            return
        try:
            back, onward = self._passage.from_broker(data)
        except Violation as violation:
            self.end(violation.code, str(violation))
            return
        if onward:
            self._device.write(onward)
        if back:
            self._broker.write(back)

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    # --- renewal and end ---

    def review(self) -> None:
        """Ends it when its rights have ended."""
        rights = self._rights
        if rights is None or self._over.done():
            return
        if rights.is_revoked():
            self.end(codec.NOT_AUTHORIZED, "revoked", has_will=False)
        elif rights.ends_at_ms is not None and self._terms.now_ms() >= rights.ends_at_ms:
            self.end(codec.MAXIMUM_CONNECT_TIME, "expired")
        elif rights.topics.epoch != self._will_epoch:
            self._will_epoch = rights.topics.epoch
            if self._has_lost_will():
                self.end(codec.NOT_AUTHORIZED, "will", has_will=False)

    def _has_lost_will(self) -> bool:
        """Whether its will, which the broker has had since the login, is not to be published."""
        if not self._may_will:
            return True
        if self._connect is None or self._connect.will is None or self._rights is None:
            return False
        try:
            return self._rights.is_revoked() or not self._rights.topics.may_still_publish(self._connect.will.topic)
        except Violation:  # nobody can say
            return True

    def _is_valid(self, rights: Rights) -> bool:
        return not rights.is_revoked() and (rights.ends_at_ms is None or self._terms.now_ms() < rights.ends_at_ms)

    def _on_auth(self, reason: int, method: str, data: bytes) -> None:
        """Section 4.12.1: on a connection that goes on meanwhile."""
        if self._connect is None or not self._connect.method or method != self._connect.method or self._is_renewing:
            raise Violation(codec.PROTOCOL_ERROR, "an AUTH that nobody waits for")
        if reason == codec.REAUTHENTICATE:
            if monotonic_s() - self._renewed_s < RENEW_EVERY_S:
                raise Violation(codec.RATE_TOO_HIGH, "it authenticates too often")
            self._renewed_s, self._challenge, self._rounds = monotonic_s(), b"", 0
        elif reason != codec.CONTINUE_AUTHENTICATION or not self._challenge:
            raise Violation(codec.PROTOCOL_ERROR, "an AUTH that nobody waits for")
        self._is_renewing = True
        attempt = self._attempt(self._connect, data, self._challenge)
        self._terms.start(lambda: self._renew(attempt))

    async def _renew(self, attempt: Attempt) -> None:
        self._rounds += 1
        try:
            with anyio.fail_after(LOGIN_S):
                answer = await self._terms.authenticate(attempt)
        except (Unauthorized, TimeoutError) as error:
            self._record("connect", "", _reason(error) if isinstance(error, Unauthorized) else "too slow")
            self.end(codec.NOT_AUTHORIZED, "not renewed", has_will=False)
            return
        finally:
            self._is_renewing = False
        if isinstance(answer, Challenge) and self._rounds < ROUNDS:
            self._challenge = answer.data
            self._tell(codec.auth(codec.CONTINUE_AUTHENTICATION, METHOD, answer.data))
        elif isinstance(answer, Rights) and answer.name == self._name and self._is_valid(answer):
            self._challenge = b""
            self._rights, self._will_epoch = answer, -1
            if self._passage is not None:
                self._passage.regrant(answer.topics)
            self._record("connect", "", "renewed", is_allowed=True)
            self._tell(codec.auth(codec.SUCCESS, METHOD, b""))
        else:
            self._record("connect", "", "another identity, or no end of rounds")
            self.end(codec.NOT_AUTHORIZED, "not renewed", has_will=False)

    def _tell(self, packet: bytes) -> None:
        if self._passage is not None and not self._over.done():
            self._device.write(self._passage.tell_device(packet))

    def end(self, code: int, why: str, *, has_will: bool = True) -> None:
        """code: of MQTT 5, whose devices are told. has_will: the broker may publish the device's will.

        Who is revoked has no will; only where it stops in mid-packet, the broker cannot be told so.
        """
        if self._over.done():
            return
        refusals = 0 if self._passage is None else self._passage.refusals
        log.info("mqtt_device_ended", name=self._name, client_id=self._client_id, reason=why, refusals=refusals)
        if self._passage is not None and self._level == 5 and self._passage.can_end_device:
            self._device.write(codec.disconnect(code))
        self._may_will = has_will
        self._finish()

    def close(self) -> None:
        self._finish()
        self._device.close()
        self._broker.close()

    def _record(
        self, action: Literal["connect", "publish:topic", "subscribe:topic", "read:topic"], resource: str, reason: str,
        *, is_allowed: bool = False,
    ) -> None:  # fmt: skip
        self._terms.record(
            Decision(action, resource, is_allowed, reason, self._name, self._client_id, self._address)
        )  # fmt: skip


def _reason(error: Unauthorized) -> str:
    """Its code, where it has one."""
    return str(error.facts.get("reason") or error)


def behind_id(name: str, client_id: str) -> str:
    """By which the broker knows a device's session: no name makes another's, whatever the device calls itself."""
    return f"gate/{name.replace('%', '%25').replace('/', '%2F')}/{client_id}"
