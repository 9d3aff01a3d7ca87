"""SMS by Tencent Cloud: an approved template, whose parameters take the text. Ok is `accepted`; statuses are pulled.

Source: cloud.tencent.com/document/product/382: 55981 (SendSms), 55977 (PullSmsSendStatus), 55978 (PullSmsReplyStatus),
55973 (SendStatusStatistics).
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from autoglm.channels.adapters.sms_tencent.codes import not_delivered, of_code
from autoglm.channels.adapters.sms_tencent.pull import FULL, CannotPull, Entry, Pull
from autoglm.channels.adapters.sms_tencent.signature import signed_headers
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, accepted, delivered, permanent, transient
from autoglm.channels.settings import BaseUrl
from autoglm.channels.sms import CHINA, FORM_BYTES, Replies, SmsSettings, nothing_to_send, pieces_of
from autoglm.channels.vendor_json import map_of, vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.channels.wording import checked_size
from autoglm.core.envelope import Envelope, JsonPart
from autoglm.core.tasks import one_task_group

_VERSION = "2021-01-11"
_WINDOWS = ((1, 30.0), (10, 86_400.0))
"""What a number may get as long as nothing else is set in the console."""
_NO_TIME_S = 1 << 40
"""Beyond the calendar, and what an envelope can hold."""


class SmsTencentSettings(SmsSettings, frozen=True):
    """A `[[channel]]` of the kind sms-tencent."""

    kind: Literal["sms-tencent"]
    secret_id: SecretStr = Field(min_length=1)
    """API key of a CAM user with the permission QcloudSMSFullAccess."""
    secret_key: SecretStr = Field(min_length=1)
    """Its secret."""
    sdk_app_id: str = Field(pattern=r"^[0-9]{6,20}$")
    """SdkAppId of the application in the SMS console, such as "1400006666"."""
    sign_name: str = Field(min_length=1, max_length=64)
    """The approved signature, such as "腾讯云"."""
    template_id: str = Field(pattern=r"^[0-9]{1,20}$")
    """The approved template that texts go by."""
    template_params: tuple[str, ...] = Field(default=("{text}",), max_length=20)
    """Its parameters in order; {text} in one is the text."""
    text_limit: int = Field(default=35, ge=16, le=1_000)
    """Longest text that the parameter takes, in characters; longer ones go in pieces, 10 at most."""
    pull: Literal["all", "statuses", "nothing"] = "all"
    """What is asked for: all (statuses and replies), statuses, or nothing where another program pulls them."""
    pull_every_s: float = Field(default=15.0, ge=1.0, le=3_600.0)
    """Pause between two pulls."""
    region: str = Field(default="ap-guangzhou", pattern=r"^[a-z0-9-]{1,32}$")
    """Region of the service."""
    base_url: BaseUrl = Field(default="https://sms.tencentcloudapi.com", pattern=r"^https?://[^/\s]+/?$")
    """Tencent Cloud's address; another one for a proxy."""

    @field_validator("template_params")
    @classmethod
    def _take_the_text(cls, params: tuple[str, ...]) -> tuple[str, ...]:
        if not any("{text}" in value for value in params):
            raise ValueError("one of the parameters must have {text} in it")
        return params


class SmsTencent:
    """Satisfies `Channel`."""

    Settings = SmsTencentSettings

    def __init__(self, settings: SmsTencentSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._web = Web()
        self._replies = Replies(settings, resources)

    def limits(self, target: str) -> Limits:
        settings = self._settings
        windows = _WINDOWS if settings.per_minute is None else ((settings.per_minute, 60.0),)
        return Limits(
            windows=windows, per="target", digest_bytes=settings.text_limit if settings.text_limit > 63 else 0
        )

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        settings = self._settings
        number = settings.number_of(target)
        forms = [
            (settings.template_id, [value.replace("{text}", piece) for value in settings.template_params])
            for piece in pieces_of(envelope, settings.text_limit)
        ]
        forms += _own_forms(envelope)
        if not forms:
            raise nothing_to_send()
        return [
            Parcel(
                target=target,
                body={
                    "PhoneNumberSet": [number],
                    "SmsSdkAppId": settings.sdk_app_id,
                    "SignName": settings.sign_name,
                    "TemplateId": template,
                    "TemplateParamSet": params,
                },
            )
            for template, params in forms
        ]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Tencent Cloud leaves out no repeats; the key goes along as SessionContext."""
        assert isinstance(parcel.body, dict)
        try:
            answer = await self._call("SendSms", {**parcel.body, "SessionContext": key[:255]})
        except NoAnswer as error:
            return error.delivery
        found = _response(answer)
        if (refusal := _refusal(answer, found)) is not None:
            return refusal
        entries = _entries(found, "SendStatusSet")
        code = entries[0].get("Code") if len(entries) == 1 else None
        if not isinstance(code, str):
            return _unreadable()
        if code != "Ok":
            return of_code(code)
        ticket = str(entries[0].get("SerialNo", ""))
        if ticket and self._settings.pull == "all":
            await self._replies.remember(parcel.body["PhoneNumberSet"][0], parcel.target, ticket)
        return accepted(ticket)

    async def check(self) -> Health:
        """Asks for the figures of today, which takes nothing away."""
        today = f"{datetime.now(CHINA):%Y%m%d}"
        wanted = {
            "BeginTime": f"{today}00", "EndTime": f"{today}23", "SmsSdkAppId": self._settings.sdk_app_id, "Limit": 0,
            "Offset": 0,
        }  # fmt: skip
        try:
            answer = await self._call("SendStatusStatistics", wanted)
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        refusal = _refusal(answer, _response(answer))
        if refusal is not None:
            return Health(ok=False, reason=refusal.reason, code=refusal.code)
        return Health(
            ok=True, reason=Words("Tencent Cloud knows the key and the application", "腾讯云可达，密钥和应用有效")
        )

    async def run(self, inbox: Inbox) -> None:
        settings = self._settings
        pulls = []
        if settings.pull != "nothing":
            pulls.append(self._pull("PullSmsSendStatus", self._take_status))
        if settings.pull == "all":
            pulls.append(self._pull("PullSmsReplyStatus", self._take_reply))
        async with one_task_group() as tasks:
            for pull in pulls:
                tasks.start_soon(pull.run, inbox)

    async def aclose(self) -> None:
        await self._web.aclose()

    def _pull(self, action: str, take: Callable[[Entry, Inbox], Awaitable[None]]) -> Pull:
        async def fetch() -> Sequence[Entry]:
            try:
                answer = await self._call(action, {"Limit": FULL, "SmsSdkAppId": self._settings.sdk_app_id})
            except NoAnswer as error:
                raise CannotPull(error.delivery.reason.en) from None
            found = _response(answer)
            if (refusal := _refusal(answer, found)) is not None:
                raise CannotPull(f"{refusal.reason.en} ({refusal.code})")
            return _entries(found, f"{action}Set")

        return Pull(self._name, action, every_s=self._settings.pull_every_s, fetch=fetch, take=take)

    async def _take_status(self, entry: Entry, inbox: Inbox) -> None:
        ticket = str(entry.get("SerialNo", ""))
        status = entry.get("ReportStatus")
        if status == "SUCCESS":
            await inbox.report(ticket, delivered(ticket))
        elif status == "FAIL":
            await inbox.report(ticket, not_delivered(str(entry.get("Description", ""))))

    async def _take_reply(self, entry: Entry, inbox: Inbox) -> None:
        number, text, at_s = (
            str(entry.get("PhoneNumber", "")),
            str(entry.get("ReplyContent", "")),
            entry.get("ReplyTime"),
        )
        if not isinstance(at_s, int) or not 0 <= at_s < _NO_TIME_S:
            at_s = int(time.time())
        vendor_id = f"{at_s} {entry.get('ExtendCode', '')} {text}"  # Tencent Cloud has no id for replies
        await self._replies.take(inbox, number=number, text=text, vendor_id=vendor_id, time_ms=at_s * 1000)

    async def _call(self, action: str, wanted: Mapping[str, object]) -> Answer:
        """Raises NoAnswer."""
        settings = self._settings
        body = json.dumps(wanted, ensure_ascii=False).encode("utf-8", "replace")
        headers = signed_headers(
            body, action=action, version=_VERSION, host=urlsplit(settings.base_url).netloc, region=settings.region,
            secret_id=settings.secret_id.get_secret_value(), secret_key=settings.secret_key.get_secret_value(),
            timestamp_s=int(time.time()),
        )  # fmt: skip
        return await self._web.request("POST", f"{settings.base_url}/", headers=headers, body=body)


def _own_forms(envelope: Envelope) -> list[tuple[str, list[str]]]:
    """json parts such as {"TemplateId": "1110", "TemplateParamSet": ["..."]}. Raises Cannot."""
    forms: list[tuple[str, list[str]]] = []
    for part in envelope.content if isinstance(envelope.content, list) else []:
        if not (isinstance(part, JsonPart) and isinstance(part.json, dict) and "TemplateId" in part.json):
            continue
        template, params = part.json["TemplateId"], part.json.get("TemplateParamSet", [])
        if not isinstance(template, str) or not isinstance(params, list) or not all(isinstance(p, str) for p in params):
            words = Words(
                "TemplateId must be a text, and TemplateParamSet a list of texts",
                "TemplateId 必须是字符串，TemplateParamSet 必须是字符串列表",
            )
            raise Cannot(permanent("InvalidParameterValue", words))
        forms.append((template, params))
    checked_size(forms, FORM_BYTES)
    return forms


def _response(answer: Answer) -> Mapping[str, object]:
    return map_of(vendor_map(answer.body).get("Response"))


def _entries(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = found.get(name)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _refusal(answer: Answer, found: Mapping[str, Any]) -> Delivery | None:
    """Errors come with HTTP 200, as {"Response": {"Error": {"Code": ...}}}."""
    error = found.get("Error")
    if isinstance(error, dict) and isinstance(error.get("Code"), str):
        return of_code(error["Code"])
    return of_status(answer) or (None if found else _unreadable())


def _unreadable() -> Delivery:
    words = Words(
        "Tencent Cloud's answer cannot be read; it may have been delivered", "无法解析腾讯云的应答，消息可能已送达"
    )
    return transient("unreadable", words, is_in_doubt=True)
