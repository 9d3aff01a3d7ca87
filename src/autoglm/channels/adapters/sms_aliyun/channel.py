"""SMS by Aliyun: an approved template, whose variable takes the text. OK is `accepted`; reports tell of the rest.

Source: help.aliyun.com/zh/sms/developer-reference: api-dysmsapi-2017-05-25-sendsms, -querysenddetails, smsreport-2,
smsup-1.
"""

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import structlog
from pydantic import Field, SecretStr, field_validator

from autoglm.channels.adapters.sms_aliyun.codes import not_delivered, of_code
from autoglm.channels.adapters.sms_aliyun.receipts import CannotAsk, Receipts, Sent
from autoglm.channels.adapters.sms_aliyun.signature import canonical_query, signed_headers
from autoglm.channels.channel import REFUSALS, Cannot, Health, HookCall, HookReply, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, accepted, delivered, permanent, transient
from autoglm.channels.settings import BaseUrl
from autoglm.channels.sms import CHINA, FORM_BYTES, PushedSmsSettings, Replies, nothing_to_send, pieces_of
from autoglm.channels.vendor_json import vendor_map, vendor_value
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.channels.wording import checked_size
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, JsonPart

log = structlog.get_logger(__name__)
_VERSION = "2017-05-25"
_MOBILE = "1[3-9][0-9]{9}"
"""A phone's number in China."""
_WINDOWS = {
    "notice": ((50, 86_400.0),),
    "code": ((1, 60.0), (5, 3_600.0), (10, 86_400.0)),
}
"""What a number may get: notices by template, codes by signature. Source: "流控" of the SMS service's guide."""
_CALL_BYTES = 1 << 20
_CALL_ENTRIES = 1_000
_TAKEN = HookReply(200, '{"code": 0, "msg": "接收成功"}'.encode(), "application/json")


class SmsAliyunSettings(PushedSmsSettings, frozen=True):
    """A `[[channel]]` of the kind sms-aliyun."""

    kind: Literal["sms-aliyun"]
    access_key_id: SecretStr = Field(min_length=1)
    """Of a RAM user with the permissions dysms:SendSms and dysms:QuerySendDetails."""
    access_key_secret: SecretStr = Field(min_length=1)
    """Its secret."""
    sign_name: str = Field(min_length=1, max_length=64)
    """The approved signature, such as "阿里云"."""
    template_code: str = Field(pattern=r"^SMS_[0-9A-Za-z_]+$")
    """The approved template that texts go by, such as "SMS_123456789"."""
    template_params: dict[str, str] = Field(default={}, max_length=20)
    """Its variables; {text} in a value is the text. Empty: one variable, which is called text."""
    template_kind: Literal["notice", "code"] = "notice"
    """What the template was approved as: a number may get 50 notices a day, or 10 codes."""
    text_limit: int = Field(default=35, ge=16, le=1_000)
    """Longest text that the variable takes, in characters; longer ones go in pieces, 10 at most."""
    poll: bool = True
    """Whether Aliyun is asked what became of each SMS; false where it pushes reports to the hook."""
    base_url: BaseUrl = Field(default="https://dysmsapi.aliyuncs.com", pattern=r"^https?://[^/\s]+/?$")
    """Aliyun's address for a region; another one for a proxy."""

    @field_validator("template_params")
    @classmethod
    def _take_the_text(cls, params: dict[str, str]) -> dict[str, str]:
        if params and not any("{text}" in value for value in params.values()):
            raise ValueError("one of the values must have {text} in it")
        return params


class SmsAliyun:
    """Satisfies `Channel` and `Hooked`."""

    Settings = SmsAliyunSettings

    def __init__(self, settings: SmsAliyunSettings, resources: Resources) -> None:
        self._settings = settings
        self._web = Web()
        self._receipts = Receipts(resources, self._ask)
        self._replies = Replies(settings, resources)

    def limits(self, target: str) -> Limits:
        settings = self._settings
        windows = _WINDOWS[settings.template_kind] if settings.per_minute is None else ((settings.per_minute, 60.0),)
        return Limits(
            windows=windows, per="target", digest_bytes=settings.text_limit if settings.text_limit > 63 else 0
        )

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        settings = self._settings
        number = national(settings.number_of(target))
        params = settings.template_params or {"text": "{text}"}
        forms = [
            (settings.template_code, {name: value.replace("{text}", piece) for name, value in params.items()})
            for piece in pieces_of(envelope, settings.text_limit)
        ]
        forms += _own_forms(envelope)
        if not forms:
            raise nothing_to_send()
        return [
            Parcel(
                target=target,
                body={
                    "PhoneNumbers": number,
                    "SignName": settings.sign_name,
                    "TemplateCode": code,
                    "TemplateParam": json.dumps(params, ensure_ascii=False),
                },
            )
            for code, params in forms
        ]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Aliyun leaves out no repeats; the key goes along as OutId and comes back in reports."""
        assert isinstance(parcel.body, dict)
        number = parcel.body["PhoneNumbers"]
        try:
            answer = await self._call("SendSms", {**parcel.body, "OutId": key[:255]})
        except NoAnswer as error:
            return error.delivery
        body = vendor_map(answer.body)
        if body.get("Code") != "OK":
            return _refusal(answer, body)
        ticket = str(body.get("BizId", ""))
        if ticket and self._settings.hook_token is not None:
            await self._replies.remember(self._settings.number_of(parcel.target), parcel.target, ticket)
        if ticket and self._settings.poll:
            await self._receipts.expect(Sent(ticket, number, now_ms()))
        return accepted(ticket)

    async def check(self) -> Health:
        """Asks what was sent to a number of nobody's today."""
        try:
            answer = await self._details(Sent("", "13000000000", now_ms()))
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        body = vendor_map(answer.body)
        if body.get("Code") == "OK":
            return Health(ok=True, reason=Words("Aliyun knows the access key", "阿里云可达，AccessKey 有效"))
        found = _refusal(answer, body)
        return Health(ok=False, reason=found.reason, code=found.code)

    async def run(self, inbox: Inbox) -> None:
        if self._settings.poll:
            await self._receipts.run(inbox)

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """SmsReport and SmsUp: a list of reports or replies. They are not signed; the address has the token."""
        if not self._settings.has_token(call):
            return HookReply(401, b"token is wrong, or hook_token is not set")
        if len(call.body) > _CALL_BYTES:
            return HookReply(413, b"the body is over 1 MiB")
        entries = vendor_value(call.body)
        if not isinstance(entries, list) or len(entries) > _CALL_ENTRIES:
            return HookReply(400, b"the body is no list of at most 1000 entries")
        for entry in entries:
            if not isinstance(entry, dict):
                continue
            try:
                if isinstance(entry.get("biz_id"), str):
                    await self._reported(entry, inbox)
                elif isinstance(entry.get("content"), str) and isinstance(entry.get("phone_number"), str):
                    await self._replied(entry, inbox)
            except REFUSALS as error:  # for anything else, Aliyun pushes all of them again
                log.error("sms_entry_dropped", channel=self._settings.name, reason=str(error))
        return _TAKEN

    async def aclose(self) -> None:
        await self._web.aclose()

    async def _reported(self, entry: Mapping[str, Any], inbox: Inbox) -> None:
        ticket = entry["biz_id"]
        arrived = entry.get("success") in (True, "true")
        await inbox.report(ticket, delivered(ticket) if arrived else not_delivered(str(entry.get("err_code", ""))))
        await self._receipts.settle(ticket)

    async def _replied(self, entry: Mapping[str, Any], inbox: Inbox) -> None:
        at = _time_ms(entry.get("send_time"))
        vendor_id = str(entry.get("sequence_id") or f"{at} {entry['content']}")
        number = international(entry["phone_number"])
        await self._replies.take(inbox, number=number, text=entry["content"], vendor_id=vendor_id, time_ms=at)

    async def _ask(self, sent: Sent) -> Delivery | None:
        """Raises CannotAsk."""
        try:
            answer = await self._details(sent)
        except NoAnswer as error:
            raise CannotAsk(error.delivery.reason.en) from None
        body = vendor_map(answer.body)
        if body.get("Code") != "OK":
            raise CannotAsk(_refusal(answer, body).reason.en)
        details = body.get("SmsSendDetailDTOs")
        entries = details.get("SmsSendDetailDTO") if isinstance(details, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            status = str(entry.get("SendStatus")) if isinstance(entry, dict) else ""
            if status == "3":
                return delivered(sent.ticket)
            if status == "2":
                return not_delivered(str(entry.get("ErrCode", "")))
        return None

    async def _details(self, sent: Sent) -> Answer:
        """Raises NoAnswer."""
        wanted = {"PhoneNumber": sent.number, "SendDate": sent.day, "PageSize": "10", "CurrentPage": "1"}
        return await self._call("QuerySendDetails", wanted | ({"BizId": sent.ticket} if sent.ticket else {}))

    async def _call(self, action: str, parameters: Mapping[str, str]) -> Answer:
        """Raises NoAnswer."""
        settings = self._settings
        query = canonical_query(parameters)
        headers = signed_headers(
            query, action=action, version=_VERSION, host=urlsplit(settings.base_url).netloc,
            key_id=settings.access_key_id.get_secret_value(), key_secret=settings.access_key_secret.get_secret_value(),
            date=f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%dT%H:%M:%SZ}", nonce=secrets.token_hex(16),
        )  # fmt: skip
        return await self._web.request("POST", f"{settings.base_url}/?{query}", headers=headers)


def national(number: str) -> str:
    """As SendSms takes it: 11 digits in China, elsewhere the country's code and the number, without +.

    Raises Cannot for numbers of North America that would be read as a Chinese phone's: somebody else would get the SMS.
    """
    digits = number.removeprefix("+86") if re.fullmatch(rf"\+86{_MOBILE}", number) else number.removeprefix("+")
    if number.startswith("+1") and re.fullmatch(_MOBILE, digits) is not None:
        words = Words(
            "Aliyun cannot tell this number of North America from a Chinese one",
            "阿里云无法区分该北美号码与中国手机号",
        )
        raise Cannot(permanent("isv.MOBILE_NUMBER_ILLEGAL", words))
    return digits


def international(number: str) -> str:
    """As the settings have it, of what a report or a reply has."""
    digits = re.sub(r"^(\+|00)", "", number)
    return f"+86{digits}" if re.fullmatch(_MOBILE, digits) else f"+{digits}"


def _own_forms(envelope: Envelope) -> list[tuple[str, dict[str, str]]]:
    """json parts such as {"TemplateCode": "SMS_1", "TemplateParam": {"name": "..."}}. Raises Cannot."""
    forms: list[tuple[str, dict[str, str]]] = []
    for part in envelope.content if isinstance(envelope.content, list) else []:
        if not (isinstance(part, JsonPart) and isinstance(part.json, dict) and "TemplateCode" in part.json):
            continue
        code, params = part.json["TemplateCode"], part.json.get("TemplateParam", {})
        if (
            not isinstance(code, str)
            or not isinstance(params, dict)
            or not all(isinstance(value, str) for value in params.values())
        ):
            words = Words(
                "TemplateCode and the values of TemplateParam must be texts",
                "TemplateCode 及 TemplateParam 的值必须是字符串",
            )
            raise Cannot(permanent("isv.INVALID_JSON_PARAM", words))
        forms.append((code, params))
    checked_size(forms, FORM_BYTES)
    return forms


def _refusal(answer: Answer, body: Mapping[str, Any]) -> Delivery:
    """Of an answer that is not OK: by its code, which comes with HTTP 200 and with 4xx."""
    code = body.get("Code")
    if isinstance(code, str) and answer.status < 500:
        return of_code(code, str(body.get("Message", "")))
    words = Words("Aliyun's answer cannot be read; it may have been delivered", "无法解析阿里云的应答，消息可能已送达")
    return of_status(answer) or transient("unreadable", words, is_in_doubt=True)


def _time_ms(text: object) -> int:
    """Of `2026-01-31 12:00:00`, China's time; now where it is something else."""
    try:
        at = datetime.strptime(str(text), "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA).timestamp()
    except ValueError:
        at = time.time()
    return max(0, int(at * 1000))
