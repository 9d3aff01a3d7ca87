"""What the built-in roles may do, as scopes. Pure."""

from collections.abc import Iterable
from typing import Literal, get_args

Role = Literal["admin", "operator", "auditor", "member", "observer"]
ROLES: tuple[Role, ...] = get_args(Role)

_SELF = "SELF"
_SCOPES: dict[Role, tuple[str, ...]] = {
    "admin": ("admin:*",),
    "operator": (
        "admin:channels", "admin:devices", "admin:pool", "read:metrics", "model:use:*", f"send:message:user:{_SELF}",
        f"read:message:user:{_SELF}",
    ),
    # No admin: whoever reads what happened should have no hand in it.
    "auditor": ("read:audit", "read:metrics", f"read:message:user:{_SELF}"),
    "member": ("model:use:*", f"send:message:user:{_SELF}", f"read:message:user:{_SELF}"),
    "observer": ("read:metrics", f"read:message:user:{_SELF}"),
}  # fmt: skip


def scopes_of(roles: Iterable[Role], name: str) -> tuple[str, ...]:
    """The scopes of all these roles for the person `name` (see accounts.normal_name), each once, sorted.

    A name has no `*`, which would make one's own address a pattern.
    """
    return tuple(sorted({scope.replace(_SELF, name) for role in roles for scope in _SCOPES[role]}))
