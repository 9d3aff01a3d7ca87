"""`[cache]`: answers that are kept and given again."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator


class CacheSettings(BaseModel, frozen=True, extra="forbid"):
    """`[cache]`: off unless somebody wants it: the same words may deserve another answer."""

    mode: Literal["off", "on_request", "on"] = Field(
        default="off",
        description="off | on_request: for requests with x-autoglm-cache: on | on: for all but those with off",
    )
    ttl_s: float = Field(default=3600.0, gt=0, le=31_536_000, description="How long an answer is given again")
    max_bytes: int = Field(
        default=64 << 20, ge=1 << 16, le=1 << 40, description="All kept answers together; the longest unused go first"
    )
    max_entry_bytes: int = Field(default=1 << 20, ge=1024, le=1 << 30, description="Longer answers are not kept")

    @model_validator(mode="after")
    def _one_fits(self) -> Self:
        if self.max_entry_bytes > self.max_bytes:
            raise ValueError("max_entry_bytes is larger than max_bytes")
        return self
