"""Webhooks out by the Standard Webhooks specification: the message as JSON, signed, to an endpoint of the settings.

A 2xx is `delivered`: the address names the endpoint, and the endpoint itself answers that it has the message.
Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import hashlib
import secrets as random
import time
from collections.abc import Sequence

from autoglm.channels.adapters.webhook.incoming import Incoming
from autoglm.channels.adapters.webhook.settings import WebhookSettings
from autoglm.channels.adapters.webhook.signature import parse_secrets, sign
from autoglm.channels.channel import (
    Cannot,
    Health,
    HookCall,
    HookReply,
    Inbox,
    Limits,
    Parcel,
    Resources,
    no_target,
)
from autoglm.channels.delivery import Delivery, Words, delivered, permanent
from autoglm.channels.web import Answer, NoAnswer, Web, of_status, throttled_by
from autoglm.core.envelope import Envelope, encode_envelope
from autoglm.core.guard import AddressGuard

_GONE = Words(
    "the endpoint wants no more messages (HTTP 410); it is not called again before the hub restarts",
    "接收端不再接收消息（HTTP 410），本机重启前不再调用",
)


class Webhook:
    """Satisfies `Channel` and `Hooked`."""

    Settings = WebhookSettings

    def __init__(self, settings: WebhookSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._secrets = {
            name: parse_secrets(endpoint.secret.get_secret_value()) for name, endpoint in settings.endpoints.items()
        }
        self._web = Web(guard=AddressGuard(settings.allow))
        self._incoming = Incoming(
            resources.name,
            self._secrets,
            incoming_to=settings.incoming_to,
            limit_bytes=settings.incoming_bytes,
        )
        self._gone: set[str] = set()

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute
        return Limits(windows=() if count is None else ((count, 60.0),), per="target", parallel=4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        endpoint = self._settings.endpoints.get(target)
        if endpoint is None:
            raise no_target(self._name, target, list(self._settings.endpoints))
        if endpoint.url is None:
            raise Cannot(
                permanent(
                    "no_url",
                    Words(
                        f"the endpoint {target!r} has no url: it only calls", f"接收端 {target!r} 没有 url，只能呼入"
                    ),
                )
            )
        return [Parcel(target=target, body=encode_envelope(envelope).decode())]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        if parcel.target in self._gone:
            return permanent("disabled", _GONE)
        id = webhook_id(key)
        try:
            answer = await self._call("POST", parcel.target, id, str(parcel.body).encode())
        except NoAnswer as error:
            return error.delivery
        if answer.status == 410:
            self._gone.add(parcel.target)
        return _of_answer(answer, id)

    async def check(self) -> Health:
        """Asks each endpoint for its OPTIONS, signed: that it does not know the method shows that it is there."""
        for target, endpoint in self._settings.endpoints.items():
            if endpoint.url is None:
                continue
            if target in self._gone:
                return Health(ok=False, reason=_GONE, code="disabled")
            try:
                answer = await self._call("OPTIONS", target, f"check_{random.token_hex(8)}", b"")
            except NoAnswer as error:
                return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
            found = _of_answer(answer, "")
            if found.outcome == "retry" or 300 <= answer.status < 400 or answer.status == 410:
                return Health(ok=False, reason=found.reason, code=found.code)
        return Health(ok=True, reason=Words("all endpoints answer", "所有接收端均有应答"))

    async def run(self, inbox: Inbox) -> None:
        """What comes in comes by `hook`."""

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        return await self._incoming.hook(call, inbox)

    async def aclose(self) -> None:
        await self._web.aclose()

    async def _call(self, method: str, target: str, id: str, payload: bytes) -> Answer:
        """Raises NoAnswer."""
        url = self._settings.endpoints[target].url
        timestamp_s = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": sign(self._secrets[target], id, timestamp_s, payload),
        }
        return await self._web.request(
            method, "" if url is None else url.get_secret_value(), headers=headers, body=payload or None
        )


def webhook_id(key: str) -> str:
    """The header `webhook-id`, the same for the same key; a full stop in it would blur what is signed."""
    return key if "." not in key else f"msg_{hashlib.sha256(key.encode()).hexdigest()[:48]}"


def _of_answer(answer: Answer, id: str) -> Delivery:
    """As the specification's "Delivery success and failure" says."""
    code = f"http_{answer.status}"
    if answer.status == 410:
        return permanent(code, _GONE)
    if answer.status in (429, 502, 504):
        return throttled_by(answer, code)
    return of_status(answer) or delivered(id)
