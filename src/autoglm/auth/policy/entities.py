"""Addresses, models and topics as Cedar's entities: `user:alice` is User::"alice"."""

from collections.abc import Iterable
from typing import NamedTuple

ACTION_GROUPS = {
    "read:message": "read", "read:sensor": "read", "read:metrics": "read", "read:audit": "read",
    "subscribe:topic": "read", "send:message": "write", "publish:topic": "write",
}  # fmt: skip
"""As in schema.cedarschema; a test compares them."""
_BY_SCHEME = {
    "user": "User", "device": "Device", "group": "Group", "model": "Model", "channel": "Channel", "site": "Site",
}  # fmt: skip
_BY_ACTION = {
    "model:use": "Model", "publish:topic": "Topic", "subscribe:topic": "Topic", "read:sensor": "Sensor",
    "tenant": "Tenant", "admin": "Area",
}  # fmt: skip


class Uid(NamedTuple):
    type: str
    id: str

    def as_json(self) -> dict[str, str]:
        return {"type": self.type, "id": self.id}


HUB = Uid("Hub", "hub")
"""What an action is on that names nothing."""


class Entity(NamedTuple):
    """parents: all of them, those of parents as well."""

    uid: Uid
    parents: frozenset[Uid]

    def as_json(self) -> dict[str, object]:
        return {
            "uid": self.uid.as_json(),
            "attrs": {},
            "parents": [parent.as_json() for parent in sorted(self.parents)],
        }


def principal_of(address: str, groups: Iterable[str], roles: Iterable[str]) -> Entity:
    uid = _of_address(address)
    above = {*_sites(uid), *map(_of_address, groups), *(Uid("Role", role) for role in roles)}
    return Entity(uid, frozenset(above - {uid}))


def resource_of(action: str, resource: str, groups: Iterable[str]) -> Entity:
    """groups: of the resource, where that is an address."""
    if not resource:
        return Entity(HUB, frozenset())
    if action in _BY_ACTION:
        return Entity(Uid(_BY_ACTION[action], resource), frozenset())
    uid = _of_address(resource)
    return Entity(uid, frozenset({*_sites(uid), *map(_of_address, groups)} - {uid}))


def action_of(action: str) -> Entity:
    group = ACTION_GROUPS.get(action)
    return Entity(Uid("Action", action), frozenset({Uid("Action", group)}) if group else frozenset())


def _of_address(address: str) -> Uid:
    scheme, colon, name = address.partition(":")
    kind = _BY_SCHEME.get(scheme) if colon else None
    return Uid(kind, name) if kind else Uid("Hub", address)  # of no type that a policy could name


def _sites(uid: Uid) -> Iterable[Uid]:
    """`site:north/user:bob` is in Site::"north"."""
    name, slash, _ = uid.id.partition("/")
    return (Uid("Site", name),) if uid.type == "Site" and slash else ()
