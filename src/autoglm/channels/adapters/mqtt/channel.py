"""An MQTT broker as a channel: topics become addresses and addresses topics, and nothing of QoS 1 and 2 is lost.

Source: MQTT 5.0 (OASIS, 2019) and MQTT 3.1.1 (OASIS, 2014); paho-mqtt's client.
"""

from collections.abc import Sequence
from functools import partial

import anyio
import msgspec
import structlog

from autoglm.channels.adapters.mqtt.incoming import Arrival, Unreadable, read_message, read_receipt, rule_for
from autoglm.channels.adapters.mqtt.intake import Intake
from autoglm.channels.adapters.mqtt.link import Link
from autoglm.channels.adapters.mqtt.outgoing import Publication, publication
from autoglm.channels.adapters.mqtt.settings import MqttSettings
from autoglm.channels.channel import Health, Inbox, Limits, LinkState, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, permanent
from autoglm.core.envelope import Envelope
from autoglm.core.tasks import one_task_group

log = structlog.get_logger()


_SUBSCRIBED_WITHIN_S = 5.0


class Mqtt:
    """Satisfies `Channel`."""

    Settings = MqttSettings

    def __init__(self, settings: MqttSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._intake = Intake(self._acknowledge, self._resume)
        self._link = Link(
            settings, resources.keyvalue, take=self._intake.put, is_full=lambda: self._intake.is_full,
            begin_session=self._intake.begin_session,
        )  # fmt: skip

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute
        windows = () if count is None else ((count, 60.0),)
        return Limits(windows=windows, per="channel", parallel=self._settings.inflight_max)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        return [Parcel(target=target, body=publication(envelope, target, self._settings))]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """The broker's PUBACK is all that is known: whether a device has it, only a receipt of the device says."""
        found = parcel.body
        if not isinstance(found, Publication):
            found = msgspec.convert(found, Publication)
        if found.blob:
            if (payload := await self._read_blob(found.blob)) is None:
                words = Words("the file of the message is not in this hub's store", "消息中的文件不在本机存储中")
                return permanent("no_file", words)
            found = msgspec.structs.replace(found, payload=payload, blob="")
        return await self._link.ready() or await self._link.publish(found, key)

    async def check(self) -> Health:
        if (failure := await self._link.ready()) is not None:
            return Health(ok=False, reason=failure.reason, code=failure.code)
        with anyio.move_on_after(_SUBSCRIBED_WITHIN_S) as waiting:
            while not self._link.subscription.is_answered:  # noqa: ASYNC110  # a moment after the connection, and asked seldom
                await anyio.sleep(0.01)
        if waiting.cancelled_caught:
            words = Words("the broker does not answer the subscription", "服务器没有应答订阅请求")
            return Health(ok=False, reason=words, code="no_suback")
        for pattern, code in self._link.subscription.refused.items():
            words = Words(f"the broker does not let us subscribe to {pattern!r}", f"服务器不允许订阅 {pattern!r}")
            return Health(ok=False, reason=words, code=str(code))
        return Health(ok=True, reason=Words("the broker is connected", "服务器已连接"))

    @property
    def link_state(self) -> LinkState:
        return LinkState(self._link.is_up, self._link.welcomes)

    async def run(self, inbox: Inbox) -> None:
        async with one_task_group() as tasks:
            tasks.start_soon(self._intake.run, partial(self._take, inbox))
            while True:
                if await self._link.ready() is None:
                    lost = self._link.lost
                    await self._link.subscription.prune()
                    await lost.wait()
                else:
                    await anyio.sleep(max(0.05, self._link.pause_s))

    async def aclose(self) -> None:
        await self._link.aclose()

    async def _take(self, inbox: Inbox, arrival: Arrival) -> None:
        """Raises HubError: the inbox cannot take it for now. What can never be taken is noted and left."""
        matched = rule_for(self._settings.topics, arrival.topic)
        if matched is None or (arrival.is_retained and not matched[0].retained):
            log.info("mqtt_message_left", channel=self._name, topic=arrival.topic[:200])
            return
        if len(arrival.payload) > self._settings.payload_max_bytes:
            log.error("mqtt_message_too_large", channel=self._name, topic=arrival.topic[:200])
            return
        rule, found = matched
        if rule.receipt:
            await self._report(inbox, arrival)
            return
        envelope = read_message(
            arrival, rule, found, channel=self._name, incoming_to=self._settings.incoming_to
        )  # fmt: skip
        if envelope.reply_to is not None and (known := await inbox.message_of(envelope.reply_to)) is not None:
            envelope = msgspec.structs.replace(envelope, reply_to=known)
        await inbox.take(envelope)

    async def _report(self, inbox: Inbox, arrival: Arrival) -> None:
        try:
            receipt = read_receipt(arrival)
        except Unreadable as error:
            log.warning("mqtt_receipt_unreadable", channel=self._name, topic=arrival.topic[:200], reason=str(error))
            return
        await inbox.report(receipt.ticket, receipt.delivery)

    def _acknowledge(self, arrival: Arrival) -> None:
        self._link.acknowledge(arrival)

    def _resume(self) -> None:
        self._link.resume()
