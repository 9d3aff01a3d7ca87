"""What a mail server's refusal means: from its code to a class of failure and words.

Source: RFC 5321, section 4.2 (reply codes); RFC 3463 and IANA's registry of enhanced status codes; RFC 4954 (AUTH);
RFC 6647 (greylisting).
"""

import re
from typing import Literal

from autoglm.channels.delivery import Delivery, Words, failed, permanent, too_large

Stage = Literal["greeting", "starttls", "auth", "sender", "recipient", "data"]
"""During what a server refused. Before `recipient` it is not the message, but the hub that it does not want."""

_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")
_TOO_MUCH = re.compile(r"too (many|much|fast|quickly)|rate.?limit|throttl", re.IGNORECASE)
"""RFC 3463 has no code for it: servers say so in words only, beside 4.7.0, 4.7.1, 4.2.1 or none."""
_GREYLIST = re.compile(r"gr[ea]y.?list", re.IGNORECASE)
_THROTTLED = frozenset({"4.5.3", "4.7.28"})
_AUTH_CODES = frozenset({432, 530, 534, 535, 538})
_AUTH_ENHANCED = frozenset({"5.7.8", "5.7.9", "5.7.11", "5.7.14", "5.7.139"})
_SIZES = frozenset({"5.3.4", "5.2.3"})

_SUBJECTS: dict[str, tuple[str, str]] = {
    "1.0": ("the recipient's address is wrong", "收件地址有误"),
    "1.1": ("there is no such mailbox", "该邮箱不存在"),
    "1.2": ("there is no such mail domain", "该邮件域名不存在"),
    "1.3": ("the recipient's address is not well-formed", "收件地址格式有误"),
    "1.6": ("the mailbox has moved", "该邮箱已迁移"),
    "1.7": ("the hub's own address is not well-formed", "本机发件地址格式有误"),
    "1.8": ("the hub's own mail domain is wrong", "本机发件域名有误"),
    "1.10": ("the recipient's domain takes no mail", "对方域名不接收邮件"),
    "2.1": ("the mailbox is switched off", "该邮箱已停用"),
    "2.2": ("the mailbox is full", "该邮箱已满"),
    "2.3": ("the mail is over the mailbox's limit of size", "邮件超过该邮箱的大小上限"),
    "3.1": ("the mail server has no space left", "邮件服务器存储空间不足"),
    "3.2": ("the mail server takes no mail for now", "邮件服务器暂不接收邮件"),
    "3.4": ("the mail is over the server's limit of size", "邮件超过服务器的大小上限"),
    "4.1": ("the recipient's server does not answer", "对方服务器无应答"),
    "4.4": ("the recipient's server cannot be found", "找不到对方服务器"),
    "4.6": ("the mail went round in a loop", "邮件在服务器间循环"),
    "4.7": ("the mail could not be delivered in time", "邮件未能在期限内送达"),
    "5.3": ("too many recipients at a time", "同时收件人过多"),
    "6.7": ("the server cannot carry an address that is not ASCII", "服务器不支持非 ASCII 的邮件地址"),
    "7.1": ("the server's rules forbid it", "被服务器规则拒绝"),
    "7.26": ("the hub's domain fails SPF, DKIM or DMARC", "本机域名未通过 SPF、DKIM 或 DMARC 校验"),
    "7.28": ("too many mails for the server", "发送过于频繁，被邮件服务器限流"),
}
"""By the subject and detail of an enhanced code."""


def of_reply(code: int, text: str, stage: Stage) -> Delivery:
    """A server's reply that is no success. text: of its lines, without the code; none of it gets into the words."""
    found = _ENHANCED.match(text)
    enhanced = found[1] if found is not None and found[1][0] == str(code)[0] else ""
    name = f"{code} {enhanced}".strip()
    if code in _AUTH_CODES or enhanced in _AUTH_ENHANCED or (stage == "auth" and code >= 500):
        words = _words("the mail server refuses the user name or the password", "邮件服务器拒绝该用户名或密码", name)
        return failed("auth", name, words)
    if code < 500:
        return _for_now(name, enhanced, text)
    if enhanced in _SIZES or (code == 552 and enhanced in ("", "5.0.0")):
        return too_large(name, _words(*_SUBJECTS["3.4"], name))
    if stage in ("greeting", "starttls", "sender"):
        words = _words("the mail server refuses this hub or its address", "邮件服务器拒绝本机或本机发件地址", name)
        return failed("auth", name, words)
    return permanent(
        name, _words(*_subject(enhanced, "the mail server refuses the mail", "邮件服务器拒绝该邮件"), name)
    )


def of_report(status: str) -> Delivery:
    """What a delivery status notification says of a mail that failed for good (RFC 3464, section 2.3.4)."""
    words = _words(*_subject(status, "the mail could not be delivered", "邮件无法送达"), status)
    return too_large(status, words) if status in _SIZES else permanent(status, words)


def _for_now(name: str, enhanced: str, text: str) -> Delivery:
    if _GREYLIST.search(text):
        return failed(
            "transient",
            name,
            _words("the server asks to come back later (greylisting)", "服务器要求稍后重试（灰名单）", name),
        )
    if enhanced in _THROTTLED or _TOO_MUCH.search(text):
        return failed("throttled", name, _words(*_SUBJECTS["7.28"], name))
    return failed(
        "transient", name, _words(*_subject(enhanced, "the mail server refuses for now", "邮件服务器暂时拒绝"), name)
    )


def _subject(enhanced: str, en: str, zh: str) -> tuple[str, str]:
    return _SUBJECTS.get(enhanced.partition(".")[2], (en, zh))


def _words(en: str, zh: str, name: str) -> Words:
    return Words(f"{en} ({name})", f"{zh}（{name}）")
