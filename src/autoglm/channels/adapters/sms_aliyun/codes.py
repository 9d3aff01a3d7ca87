"""Aliyun's codes, and what each means for a message.

Source: help.aliyun.com/zh/sms/developer-reference/api-error-codes; /zh/sms/user-guide/delivery-error-codes.
"""

import re

from autoglm.channels.delivery import Delivery, Failure, Words, failed, permanent

_CODES: dict[str, tuple[Failure, Words]] = {
    "isv.BUSINESS_LIMIT_CONTROL": (
        "throttled",
        Words("the number got as many SMS as Aliyun allows for now", "该号码短信已达阿里云流控上限"),
    ),
    "isv.DAY_LIMIT_CONTROL": ("throttled", Words("the account's limit of the day is reached", "已达账号日发送上限")),
    "isv.MONTH_LIMIT_CONTROL": (
        "throttled",
        Words("the account's limit of the month is reached", "已达账号月发送上限"),
    ),
    "Throttling": ("throttled", Words("too many requests to Aliyun at a time", "对阿里云的请求过于频繁")),
    "Throttling.User": ("throttled", Words("too many requests to Aliyun at a time", "对阿里云的请求过于频繁")),
    "Throttling.Api": ("throttled", Words("too many requests to Aliyun at a time", "对阿里云的请求过于频繁")),
    "isp.SYSTEM_ERROR": ("transient", Words("Aliyun's system fails for now", "阿里云系统错误")),
    "isp.UNKNOWN": ("transient", Words("Aliyun's system fails for now", "阿里云系统错误")),
    "isp.GATEWAY_ERROR": ("transient", Words("Aliyun's gateway fails for now", "阿里云网关错误")),
    "ServiceUnavailable": ("transient", Words("Aliyun's service is unavailable for now", "阿里云服务暂不可用")),
    "InternalError": ("transient", Words("Aliyun's system fails for now", "阿里云系统错误")),
    "isv.AMOUNT_NOT_ENOUGH": ("auth", Words("the account's balance is too low", "账户余额不足")),
    "isv.OUT_OF_SERVICE": ("auth", Words("the account is stopped: pay its bills", "业务停机，请充值")),
    "isv.PRODUCT_UN_SUBSCRIPT": ("auth", Words("the SMS service is not activated", "未开通短信服务")),
    "isv.PRODUCT_UNSUBSCRIBE": ("auth", Words("the SMS service is not activated", "未开通短信服务")),
    "isv.ACCOUNT_NOT_EXISTS": ("auth", Words("Aliyun does not know the account", "账户不存在")),
    "isv.ACCOUNT_ABNORMAL": ("auth", Words("the account is not in order at Aliyun", "账户异常")),
    "isv.SMS_TEMPLATE_ILLEGAL": ("auth", Words("the template is unknown or not approved", "短信模板不存在或未过审")),
    "isv.SMS_SIGNATURE_ILLEGAL": ("auth", Words("the signature is unknown or not approved", "短信签名不存在或未过审")),
    "isv.SMS_SIGNATURE_SCENE_ILLEGAL": (
        "auth",
        Words("the signature is not for this kind of template", "签名与模板类型不符"),
    ),
    "isv.SMS_TEST_SIGN_TEMPLATE_LIMIT": (
        "auth",
        Words("test signature and template must go together", "测试签名与模板须配套使用"),
    ),
    "isp.RAM_PERMISSION_DENY": ("auth", Words("the access key lacks a RAM permission", "AccessKey 缺少 RAM 权限")),
    "SignatureDoesNotMatch": ("auth", Words("the access key's secret is wrong", "AccessKey Secret 不正确")),
    "InvalidAccessKeyId.NotFound": ("auth", Words("Aliyun does not know the access key", "AccessKey 不存在")),
    "InvalidAccessKeyId.Inactive": ("auth", Words("the access key is disabled", "AccessKey 已停用")),
    "InvalidTimeStamp.Expired": (
        "auth",
        Words("this machine's clock is over 15 minutes off", "本机时钟偏差超过 15 分钟"),
    ),
    "Forbidden.RAM": ("auth", Words("the access key lacks a RAM permission", "AccessKey 缺少 RAM 权限")),
    "isv.MOBILE_NUMBER_ILLEGAL": ("permanent", Words("it is no phone number for Aliyun", "手机号码格式错误")),
    "isv.TEMPLATE_MISSING_PARAMETERS": (
        "permanent",
        Words("the template has a variable that was not filled", "模板缺少变量"),
    ),
    "isv.TEMPLATE_PARAMS_ILLEGAL": (
        "permanent",
        Words("a variable of the template may not have this value", "模板变量值不合规"),
    ),
    "isv.INVALID_JSON_PARAM": ("permanent", Words("a variable of the template is no text", "模板变量不是字符串")),
    "isv.PARAM_LENGTH_LIMIT": (
        "too_large",
        Words("a variable of the template is too long; lower text_limit", "模板变量超长，请调小 text_limit"),
    ),
    "isv.PARAM_NOT_SUPPORT_URL": (
        "permanent",
        Words("a variable may not have an address in it", "模板变量中不允许出现网址"),
    ),
    "isv.BLACK_KEY_CONTROL_LIMIT": (
        "permanent",
        Words("a variable has a word that Aliyun forbids", "模板变量含违禁词"),
    ),
}
_WAITS_S = {"分钟": 60.0, "小时": 3600.0, "天": 10_800.0}
"""isv.BUSINESS_LIMIT_CONTROL says which window is full; the one of a day rolls, and may have room before it is over."""


def of_code(code: str, message: str) -> Delivery:
    """Of a code that is not OK. message: Aliyun's, which names the window of a limit and is not shown."""
    shown = re.sub(r"[^\w.-]", "", code)[:80]
    failure, words = _CODES.get(
        code,
        ("permanent", Words(f"Aliyun refuses the message (code {shown})", f"阿里云拒绝该消息（代码 {shown}）")),
    )
    wait_s = None
    if failure == "throttled":
        wait_s = next((seconds for word, seconds in _WAITS_S.items() if f"{word}级" in message), 60.0)
    return failed(failure, shown, words, wait_s)


def not_delivered(code: str) -> Delivery:
    """Of a report: what the operator of the phone's network says."""
    shown = re.sub(r"[^\w.:-]", "", code)[:80] or "unknown"
    return permanent(shown, Words(f"the phone's network did not deliver it ({shown})", f"运营商未能送达（{shown}）"))
