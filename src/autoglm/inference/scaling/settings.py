"""How many local workers run, and what they may take."""

from pydantic import BaseModel, Field


class ScalingSettings(BaseModel, frozen=True, extra="forbid"):
    """`[scaling]`: how many local workers run, and what they may take."""

    cores: int | None = Field(
        default=None, ge=1, le=4096, description="Cores for all local workers; those of this machine when absent"
    )
    memory_bytes: int | None = Field(
        default=None, ge=1 << 20, description="Memory for all local workers; all but the reserve when absent"
    )
    memory_reserve_bytes: int = Field(
        default=512 << 20, ge=0, le=1 << 50, description="Memory that stays free for the hub and other programs"
    )
    utilisation: float = Field(default=0.7, gt=0, le=1, description="Share of a worker's slots that shall be in use")
    stable_window_s: float = Field(default=60.0, ge=1, le=3600, description="Demand is averaged over this time")
    panic_window_s: float = Field(default=6.0, ge=1, le=3600, description="A burst is seen in this time")
    panic_threshold: float = Field(
        default=2.0, gt=1, le=100, description="A burst is demand of that many times what the workers are meant for"
    )
    scale_up_rate: float = Field(default=10.0, gt=1, le=1000, description="At most that many times as many at once")
    scale_down_rate: float = Field(default=2.0, gt=1, le=1000, description="At most down to that part at once")
    idle_s: float = Field(
        default=300.0, ge=1, le=604_800, description="Where replicas_min is 0: the last worker stops after that"
    )
    swap_wait_s: float = Field(
        default=10.0, ge=0.1, le=3600,
        description="Requests for a model that has no room wait so long before a busy one has to make it",
    )  # fmt: skip
