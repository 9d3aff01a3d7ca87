"""What Telegram's answers mean. Source: core.telegram.org/bots/api, making requests, ResponseParameters."""

from typing import Any

from autoglm.channels.delivery import Delivery, Failure, Words, accepted, failed, permanent, too_large, transient
from autoglm.channels.vendor_json import map_of, vendor_map
from autoglm.channels.web import Answer, of_status

_UNREADABLE = transient(
    "unreadable",
    Words("Telegram's answer cannot be read; it may have been delivered", "无法解析 Telegram 的应答，消息可能已送达"),
    is_in_doubt=True,
)
_NO_BOT = Words("Telegram does not know the bot's token", "Telegram 不认识该机器人的令牌")
_REASONS: dict[int, tuple[Failure, Words]] = {
    401: ("auth", _NO_BOT),
    404: ("auth", _NO_BOT),  # the token has a form that no bot has
    403: (
        "permanent",
        Words(
            "the bot may not write there: it was blocked or removed, or nobody has written to it yet",
            "机器人无法在该会话发言：可能被屏蔽、被移出，或对方尚未与它对话",
        ),
    ),
    409: (
        "transient",
        Words("another program takes in the bot's messages", "另一个程序正在接收该机器人的消息"),
    ),
    413: ("too_large", Words("the file is over Telegram's limit", "文件超过 Telegram 上限")),
    429: ("throttled", Words("too many messages for Telegram", "发送过于频繁，被 Telegram 限流")),
}
"""By error_code: the class of failure, and the words for it."""


def failure_of(answer: Answer) -> Delivery | None:
    """None where Telegram says ok. Its answers have `ok` and an `error_code`, which is the HTTP status as well."""
    body = vendor_map(answer.body)
    if body.get("ok") is True and 200 <= answer.status < 300:
        return None
    code = body.get("error_code")
    if not isinstance(code, int):
        return of_status(answer) or _UNREADABLE
    if (known := _REASONS.get(code)) is not None:
        failure, words = known
        return failed(failure, str(code), words, _pause_s(body) if code == 429 else None)
    if code in (502, 504):  # its front end, which does not know what became of the request
        words = Words(
            f"Telegram fails for now (error {code}); it may have been delivered",
            f"Telegram 暂时故障（错误 {code}），消息可能已送达",
        )
        return transient(str(code), words, is_in_doubt=True)
    if code >= 500:
        return transient(str(code), Words("Telegram fails for now", "Telegram 暂时故障"))
    return _refused(code, str(body.get("description", "")))


def taken(answer: Answer) -> Delivery:
    """Of an answer that says ok to a message."""
    message = result_of(answer)
    try:
        return accepted(ticket_of(int(message["chat"]["id"]), int(message["message_id"])))
    except (KeyError, TypeError, ValueError):
        return _UNREADABLE


def moved_to(answer: Answer) -> int | None:
    """The new number of a group that became a supergroup."""
    found = map_of(vendor_map(answer.body).get("parameters")).get("migrate_to_chat_id")
    return found if isinstance(found, int) else None


def ticket_of(chat: int, message: int) -> str:
    return f"{chat}:{message}"


def result_of(answer: Answer) -> dict[str, Any]:
    result = vendor_map(answer.body).get("result")
    return result if isinstance(result, dict) else {}


def _pause_s(body: dict[str, object]) -> float | None:
    pause = map_of(body.get("parameters")).get("retry_after")
    return float(pause) if isinstance(pause, int) and 0 <= pause <= 86_400 else None


def _refused(code: int, description: str) -> Delivery:
    """Telegram has one code for all that is wrong with a message; its description tells them apart."""
    if "chat not found" in description:
        words = Words("Telegram knows no such chat, or the bot is not in it", "会话不存在，或机器人不在其中")
        return permanent(str(code), words)
    if "too long" in description or "too big" in description:
        return too_large(str(code), Words("the message is over Telegram's limit", "消息超过 Telegram 上限"))
    words = Words(f"Telegram refuses the message (error {code})", f"Telegram 拒绝该消息（错误 {code}）")
    return permanent(str(code), words)
