"""Tencent Cloud's codes, and what each means for a message: the exact code, else what it begins with.

Source: cloud.tencent.com/document/product/382/52075 (SMS), /382/55980 (SendSms), common error codes of API 3.0.
"""

import re

from autoglm.channels.delivery import Delivery, Failure, Words, failed, permanent

_NUMBER_FULL = Words("the number got as many SMS as Tencent Cloud allows for now", "该号码短信已达腾讯云频率上限")
_BUSY = Words("too many requests to Tencent Cloud at a time", "对腾讯云的请求过于频繁")
_OPERATOR = Words("the signature or the template is unknown or not approved", "短信签名或模板不存在或未过审")
_ACCOUNT = Words("Tencent Cloud refuses this account or its key", "腾讯云拒绝该账号或密钥")
_FAILS = Words("Tencent Cloud fails for now", "腾讯云暂时故障")
_MESSAGE = Words("Tencent Cloud refuses the message", "腾讯云拒绝该消息")
_CODES: tuple[tuple[str, Failure, Words, float | None], ...] = (
    ("LimitExceeded.PhoneNumberThirtySecondLimit", "throttled", _NUMBER_FULL, 30.0),
    ("LimitExceeded.PhoneNumberOneHourLimit", "throttled", _NUMBER_FULL, 3_600.0),
    ("LimitExceeded.PhoneNumberDailyLimit", "throttled", _NUMBER_FULL, 10_800.0),
    ("LimitExceeded.PhoneNumberSameContentDailyLimit", "throttled", _NUMBER_FULL, 10_800.0),
    ("LimitExceeded.PhoneNumberCountLimit", "permanent", _MESSAGE, None),
    ("LimitExceeded", "throttled", Words("a limit at Tencent Cloud is reached", "已达腾讯云发送上限"), 60.0),
    ("RequestLimitExceeded", "throttled", _BUSY, 5.0),
    (
        "AuthFailure.SignatureExpire",
        "auth",
        Words("this machine's clock is over 5 minutes off", "本机时钟偏差超过 5 分钟"),
        None,
    ),
    ("AuthFailure", "auth", Words("Tencent Cloud does not take the key", "腾讯云不接受该密钥"), None),
    ("UnauthorizedOperation", "auth", _ACCOUNT, None),
    (
        "FailedOperation.InsufficientBalanceInSmsPackage",
        "auth",
        Words("the SMS package is used up", "短信套餐余量不足"),
        None,
    ),
    ("FailedOperation.SignatureIncorrectOrUnapproved", "auth", _OPERATOR, None),
    ("FailedOperation.MissingSignature", "auth", _OPERATOR, None),
    ("FailedOperation.TemplateIncorrectOrUnapproved", "auth", _OPERATOR, None),
    ("FailedOperation.TemplateUnapprovedOrNotExist", "auth", _OPERATOR, None),
    (
        "FailedOperation.PhoneNumberInBlacklist",
        "permanent",
        Words("the phone's owner has blocked such SMS", "号码在免打扰名单中"),
        None,
    ),
    (
        "FailedOperation.ContainSensitiveWord",
        "permanent",
        Words("the text has a word that Tencent Cloud forbids", "短信含敏感词"),
        None,
    ),
    (
        "InvalidParameterValue.TemplateParameterLengthLimit",
        "too_large",
        Words("a variable of the template is too long; lower text_limit", "模板变量超长，请调小 text_limit"),
        None,
    ),
    (
        "InvalidParameterValue.ContentLengthLimit",
        "too_large",
        Words("the SMS is too long; lower text_limit", "短信超长，请调小 text_limit"),
        None,
    ),
    (
        "InvalidParameterValue.IncorrectPhoneNumber",
        "permanent",
        Words("it is no phone number for Tencent Cloud", "手机号格式错误"),
        None,
    ),
    ("InternalError", "transient", _FAILS, None),
    ("ResourceInsufficient", "transient", _FAILS, None),
    ("ResourceUnavailable", "transient", _FAILS, None),
)
"""(code or its beginning, class, words, seconds to rest): the first that fits."""


def of_code(code: str) -> Delivery:
    """Of a code that is not Ok."""
    shown = re.sub(r"[^\w.-]", "", code)[:80]
    for known, failure, words, rest_s in _CODES:
        if code == known or code.startswith(f"{known}."):
            return failed(failure, shown, words, rest_s)
    return permanent(shown, Words(f"{_MESSAGE.en} (code {shown})", f"{_MESSAGE.zh}（代码 {shown}）"))


def not_delivered(description: str) -> Delivery:
    """Of a report: what the operator of the phone's network says."""
    shown = re.sub(r"[^\w.:-]", "", description)[:80] or "unknown"
    return permanent(shown, Words(f"the phone's network did not deliver it ({shown})", f"运营商未能送达（{shown}）"))
