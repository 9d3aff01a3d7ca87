"""Makes paho's client for a channel's settings, and opens the sockets to the broker."""

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from autoglm.channels.adapters.mqtt.settings import MqttSettings
from autoglm.channels.delivery import Delivery, Words, transient, unauthorized

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties

CONNECT_TIMEOUT_S = 10.0
_HEAD_BYTES = 2 * 65_535
"""For the topic and the properties of what comes in, on top of its payload."""
_REFUSED_CERTIFICATE = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED")


def make_client(settings: MqttSettings, on_received: Callable[["Client", int], None]) -> "Client":
    """Without further callbacks, and not connected. on_received: the broker has a message of QoS 2, by its packet
    identifier; `release` is to follow.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    class OurClient(Client):
        def _create_socket(self) -> socket.socket:
            """paho's own way leaves its socket open when the TLS handshake fails."""
            return open_socket(settings)

        def _handle_pubrec(self) -> MQTTErrorCode:
            """paho's own way passes on no refusal, and releases a message at once, after which it does not publish it
            again.
            """
            packet = self._in_packet["packet"]
            mid, code = int.from_bytes(packet[:2]), packet[2] if len(packet) > 2 else 0
            if mid not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            if code < 128:
                on_received(self, mid)
            else:
                reason = ReasonCode(PacketTypes.PUBREC, identifier=code)
                return self._do_on_publish(mid, reason, Properties(PacketTypes.PUBREC))  # type: ignore[no-untyped-call]
            return MQTTErrorCode.MQTT_ERR_SUCCESS

        def _mid_generate(self) -> int:
            """Of few, so that a later run can release what this one leaves with the broker: see `release_left`."""
            while (mid := super()._mid_generate() % packet_ids(settings) + 1) in self._out_messages:
                pass
            return mid

    is_five = settings.version == "5"
    client = OurClient(
        CallbackAPIVersion.VERSION2, settings.session_name, manual_ack=True, reconnect_on_failure=False,
        protocol=MQTTProtocolVersion.MQTTv5 if is_five else MQTTProtocolVersion.MQTTv311,
        clean_session=None if is_five else False,
    )  # fmt: skip
    client.max_inflight_messages_set(settings.inflight_max)
    client.max_queued_messages_set(max(128, 2 * settings.inflight_max))
    if settings.username:
        password = settings.password.get_secret_value() if settings.password else None
        client.username_pw_set(settings.username, password)
    if (presence := settings.presence) is not None:
        client.will_set(presence.topic, presence.offline, min(1, settings.qos), presence.retain)
    aim(client, settings)
    return client


def release(client: "Client", mid: int) -> None:
    """Send the PUBREL of a message that the broker has; nothing where it is dropped."""
    from paho.mqtt.enums import MessageState

    with client._out_message_mutex:
        if (message := client._out_messages.get(mid)) is not None:
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
            client._send_pubrel(mid)


def packet_ids(settings: MqttSettings) -> int:
    """How many identifiers there are for packets to the broker, from 1: more than can be in use."""
    return 4 * max(64, settings.inflight_max)


def release_left(client: "Client", settings: MqttSettings) -> None:
    """Send a PUBREL for each identifier that is not in use. What an earlier run left unreleased, or what a broker that
    was killed forgot to have released, counts against its limit, and a new message of that identifier is taken for it.
    """
    for mid in range(1, packet_ids(settings) + 1):
        if mid not in client._out_messages:
            client._send_pubrel(mid)


def aim(client: "Client", settings: MqttSettings) -> None:
    """Set what the next connection is to be. One that there is ends, which only `on_socket_close` is told of."""
    if settings.version != "5":
        client.connect_async(settings.host, settings.port, settings.keepalive_s)
        return
    properties = properties_for("CONNECT")
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = settings.inflight_max
    properties.MaximumPacketSize = settings.payload_max_bytes + _HEAD_BYTES
    client.connect_async(settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties)


def properties_for(packet: str) -> "Properties":
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    return Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]  # paho has none there


# That the other side is gone shows when all that it sent is read, not already by writing: a broker that was killed may
# have given us messages that it has not on its disk, and paho would close at once.


class _PlainSocket(socket.socket):
    def send(self, data: "Buffer", flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes


class _SecureSocket(ssl.SSLSocket):
    def send(self, data: "Buffer", flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes


def open_socket(settings: MqttSettings) -> socket.socket:
    """Blocks. Raises OSError, for which `why_not` has words."""
    context = _certified(settings) if settings.is_secure else None
    opened = socket.create_connection((settings.host, settings.port), timeout=CONNECT_TIMEOUT_S)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a packet must not wait for the one before
        if context is not None:
            return context.wrap_socket(opened, server_hostname=settings.host)
        return _PlainSocket(opened.family, opened.type, opened.proto, opened.detach())
    except BaseException:
        opened.close()
        raise


class CertificateUnreadable(OSError):
    """A file of the channel's own."""


def _certified(settings: MqttSettings) -> ssl.SSLContext:
    """Each time anew: the files may have been renewed. Raises CertificateUnreadable."""
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        context.sslsocket_class = _SecureSocket
        if settings.tls_certificate_file is not None:
            # Without a password of its own, OpenSSL would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file, password="")
    except (OSError, ValueError) as error:
        raise CertificateUnreadable from error
    return context


def why_not(error: OSError) -> Delivery:
    """Why no connection came about."""
    if isinstance(error, CertificateUnreadable):
        words = Words(
            "the channel's certificate files cannot be read, or are no PEM", "渠道的证书文件无法读取或不是 PEM"
        )
        return unauthorized("tls_files", words)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        return of_alert(str(error))
    code, words = next((code, words) for kind, code, words in _WHY_NOT if isinstance(error, kind))
    return transient(code, words)


_WHY_NOT: tuple[tuple[type[OSError], str, Words], ...] = (
    (
        ssl.SSLCertVerificationError,
        "tls",
        Words("the broker's certificate cannot be trusted; check it", "服务器证书不可信，请检查证书"),
    ),
    (
        socket.gaierror,
        "no_name",
        Words("the name of the broker's host does not resolve", "无法解析服务器主机名"),
    ),
    (TimeoutError, "connect_timeout", Words("no connection to the broker in time", "连接服务器超时")),
    (
        ConnectionRefusedError,
        "refused",
        Words("the broker's host does not take connections", "服务器主机拒绝连接"),
    ),
    (OSError, "unreachable", Words("the broker's host cannot be reached", "无法连接服务器主机")),
)


def of_alert(text: str) -> Delivery:
    """By the TLS alert in OpenSSL's message (RFC 8446, section 6.2)."""
    if any(name in text for name in _REFUSED_CERTIFICATE):
        words = Words("the broker does not take the channel's certificate", "服务器不接受渠道的证书")
        return unauthorized("tls_certificate", words)
    return transient("tls", Words("the TLS connection failed; check the certificates", "TLS 连接失败，请检查证书"))
