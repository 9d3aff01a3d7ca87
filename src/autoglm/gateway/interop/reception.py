"""What the calls of all these clients have in common: a key, an event, and errors in a form that they read."""

from collections.abc import Callable, Iterable

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.principal import Principal, labels_of
from autoglm.channels.routes.event import Event, decode_event
from autoglm.channels.routes.notifier import Notifier
from autoglm.core.clock import now_ms
from autoglm.core.errors import HubError
from autoglm.core.ids import uuid7
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.interop.credentials import identify
from autoglm.gateway.router import Handler

ALARM_PRIORITY = 7
"""From here on it is an alarm to policies: `high` of ntfy, `warning` of Apprise, and what is above."""
_encode = msgspec.json.Encoder().encode


class Reception:
    def __init__(self, auth: Authenticator, notifier: Notifier, check_open: Callable[[], None]) -> None:
        """check_open: raises Draining once the shutdown has begun."""
        self._auth = auth
        self._notifier = notifier
        self._check_open = check_open

    def identify(self, exchange: Exchange) -> tuple[Principal, dict[str, str]]:
        """Who calls, and the query. Raises Unauthorized, RateLimited, Draining, InvalidField."""
        query = exchange.query()
        principal = identify(exchange, self._auth, query)
        self._check_open()
        return principal, query

    def check_may(self, event: Event, principal: Principal) -> None:
        """Policies see what it says as in an event of the hub's own form. Raises Forbidden."""
        # Their own clients have no word for an alarm, only for how urgent something is.
        kind = "alert" if event.priority >= ALARM_PRIORITY else event.kind
        principal.require("send:message", principal.address, labels_of(kind, event.labels))

    async def submit(self, event: Event, principal: Principal) -> Event:
        """The event as it was stored, with its id. Raises Forbidden, InvalidField, StorageFull, QueueFull."""
        self.check_may(event, principal)
        stamped = msgspec.structs.replace(event, id=uuid7(), from_=principal.address, timestamp=now_ms())
        checked = decode_event(_encode(stamped))  # by the same rules, and with the same words, as /api/events
        await self._notifier.submit(checked, sender=principal.address)
        return checked

    def has_route(self, event: Event) -> bool:
        """Whether a route takes the event; one that is silenced or inhibited would have been taken, too."""
        return any(account.matches for account in self._notifier.decide(event).accounts)


def telling(handler: Handler) -> Handler:
    """Problems also have the member `error`, where the clients of ntfy and Apprise look for the reason."""

    async def handle(exchange: Exchange, variables: dict[str, str]) -> None:
        try:
            await handler(exchange, variables)
        except HubError as error:
            error.facts["error"] = str(error)
            raise

    return handle


def labels_of_tags(tags: Iterable[str]) -> dict[str, str]:
    """`tags` has them all; each has a label of its own for routes to match."""
    names = list(dict.fromkeys(tags))
    return {"tags": ",".join(names)} | {f"tag:{name}": "yes" for name in names} if names else {}
