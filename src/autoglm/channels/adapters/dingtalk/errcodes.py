"""What the errcode in an answer of oapi.dingtalk.com means: robots' webhooks answer HTTP 200 for errors, too.

Source: open.dingtalk.com, "custom robots" and "global error codes". One code stands for several refusals (310000):
there the errmsg decides.
"""

from autoglm.channels.delivery import (
    Delivery,
    Reasons,
    Words,
    accepted,
    failed_by_code,
    permanent,
    transient,
    unauthorized,
)
from autoglm.channels.skew import clock_words
from autoglm.channels.vendor_json import vendor_map
from autoglm.channels.web import Answer, of_status

CLOCK_SKEW_S = 3600.0
"""A timestamp that is further from DingTalk's clock is refused."""
BLOCK_S = 600.0
"""For so long DingTalk takes nothing from a robot that sent more than 20 messages in a minute."""
BODY_BYTES = 20_000

_TOO_FAST = Words(
    "the robot sent more than 20 messages in a minute, and DingTalk blocks it for 10 minutes",
    "机器人一分钟内发送超过 20 条，钉钉限流 10 分钟",
)
_NO_ROBOT = Words(
    "DingTalk does not know the robot's access_token; was the robot removed?",
    "钉钉不认识该机器人的 access_token，机器人可能已被移除",
)
_UNSAFE = Words("DingTalk refuses the content as unsafe or improper", "钉钉认为内容不安全或不合规，已拒绝")
_REASONS: Reasons = {
    -1: ("transient", Words("DingTalk is busy", "钉钉系统繁忙")),
    130101: ("throttled", _TOO_FAST),
    410100: ("throttled", _TOO_FAST),
    300001: ("auth", _NO_ROBOT),
    300005: ("auth", _NO_ROBOT),
    400101: ("auth", _NO_ROBOT),
    400106: ("auth", Words("the robot does not exist any more", "机器人已不存在")),
    400102: ("auth", Words("the robot is switched off in its group", "机器人已在群里停用")),
    400013: ("auth", Words("the robot's group was dissolved", "机器人所在的群已解散")),
    40035: ("permanent", Words("DingTalk misses a field of the message", "钉钉提示消息缺少字段")),
    400105: ("permanent", Words("DingTalk does not know this type of message", "钉钉不支持该消息类型")),
    430101: ("permanent", _UNSAFE),
    430102: ("permanent", _UNSAFE),
    430103: ("permanent", _UNSAFE),
    430104: ("permanent", _UNSAFE),
    460101: ("too_large", Words("the message is over DingTalk's 20,000 bytes", "消息超过钉钉 20000 字节的上限")),
}
_REFUSED_BY_SETTINGS = 310000


def of_answer(answer: Answer, now_s: float) -> Delivery:
    """now_s: of the Unix epoch, when the answer was there."""
    try:
        body = vendor_map(answer.body)
        code, message = int(str(body["errcode"])), str(body.get("errmsg", ""))
    except (ValueError, KeyError):
        return of_status(answer) or transient(
            "unreadable",
            Words("DingTalk's answer cannot be read; it may have been delivered", "无法解析钉钉的应答，消息可能已送达"),
            is_in_doubt=True,
        )
    if code == 0:
        return accepted()
    if code == _REFUSED_BY_SETTINGS:
        return _of_security(answer, message, now_s)
    return failed_by_code(code, _REASONS, Words("DingTalk", "钉钉"), rest_s=BLOCK_S)


def _of_security(answer: Answer, message: str, now_s: float) -> Delivery:
    """The robot's security settings: keywords, addresses, signature. The errmsg is Chinese, and was English once."""
    code, text = str(_REFUSED_BY_SETTINGS), message.lower()
    if "关键词" in text or "keyword" in text:
        words = Words(
            "the message has none of the robot's keywords; give the robot's `keyword` in the settings",
            "消息不含机器人要求的关键词，可在配置中填写该机器人的 `keyword`",
        )
        return permanent(code, words)
    if "签名" in text or "sign" in text or "timestamp" in text:
        return unauthorized(
            code,
            clock_words(answer, now_s, allowed_s=CLOCK_SKEW_S)
            or Words(
                "DingTalk refuses the signature: check the robot's secret, and this machine's clock",
                "钉钉拒绝签名，请检查机器人的加签密钥和本机时钟",
            ),
        )
    if "ip" in text or "白名单" in text:
        words = Words(
            "this hub's address is not on the robot's list of allowed ones", "本机地址不在机器人的 IP 白名单中"
        )
        return unauthorized(code, words)
    words = Words("the robot's security settings refuse the message", "机器人的安全设置拒绝了该消息")
    return unauthorized(code, words)
