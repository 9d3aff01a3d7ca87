"""Scopes: what somebody may do, as `ACTION` or `ACTION:PATTERN`, such as `model:use:glm-*`.

A pattern is a name, or its beginning and `*`. Without a pattern an action is allowed on everything, and `admin:*`
allows all actions. Actions are a closed set, so that a misspelt scope is an error, not a right that waits.
"""

import re
from collections.abc import Iterable

AREAS = (
    "alarms", "audit", "budgets", "channels", "clock", "devices", "engine", "groups", "intents", "keys", "people",
    "policy", "pool", "tasks",
)  # fmt: skip
"""What `admin:AREA` is for: the parts of a hub that are administered apart."""
ACTIONS = frozenset({
    "admin", "model:use", "publish:topic", "read:audit", "read:message", "read:metrics", "read:sensor", "send:message",
    "subscribe:topic", "tenant",
})  # fmt: skip
"""What scopes are about; all else that is written down is what came of it."""
ALL = "admin:*"
_PATTERN = r"(?=\S)[^\s*]*\*?"
_is_scope = re.compile(
    rf"admin:(?:\*|{'|'.join(AREAS)})|read:(?:metrics|audit)|(?:model:use|tenant):{_PATTERN}"
    rf"|(?:(?:send|read):message|(?:publish|subscribe):topic|read:sensor)(?::{_PATTERN})?"
).fullmatch
FORMS = (
    "admin:*, admin:AREA, model:use:NAME, send:message[:FROM], read:message[:TO], publish:topic[:TOPIC], "
    "subscribe:topic[:TOPIC], read:sensor[:NAME], read:metrics, read:audit, tenant:NAME"
)
MAX_SCOPES = 100


def flaw(scopes: Iterable[str]) -> str | None:
    """What is wrong with the first that is no scope; None where all are."""
    for scope in scopes:
        if len(scope) > 512 or _is_scope(scope) is None:
            return f"unknown scope {scope[:100]!r}; there are {FORMS}; AREA is one of {', '.join(AREAS)}"
    return None


def covers(scope: str, action: str, resource: str = "") -> bool:
    """Whether who has `scope` may do `action` (such as `model:use`) on `resource` (such as `glm-4`)."""
    if scope in (ALL, action):
        return True
    if not scope.startswith(action + ":"):
        return False
    pattern = scope[len(action) + 1 :]
    return resource.startswith(pattern[:-1]) if pattern.endswith("*") else resource == pattern


def covering(scopes: Iterable[str], action: str, resource: str = "") -> str:
    """The first that covers it; empty where none does."""
    return next((scope for scope in scopes if covers(scope, action, resource)), "")


def any_covers(scopes: Iterable[str], action: str, resource: str = "") -> bool:
    return any(covers(scope, action, resource) for scope in scopes)


def is_within(scope: str, granted: Iterable[str]) -> bool:
    """Whether `granted` allows all that `scope` does, so that its holder may pass that on.

    Of a pattern: only by one that covers everything the pattern does.
    """
    return any(_is_narrower(scope, wider) for wider in granted)


def common(scopes: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """What both allow. Exact: of two scopes that allow something in common, one allows all that the other does."""
    others = tuple(others)
    found = [
        one if _is_narrower(one, other) else other
        for one in scopes
        for other in others
        if _is_narrower(one, other) or _is_narrower(other, one)
    ]
    return tuple(dict.fromkeys(found))


def _is_narrower(scope: str, wider: str) -> bool:
    if wider in (ALL, scope):
        return True
    if scope == ALL:
        return False
    if wider.endswith("*"):
        return scope.startswith(wider[:-1])  # scope may end in * itself: what is before it begins with the wider's
    return scope.startswith(wider + ":") and wider.count(":") == 1
