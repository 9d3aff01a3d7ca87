"""The frames of a WeCom AI bot's long connection: JSON with cmd, headers.req_id, body; answers have errcode instead.

Source: developer.work.weixin.qq.com/document/path/101463, and the vendor's own SDK (WecomTeam/aibot-node-sdk).
"""

import json
from typing import Any, NamedTuple

from autoglm.channels.delivery import Reasons, Words
from autoglm.channels.vendor_json import vendor_json

MAX_FRAME_BYTES = 1 << 20
"""Of what comes in; pictures come as addresses."""
SUBSCRIBE, PING = "aibot_subscribe", "ping"
RESPOND, SEND = "aibot_respond_msg", "aibot_send_msg"
UPLOAD_BEGIN, UPLOAD_PIECE, UPLOAD_END = (
    "aibot_upload_media_init",
    "aibot_upload_media_chunk",
    "aibot_upload_media_finish",
)
MESSAGE, EVENT = "aibot_msg_callback", "aibot_event_callback"
DISCONNECTED = "disconnected_event"
NOT_ANSWERABLE = frozenset({846605, 846608})
"""The message that a reply is to is unknown, or too old, to WeCom."""

VENDOR = Words("WeCom", "企业微信")
REASONS: Reasons = {
    -1: ("transient", Words("WeCom is busy", "企业微信系统繁忙")),
    853000: ("auth", Words("WeCom does not take the bot's id or secret", "企业微信不接受机器人的 Bot ID 或 Secret")),
    93019: ("auth", Words("WeCom does not know the bot", "企业微信不认识该机器人")),
    45009: ("throttled", Words("the bot sent more than WeCom allows", "机器人发送超过企业微信上限")),
    45033: ("throttled", Words("too many requests to WeCom at the same time", "对企业微信的并发请求过多")),
    40058: ("permanent", Words("WeCom says that a field of the message is wrong", "企业微信提示消息字段有误")),
    45002: ("too_large", Words("the text is over WeCom's limit", "文本超过企业微信上限")),
    846605: ("permanent", Words("WeCom knows no message to answer", "企业微信找不到要回复的消息")),
    846608: ("permanent", Words("the time to answer that message is over", "该消息已过可回复的时间")),
}


class BadFrame(Exception):
    """What came is no frame."""


class Frame(NamedTuple):
    cmd: str
    """Empty in an answer."""
    req_id: str
    errcode: int | None
    """None in what is no answer."""
    body: dict[str, Any]


def parse_frame(data: str | bytes) -> Frame:
    """Raises BadFrame, whatever the data are."""
    try:
        frame: Any = vendor_json(data)
        headers = frame.get("headers") or {}
        body = frame.get("body") or {}
        cmd, req_id, errcode = frame.get("cmd") or "", headers.get("req_id") or "", frame.get("errcode")
    except (ValueError, AttributeError) as error:
        raise BadFrame(f"no JSON object: {type(error).__name__}") from None
    is_code = errcode is None or isinstance(errcode, int)
    if not (isinstance(cmd, str) and isinstance(req_id, str) and is_code and isinstance(body, dict)):
        raise BadFrame("a field has another type than it should")
    return Frame(cmd, req_id, errcode, body)


def frame_text(cmd: str, req_id: str, body: dict[str, Any] | None = None) -> str:
    frame = {"cmd": cmd, "headers": {"req_id": req_id}, **({} if body is None else {"body": body})}
    return json.dumps(frame, ensure_ascii=False)
