"""`[[budget]]`: how much may be used in a period, and by whom."""

from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field, model_validator

from autoglm.inference.budget.period import Per


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a folder, a path that leaves the database, or nothing
        raise ValueError(f"{name!r} is no time zone that this machine knows; 'Asia/Shanghai' is one") from None
    return name


_Who = Annotated[str, Field(min_length=1, max_length=256)]


class BudgetSettings(BaseModel, frozen=True, extra="forbid"):
    """`[[budget]]`: what is over one of its limits is refused until the period ends."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Unique name")
    key: _Who | None = Field(default=None, description="For the key of this name; '*' gives each key one of its own")
    tenant: _Who | None = Field(default=None, description="For this tenant; '*' gives each tenant one of its own")
    per: Per = Field(default="day", description="hour | day | month: when it begins anew")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="Whose clock says when that is, such as Asia/Shanghai"
    )
    tokens: int | None = Field(default=None, ge=0, le=10**15, description="Tokens of prompts and answers together")
    requests: int | None = Field(default=None, ge=0, le=10**12, description="Requests that were answered")
    money: float | None = Field(
        default=None, ge=0, le=1e9, allow_inf_nan=False, description="By the prices of [[model]], in models.currency"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.key is not None and self.tenant is not None:
            raise ValueError("give key or tenant, not both; without either it is one budget for all together")
        if self.tokens is None and self.requests is None and self.money is None:
            raise ValueError("give at least one limit: tokens, requests or money")
        return self
