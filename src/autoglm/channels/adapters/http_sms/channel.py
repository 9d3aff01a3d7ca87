"""SMS by any gateway that takes an HTTP request."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from autoglm.channels.adapters.http_sms.settings import HttpSmsSettings
from autoglm.channels.adapters.http_sms.template import at, filled, filled_form, filled_json, filled_query
from autoglm.channels.channel import Health, HookCall, HookReply, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Failure, Words, accepted, delivered, failed, permanent, transient
from autoglm.channels.sms import nothing_to_send, pieces_of
from autoglm.channels.vendor_json import vendor_value
from autoglm.channels.web import Answer, NoAnswer, Web, of_status, retry_after_s
from autoglm.core.envelope import Envelope

_REPORT_BYTES = 1 << 20
_REPORTS = 1_000
_CLASSES: dict[Failure, tuple[str, str]] = {
    "throttled": ("too many messages for the gateway", "发送过于频繁，被短信网关限流"),
    "transient": ("the gateway fails for now", "短信网关暂时故障"),
    "auth": ("the gateway refuses this hub's account", "短信网关拒绝本机账号"),
    "permanent": ("the gateway refuses the message", "短信网关拒绝该消息"),
    "too_large": ("the message is too long for the gateway", "消息超过短信网关上限"),
}


class HttpSms:
    """Satisfies `Channel` and `Hooked`."""

    Settings = HttpSmsSettings

    def __init__(self, settings: HttpSmsSettings, resources: Resources) -> None:
        self._settings = settings
        self._web = Web()

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute
        windows = () if count is None else ((count, 60.0),)
        return Limits(windows=windows, per="channel", parallel=4, digest_bytes=self._settings.text_limit)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        number = self._settings.number_of(target)
        pieces = pieces_of(envelope, self._settings.text_limit)
        if not pieces:
            raise nothing_to_send()
        return [Parcel(target=target, body={"to": number, "text": piece}) for piece in pieces]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """key: {id}."""
        settings = self._settings
        assert isinstance(parcel.body, dict)
        values = {**parcel.body, "id": key}
        headers = {name: filled(value.get_secret_value(), values) for name, value in settings.headers.items()}
        body = None
        if settings.body is not None:
            is_json = settings.format == "json"
            kind = "application/json" if is_json else "application/x-www-form-urlencoded"
            headers = {"Content-Type": kind} | headers
            body = (filled_json if is_json else filled_form)(settings.body.get_secret_value(), values)
        url = filled_query(settings.url.get_secret_value(), values)
        try:
            answer = await self._web.request(settings.method, url, headers=headers, body=body)
        except NoAnswer as error:
            return error.delivery
        return self._of_answer(answer)

    async def check(self) -> Health:
        """Asks `check_url`; without one, the address for its OPTIONS, which shows that somebody is there."""
        settings = self._settings
        method, url = "GET", settings.check_url and settings.check_url.get_secret_value()
        if not url:
            place = urlsplit(settings.url.get_secret_value())
            method, url = "OPTIONS", f"{place.scheme}://{place.netloc}{place.path}"
        headers = {
            name: filled(value.get_secret_value(), {"to": "", "id": ""}) for name, value in settings.headers.items()
        }
        try:
            answer = await self._web.request(method, url, headers=headers)
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        found = self._of_answer(answer) if method == "GET" else self._refusal(answer)
        if found is not None and (found.outcome == "retry" or (method, found.outcome) == ("GET", "permanent")):
            return Health(ok=False, reason=found.reason, code=found.code)
        return Health(ok=True, reason=Words("the gateway answers", "短信网关有应答"))

    async def run(self, inbox: Inbox) -> None:
        """Reports come by `hook`."""

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """Reports: JSON, a form, or a query."""
        settings = self._settings
        if not settings.receipt_ticket_path or not settings.has_token(call):
            return HookReply(401, b"token is wrong, or this channel takes no reports")
        reports = _reports(call) if len(call.body) <= _REPORT_BYTES else []
        if len(call.body) > _REPORT_BYTES or len(reports) > _REPORTS:
            return HookReply(413, b"a call may have 1 MiB and 1,000 reports")
        known = 0
        for report in reports:
            ticket = at(report, settings.receipt_ticket_path)
            status = at(report, settings.receipt_status_path)
            if ticket is None or status is None:
                continue
            known += 1
            meaning = settings.receipts.get(status)
            if meaning == "delivered":
                await inbox.report(ticket, delivered(ticket))
            elif meaning == "permanent":
                words = Words(
                    f"the gateway reports that it was not delivered ({status[:60]})",
                    f"短信网关报告未送达（{status[:60]}）",
                )
                await inbox.report(ticket, permanent(status[:60], words))
        if known == 0:
            return HookReply(400, b"no report in it has what the settings look for")
        return HookReply(200, settings.hook_answer.encode())

    async def aclose(self) -> None:
        await self._web.aclose()

    def _of_answer(self, answer: Answer) -> Delivery:
        if (refusal := self._refusal(answer)) is not None:
            return refusal
        settings = self._settings
        body = vendor_value(answer.body)
        if settings.code_path:
            code = at(body, settings.code_path)
            if code is None:
                words = Words(
                    "the gateway's answer has no code; it may have been delivered",
                    "短信网关的应答中没有代码，消息可能已送达",
                )
                return transient("unreadable", words, is_in_doubt=True)
            if code not in settings.success:
                return self._coded("permanent", code, answer)
        return accepted((at(body, settings.ticket_path) or "") if settings.ticket_path else "")

    def _refusal(self, answer: Answer) -> Delivery | None:
        """By the table of codes, and by the HTTP status where the code is in none."""
        if self._settings.code_path:
            code = at(vendor_value(answer.body), self._settings.code_path)
            if code is not None and (failure := self._settings.failures.get(code)) is not None:
                return self._coded(failure, code, answer)
        return of_status(answer)

    def _coded(self, failure: Failure, code: str, answer: Answer) -> Delivery:
        en, zh = _CLASSES[failure]
        shown = code[:60]
        return failed(failure, shown, Words(f"{en} (code {shown})", f"{zh}（代码 {shown}）"), retry_after_s(answer))


def _reports(call: HookCall) -> Sequence[Any]:
    if call.method == "GET":
        return [dict(call.query)]
    found = vendor_value(call.body)
    if found is None:
        try:
            found = dict(parse_qsl(call.body.decode("utf-8", "replace"), max_num_fields=100))
        except ValueError:  # more fields than that
            return []
    return found if isinstance(found, list) else [found]
