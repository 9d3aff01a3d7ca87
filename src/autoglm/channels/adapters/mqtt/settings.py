"""Settings of an MQTT channel: the broker, and the table that maps topics to addresses."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.channels.adapters.mqtt import topics
from autoglm.channels.settings import ChannelSettings
from autoglm.core.address import check_address
from autoglm.core.envelope import Kind
from autoglm.core.errors import InvalidField

_URL = r"^mqtts?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]?#]+)(:\d{1,5})?/?$"
_SAMPLE = "x"


class TopicRule(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[channel.topics]]`: what becomes of the messages that come in under a topic. The first that matches counts.

    In the templates, {1} stands for what the first wildcard of `topic` matched, and {topic} for the whole topic.
    """

    topic: str
    """Filter with + and #."""
    from_: str | None = Field(default=None, alias="from")
    """Template of the sender's address; channel:NAME/TOPIC when absent."""
    to: str | None = None
    """Template of the receiver's address; `incoming_to` of the channel when absent."""
    kind: Kind = "event"
    """Kind of the message, where it does not say so itself."""
    priority: int = Field(default=5, ge=0, le=9)
    """Priority, where the message does not say so itself."""
    labels: dict[str, str] = Field(default={}, max_length=32)
    """Templates of labels; those in the message itself do not replace them."""
    thread: str | None = None
    """Template of the thread."""
    id_field: str | None = Field(default=None, min_length=1, max_length=64)
    """Key of a JSON object whose value names the message, so that a repeated one is known."""
    qos: Literal[0, 1] = 1
    """0 for readings that may be lost. What is published at 2 comes at 1, and is taken once by its id."""
    retained: bool = True
    """Whether messages that the broker kept before the subscription are taken."""
    receipt: bool = False
    """The messages are receipts of devices: the id of a message, or JSON with `id` and `state` (delivered or read)."""

    @field_validator("topic")
    @classmethod
    def _is_filter(cls, topic: str) -> str:
        return _checked_filter(topic)

    @model_validator(mode="after")
    def _templates_fit(self) -> Self:
        count = topics.wildcards(self.topic)
        named = {"from": self.from_, "to": self.to, "thread": self.thread}
        for name, template in (*named.items(), *self.labels.items()):
            if template is not None and (flaw := topics.template_flaw(template, count)) is not None:
                raise ValueError(f"{name} = {template!r} {flaw}")
        for name in ("from", "to"):
            if (template := named[name]) is not None:
                try:
                    check_address(topics.filled(template, [_SAMPLE] * count, _SAMPLE), field=name)
                except InvalidField as error:
                    raise ValueError(str(error)) from None
        return self


class TargetRule(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[channel.targets]]`: a target of the channel by a name of its own, and the topic it stands for."""

    target: str
    """Filter for the end of the address channel:NAME/TARGET, such as "press/+"."""
    topic: str
    """Template of the topic, such as "plant/{1}/command"."""
    qos: Literal[0, 1, 2] | None = None
    """That of the channel when absent."""
    retain: bool | None = None
    """That of the channel when absent."""

    @field_validator("target")
    @classmethod
    def _is_filter(cls, target: str) -> str:
        return _checked_filter(target)

    @model_validator(mode="after")
    def _template_fits(self) -> Self:
        count = topics.wildcards(self.target)
        if (flaw := topics.template_flaw(self.topic, count)) is not None:
            raise ValueError(f"topic = {self.topic!r} {flaw}")
        if (flaw := topics.topic_flaw(topics.filled(self.topic, [_SAMPLE] * count, _SAMPLE))) is not None:
            raise ValueError(f"topic = {self.topic!r} {flaw}")
        return self


class Presence(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.presence]`: tells others whether the hub is connected; `offline` is the connection's will."""

    topic: str
    """Where it is told."""
    online: str = Field(default="online", max_length=1024)
    """Published on each connection; nothing when empty."""
    offline: str = Field(default="offline", max_length=1024)
    """Published by the broker when the connection is lost, and by the hub when it stops."""
    retain: bool = True
    """Whether who subscribes later is told, too."""

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, topic: str) -> str:
        if (flaw := topics.topic_flaw(topic)) is not None:
            raise ValueError(f"the topic {flaw}")
        return topic


class MqttSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind mqtt."""

    kind: Literal["mqtt"]
    senders: tuple[str, ...] = Field(default=("*",), max_length=10_000)
    """Whose messages are taken. The table of topics says which come in, hence everybody's."""
    url: str = Field(pattern=_URL)
    """The broker: mqtt://HOST[:1883], with TLS mqtts://HOST[:8883], or mqtt://own for the one that the hub runs."""
    version: Literal["5", "3.1.1"] = "5"
    """Of the protocol."""
    broker: Literal["any", "nats-server"] = "any"
    """nats-server: what it does not bear is refused here, for it would close the connection."""
    client_id: str = Field(default="", max_length=128)
    """By which the broker knows the session; autoglm-NAME when empty. No other client may have it."""
    username: str = Field(default="", max_length=1024)
    """User name at the broker; none when empty."""
    password: SecretStr | None = None
    """Its password."""
    tls_ca_file: Path | None = None
    """Certificates (PEM) by which the broker's is checked; those of the system when absent."""
    tls_certificate_file: Path | None = None
    """The hub's own certificate (PEM) for the broker."""
    tls_key_file: Path | None = None
    """Its key (PEM), without a password."""
    topics: tuple[TopicRule, ...] = Field(default=(), max_length=1000)
    """What comes in: tables [[channel.topics]]."""
    share: str = Field(default="", max_length=128, pattern=r"^[^/+#\x00-\x1f]*$")
    """Group of a shared subscription: each message goes to one of the hubs in the group; none when empty."""
    targets: tuple[TargetRule, ...] = Field(default=(), max_length=1000)
    """Names for topics: tables [[channel.targets]]."""
    publish: tuple[str, ...] = Field(default=("#",), max_length=1000)
    """Filters of the topics that may be written to as channel:NAME/TOPIC."""
    qos: Literal[0, 1, 2] = 1
    """Of what goes out. At 0 nobody knows whether it reached the broker."""
    retain: bool = False
    """Whether the broker keeps the last message of each topic for those who subscribe later."""
    form: Literal["content", "envelope"] = "content"
    """content: the text, the JSON or the file by itself; envelope: the whole message as JSON."""
    unheard: Literal["accept", "retry"] = "accept"
    """What a message is to which nobody subscribes (MQTT 5): accepted all the same, or tried again."""
    confirm_twice: bool = True
    """Whether a message counts as accepted only when the broker has answered once more after its PUBACK: Mosquitto
    saves between the two, and may be killed."""
    session_expiry_s: int = Field(default=604_800, ge=0, le=0xFFFF_FFFF)
    """How long the broker keeps what comes while the hub is away (MQTT 5)."""
    keepalive_s: int = Field(default=30, ge=1, le=65_535)
    """After so long without a packet the broker is asked whether it is there, and given as long to answer."""
    inflight_max: int = Field(default=64, ge=1, le=1000)
    """Messages without an acknowledgement, in each direction."""
    payload_max_bytes: int = Field(default=1_048_576, ge=1024, le=16_777_216)
    """Messages longer than that are not taken in."""
    presence: Presence | None = None
    """Tells others whether the hub is connected: a table [channel.presence]."""

    @field_validator("url")
    @classmethod
    def _has_port(cls, url: str) -> str:
        try:
            is_port = urlsplit(url).port != 0
        except ValueError:
            is_port = False
        if not is_port:
            raise ValueError(f"{url!r} has a port that is none: 1 to 65535")
        return url

    @field_validator("publish")
    @classmethod
    def _are_filters(cls, filters: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked_filter(one) for one in filters)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_certificate_file is None) is not (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        if not self.is_secure and (self.tls_ca_file or self.tls_certificate_file):
            raise ValueError("certificates need an address that begins with mqtts://")
        if self.password is not None and not self.username:
            raise ValueError("a password needs a username")
        if self.share and self.version != "5":
            raise ValueError('share needs version = "5"')
        if self.broker == "nats-server" and self.version != "3.1.1":
            raise ValueError('nats-server speaks version = "3.1.1" only')
        if self.broker == "nats-server" and any(" " in rule.topic for rule in self.topics):
            raise ValueError("nats-server takes no blank in a topic")
        return self

    @property
    def is_secure(self) -> bool:
        return self.url.startswith("mqtts:")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (8883 if self.is_secure else 1883)

    @property
    def publishes_at_qos_2(self) -> bool:
        return 2 in (self.qos, *(rule.qos for rule in self.targets))

    @property
    def session_name(self) -> str:
        return self.client_id or f"autoglm-{self.name}"


def _checked_filter(pattern: str) -> str:
    if (flaw := topics.filter_flaw(pattern)) is not None:
        raise ValueError(f"the filter {flaw}")
    if pattern.startswith("$share/"):
        raise ValueError("the filter is shared; set `share` of the channel to the group's name")
    return pattern


OWN_BROKER = "mqtt://own"
"""Stands for the broker that the hub runs itself."""


def is_own_broker(settings: ChannelSettings) -> bool:
    return isinstance(settings, MqttSettings) and settings.url == OWN_BROKER
