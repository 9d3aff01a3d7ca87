"""Groups: one address for many. A message to a group reaches those who are members when it is sent."""

import shlex
from urllib.parse import quote

import msgspec

from autoglm.core.address import is_group_name, parse_address
from autoglm.core.errors import InvalidField, NotFound
from autoglm.core.ports import KeyValue

_PREFIX = "group/"
_NAME_RULE = "a group's name has 1 to 64 characters without blanks, slashes and invisible ones, and is not '.' or '..'"
MAX_MEMBERS = 5_000


class Group(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    members: tuple[str, ...]


class Groups:
    """Kept in the store; read from memory once they are loaded by `open`."""

    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue
        self._groups: dict[str, Group] = {}

    async def open(self) -> None:
        for entry in await self._keyvalue.list(_PREFIX):
            group = msgspec.json.decode(entry.value, type=Group)
            self._groups[group.name] = group

    def all(self) -> list[Group]:
        return sorted(self._groups.values(), key=lambda group: group.name)

    def get(self, name: str) -> Group:
        """Raises NotFound."""
        group = self._groups.get(name)
        if group is None:
            raise NotFound("group", name)
        return group

    def has_member(self, name: str, address: str) -> bool:
        group = self._groups.get(name)
        return group is not None and address in group.members

    async def put(self, name: str, members: list[str]) -> Group:
        """Make or replace a group. Raises InvalidField: members are users and devices, at most 5,000."""
        if is_group_name(name) is None:
            raise InvalidField("name", _NAME_RULE)
        if len(members) > MAX_MEMBERS:
            raise InvalidField("members", f"a group has at most {MAX_MEMBERS} members")
        for index, member in enumerate(members):
            if parse_address(member, field=f"members[{index}]").scheme not in ("user", "device"):
                raise InvalidField(f"members[{index}]", f"{member!r} is neither a user nor a device")
        group = Group(name=name, members=tuple(dict.fromkeys(members)))
        await self._keyvalue.put(_PREFIX + name, msgspec.json.encode(group))
        self._groups[name] = group
        return group

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        self.get(name)
        await self._keyvalue.delete(_PREFIX + name)
        self._groups.pop(name, None)  # another may have deleted it meanwhile


def how_to_make(name: str) -> str:
    """What somebody can do who found no group of this name."""
    if is_group_name(name) is None:
        return _NAME_RULE
    no_option = "-- " if name.startswith("-") else ""
    words = f"autoglm groups set {no_option}{shlex.quote(name)} MEMBER..."
    return f"'{words}' makes it, or PUT /api/groups/{quote(name, safe='')}"
