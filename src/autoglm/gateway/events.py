"""`/api/events`: one event in, routed to whom it concerns. `/api/routes/test`: where would it go? `/api/silences`."""

from typing import Literal

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.principal import Principal, labels_of
from autoglm.channels.routes.decision import Decision
from autoglm.channels.routes.event import Event, decode_event
from autoglm.channels.routes.notices import told_text
from autoglm.channels.routes.notifier import EventSummary, Notifier
from autoglm.channels.routes.settings import RouteSettings
from autoglm.channels.routes.silences import NewSilence, Silence
from autoglm.core.clock import now_ms
from autoglm.core.errors import Draining, NotFound
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.messages import MAX_WAIT_S
from autoglm.gateway.router import Route

MAX_EVENTS = 200


NobodyTold = Literal["", "no-route", "silenced", "inhibited"]


class AcceptedEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The event is on disk."""

    id: str
    seq: int
    warning: NobodyTold = ""
    """Why nobody is told, as things are; left out where somebody is."""


class Destination(msgspec.Struct, frozen=True):
    to: str
    reason: str


class LaterStep(msgspec.Struct, frozen=True):
    after_s: float
    unless: Literal["sent", "delivered", "read", "acknowledged"]
    to: tuple[str, ...]


class RouteTrial(msgspec.Struct, frozen=True, kw_only=True):
    """What one route would do with an event."""

    route: str
    matches: bool
    reason: str
    to: list[Destination] = []
    then: list[LaterStep] = []
    repeat_s: float | None = None
    group_wait_s: float = 0.0
    title: str = ""
    text: str = ""
    """As it would read, in Chinese where a template asks for the language."""
    template_error: str = ""
    """Why the text is not the template's."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event would go now, and why. Nothing was sent."""

    routes: list[RouteTrial]
    """Those that were asked, in their order."""
    silenced_by: str
    inhibited_by: str


class EventList(msgspec.Struct, frozen=True):
    events: list[EventSummary]


class SilenceList(msgspec.Struct, frozen=True):
    silences: list[Silence]


class EventsGateway:
    def __init__(self, auth: Authenticator, notifier: Notifier, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._notifier = notifier
        self._max_body_bytes = max_body_bytes
        self.is_draining = False

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/events", self.post),
            Route("GET", "/api/events", self.all),
            Route("GET", "/api/events/{id}", self.get),
            Route("POST", "/api/events/{id}/ack", self.acknowledge),
            Route("POST", "/api/routes/test", self.test),
            Route("GET", "/api/silences", self.silences),
            Route("POST", "/api/silences", self.silence),
            Route("DELETE", "/api/silences/{id}", self.end_silence),
        ]

    async def post(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        if self.is_draining:
            raise Draining
        event = decode_event(await exchange.body(self._max_body_bytes))
        labels = labels_of(event.kind, event.labels)
        principal.require("send:message", event.from_ or principal.address, labels, about=event.to or "")
        event = msgspec.structs.replace(event, from_=event.from_ or principal.address)
        sent = await self._notifier.submit(event, sender=principal.address)
        warning = _warning(event, self._notifier.decide(event))
        exchange.respond_json(202 if sent.is_new else 200, AcceptedEvent(id=sent.id, seq=sent.seq, warning=warning))

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "alarms")
        query = exchange.query()
        fields.only(query, ("limit",))
        limit = fields.integer(query, "limit", 20, low=1, high=MAX_EVENTS)
        exchange.respond_json(200, EventList(await self._notifier.recent(limit)))

    async def get(self, exchange: Exchange, variables: dict[str, str]) -> None:
        event = await self._visible(exchange.identify(self._auth), variables["id"])
        query = exchange.query()
        fields.only(query, ("wait",))
        wait_s = fields.seconds(query, "wait", high=MAX_WAIT_S)
        if wait_s > 0 and not self.is_draining and not exchange.is_head:
            exchange.cancel_when_left()
            account = await self._notifier.wait_acknowledged(event.id, wait_s)
            exchange.check_still()
            exchange.respond_json(200, account)
        else:
            exchange.respond_json(200, await self._notifier.account(event.id))

    async def acknowledge(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """By the key's own address: an operator has noticed."""
        principal = exchange.identify(self._auth)
        event = await self._visible(principal, variables["id"])
        exchange.respond_json(200, await self._notifier.acknowledge(event.id, by=principal.address))

    async def _visible(self, principal: Principal, id: str) -> Event:
        """Raises NotFound also for an event of others."""
        event = await self._notifier.get(id)
        if not principal.decide("send:message", event.from_, labels_of(event.kind, event.labels)):
            raise NotFound("event", id[:128])
        return event

    async def test(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", "alarms")  # who is reached how is the people's own
        event = decode_event(await exchange.body(self._max_body_bytes))
        event = msgspec.structs.replace(
            event, from_=event.from_ or principal.address, timestamp=event.timestamp or now_ms(), id=event.id or "test"
        )
        decision = self._notifier.decide(event)
        trials = [
            self._trial(self._notifier.route(account.route), event, account.reason)
            if account.matches
            else RouteTrial(route=account.route, matches=False, reason=account.reason)
            for account in decision.accounts
        ]
        exchange.respond_json(
            200, Trial(routes=trials, silenced_by=decision.silenced_by, inhibited_by=decision.inhibited_by)
        )  # fmt: skip

    def _trial(self, route: RouteSettings, event: Event, reason: str) -> RouteTrial:
        title, text, template_error = told_text(route, [event], "zh")
        return RouteTrial(
            route=route.name, matches=True, reason=reason, title=title, text=text, repeat_s=route.repeat_s,
            to=[Destination(to, why) for to, why in self._notifier.addresses(route, event)],
            then=[LaterStep(step.after_s, step.unless, step.to) for step in route.then],
            group_wait_s=route.group_wait_s, template_error=template_error,
        )  # fmt: skip

    async def silences(self, exchange: Exchange, _: dict[str, str]) -> None:
        """For those who may see all events: a silence tells of what is watched, and who looks after it."""
        exchange.identify(self._auth).require("admin", "alarms")
        exchange.respond_json(200, SilenceList(self._notifier.silences.all()))

    async def silence(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", "alarms")
        new = fields.decode(await exchange.body(self._max_body_bytes), NewSilence)
        silence = await self._notifier.silences.add(new, by=principal.address)
        exchange.acted_on = silence.id
        exchange.respond_json(200, silence)

    async def end_silence(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "alarms")
        await self._notifier.silences.end(variables["id"])
        exchange.respond(204, b"")


def _warning(event: Event, decision: Decision) -> NobodyTold:
    if decision.routes or event.state == "resolved":  # an end goes to those who heard of the alert
        return ""
    if not any(account.matches for account in decision.accounts):
        return "no-route"
    return "silenced" if decision.silenced_by else "inhibited"
