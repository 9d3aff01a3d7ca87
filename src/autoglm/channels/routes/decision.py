"""Where an event goes, and why: pure, so that `autoglm route test` says what would happen."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from autoglm.channels.outbox.quiet import quiet_for_s
from autoglm.channels.routes.event import Event
from autoglm.channels.routes.matching import mismatch
from autoglm.channels.routes.settings import InhibitSettings, PersonSettings, RouteSettings
from autoglm.channels.routes.silences import Silence

Members = Callable[[str], Sequence[str]]
"""The members of a group; none for a group that there is not."""


class RouteAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What one route makes of an event."""

    route: str
    matches: bool
    reason: str
    """Why not, in words for people; or what speaks for it."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    routes: tuple[str, ...]
    """Names of those that the event takes."""
    accounts: tuple[RouteAccount, ...]
    """Of each route that was asked, in order."""
    silenced_by: str = ""
    """The id of a silence."""
    inhibited_by: str = ""
    """The name of an `[[inhibit]]`."""


class Way(msgspec.Struct, frozen=True):
    """Where one message goes."""

    to: str
    person: str = ""
    """Whose way it is, where it is somebody's."""
    reason: str = ""


def decide(
    event: Event, routes: Sequence[RouteSettings], now_ms: int, *, silences: Iterable[Silence] = (),
    inhibits: Sequence[InhibitSettings] = (), firing: Iterable[Event] = (),
) -> Decision:  # fmt: skip
    """firing: the alerts that fire now. A resolved alert is not silenced: who heard the beginning hears the end."""
    taken: list[str] = []
    accounts: list[RouteAccount] = []
    for route in routes:
        reason = mismatch(route.match, event, now_ms)
        accounts.append(
            RouteAccount(route=route.name, matches=not reason, reason=reason or "all that it asks for holds")
        )
        if not reason:
            taken.append(route.name)
            if not route.goes_on:
                break
    silence = inhibit = ""
    if event.state == "firing":
        silence = next((one.id for one in silences if one.mutes(event, now_ms)), "")
        inhibit = next((one.name for one in inhibits if _inhibits(one, event, firing, now_ms)), "")
    routes_taken = () if silence or inhibit else tuple(taken)
    return Decision(routes=routes_taken, accounts=tuple(accounts), silenced_by=silence, inhibited_by=inhibit)


def _inhibits(inhibit: InhibitSettings, event: Event, firing: Iterable[Event], now_ms: int) -> bool:
    if mismatch(inhibit.mute, event, now_ms):
        return False
    return any(  # the cheapest first: thousands may fire
        all(alert.labels.get(name, "") == event.labels.get(name, "") for name in inhibit.equal)
        and (alert.labels != event.labels or alert.from_ != event.from_)  # not the alert itself
        and not mismatch(inhibit.while_, alert, now_ms)
        for alert in firing
    )


def ways(
    addresses: Iterable[str], event: Event, priority: int, *, people: dict[str, PersonSettings], members: Members,
    now_ms: int,
) -> list[Way]:  # fmt: skip
    """The messages for these addresses: people as they want to be reached, groups by their members, each way once."""
    found: dict[str, Way] = {}
    for address in addresses:
        found.setdefault(address, Way(address))
        reached = members(address.removeprefix("group:")) if address.startswith("group:") else (address,)
        for one in reached:
            if (person := people.get(one)) is not None:
                for way in _ways_to(person, event, priority, now_ms):
                    found.setdefault(way.to, way)
    return list(found.values())


def _ways_to(person: PersonSettings, event: Event, priority: int, now_ms: int) -> list[Way]:
    if any(not mismatch(mute, event, now_ms) for mute in person.mutes):
        return []
    quiet = person.quiet
    if quiet is not None and priority < quiet.from_priority and quiet_for_s(quiet, now_ms) > 0:
        return []
    return [
        Way(way.by, person.address, f"{person.address} is reached so from priority {way.from_priority}")
        for way in person.reach
        if priority >= way.from_priority
    ]
