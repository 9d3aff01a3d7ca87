"""Settings of the routes: `[[route]]`, `[[inhibit]]` and `[[person]]`."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator

from autoglm.channels.settings import CLOCK_PATTERN, LocalHours, QuietHours
from autoglm.core.address import MEMBER_PATTERN, check_address
from autoglm.core.errors import InvalidField

Reached = Literal["sent", "delivered", "read", "acknowledged"]
ROUTE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_MAX_TEXT = 20_000


class Hours(LocalHours, frozen=True):
    """A time of the day, on some days of the week."""

    from_: str = Field(alias="from", default="00:00", pattern=CLOCK_PATTERN)
    """Local time, such as "22:00"."""
    to: str = Field(default="00:00", pattern=CLOCK_PATTERN)
    """Local time; at or before `from` it is on the next day."""
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    """On which days it begins; every day when empty."""


def _checked(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        try:
            check_address(address)
        except InvalidField as error:
            raise ValueError(str(error)) from None
    return addresses


class Match(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What an event must be like. All that is given has to hold; nothing given matches every event."""

    kinds: tuple[Literal["event", "alert", "log"], ...] = ()
    """One of these."""
    labels: dict[str, str] = {}
    """Each label's value; `*` stands for anything, a leading `!` for its opposite, "" for a label that is absent."""
    min_priority: int = Field(default=0, ge=0, le=9)
    """At least so urgent."""
    senders: tuple[str, ...] = ()
    """One of these addresses, in which `*` stands for anything."""
    addressees: tuple[str, ...] = ()
    """Whom the event names, one of these, in which `*` stands for anything."""
    hours: Hours | None = None
    """When it comes."""


class Step(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[route.then]]`: what follows when the event has not reached anybody so far."""

    after_s: float = Field(gt=0, le=2_592_000)
    """Seconds after the route's first message; at once when all messages so far have failed."""
    unless: Reached = "acknowledged"
    """Not when one of the messages so far was sent, delivered, read or acknowledged."""
    to: tuple[str, ...] = Field(min_length=1, max_length=100)
    """Addresses."""

    @field_validator("to")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(addresses)


class RouteSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[route]]`: where events go. Routes are asked in their order."""

    name: str = Field(min_length=1, max_length=64, pattern=ROUTE_NAME_PATTERN)
    """Unique name."""
    match: Match = Match()
    """Which events."""
    to: tuple[str, ...] = Field(default=(), max_length=100)
    """Addresses; none: the event goes nowhere by this route, and no further one is asked."""
    to_addressee: bool = False
    """Also to whom the event itself names."""
    goes_on: bool = False
    """Whether later routes are asked, too, when this one matches."""
    then: tuple[Step, ...] = Field(default=(), max_length=20)
    """Fallback and escalation, in the order of their times."""
    repeat_s: float | None = Field(default=None, ge=1, le=2_592_000)
    """The last message again after so many seconds, until somebody acknowledges."""
    repeat_times: int = Field(default=10, ge=1, le=1000)
    """At most so often."""
    group_by: tuple[str, ...] = Field(default=(), max_length=20)
    """Events with equal values of these labels go in one message; with no label all events of the route."""
    group_wait_s: float = Field(default=0.0, ge=0, le=86_400)
    """How long the first event of a group waits for others: an hour makes a digest of the hour."""
    tells_resolved: bool = True
    """Whether those who got an alert also hear that it is over."""
    template: str | None = Field(default=None, max_length=_MAX_TEXT)
    """The text, as a Jinja2 template; the event's own when absent."""
    title: str | None = Field(default=None, max_length=1000)
    """The title, as a Jinja2 template, for channels that have one."""
    priority: int | None = Field(default=None, ge=0, le=9)
    """Of the messages; the event's own when absent."""

    @field_validator("to")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(addresses)


class InhibitSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[inhibit]]`: while one alert fires, others say nothing new."""

    name: str = Field(min_length=1, max_length=64, pattern=ROUTE_NAME_PATTERN)
    """Unique name."""
    while_: Match = Field(alias="while")
    """An alert like this fires."""
    mute: Match
    """Events like this go nowhere."""
    equal: tuple[str, ...] = ()
    """Only where both have equal values of these labels."""


class Reach(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[person.reach]]`: one way to a person."""

    by: str
    """An address, such as channel:wecom-app/alice."""
    from_priority: int = Field(default=0, ge=0, le=9)
    """Only for what is at least so urgent."""

    @field_validator("by")
    @classmethod
    def _is_address(cls, address: str) -> str:
        return _checked((address,))[0]


class PersonSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[person]]`: how somebody wants to be reached, wherever an event goes to this address."""

    address: str = Field(pattern=MEMBER_PATTERN)
    """Such as user:alice; what goes to a group reaches its members so, too."""
    reach: tuple[Reach, ...] = Field(default=(), max_length=20)
    """Ways to the person, beside the mailbox."""
    language: Literal["zh", "en"] = "zh"
    """For templates: `person.language`."""
    quiet: QuietHours | None = None
    """When only the mailbox gets what is less urgent."""
    mutes: tuple[Match, ...] = Field(default=(), max_length=100)
    """What this person does not want; the mailbox has it all the same."""
