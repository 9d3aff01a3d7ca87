"""Settings of the channels: `[[channel]]`, whose kind decides on further ones, and `[outbox]`."""

import re
from datetime import time
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from autoglm.channels.kinds import KINDS, settings_of
from autoglm.core.address import MAX_ADDRESS, check_address
from autoglm.core.errors import InvalidField, did_you_mean

CHANNEL_NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
"""As in an address: `channel:NAME/TARGET`."""
CLOCK_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d$"


def check_zone(zone: str) -> str:
    """Raises ValueError when there is no such time zone."""
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{zone!r} is no time zone such as 'Asia/Shanghai'") from None
    return zone


Zone = Annotated[str, AfterValidator(check_zone)]
"""A time zone by its IANA name."""


def is_url(url: str, *schemes: str) -> bool:
    """Whether a connection could be asked for: a scheme of these, a host that DNS could know, a port from 1 on."""
    try:
        place = urlsplit(url)
        has_host = bool((place.hostname or "").encode("idna"))  # no empty or long label
        return place.scheme in schemes and has_host and place.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # a port that is no number, or over 65,535; brackets without an address
        return False


def check_url(url: str) -> str:
    """Raises ValueError, which does not show it, when no request can go there."""
    if not is_url(url, "http", "https"):
        raise ValueError("must be an address such as https://erp.example/hooks, with a port of 1 to 65535 if any")
    return url


def check_base_url(url: str) -> str:
    """Without the slash at its end. Raises ValueError, which does not show it, when no path can be put behind it."""
    if set("?#@") & set(check_url(url)):
        raise ValueError("must have no user name, ? or #: paths are put behind it")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(check_base_url)]
"""Of a vendor's interface, or of a proxy before it."""


class LocalHours(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A time of the day."""

    from_: str = Field(alias="from", pattern=CLOCK_PATTERN)
    """Local time, such as "22:00"."""
    to: str = Field(pattern=CLOCK_PATTERN)
    """Local time, such as "07:00"; at or before `from` it is on the next day."""
    zone: Zone = "Asia/Shanghai"
    """Time zone by its IANA name."""

    @property
    def begins(self) -> time:
        return time.fromisoformat(self.from_)

    @property
    def ends(self) -> time:
        return time.fromisoformat(self.to)


class QuietHours(LocalHours, frozen=True):
    """When a channel is silent. What comes meanwhile waits."""

    from_priority: int = Field(default=8, ge=0, le=10)
    """Messages of this priority and above go out all the same; 10: none does."""


class ChannelSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[channel]]`: what every kind has. Each adapter's own settings derive from it."""

    name: str = Field(min_length=1, max_length=64, pattern=CHANNEL_NAME_PATTERN)
    """Unique name; the channel's addresses are channel:NAME/TARGET."""
    kind: str
    """What it speaks, such as wecom-robot; one of the kinds below."""
    per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """Requests in any minute to one target (to all, for an account); the vendor's own limit when absent."""
    overflow: Literal["digest", "wait"] = "digest"
    """What happens with messages beyond the limit: digest sums them up in one message, wait lets each wait."""
    on_doubt: Literal["retry", "fail"] = "retry"
    """When a request went out and no answer came: retry may deliver it twice, fail never does, and says so."""
    give_up_after_s: float = Field(default=259_200.0, ge=1.0, le=2_592_000.0)
    """A message that could not be delivered for so long goes to the dead letters."""
    quiet: QuietHours | None = None
    """When nothing but urgent messages goes out."""

    incoming_to: str = Field(default="model:auto", min_length=1, max_length=MAX_ADDRESS)
    """Where messages go that come in by this channel, when they answer none: an address."""
    senders: tuple[str, ...] = Field(default=(), max_length=10_000)
    """Whose messages are taken, by the name that the channel has for them; may end in *. Nobody's when empty."""

    @field_validator("incoming_to")
    @classmethod
    def _is_address(cls, address: str) -> str:
        try:
            check_address(address, field="incoming_to")
        except InvalidField as error:
            raise ValueError(str(error)) from None
        return address

    def knows(self, sender: str) -> bool:
        """Whether `senders` names it. sender: as in channel:NAME/SENDER."""
        return any(
            sender.startswith(known.removesuffix("*")) if known.endswith("*") else sender == known
            for known in self.senders
        )

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """A `[[channel]]` of the file becomes what its kind says."""
        return cast(Self, parse_channel(value)) if cls is ChannelSettings else handler(value)


class OutboxSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How what goes out is tried again."""

    first_retry_s: float = Field(default=5.0, gt=0.0, le=3600.0)
    """Pause before the second attempt at a message, doubled for each further one; each pause is drawn at random
    between half of it and all of it."""
    max_retry_s: float = Field(default=900.0, gt=0.0, le=86_400.0)
    """Longest pause between two attempts."""
    attempt_timeout_s: float = Field(default=30.0, gt=0.0, le=600.0)
    """An attempt that takes longer is given up, and is in doubt; for each 16 KiB of files it may take a second more."""


def parse_channel(value: object) -> ChannelSettings:
    """One `[[channel]]`, by its kind. Raises ValidationError."""
    if isinstance(value, ChannelSettings):
        return value
    if not isinstance(value, dict):
        raise _wrong("", "must be a table: [[channel]]", value)
    kind = value.get("kind")
    if not isinstance(kind, str):
        raise _wrong("kind", f"is needed: one of {', '.join(KINDS)}", kind)
    model = settings_of(kind)
    if model is None:
        raise _wrong(
            "kind",
            f"there is no kind {kind!r}.{did_you_mean(kind, list(KINDS))} Known: {', '.join(sorted(KINDS))}",
            kind,
        )
    return model.model_validate(value)


def _wrong(field: str, reason: str, value: Any) -> ValidationError:
    details: InitErrorDetails = {
        "type": "value_error",
        "loc": (field,),
        "input": value,
        "ctx": {"error": ValueError(reason)},
    }
    return ValidationError.from_exception_data("channel", [details])


is_channel_name = re.compile(CHANNEL_NAME_PATTERN).fullmatch
