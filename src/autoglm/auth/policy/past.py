"""What was decided before: lines of the audit's export, or lines that somebody wrote by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from autoglm.auth.audit.entry import read_entry
from autoglm.auth.audit.line import from_line
from autoglm.auth.audit.rejudge import operation_of
from autoglm.auth.policy.snapshot import MAX_TIME_MS
from autoglm.auth.scopes import ACTIONS
from autoglm.core.errors import PolicyRefused

_MAX_LINE_BYTES = 64 << 10
_BY_RULES = frozenset({"no_scope", "forbidden", "not_permitted", "policy_error"})
"""The reasons of a refusal that another policy can turn around."""

Gap = Literal["erased", "no_scope_recorded", "other_cause", "time_unsure"]
"""Why a decision cannot be judged. erased: whose it was is gone, or was not exported. no_scope_recorded: the right by
which he did it is not known, and it depends on that. other_cause: it was refused for a revocation, an old policy or a
clock that was not believed. time_unsure: a sum of equal ones, of which the draft refuses some."""
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS)]


class PastDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One, or the sum of equal ones. It is an `Asker`."""

    address: str
    action: str
    resource: str
    about: str = ""
    """What policies look at, where scopes look at the resource."""
    allowed: bool
    credential: str
    token: tuple[str, ...] = ()
    scopes: tuple[str, ...]
    knows_scopes: bool = True
    """False: he had a right to it, by a scope or by a role, and nobody wrote down which."""
    may_be_limited: bool = False
    """By a token of another hub, which says what he may do here at most: roles give no more. Nobody wrote it down."""
    labels: frozenset[str]
    """Plain, or the digests of an entry."""
    begins_ms: int
    ends_ms: int
    count: int = 1
    is_offline: bool = False
    is_clock_trusted: bool = True
    policy_version: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """All by which whoever did it could be revoked: whoever is of a site goes with it."""
        site = (self.address.partition("/")[0],) if self.address.startswith("site:") else ()
        return (self.address, self.credential, *self.token, *site)


class Unjudged(msgspec.Struct, frozen=True):
    """So many of which nobody can say what the draft would make of them."""

    why: Gap
    count: int


class _Form(msgspec.Struct):
    """Tells the audit's lines from others."""

    entry: msgspec.Raw = msgspec.Raw()


class _Flat(msgspec.Struct, frozen=True, kw_only=True):
    """A line by hand; what else stands in it is left out. scopes: all that he had."""

    address: str
    action: str
    allowed: bool
    at_ms: _Time
    resource: str = ""
    credential: str = ""
    scopes: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()


_decode_form = msgspec.json.Decoder(_Form).decode
_decode_flat = msgspec.json.Decoder(_Flat).decode


def read_decisions(file: Path) -> Iterator[PastDecision | Unjudged]:
    """One JSON object a line; entries that are no decisions about scopes are left out.

    What an entry says is not verified: `autoglm audit verify` does that. Raises PolicyRefused, naming the line.
    """
    number = 0
    try:
        with file.open("rb") as lines:
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                if line.strip() and (found := _decision(line)) is not None:
                    yield found
    except OSError as error:
        raise PolicyRefused(str(file), f"it cannot be read: {error.strerror}") from error
    except ValueError as error:  # msgspec's and those of no UTF-8 are some
        raise PolicyRefused(f"{file}, line {number}", str(error)) from error


def _decision(line: bytes) -> PastDecision | Unjudged | None:
    if bytes(_decode_form(line).entry):
        return _of_entry(line)
    flat = _decode_flat(line)
    return PastDecision(
        address=flat.address, action=flat.action, resource=flat.resource, allowed=flat.allowed,
        credential=flat.credential, scopes=flat.scopes, labels=flat.labels, begins_ms=flat.at_ms, ends_ms=flat.at_ms,
    )  # fmt: skip


def _of_entry(line: bytes) -> PastDecision | Unjudged | None:
    row = from_line(line)
    if row.kind != "decision" or row.action not in ACTIONS:
        return None
    entry, was = read_entry(row.body), operation_of(row)
    if was is None:
        return Unjudged("erased", entry.count)
    if not was.address:
        return None  # a stranger, of whom no policy speaks
    if not (0 <= was.begins_ms <= MAX_TIME_MS and 0 <= was.ends_ms <= MAX_TIME_MS):
        raise ValueError("its time is out of range")
    is_allowed = entry.outcome == "allowed"
    if not is_allowed and entry.reason not in _BY_RULES:
        return Unjudged("other_cause", entry.count)
    # Where no scope covered it he had none that matters, and where a role did, no scope of his own.
    knows_scopes = bool(was.scope or was.role) or (not is_allowed and entry.reason == "no_scope")
    if not knows_scopes and is_allowed:
        return Unjudged("no_scope_recorded", entry.count)  # what everybody may do with what is his: no policy is asked
    return PastDecision(
        address=was.address, action=was.action, resource=was.resource, about=was.about, allowed=is_allowed,
        credential=was.credential, token=was.token, scopes=(was.scope,) if was.scope else (),
        knows_scopes=knows_scopes, may_be_limited=bool(was.token) or was.address.startswith("site:"),
        labels=was.labels, begins_ms=was.begins_ms, ends_ms=was.ends_ms, count=was.count,
        is_offline=was.is_offline, is_clock_trusted=was.is_clock_trusted, policy_version=was.policy_version,
    )  # fmt: skip
