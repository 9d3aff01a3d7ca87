"""The connection to a broker: paho's client on the event loop, which drives its socket and its timers.

paho keeps what is published at QoS 1 and 2 until the broker acknowledged it, and sends it again, with the DUP flag, on
the next connection. Only the connecting itself (names, TCP, TLS) blocks, and runs in a thread.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog

from autoglm.channels.adapters.mqtt import reasons
from autoglm.channels.adapters.mqtt.dial import (
    CONNECT_TIMEOUT_S,
    aim,
    make_client,
    of_alert,
    release,
    release_left,
    why_not,
)
from autoglm.channels.adapters.mqtt.fence import NOTHING, Fence
from autoglm.channels.adapters.mqtt.incoming import Arrival
from autoglm.channels.adapters.mqtt.intake import QUEUE_MESSAGES
from autoglm.channels.adapters.mqtt.outgoing import Publication
from autoglm.channels.adapters.mqtt.packets import Offer, arrival_of, offer_of, properties_of, refusal, window
from autoglm.channels.adapters.mqtt.pending import Attempt, Pending
from autoglm.channels.adapters.mqtt.settings import MqttSettings
from autoglm.channels.adapters.mqtt.subscription import Subscription
from autoglm.channels.delivery import Delivery, Words, throttled, transient
from autoglm.core.ports import KeyValue

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

log = structlog.get_logger()

MAX_PAUSE_S = 60.0
_STABLE_S = 5.0
"""A connection that held for so long ends a row of failures."""
_RIVAL_PAUSE_S = 20.0
_GOODBYE_S = 1.0

_CLOSED = transient("closed", Words("the channel is closed", "渠道已关闭"))
_ENDED = transient("ended", Words("the broker closed the connection", "服务器关闭了连接"))
_BUSY = throttled(
    "queue_full", Words("too many messages wait for the broker's answer", "等待服务器应答的消息过多"), 1.0
)
_UNWELCOME = transient(
    "connect_timeout", Words("the broker takes the connection and says nothing", "服务器接受连接但无应答")
)


class Link:
    """For the event loop that it is first used on. Connects when it is used, and again with growing pauses."""

    def __init__(
        self, settings: MqttSettings, keyvalue: KeyValue | None, *, take: Callable[[Arrival], None],
        is_full: Callable[[], bool], begin_session: Callable[[], None],
    ) -> None:  # fmt: skip
        """keyvalue: where it keeps what it subscribed to. take: each message that comes in. is_full: no more is to be
        read, until `resume`. begin_session: the broker has none of ours.
        """
        self._settings = settings
        self.subscription = Subscription(settings, keyvalue)
        self._take = take
        self._is_full = is_full
        self._begin_session = begin_session
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop
        self._connecting = anyio.Lock()
        self._greeting: asyncio.Future[Delivery | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        self._is_reading = False
        self._offer = Offer()
        self._pending = Pending(is_unheard_accepted=settings.unheard == "accept")
        self._fence = Fence()
        self._has_read: anyio.Event | None = None
        self._had_answer = self._was_useful = True
        self._failures = 0
        self._not_before_s = self._up_since_s = 0.0
        self._failure = _CLOSED
        self._tls_alert = ""
        self._is_closed = False
        self.connection = 0
        """Counts them: an acknowledgement is for the connection that its message came on."""
        self.welcomes = 0
        """Connections that the broker took."""
        self.is_up = False
        self.lost = anyio.Event()
        """Of this connection."""

    # --- for the channel ----------------------------------------------------------------------------

    @property
    def pause_s(self) -> float:
        """Until the next attempt to connect may be made."""
        return max(0.0, self._not_before_s - time.monotonic())

    async def ready(self) -> Delivery | None:
        """None when there is a connection; else why there is none. Connects, if the last failures are long enough ago.

        Several who wait share one attempt.
        """
        async with self._connecting:
            if not self.is_up and not self._is_closed and not self.pause_s:
                await self.subscription.note()
                self._failure = await self._connect() or _ENDED
                if not self.is_up:
                    self._space()
                    log.warning("mqtt_connection_failed", channel=self._settings.name, code=self._failure.code)
            if self.is_up:
                return None
            return _CLOSED if self._is_closed else self._failure

    async def publish(self, publication: Publication, key: str) -> Delivery:
        """The broker's answer. What is on its way under the same key, or was answered when nobody waited any more, is
        not published again.
        """
        found = self._pending.find(publication, key) or self._why_not(publication)
        if found is None:
            if not await self._pending.wait_for_room():
                return _BUSY
            found = self._pending.find(publication, key) or self._why_not(publication) or self._start(publication, key)
        return found if isinstance(found, Delivery) else await self._pending.answer(found)

    def acknowledge(self, arrival: Arrival) -> None:
        """Tells the broker that a message is taken; nothing where its connection is gone, for the broker repeats it."""
        if self._client is not None and self.is_up and arrival.connection == self.connection:
            self._client.ack(arrival.mid, arrival.qos)

    def resume(self) -> None:
        """Read on."""
        if self._fd >= 0 and not self._is_reading:
            self._start_reading()
            self._loop.call_soon(self._readable)  # what TLS has read already, no socket tells again

    async def aclose(self) -> None:
        self._is_closed = True
        async with self._connecting:
            if self._client is None:
                return
            if self.is_up:
                await self._say_goodbye(self._client)
            self._abort()
            if self._timer is not None:
                self._timer.cancel()
            self._client = None

    # --- connecting ---------------------------------------------------------------------------------

    async def _connect(self) -> Delivery | None:
        """None when the broker welcomes us."""
        loop = self._loop = asyncio.get_running_loop()
        self._tls_alert = ""
        try:
            client = await self._opened()
        except OSError as error:
            return why_not(error)
        self._greeting = loop.create_future()
        self._fd = client.socket().fileno()  # type: ignore[union-attr]  # `reconnect` has made it
        self.connection += 1
        if self._timer is not None:
            self._timer.cancel()
        self._start_reading()
        loop.add_writer(self._fd, self._writable)
        self._tick()
        failure: Delivery | None = _UNWELCOME
        try:
            with anyio.move_on_after(CONNECT_TIMEOUT_S):
                failure = await self._greeting
        finally:
            self._greeting = None
            if not self.is_up:
                self._abort()
        return failure

    async def _opened(self) -> "Client":
        """The client with an open socket. Raises OSError."""
        client = self._client or self._made()
        client.on_log = self._on_log
        try:
            await anyio.to_thread.run_sync(client.reconnect, abandon_on_cancel=True)
        except OSError:
            self._client = client
            raise
        except BaseException:  # its thread may still connect: that client is nobody's any more, and closes by itself
            self._client = None
            self._pending.interrupt(is_all_dropped=True)
            raise
        self._client = client
        return client

    def _made(self) -> "Client":
        client = make_client(self._settings, self._on_received)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    def _space(self) -> None:
        """After a connection that failed or did not last: the first may follow at once, others after growing pauses."""
        self._failures += 1
        if self._failures > 1:
            longest_s = min(MAX_PAUSE_S, 2.0 ** min(10, self._failures - 2))
            self._not_before_s = time.monotonic() + random.uniform(longest_s / 2, longest_s)  # noqa: S311  # no secret

    # --- the socket ---------------------------------------------------------------------------------

    def _start_reading(self) -> None:
        self._loop.add_reader(self._fd, self._readable)
        self._is_reading = True

    def _readable(self) -> None:
        if (client := self._client) is None or self._fd < 0:
            return
        try:
            while True:
                client.loop_read()
                sock: Any = client.socket()
                if sock is None:
                    return
                if self._is_full():
                    self._loop.remove_reader(self._fd)
                    self._is_reading = False
                    return
                if not (hasattr(sock, "pending") and sock.pending()):
                    return
        except Exception:  # the outer edge of paho's reading: a packet that it cannot bear must not end the hub
            log.exception("mqtt_packet_unreadable", channel=self._settings.name)
            self._abort()

    def _writable(self) -> None:
        if self._client is not None and self._fd >= 0:
            self._client.loop_write()

    def _tick(self) -> None:
        """Keeps the connection alive, and finds out when it is not."""
        if self._client is None or self._fd < 0:
            return
        self._client.loop_misc()
        if not self._is_watched():
            self._read_out()
        if self._fd >= 0:
            pause_s = max(0.05, min(1.0, self._settings.keepalive_s / 4))
            self._timer = self._loop.call_later(pause_s, self._tick)

    def _is_watched(self) -> bool:
        """uvloop gives up a socket that has an error, as of a broker that was killed, and tells nobody."""
        if self._fd >= 0 and self._is_reading:
            try:
                self._loop.add_reader(self._fd, self._readable)
            except RuntimeError:
                return False
        return True

    def _read_out(self) -> None:
        """What came before the error; then the connection ends."""
        for _ in range(QUEUE_MESSAGES):
            self._readable()
        if self._fd >= 0:
            self._abort()

    def _abort(self) -> None:
        """End the connection at once."""
        if self._client is not None:
            aim(self._client, self._settings)
            self._leave(self._client, _ENDED)

    def _on_register_write(self, _client: object, _data: object, _sock: object) -> None:
        if self._fd >= 0:  # else its thread connects, and `_connect` looks after it
            try:
                self._loop.add_writer(self._fd, self._writable)
            except RuntimeError:  # see `_is_watched`
                self._loop.call_soon(self._read_out)

    def _on_unregister_write(self, _client: object, _data: object, _sock: object) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)

    def _on_socket_close(self, _client: object, _data: object, _sock: object) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1
            self._is_reading = False

    # --- what the broker says -----------------------------------------------------------------------

    def _on_log(self, _client: object, _data: object, _level: object, text: str) -> None:
        """Until the broker's welcome: with TLS 1.3 it refuses a certificate when the handshake seems done."""
        if "[SSL:" in text:
            self._tls_alert = text

    def _on_connect(
        self, client: "Client", _data: object, flags: "ConnectFlags", reason: "ReasonCode",
        properties: "Properties | None",
    ) -> None:  # fmt: skip
        client.on_log = None  # it would have each packet told in words
        if reason.is_failure:
            self._greet(reasons.of_connection(reason.value))
            return
        self._offer = offer_of(properties)
        self._fence.end()
        self._open_window(client, window(self._settings, properties), has_session=flags.session_present)
        if not flags.session_present:
            self._begin_session()
        self.subscription.begin(client, has_session=flags.session_present, packet_bytes=self._offer.packet_bytes)
        self.is_up = True
        self.welcomes += 1
        self._had_answer = self._was_useful = False
        self._up_since_s = time.monotonic()
        self.lost = anyio.Event()
        log.info("mqtt_connected", channel=self._settings.name, session_present=flags.session_present)
        self.subscription.subscribe(client)
        if (presence := self._settings.presence) is not None and presence.online:
            client.publish(presence.topic, presence.online, min(1, self._settings.qos), presence.retain)
        self._greet(None)

    def _open_window(self, client: "Client", size: int, *, has_session: bool) -> None:
        """At once; or, where the broker may hold what was left unreleased, when it has answered for all of it."""
        if has_session and self._settings.publishes_at_qos_2:
            self._pending.window = 0
            release_left(client, self._settings)
            self._fence.add(client, partial(self._pending.open, size))
        else:
            self._pending.open(size)

    def _greet(self, failure: Delivery | None) -> None:
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(failure)

    def _on_subscribe(
        self, _client: object, _data: object, mid: int, codes: "Sequence[ReasonCode]", _properties: object
    ) -> None:
        self.subscription.on_subscribed(mid, codes)

    def _on_message(self, _client: object, _data: object, message: "MQTTMessage") -> None:
        self._was_useful = True
        self._take(arrival_of(message, self.connection))

    def _on_publish(self, client: "Client", _data: object, mid: int, reason: "ReasonCode", _properties: object) -> None:
        self._had_answer = self._was_useful = True
        if not self._settings.confirm_twice:
            self._pending.settle(mid, reason.value)
        elif self._pending.hold(mid, reason.value):
            self._fence.add(client, self._pending.confirm)

    def _on_received(self, client: "Client", mid: int) -> None:
        """PUBREC, the first of the broker's two answers at QoS 2. A broker that had the message in memory alone when it
        was killed, and is then asked to release it, says the same as of one that it has delivered. To Mosquitto 2.0.11
        it is no change to save; the first request is one, and the second is answered after the save.
        """
        self._had_answer = self._was_useful = True
        confirmed = partial(release, client, mid)
        if self._settings.confirm_twice:
            self._fence.add(client, partial(self._fence.add, client, confirmed))
        else:
            confirmed()

    def _on_unsubscribe(
        self, client: "Client", _data: object, mid: int, codes: "Sequence[ReasonCode]", _properties: object
    ) -> None:
        if self.subscription.on_unsubscribed(client, mid, codes):
            return
        if self._has_read is not None:
            self._has_read.set()
        self._fence.on_unsubscribed(client, mid)

    def _on_disconnect(
        self, client: "Client", _data: object, flags: "DisconnectFlags", reason: "ReasonCode", _properties: object
    ) -> None:
        failure = of_alert(self._tls_alert) if self._tls_alert else _ENDED
        if flags.is_disconnect_packet_from_server:
            failure = reasons.of_connection(reason.value)
        self._leave(client, failure)

    def _leave(self, client: "Client", failure: Delivery) -> None:
        """There is no connection any more. paho repeats what is on its way, save where that may do harm: what must not
        arrive twice, and what was repeated on this connection, which ended without an answer to anything.
        """
        self._greet(failure)
        if not self.is_up:
            return
        self.is_up = False
        self._failure = failure
        if self._was_useful or time.monotonic() - self._up_since_s >= _STABLE_S:
            self._failures = 0
        else:
            self._space()
        if failure.code == str(reasons.TAKEN_OVER):  # by turns, two hubs would disturb each other all the time
            self._not_before_s = time.monotonic() + random.uniform(_RIVAL_PAUSE_S / 2, _RIVAL_PAUSE_S)  # noqa: S311
        if not self._is_closed:
            log.warning("mqtt_connection_lost", channel=self._settings.name, code=failure.code)
        is_fruitless = not self._had_answer and self._pending.has_repeated()
        is_all_dropped = is_fruitless or self._settings.on_doubt == "fail"
        if is_all_dropped:
            client.drop_out_messages()
        self._pending.interrupt(is_all_dropped=is_all_dropped)
        self._fence.end()
        self.subscription.end()
        self.lost.set()

    # --- publishing ---------------------------------------------------------------------------------

    def _why_not(self, publication: Publication) -> Delivery | None:
        return refusal(publication, self._offer, self._settings.version) if self.is_up else self._failure

    def _start(self, publication: Publication, key: str) -> Attempt | Delivery:
        """The attempt; a Delivery where paho takes no more."""
        assert self._client is not None
        info = self._client.publish(
            publication.topic, publication.payload, publication.qos, publication.retain,
            properties_of(publication, key, self._settings.version),
        )  # fmt: skip
        if info.rc:
            return _BUSY
        return self._pending.add(info.mid, publication, key)

    async def _say_goodbye(self, client: "Client") -> None:
        """With a DISCONNECT, so that the broker sends no will; what the will says, the hub says itself. Before that
        the broker answers something: a broker may drop acknowledgements that it has not read when the next connection
        comes (Mosquitto does).
        """
        if (presence := self._settings.presence) is not None:
            client.publish(presence.topic, presence.offline, min(1, self._settings.qos), presence.retain)
        self._has_read = anyio.Event()
        client.unsubscribe(NOTHING)
        with anyio.move_on_after(_GOODBYE_S):
            await self._has_read.wait()
        client.disconnect()
        with anyio.move_on_after(_GOODBYE_S):
            await self.lost.wait()
