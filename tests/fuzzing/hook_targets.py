"""Calls that vendors, and whoever plays one, make to /api/hooks; signed rightly, so that what lies behind is read."""

import asyncio
import base64
import time
from collections.abc import Mapping

from pydantic import SecretStr

from autoglm.channels.adapters.alertmanager.notices import envelopes_of, read_notice
from autoglm.channels.adapters.http_sms.channel import HttpSms
from autoglm.channels.adapters.http_sms.settings import HttpSmsSettings
from autoglm.channels.adapters.sms_aliyun.channel import SmsAliyun, SmsAliyunSettings
from autoglm.channels.adapters.webhook.incoming import Incoming
from autoglm.channels.adapters.webhook.signature import is_signed, parse_secrets, sign
from autoglm.channels.adapters.wechat.callback import Callback
from autoglm.channels.adapters.wechat.crypto import BadCall, _aes, decrypt_file, signature_of
from autoglm.channels.adapters.wechat.elements import parse_xml
from autoglm.channels.adapters.wecom_app.channel import WeComApp
from autoglm.channels.adapters.wecom_app.settings import WeComAppSettings
from autoglm.channels.channel import HookCall
from autoglm.core.clock import now_ms
from autoglm.core.errors import InvalidField, InvalidJson
from fuzzing.inbox import RESOURCES, CheckedInbox
from fuzzing.target import Target

_REFUSED = (InvalidField, InvalidJson)
_TO = "user:alice"
_INBOX = CheckedInbox()


def _post(body: bytes, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> HookCall:
    return HookCall("POST", query or {}, headers or {}, body)


# --- WeChat and WeCom -------------------------------------------------------------------------------

_TOKEN, _AES_KEY, _CORP = "token", "a" * 43, "ww1"
_WECOM = WeComApp(
    WeComAppSettings(
        name="c", kind="wecom-app", corp_id=_CORP, agent_id=1, secret=SecretStr("s"), token=SecretStr(_TOKEN),
        aes_key=SecretStr(_AES_KEY), senders=("*",), incoming_to=_TO,
    ),
    RESOURCES,
)  # fmt: skip
_CALLBACK = Callback(_TOKEN, _AES_KEY, _CORP, window_s=300.0)


def fuzz_wecom(data: bytes) -> None:
    """As a message that WeCom encrypted and signed."""
    sealed = _CALLBACK.sealed(data.decode("utf-8", "replace"), "n")
    outer = parse_xml(sealed)
    query = {"msg_signature": outer.get("MsgSignature"), "timestamp": outer.get("TimeStamp"), "nonce": "n"}
    assert asyncio.run(_WECOM.hook(_post(sealed, query), _INBOX)).status in (200, 400, 413)


def fuzz_wecom_sealed(data: bytes) -> None:
    """As an encrypted text with a right signature, and as the whole body without one."""
    text = data.decode("latin-1")
    stamp = str(now_ms() // 1000)
    query = {"timestamp": stamp, "nonce": "n", "echostr": text}
    query["msg_signature"] = signature_of(_TOKEN, stamp, "n", text)
    for call in (HookCall("GET", query, {}, b""), _post(data, query)):
        assert asyncio.run(_WECOM.hook(call, _INBOX)).status in (200, 400, 403, 413)


def fuzz_wecom_file(data: bytes) -> None:
    key, _, sealed = data.partition(b"\n")
    decrypt_file(key.decode("latin-1"), sealed)


def _sealed_file(data: bytes) -> bytes:
    """As WeCom encrypts it: padded to 32 bytes by PKCS #7, AES-256-CBC."""
    pad = 32 - len(data) % 32
    return _aes(base64.b64decode(_AES_KEY + "="), data + bytes([pad]) * pad, encrypt=True)


_XML = (
    b"<xml><ToUserName><![CDATA[ww1]]></ToUserName><FromUserName><![CDATA[alice]]></FromUserName><CreateTime>1"
    b"</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[hi]]></Content><MsgId>7</MsgId></xml>",
    b"<xml><FromUserName>alice</FromUserName><CreateTime>1</CreateTime><MsgType>event</MsgType><Event>"
    b"template_card_event</Event><EventKey>ack</EventKey><TaskId>known</TaskId><CardType>button_interaction"
    b"</CardType><SelectedItems><SelectedItem><OptionIds><OptionId>a</OptionId></OptionIds></SelectedItem>"
    b"</SelectedItems></xml>",
    b"<xml><MsgType>image</MsgType><PicUrl>https://a/b</PicUrl><FromUserName>a</FromUserName></xml>",
    b"<xml><MsgType>location</MsgType><Label>L</Label><Location_X>1</Location_X><FromUserName>a</FromUserName></xml>",
)
_XML_WORDS = (
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<![CDATA[", b"]]>", b"<a>", b"</a>", b"&#55296;", b"&#x10ffff;",
    b'<?xml version="1.0" encoding="utf-16"?>', b"<xml>", b"</xml>", b"&lt;", b"<a:b xmlns:a='c'>",
)  # fmt: skip

# --- webhooks and SMS gateways ----------------------------------------------------------------------

_SECRETS = parse_secrets("whsec_" + "QUFB" * 8)
_WEBHOOK = Incoming("c", {"erp": _SECRETS}, incoming_to=_TO, limit_bytes=1 << 20)


def fuzz_webhook(data: bytes) -> None:
    """A signed call of any body."""
    at_s = int(time.time())
    id = f"m{time.monotonic_ns()}"
    headers = {"webhook-id": id, "webhook-timestamp": str(at_s), "webhook-signature": sign(_SECRETS, id, at_s, data)}
    assert asyncio.run(_WEBHOOK.hook(_post(data, headers=headers), _INBOX)).status == 200


def fuzz_webhook_headers(data: bytes) -> None:
    """A call by somebody without the secret."""
    id, stamp, signature, *_ = [*data.decode("latin-1").split("\n"), "", "", ""]
    assert not is_signed(_SECRETS, signature, id, stamp, b"{}")
    headers = {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": signature}
    assert asyncio.run(_WEBHOOK.hook(_post(b"{}", headers=headers), _INBOX)).status in (400, 401)


_HTTP_SMS = HttpSms(
    HttpSmsSettings(
        name="c", kind="http-sms", url=SecretStr("https://a/b?n={to}&t={text}"), method="GET",
        hook_token=SecretStr("t" * 16), receipt_ticket_path="data.0.id", receipt_status_path="data.0.status",
        receipts={"ok": "delivered", "bad": "permanent"},
    ),
    RESOURCES,
)  # fmt: skip
_ALIYUN = SmsAliyun(
    SmsAliyunSettings(
        name="c", kind="sms-aliyun", access_key_id=SecretStr("k"), access_key_secret=SecretStr("s"), sign_name="n",
        template_code="SMS_1", hook_token=SecretStr("t" * 16), senders=("*",), incoming_to=_TO,
    ),
    RESOURCES,
)  # fmt: skip


def fuzz_sms_hooks(data: bytes) -> None:
    for channel in (_HTTP_SMS, _ALIYUN):
        reply = asyncio.run(channel.hook(_post(data, {"token": "t" * 16}), _INBOX))
        assert reply.status in (200, 400, 413)


def fuzz_alertmanager(data: bytes) -> None:
    for envelope in envelopes_of(read_notice(data), channel="c", to=_TO, severities={}):
        asyncio.run(_INBOX.take(envelope))


_JSON_WORDS = (
    b"123456789012345678901234567890", b'"\\ud800"', b"null", b"[" * 60, b'{"a":', b"1e400", b"NaN", b"true", b"-1",
    b'"content":', b'"\\u0000"', b"9007199254740993", b"18446744073709551616",
)  # fmt: skip

TARGETS = (
    Target("wecom", fuzz_wecom, _XML, (InvalidField,), _XML_WORDS),
    Target("wecom-sealed", fuzz_wecom_sealed, (_CALLBACK.cipher.encrypt("x").encode() if _CALLBACK.cipher else b"",
                                               _CALLBACK.sealed("<xml/>", "n"), *_XML[:1]), (), _XML_WORDS),
    Target("wecom-file", fuzz_wecom_file, (b"a" * 43 + b"\n" + _sealed_file(b"picture"),), (BadCall,)),
    Target("webhook", fuzz_webhook, (b'{"content":"x","kind":"alert","labels":{"a":"b"},"priority":3}', b"[1,null]",
                                     b'{"temperature":21.5,"on":true}'), _REFUSED, _JSON_WORDS),
    Target("webhook-headers", fuzz_webhook_headers, (b"msg_1\n1750000000\nv1,QUFB v1a,QUFB", b"a\n1\nv1,\xff")),
    Target("sms-hooks", fuzz_sms_hooks, (
        b'[{"biz_id":"b","success":true,"err_code":"X"},{"phone_number":"13800000000","content":"y","sequence_id":1,'
        b'"send_time":"2026-01-31 12:00:00"}]',
        b'[{"data":[{"id":"1","status":"ok"}]},{"data":[{"id":2,"status":"bad"}]}]',
        b"id=1&status=ok",
    ), (), _JSON_WORDS),
    Target("alertmanager", fuzz_alertmanager, (
        b'{"version":"4","groupKey":"g","receiver":"r","truncatedAlerts":1,"alerts":[{"status":"firing","labels":{'
        b'"alertname":"A","severity":"critical","U__a_20_b":"c"},"annotations":{"summary":"s","description":"d"},'
        b'"startsAt":"2026-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"f"}]}',
    ), _REFUSED, (*_JSON_WORDS, b"U___d800_", b"0001-01-01T00:00:00", b"9999-12-31T23:59:59-23:59", b"resolved")),
)  # fmt: skip
