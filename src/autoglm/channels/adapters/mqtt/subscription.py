"""What a link is subscribed to: it asks the broker for what the settings want, and gives up what they lost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from autoglm.channels.adapters.mqtt.filters import Filters
from autoglm.channels.adapters.mqtt.settings import MqttSettings
from autoglm.channels.adapters.mqtt.topics import widest
from autoglm.core.ports import KeyValue

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.reasoncodes import ReasonCode

log = structlog.get_logger()


class Subscription:
    """Of one link; `begin`, `subscribe` and `end` are for each of its connections."""

    def __init__(self, settings: MqttSettings, keyvalue: KeyValue | None) -> None:
        self._settings = settings
        prefix = f"$share/{settings.share}/" if settings.share else ""
        self._wanted = [prefix + pattern for pattern in widest(rule.topic for rule in settings.topics)]
        self._filters = Filters(keyvalue, settings.name, self._wanted)
        self._mid: int | None = None
        """Of the last SUBSCRIBE."""
        self._given_up: tuple[int | None, Sequence[str]] = (None, ())
        """The UNSUBSCRIBE that the broker has not answered, by its packet id, and its filters."""
        self._packet_bytes = 0
        self.is_granted = False
        """All of it, in this session."""
        self.refused: dict[str, int] = {}
        """Filters that the broker did not grant, with its reason code."""
        self.has_pruned = anyio.Event()
        """The broker answered for all filters that the settings lost, or the connection is gone."""

    @property
    def is_answered(self) -> bool:
        """Whether there is nothing to wait for: what is published from now on comes in, save what was refused."""
        return not self._wanted or self.is_granted or bool(self.refused)

    async def note(self) -> None:
        """Before the first connection: what is not noted could not be given up."""
        await self._filters.note()

    async def prune(self) -> None:
        """Wait until the broker gave up the filters that the settings lost, or the connection ends; forget those."""
        await self.has_pruned.wait()
        await self._filters.forget()

    def begin(self, client: "Client", *, has_session: bool, packet_bytes: int) -> None:
        """A connection. packet_bytes: the most that the broker takes."""
        if not has_session:
            self.is_granted = False
        self._packet_bytes = packet_bytes
        self._filters.begin(has_session=has_session)
        self.has_pruned = anyio.Event()
        self._give_up(client)

    def subscribe(self, client: "Client") -> None:
        """Once for each session in this process: 3.1.1 sends what it retains again on each SUBSCRIBE."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        settings = self._settings
        if self.is_granted or not self._wanted:
            return
        qos = max(rule.qos for rule in settings.topics)
        options: Any = qos
        if settings.version == "5":  # no local is an error for shared ones; what is retained, only the first time
            options = SubscribeOptions(qos, noLocal=not settings.share, retainHandling=1)
        _, self._mid = client.subscribe([(pattern, options) for pattern in self._wanted])

    def on_subscribed(self, mid: int, codes: "Sequence[ReasonCode]") -> None:
        if mid != self._mid:
            return
        self.refused = {
            pattern: code.value for pattern, code in zip(self._wanted, codes, strict=False) if code.is_failure
        }
        self.is_granted = not self.refused
        if self.refused:
            log.error("mqtt_subscription_refused", channel=self._settings.name, filters=self.refused)

    def on_unsubscribed(self, client: "Client", mid: int, codes: "Sequence[ReasonCode]") -> bool:
        """False: it was not the subscription's."""
        asked, patterns = self._given_up
        if mid != asked:
            return False
        # MQTT 3.1.1 has no codes. What was not there is gone as well: 17, no success and no failure.
        refused = {pattern for pattern, code in zip(patterns, codes, strict=False) if code.is_failure}
        self._filters.give_up(set(patterns) - refused)
        if refused:
            log.warning("mqtt_filters_kept_by_broker", channel=self._settings.name, filters=len(refused))
        self._give_up(client)
        return True

    def end(self) -> None:
        """The connection is gone."""
        self.has_pruned.set()

    def _give_up(self, client: "Client") -> None:
        """Of the filters that the settings lost: one packet after the other, so that none is large."""
        self._given_up = None, ()
        if not (patterns := self._filters.next_packet(self._packet_bytes)):
            self.has_pruned.set()
            return
        _, mid = client.unsubscribe(patterns)
        self._given_up = mid, patterns
