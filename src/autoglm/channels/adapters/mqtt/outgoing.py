"""Turns a message of the hub into what is published. Pure."""

import base64
import binascii

import msgspec

from autoglm.channels.adapters.mqtt.incoming import raw_id
from autoglm.channels.adapters.mqtt.settings import MqttSettings
from autoglm.channels.adapters.mqtt.topics import captures, filled, matches, topic_flaw, topic_of
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent
from autoglm.core.envelope import Envelope, FilePart, ImagePart, JsonPart, TextPart, encode_envelope, text_of

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """One PUBLISH packet to be. With `blob` its payload is that file's, yet to be read."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    content_type: str = ""
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5's user properties."""
    blob: str = ""
    expires_at: int | None = None


def publication(envelope: Envelope, target: str, settings: MqttSettings) -> Publication:
    """Raises Cannot: no topic, one that nothing may be published to, or content of no form that fits."""
    topic, qos, retain = _destination(target, settings)
    _check_topic(topic, settings)
    payload, content_type, blob = (
        (encode_envelope(envelope), JSON, "") if settings.form == "envelope" else _payload(envelope)
    )
    named = {"id": envelope.id, "from": envelope.from_, "kind": envelope.kind, "thread": envelope.thread or ""}
    named["reply_to"] = raw_id(settings.name, envelope.reply_to) if envelope.reply_to else ""
    return Publication(
        topic=topic, payload=payload, qos=qos, retain=retain, content_type=content_type, blob=blob,
        properties=tuple((name, value) for name, value in named.items() if value), expires_at=envelope.expires_at,
    )  # fmt: skip


def _destination(target: str, settings: MqttSettings) -> tuple[str, int, bool]:
    """(topic, QoS, retain) of a target: by the first rule that matches, else the target is the topic."""
    try:
        name = topic_of(target)
    except UnicodeDecodeError:
        raise Cannot(
            permanent("bad_topic", Words("the % escapes of the topic are no UTF-8", "主题中的 % 转义不是有效的 UTF-8"))
        ) from None
    for rule in settings.targets:
        if (found := captures(rule.target, name)) is not None:
            qos = settings.qos if rule.qos is None else rule.qos
            retain = settings.retain if rule.retain is None else rule.retain
            return filled(rule.topic, found, name), qos, retain
    if not any(matches(pattern, name) for pattern in settings.publish):
        raise Cannot(
            permanent(
                "unknown_target",
                Words(
                    f"channel {settings.name!r} may not publish under {name[:200]!r}; see `publish` and `targets`",
                    f"渠道 {settings.name!r} 不允许发布到 {name[:200]!r}，见 publish 与 targets",
                ),
            )
        )
    return name, settings.qos, settings.retain


def _check_topic(topic: str, settings: MqttSettings) -> None:
    if (flaw := topic_flaw(topic)) is not None:
        raise Cannot(
            permanent(
                "bad_topic",
                Words(
                    f"the topic {topic[:200]!r} {flaw}",
                    f"主题 {topic[:200]!r} 不合规：为空、过长、含通配符或控制字符",
                ),
            )
        )  # fmt: skip
    if settings.broker == "nats-server" and " " in topic:
        words = Words(
            "nats-server takes no blank in a topic: it would close the connection",
            "nats-server 的主题不能含空格，否则会断开连接",
        )
        raise Cannot(permanent("bad_topic", words))
    # MQTT 5 keeps a client's own messages from it, except those of a shared subscription; 3.1.1 does not.
    hears_itself = settings.version != "5" or bool(settings.share)
    if hears_itself and any(matches(rule.topic, topic) for rule in settings.topics):
        words = Words(
            f"the channel listens to {topic[:200]!r} itself, and would take the message in again",
            f"该渠道自身订阅了 {topic[:200]!r}，消息会被重新收进来",
        )
        raise Cannot(permanent("echo", words))


def _payload(envelope: Envelope) -> tuple[bytes, str, str]:
    """(payload, its MIME type, blob): the text, or the one JSON or file by itself; of mixed parts their JSON."""
    match envelope.content:
        case [JsonPart() as part]:
            return msgspec.json.encode(part.json), JSON, ""
        case [FilePart() as part] if part.file.file_id:
            return b"", "", part.file.file_id
        case [FilePart() as part] if part.file.file_data:
            return (*_decoded(part.file.file_data), "")
        case [ImagePart() as part] if part.image_url.url.startswith("data:"):
            return (*_decoded(part.image_url.url), "")
        case parts if isinstance(parts, list) and not all(isinstance(part, TextPart) for part in parts):
            return msgspec.json.encode(parts), JSON, ""
    return text_of(envelope.content).encode("utf-8", "replace"), TEXT, ""


def _decoded(url: str) -> tuple[bytes, str]:
    head, comma, data = url.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError(head)
        return base64.b64decode(data, validate=True), head.removeprefix("data:").removesuffix(";base64")
    except (binascii.Error, ValueError):
        words = Words("the file is no data: address in base64", "文件不是 base64 的 data: 地址")
        raise Cannot(permanent("bad_file", words)) from None


def packet_bytes(found: Publication, properties_bytes: int) -> int:
    """Of the PUBLISH packet, with its longest possible header (MQTT 5.0, section 3.3)."""
    return 5 + 2 + len(found.topic.encode()) + 2 + properties_bytes + len(found.payload)
