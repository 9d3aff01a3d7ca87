"""The channel: posts alerts, resolves them, and takes Alertmanager's calls.

Source: Alertmanager's API v2 (api/v2/openapi.yaml); measured with Alertmanager 0.25.
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import quote

import msgspec
import structlog
from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

from autoglm.channels.adapters.alertmanager.alerts import SEVERITIES, is_meant, moment, posting_of
from autoglm.channels.adapters.alertmanager.notices import envelopes_of, read_notice
from autoglm.channels.adapters.alertmanager.overtaken import Overtaken
from autoglm.channels.channel import REFUSALS, Health, HookCall, HookReply, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import Delivery, Words, accepted, transient
from autoglm.channels.hook_refusals import Refusals
from autoglm.channels.settings import ChannelSettings, check_url
from autoglm.channels.vendor_json import vendor_value
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.core.envelope import Envelope
from autoglm.core.errors import HubError

LIST_BYTES = 32 << 20
"""Of Alertmanager's list of active alerts, which is read to resolve one."""

log = structlog.get_logger(__name__)


class Server(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.servers.NAME]`: an Alertmanager; its address is channel:CHANNEL/NAME."""

    url: Annotated[str, AfterValidator(check_url)] = Field(pattern=r"^https?://[^\s?#]+$")
    """Its address, with the path prefix where it has one."""
    token: SecretStr | None = None
    """For `Authorization: Bearer`."""
    username: str = ""
    """For basic authentication."""
    password: SecretStr | None = None
    """For basic authentication."""


class AlertmanagerSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind alertmanager."""

    kind: Literal["alertmanager"]
    servers: dict[str, Server] = Field(default={}, max_length=100)
    """Alertmanagers by the name that their addresses have."""
    resolve_after_s: float = Field(default=86_400.0, ge=60.0, le=31_536_000.0)
    """An alert that nobody resolves ends by itself after so long."""
    severities: dict[str, int] = Field(default={}, max_length=100)
    """Priority of further severities, or other ones of critical (9), error (7), warning (6), info (3), none (0)."""
    hook_token: SecretStr | None = Field(default=None, min_length=16)
    """What Alertmanager's calls carry as `Authorization: Bearer`."""
    hook_username: str = ""
    """What Alertmanager's calls carry for basic authentication."""
    hook_password: SecretStr | None = Field(default=None, min_length=8)
    """What Alertmanager's calls carry for basic authentication."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.hook_username) != (self.hook_password is not None):
            raise ValueError("hook_username and hook_password belong together")
        for name, priority in self.severities.items():
            if not 0 <= priority <= 9:
                raise ValueError(f"severities.{name}: a priority is 0 to 9, not {priority}")
        return self


class Alertmanager:
    """Satisfies `Channel` and `Hooked`."""

    Settings = AlertmanagerSettings

    def __init__(self, settings: AlertmanagerSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._severities = SEVERITIES | settings.severities
        self._web = Web()
        self._overtaken = Overtaken()
        self._refused = Refusals(resources.name)

    def limits(self, target: str) -> Limits:
        """One at a time, so that an alert is resolved after it was raised."""
        count = self._settings.per_minute
        return Limits(windows=((count, 60.0),) if count else (), per="target", parallel=1)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target not in self._settings.servers:
            raise no_target(self._name, target, list(self._settings.servers))
        return [Parcel(target=target, body=posting_of(envelope, self._severities))]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Labels are Alertmanager's key against duplicates: the same alert again is the same alert.

        An alert ends by this machine's clock when it is sent, not by its sender's: one with a clock that is wrong by a
        day must not raise an alert that is over already.
        """
        posting = cast(dict[str, Any], parcel.body)
        found = await self._sent(self._settings.servers[parcel.target], posting, is_over=self._overtaken.is_over(key))
        if found.is_settled:
            self._overtaken.settled(key)
        elif not posting["resolves"]:
            self._overtaken.failed(key, parcel.target, posting["alert"])
        if posting["resolves"] and found.failure is None:
            self._overtaken.resolved(parcel.target, posting)
        return found

    async def check(self) -> Health:
        for name, server in self._settings.servers.items():
            try:
                answer = await self._request(server, "GET", "/api/v2/status")
            except NoAnswer as error:
                return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
            if (failed := of_status(answer)) is not None:
                return Health(ok=False, reason=failed.reason, code=failed.code)
            if not isinstance(status := vendor_value(answer.body), dict) or "versionInfo" not in status:
                words = Words(f"what answers for {name!r} is no Alertmanager", f"{name!r} 处应答的不是 Alertmanager")
                return Health(ok=False, reason=words, code="unreadable")
        return Health(ok=True, reason=Words("Alertmanager answers", "Alertmanager 应答正常"))

    async def run(self, inbox: Inbox) -> None:
        """Alertmanager calls: see `hook`."""

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """Alertmanager calls again within a minute for a 5xx only. Other failures it counts and logs, with the words,
        and calls with the group's next change or `group_interval`: so what never goes is told there, and goes once
        the settings are put right. Raises InvalidJson, InvalidField.
        """
        if call.method != "POST":
            return HookReply(405, b"Alertmanager's webhook is a POST\n")
        if not self._is_authentic(call.headers.get("authorization", "")):
            self._refused.note(401, "wrong or missing credentials")
            return HookReply(401, b"wrong or missing credentials; see hook_token in the channel's settings\n")
        notice = read_notice(call.body)
        to = self._settings.incoming_to
        refusals: list[HubError] = []
        count = left = 0
        for envelope in envelopes_of(notice, channel=self._name, to=to, severities=self._severities):
            count += 1
            try:
                left += not await inbox.take(envelope)
            except REFUSALS as error:  # the others are told all the same
                refusals.append(error)
            except HubError as error:
                log.warning("alerts_not_taken", channel=self._name, code=error.code)
                return HookReply(503, f"not taken ({error.code}); try again\n".encode())
        if refusals:
            log.error("alerts_refused", channel=self._name, code=refusals[0].code, count=len(refusals), of=count)
            return HookReply(422, f"{len(refusals)} of {count} not taken: {refusals[0]}\n".encode())
        if left:
            return HookReply(403, f"{left} of {count} not taken: this hub does not hear their sender\n".encode())
        return HookReply(200)

    async def aclose(self) -> None:
        await self._web.aclose()

    async def _sent(self, server: Server, posting: dict[str, Any], *, is_over: bool) -> Delivery:
        now_ms = time.time() * 1000
        try:
            alerts = await self._resolved(server, posting, now_ms) if posting["resolves"] else None
            if alerts is None:
                ends_ms = posting["expires_at"] or now_ms + self._settings.resolve_after_s * 1000
                starts_at = min(posting["alert"]["startsAt"], moment(now_ms))
                ends_at = moment(now_ms if is_over else ends_ms)
                alerts = [posting["alert"] | {"startsAt": starts_at, "endsAt": ends_at}]
            body = json.dumps(alerts, ensure_ascii=False).encode("utf-8", "replace")
            answer = await self._request(server, "POST", "/api/v2/alerts", body)
        except NoAnswer as error:
            return error.delivery
        return of_status(answer) or _taken(answer)

    async def _resolved(self, server: Server, posting: dict[str, Any], now_ms: float) -> list[dict[str, Any]]:
        """The active alerts that the message means, ended now; itself, ended, where none is. Raises NoAnswer."""
        path = "/api/v2/alerts"
        if posting["answers"] is None:
            text = json.dumps(posting["alert"]["labels"]["alertname"], ensure_ascii=False)
            path += f"?filter={quote(f'alertname={text}', safe='')}"
        try:
            answer = await self._request(server, "GET", path)
        except NoAnswer as error:  # nothing was posted yet
            raise NoAnswer(msgspec.structs.replace(error.delivery, is_in_doubt=False)) from None
        if (failed := of_status(answer)) is not None:
            raise NoAnswer(failed)
        active = vendor_value(answer.body)
        if not isinstance(active, list) or not all(map(_is_alert, active)):
            words = Words("Alertmanager's list of alerts cannot be read", "无法解析 Alertmanager 的告警列表")
            raise NoAnswer(transient("unreadable", words))
        meant = [alert for alert in active if is_meant(alert, posting)] or [posting["alert"]]
        kept = ("labels", "annotations")
        return [{name: alert[name] for name in kept} | {"endsAt": moment(now_ms)} for alert in meant]

    async def _request(self, server: Server, method: str, path: str, body: bytes | None = None) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if server.token is not None:
            headers["Authorization"] = f"Bearer {server.token.get_secret_value()}"
        elif server.password is not None:
            headers["Authorization"] = _basic(server.username, server.password)
        url = server.url.rstrip("/") + path
        return await self._web.request(method, url, headers=headers, body=body, limit_bytes=LIST_BYTES)

    def _is_authentic(self, sent: str) -> bool:
        """Compares in a time that does not tell how much of it was right."""
        scheme, _, value = sent.partition(" ")
        if self._settings.hook_token is not None and scheme.lower() == "bearer":
            return _is_equal(value.strip(), self._settings.hook_token.get_secret_value())
        if self._settings.hook_password is not None and scheme.lower() == "basic":
            try:
                pair = base64.b64decode(value.strip(), validate=True)
            except (binascii.Error, ValueError):
                return False
            wanted = f"{self._settings.hook_username}:{self._settings.hook_password.get_secret_value()}"
            return hmac.compare_digest(pair, wanted.encode())
        return False


def _is_alert(found: object) -> bool:
    """As `is_meant` reads it."""
    return isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in ("labels", "annotations"))


def _taken(answer: Answer) -> Delivery:
    """Alertmanager answers 200 without a body (0.25); a page of a proxy is no answer of its."""
    if answer.body.strip() in (b"", b'""', b"null"):
        return accepted()
    words = Words(
        "Alertmanager's answer cannot be read; it may have been delivered",
        "无法解析 Alertmanager 的应答，消息可能已送达",
    )
    return transient("unreadable", words, is_in_doubt=True)


def _basic(username: str, password: SecretStr) -> str:
    pair = f"{username}:{password.get_secret_value()}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _is_equal(sent: str, wanted: str) -> bool:
    return hmac.compare_digest(sent.encode(), wanted.encode())
