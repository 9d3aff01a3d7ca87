"""What a broker's reason codes mean for a message. Those of 3.1.1's CONNACK come as their namesakes of MQTT 5.

Source: MQTT 5.0, section 2.4 (reason codes); MQTT 3.1.1, section 3.2.2.3 (return codes).
"""

from autoglm.channels.delivery import Delivery, Failure, Words, accepted, failed, transient

NO_SUBSCRIBERS = 16
UNKNOWN_MESSAGE = 146
TAKEN_OVER = 142

_REASONS: dict[int, tuple[Failure, Words]] = {
    128: ("transient", Words("the broker fails and does not say why", "服务器出错，未说明原因")),
    129: ("permanent", Words("the broker cannot read the packet", "服务器无法解析报文")),
    130: ("permanent", Words("the broker says that the protocol was broken", "服务器认为违反了协议")),
    131: ("transient", Words("the broker cannot take it for now", "服务器暂时无法接收")),
    132: (
        "auth",
        Words("the broker does not speak this version of MQTT; set `version`", "服务器不支持该版本，请修改 version"),
    ),
    133: ("auth", Words("the broker does not take the client id", "服务器不接受该客户端标识")),
    134: ("auth", Words("the broker does not take the user name or the password", "服务器拒绝用户名或密码")),
    135: ("auth", Words("the broker does not let this client in", "服务器未授权该客户端")),
    136: ("transient", Words("the broker's service is not available", "服务器暂不可用")),
    137: ("transient", Words("the broker is busy", "服务器忙")),
    138: ("auth", Words("the broker has banned this client", "服务器已封禁该客户端")),
    139: ("transient", Words("the broker shuts down", "服务器正在关闭")),
    140: ("auth", Words("the broker wants another way to log in", "服务器要求其他认证方式")),
    141: ("transient", Words("the broker heard nothing for too long", "服务器长时间未收到数据")),
    TAKEN_OVER: (
        "transient",
        Words("another client has the same client id", "另一客户端用了相同标识，各节点不可重复"),
    ),
    143: ("permanent", Words("the broker does not take the topic filter", "服务器不接受该主题过滤器")),
    144: ("permanent", Words("the broker does not take the topic", "服务器不接受该主题")),
    145: ("transient", Words("the number of the packet is in use", "报文标识已被占用")),
    147: ("throttled", Words("more messages at a time than the broker bears", "同时在途消息超过服务器上限")),
    149: ("too_large", Words("the message is over the broker's limit", "消息超过服务器上限")),
    150: ("throttled", Words("more messages than the broker bears", "消息发送过快，超过服务器上限")),
    151: ("throttled", Words("the broker's quota is used up", "服务器配额已用尽")),
    152: ("transient", Words("the broker's operator has ended the connection", "连接已被服务器管理员断开")),
    153: ("permanent", Words("the payload is not what the broker expects", "消息内容不符合服务器要求")),
    154: ("permanent", Words("the broker keeps no messages; set retain = false", "服务器不支持保留消息")),
    155: ("permanent", Words("the broker does not offer this QoS; set `qos`", "服务器不支持该 QoS，请修改 qos")),
    156: ("transient", Words("another broker is to be used for now", "服务器要求暂时改用其他服务器")),
    157: ("auth", Words("the broker has moved; set `url`", "服务器已迁移，请修改 url")),
    158: ("auth", Words("the broker has no shared subscriptions", "服务器不支持共享订阅")),
    159: ("throttled", Words("too many connections in a short time", "连接过于频繁")),
    162: ("auth", Words("the broker has no wildcards in subscriptions", "服务器不支持通配符订阅")),
}  # fmt: skip
_NOT_THIS_TOPIC = Words(
    "the broker does not let this client publish under the topic", "服务器不允许该客户端向此主题发布"
)


def of_connection(code: int) -> Delivery:
    """Why the broker refused the connection, or ended it (CONNACK, DISCONNECT)."""
    failure, words = _REASONS.get(code, ("transient", _unknown(code)))
    if failure in ("permanent", "too_large"):  # of a packet; the next connection may do
        failure = "transient"
    return failed(failure, str(code), words)


def of_publication(code: int, *, was_repeated: bool) -> Delivery:
    """What the broker says of a message (PUBACK, PUBREC, PUBCOMP).

    was_repeated: it was sent again after a lost connection.
    """
    if code == NO_SUBSCRIBERS:
        words = Words("the broker has it, and nobody subscribes to the topic", "服务器已接收，但无人订阅该主题")
        return Delivery(outcome="accepted", code=str(code), reason=words)
    if code < 128:
        return accepted()
    if code == UNKNOWN_MESSAGE:  # at QoS 2: it was done before, or is lost
        if was_repeated:
            words = Words(
                "the broker does not know it any more; it may have arrived", "服务器已无此消息记录，消息可能已送达"
            )
            return transient(str(code), words, is_in_doubt=True)
        return failed("permanent", str(code), Words("the broker refuses the message", "服务器拒绝该消息"))
    if code == 135:  # of this topic alone: the others must not wait for it
        return failed("permanent", str(code), _NOT_THIS_TOPIC)
    failure, words = _REASONS.get(code, ("permanent", _unknown(code)))
    return failed(failure, str(code), words)


def _unknown(code: int) -> Words:
    return Words(f"the broker refuses it (reason code {code})", f"服务器拒绝（原因码 {code}）")
