"""`PUT /{topic}`, `POST /{topic}`, `POST /` and `GET /{topic}/publish`: what is sent to ntfy may be sent to the hub."""

from functools import partial

import msgspec

from autoglm.auth.principal import Principal
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.interop.publication import Published, event_of, is_topic_in_path, of_body, of_json
from autoglm.gateway.interop.reception import Reception, telling
from autoglm.gateway.router import Route

_JSON = (b"content-type", b"application/json")
_NO_ROUTE = (b"x-autoglm-warning", b"no-route")
WORDS = ("publish", "send", "trigger")
_encode = msgspec.json.Encoder().encode


class NtfyGateway:
    def __init__(self, reception: Reception, *, max_body_bytes: int) -> None:
        self._reception = reception
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        topic_route = partial(Route, fits=is_topic_in_path)
        return [
            *(Route(method, "/", telling(self.publish_json)) for method in ("POST", "PUT")),
            *(topic_route(method, "/{name}", telling(self.publish)) for method in ("POST", "PUT")),
            *(topic_route("GET", f"/{{name}}/{word}", telling(self.trigger)) for word in WORDS),
        ]

    async def publish_json(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal, query = self._reception.identify(exchange)
        published = of_json(await exchange.body(self._max_body_bytes), exchange.headers, query)
        await self._submit(exchange, published, principal)

    async def publish(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal, query = self._reception.identify(exchange)
        body = await exchange.body(self._max_body_bytes)
        await self._submit(exchange, of_body(variables["name"], body, exchange.headers, query), principal)

    async def trigger(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """For programs that can only GET."""
        principal, query = self._reception.identify(exchange)
        published = of_body(variables["name"], b"", exchange.headers, query)
        if exchange.is_head:  # it changes nothing (RFC 9110, section 9.2.1)
            self._reception.check_may(event_of(published), principal)
            exchange.respond(200, b"", [_JSON])
        else:
            await self._submit(exchange, published, principal)

    async def _submit(self, exchange: Exchange, published: Published, principal: Principal) -> None:
        event = await self._reception.submit(event_of(published), principal)
        answer = msgspec.structs.replace(published, id=event.id, time=event.timestamp // 1000)
        # As ntfy, which says nothing of who listens; whoever looks for it finds a hint.
        hints = [] if self._reception.has_route(event) else [_NO_ROUTE]
        exchange.respond(200, _encode(answer), [_JSON, *hints])
