"""`/api/groups`: one address for many."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.channels.groups import MAX_MEMBERS, Group, Groups
from autoglm.core.address import MAX_ADDRESS, MEMBER_PATTERN
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route

_member = {"pattern": MEMBER_PATTERN, "examples": ["user:alice"]}
Member = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ADDRESS, extra_json_schema=_member)]


class GroupBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    members: Annotated[list[Member], msgspec.Meta(max_length=MAX_MEMBERS)]
    """Addresses of users and devices."""


class GroupList(msgspec.Struct, frozen=True):
    groups: list[Group]


class GroupsGateway:
    def __init__(self, auth: Authenticator, groups: Groups, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._groups = groups
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/groups", self.all),
            Route("GET", "/api/groups/{name}", self.get),
            Route("PUT", "/api/groups/{name}", self.put),
            Route("DELETE", "/api/groups/{name}", self.delete),
        ]

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        """The groups whose messages the key may read."""
        principal = exchange.identify(self._auth)
        groups = [group for group in self._groups.all() if principal.allows("read:message", f"group:{group.name}")]
        exchange.respond_json(200, GroupList(groups))

    async def get(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("read:message", f"group:{variables['name']}")
        exchange.respond_json(200, self._groups.get(variables["name"]))

    async def put(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "groups")
        body = fields.decode(await exchange.body(self._max_body_bytes), GroupBody)
        exchange.respond_json(200, await self._groups.put(variables["name"], body.members))

    async def delete(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "groups")
        await self._groups.delete(variables["name"])
        exchange.respond(204, b"")
