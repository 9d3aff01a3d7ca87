"""WeCom's error codes. Source: developer.work.weixin.qq.com/document/path/90313."""

from autoglm.channels.delivery import Reasons, Words

VENDOR = Words("WeCom", "企业微信")
REASONS: Reasons = {
    -1: ("transient", Words("WeCom is busy", "企业微信系统繁忙")),
    40001: ("auth", Words("WeCom does not take the app's secret", "企业微信不接受应用的 Secret")),
    40013: ("auth", Words("WeCom does not know the corp id", "企业微信不认识该企业 ID")),
    40014: ("auth", Words("WeCom takes no access token of this app", "企业微信不接受该应用的 access_token")),
    40056: ("auth", Words("WeCom does not know the agent id of the settings", "企业微信不认识配置中的 AgentId")),
    42001: (
        "auth",
        Words("the access token is out of date, and a fresh one too", "access_token 已过期，重新获取后仍无效"),
    ),
    48002: ("auth", Words("the app may not use this interface", "应用没有该接口的权限")),
    60020: (
        "auth",
        Words("this hub's address is not on the app's list of allowed ones", "本机地址不在应用的可信 IP 列表中"),
    ),
    301002: ("auth", Words("the secret is of another app than the agent id", "Secret 与 AgentId 不属于同一应用")),
    45009: ("throttled", Words("the app sent more than WeCom allows", "应用发送超过企业微信上限")),
    45033: ("throttled", Words("too many requests to WeCom at the same time", "对企业微信的并发请求过多")),
    40007: ("permanent", Words("WeCom does not have the uploaded file any more", "企业微信已没有所上传的文件")),
    40008: ("permanent", Words("WeCom does not know this type of message", "企业微信不支持该消息类型")),
    40058: ("permanent", Words("WeCom says that a field of the message is wrong", "企业微信提示消息字段有误")),
    44004: ("permanent", Words("the message is empty", "消息内容为空")),
    60011: (
        "permanent",
        Words("the member, department or tag is outside what the app may see", "成员、部门或标签不在应用可见范围内"),
    ),
    60111: ("permanent", Words("WeCom knows no member of this id", "企业微信没有该 UserID 的成员")),
    81013: (
        "permanent",
        Words("none of the addressees exists or is in the app's visible range", "收件人都不存在，或不在应用可见范围内"),
    ),
    40009: ("too_large", Words("the picture is over WeCom's limit", "图片超过企业微信上限")),
    45001: ("too_large", Words("the file is over WeCom's limit", "文件超过企业微信上限")),
    45002: ("too_large", Words("the text is over WeCom's limit", "文本超过企业微信上限")),
}
UNREACHED = {
    "invaliduser": Words(
        "WeCom took the request, but the member does not exist or is outside the app's visible range",
        "企业微信已受理，但该成员不存在或不在应用可见范围内",
    ),
    "invalidparty": Words(
        "WeCom took the request, but the department does not exist or is outside the app's visible range",
        "企业微信已受理，但该部门不存在或不在应用可见范围内",
    ),
    "invalidtag": Words(
        "WeCom took the request, but the tag does not exist or is outside the app's visible range",
        "企业微信已受理，但该标签不存在或不在应用可见范围内",
    ),
    "unlicenseduser": Words(
        "WeCom took the request, but the member has no interface licence", "企业微信已受理，但该成员没有接口许可"
    ),
}
"""Fields of an answer with errcode 0 that name whom the message does not reach."""
