"""WeChat's error codes. Source: developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html."""

import re

from autoglm.channels.delivery import Delivery, Reasons, Words, delivered, permanent

VENDOR = Words("WeChat", "微信")
REASONS: Reasons = {
    -1: ("transient", Words("WeChat is busy", "微信系统繁忙")),
    40001: (
        "auth",
        Words("WeChat does not take the secret or the access token", "微信不接受 AppSecret 或 access_token"),
    ),
    40013: ("auth", Words("WeChat does not know the app id", "微信不认识该 AppID")),
    40014: ("auth", Words("WeChat takes no access token of this account", "微信不接受该账号的 access_token")),
    40125: ("auth", Words("the app secret is wrong; was it reset?", "AppSecret 不正确，可能已重置")),
    40164: ("auth", Words("this hub's address is not on the account's IP list", "本机地址不在公众号的 IP 白名单中")),
    42001: (
        "auth",
        Words("WeChat takes a fresh access token for an old one", "重新获取的 access_token 仍被视为过期"),
    ),
    48001: (
        "auth",
        Words(
            "the account may not use this interface; it takes a verified service account",
            "公众号没有该接口的权限，需要已认证的服务号",
        ),
    ),
    50002: ("auth", Words("the account is frozen or restricted", "公众号已被冻结或限制")),
    45009: ("throttled", Words("the account used up its calls of today", "公众号今日调用次数已用完")),
    45011: ("throttled", Words("too many calls to WeChat in a minute", "对微信的调用过于频繁")),
    40003: (
        "permanent",
        Words(
            "WeChat knows no follower of this openid; each account has its own",
            "微信没有该 openid 的关注者；openid 因公众号而异",
        ),
    ),
    40007: ("permanent", Words("WeChat does not have the uploaded picture any more", "微信已没有所上传的图片")),
    40037: ("permanent", Words("the account has no template of this id", "公众号没有该 ID 的模板")),
    43004: ("permanent", Words("the person does not follow the account", "对方没有关注该公众号")),
    43101: ("permanent", Words("the person refuses such messages", "对方拒收此类消息")),
    45002: ("too_large", Words("the text is over WeChat's limit", "文本超过微信上限")),
    45015: (
        "permanent",
        Words(
            "the person has not written for 48 hours; send a template message, or wait until they write",
            "对方 48 小时内没有给公众号发过消息；请改用模板消息，或由对方先发消息",
        ),
    ),
    45047: (
        "permanent",
        Words(
            "the person got as many answers as WeChat allows; they must write again first",
            "给对方的客服消息已达上限，需对方再次发消息后才能回复",
        ),
    ),
    47003: (
        "permanent",
        Words(
            "a field of the template has a value that its type does not take",
            "模板字段的值不符合其类型",
        ),
    ),
}
DAY_CODE = 45009
"""Its count begins anew at midnight, not in a minute."""


def receipt_of(status: str) -> Delivery:
    """Of the event TEMPLATESENDJOBFINISH. Source: .../Message_Management/Template_Message_Interface.html."""
    match re.sub(r"\s*:\s*", ":", status.strip()):
        case "success":
            return delivered()
        case "failed:user block":
            words = Words("the person blocked the account's messages", "对方拒收该公众号的消息")
            return permanent("failed:user block", words)
        case "failed:system failed":
            return permanent("failed:system failed", Words("WeChat could not deliver it", "微信未能送达"))
        case other:
            words = Words("WeChat says that it was not delivered", "微信提示消息未送达")
            return permanent(other[:64] or "failed", words)
