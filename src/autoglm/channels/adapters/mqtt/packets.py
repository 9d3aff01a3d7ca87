"""Between paho's packets and ours: what a broker offers, what a publication says, what came in."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from autoglm.channels.adapters.mqtt import reasons
from autoglm.channels.adapters.mqtt.dial import properties_for
from autoglm.channels.adapters.mqtt.incoming import Arrival
from autoglm.channels.adapters.mqtt.outgoing import JSON, TEXT, Publication, packet_bytes
from autoglm.channels.adapters.mqtt.settings import MqttSettings
from autoglm.channels.delivery import Delivery, Words, too_large
from autoglm.core.clock import now_ms

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.properties import Properties

_MAX_PACKET_BYTES = 268_435_460
"""MQTT 5.0, section 2.1.4."""
_UNTOLD_WINDOW = 20
"""MQTT 3.1.1 has no Receive Maximum. Mosquitto (`max_inflight_messages`, by default 20) confirms what is beyond it at
QoS 2, and drops it.
"""
_LONGEST_KEY = "k" * 160

Version = Literal["5", "3.1.1"]


class Offer(NamedTuple):
    """What the broker said in its CONNACK that it bears (MQTT 5.0, section 3.2.2.3)."""

    packet_bytes: int = _MAX_PACKET_BYTES
    qos: int = 2
    retains: bool = True


def offer_of(properties: "Properties | None") -> Offer:
    return Offer(
        getattr(properties, "MaximumPacketSize", _MAX_PACKET_BYTES), getattr(properties, "MaximumQoS", 2),
        bool(getattr(properties, "RetainAvailable", 1)),
    )  # fmt: skip


def window(settings: MqttSettings, properties: "Properties | None") -> int:
    """How many messages may be on their way to a broker that said `properties` in its CONNACK."""
    if settings.version != "5" and settings.publishes_at_qos_2:
        return min(settings.inflight_max, _UNTOLD_WINDOW)
    return min(settings.inflight_max, getattr(properties, "ReceiveMaximum", 65_535))


def refusal(publication: Publication, offer: Offer, version: Version) -> Delivery | None:
    """What speaks against it before it goes out."""
    if publication.qos > offer.qos:
        return reasons.of_publication(155, was_repeated=False)
    if publication.retain and not offer.retains:
        return reasons.of_publication(154, was_repeated=False)
    properties = properties_of(publication, _LONGEST_KEY, version)
    packed: Any = None if properties is None else properties.pack()  # type: ignore[no-untyped-call]  # paho's
    if (size := packet_bytes(publication, len(packed or b""))) <= offer.packet_bytes:
        return None
    words = Words(
        f"the message takes {size:,} bytes, and the broker's limit is {offer.packet_bytes:,}",
        f"消息共 {size:,} 字节，服务器上限为 {offer.packet_bytes:,} 字节",
    )
    return too_large("149", words)


def properties_of(publication: Publication, key: str, version: Version) -> "Properties | None":
    """Those of its PUBLISH; None where the version has none."""
    if version != "5":
        return None
    properties = properties_for("PUBLISH")
    properties.UserProperty = [*publication.properties, ("key", key)]
    if publication.content_type:
        properties.ContentType = publication.content_type
        properties.PayloadFormatIndicator = int(publication.content_type in (JSON, TEXT))
    if publication.expires_at is not None:
        properties.MessageExpiryInterval = min(0xFFFF_FFFF, max(1, (publication.expires_at - now_ms()) // 1000))
    return properties


def arrival_of(message: "MQTTMessage", connection: int) -> Arrival:
    """connection: on which it came."""
    properties = message.properties
    correlation = getattr(properties, "CorrelationData", b"")
    return Arrival(
        topic=message.topic, payload=bytes(message.payload), qos=message.qos, mid=message.mid,
        is_repeated=message.dup, is_retained=message.retain, connection=connection,
        properties=dict(getattr(properties, "UserProperty", ())),
        content_type=getattr(properties, "ContentType", ""),
        correlation=correlation.decode("ascii", "ignore") if isinstance(correlation, bytes) else "",
        expires_in_s=getattr(properties, "MessageExpiryInterval", None),
    )  # fmt: skip
