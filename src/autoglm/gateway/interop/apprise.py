"""`POST /api/notify` and `/notify`, each also with a key behind it: what is sent to Apprise's API may be sent here."""

from collections.abc import Sequence
from functools import partial
from time import gmtime, strftime

import msgspec

from autoglm.channels.routes.event import Event
from autoglm.core.errors import InvalidField
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.interop.notification import event_of, is_json, is_key, read_notification
from autoglm.gateway.interop.reception import Reception, telling
from autoglm.gateway.router import Route

PATHS = ("/api/notify", "/api/notify/{name}", "/notify", "/notify/{name}")
MAX_RECURSION = 1
"""Apprise's own limit for what one of its servers hands on to another."""
_FAILED_DEPENDENCY = 424


class Notified(msgspec.Struct, frozen=True, kw_only=True):
    """Apprise's answer, and the event's id."""

    error: str | None
    details: list[list[str]]
    """Each of level, time and words."""
    id: str
    """For /api/events/{id}."""


class AppriseGateway:
    def __init__(self, reception: Reception, *, max_body_bytes: int) -> None:
        self._reception = reception
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        route = partial(Route, fits=is_key, may_end_in_slash=True)
        return [route("POST", path, telling(self.notify)) for path in PATHS]

    async def notify(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """Apprise says 200 once all is sent; the hub once it is on disk, for sending goes on whatever fails."""
        principal, query = self._reception.identify(exchange)
        content_type = _header(exchange, b"content-type")
        body = await exchange.body(self._max_body_bytes)
        recursion = _header(exchange, b"x-apprise-recursion-count") or "0"
        if fields.whole_number(recursion, "x-apprise-recursion-count") > MAX_RECURSION:
            raise InvalidField("x-apprise-recursion-count", "this went through another server of Apprise already")
        key = variables.get("name") or _header(exchange, b"x-apprise-config-id")
        if key and is_key(key) is None:
            raise InvalidField("x-apprise-config-id", "must have 1 to 128 letters, digits, - and _")
        notification = read_notification(body, content_type, query)
        event = await self._reception.submit(event_of(notification, key), principal)
        notes = [("INFO", f"accepted as event {event.id}")]
        if notification.has_urls:
            notes.append(("WARNING", "urls were left out of account: the hub's routes decide whom it reaches"))
        error = None
        if not self._reception.has_route(event):
            error = f"nobody is told of event {event.id}: no [[route]] takes it; autoglm route test says why"
            notes.append(("ERROR", error))
        _answer(exchange, event, notes, error, wants_json=_wants_json(exchange, content_type))


def _answer(
    exchange: Exchange, event: Event, notes: Sequence[tuple[str, str]], error: str | None, *, wants_json: bool
) -> None:
    status = 200 if error is None else _FAILED_DEPENDENCY
    if wants_json:
        time = strftime("%Y-%m-%d %H:%M:%S", gmtime(event.timestamp / 1000))
        details = [[level, time, words] for level, words in notes]
        exchange.respond_json(status, Notified(error=error, details=details, id=event.id))
    else:
        text = "".join(f"{level}: {words}\n" for level, words in notes)
        exchange.respond(status, text.encode(), [(b"content-type", b"text/plain; charset=utf-8")])


def _wants_json(exchange: Exchange, content_type: str) -> bool:
    """As Apprise: what `Accept` says first; where that says nothing, as the request is."""
    accept = _header(exchange, b"accept").strip()
    return is_json(accept) or (accept in ("", "*/*") and is_json(content_type))


def _header(exchange: Exchange, name: bytes) -> str:
    return exchange.headers.get(name, b"").decode("latin-1")
