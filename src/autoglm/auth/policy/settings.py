"""Where the policy comes from, and what a hub does while it can have no newer one."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

_DAY_S = 86_400


class LadderSettings(BaseModel, frozen=True, extra="forbid"):
    """How long a policy goes on counting after its signed end, and what still goes when it does not."""

    warn_after_s: int = Field(default=0, ge=0, description="After its end: a warning in the log and the page")
    read_only_after_s: int = Field(default=14 * _DAY_S, ge=0, description="After its end: reading and alarms only")
    deny_after_s: int = Field(default=60 * _DAY_S, ge=0, description="After its end: nothing but a newer policy")
    read_actions: tuple[str, ...] = Field(
        default=("read:message", "read:sensor", "read:metrics", "read:audit", "subscribe:topic", "model:use"),
        description="What counts as reading; a model's answer is, for who has asked for one",
    )
    alarm_actions: tuple[str, ...] = Field(
        default=("send:message", "publish:topic"), description="What still goes for alarms while all else is read-only"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.warn_after_s <= self.read_only_after_s <= self.deny_after_s:
            raise ValueError("warn_after_s, read_only_after_s and deny_after_s must grow in this order")
        return self


class PolicySettings(LadderSettings, frozen=True, extra="forbid"):
    """`[policy]`: signed policy snapshots. Without a root there are none, and scopes decide alone."""

    root_file: Path | None = Field(default=None, description="The authority's root.json, from a hand that is trusted")
    source: str | None = Field(
        default=None, max_length=2000, description="An https address, or a folder or zip file, of the authority's"
    )
    refresh_s: float = Field(default=900.0, ge=1.0, le=_DAY_S, description="How often the source is asked")
    time_zone: str = Field(
        default="UTC", max_length=64, description="Of context.hour in policies, such as Asia/Shanghai"
    )

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone such as Asia/Shanghai") from error
        return name
