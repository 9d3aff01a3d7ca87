"""Settings of the embedded store: `[store]` in autoglm.toml."""

from pydantic import BaseModel, Field


class StoreSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What is kept, for how long, and how much of it stays in memory."""

    retention_days: float | None = Field(default=None, gt=0, le=36_500)
    """Records older than this are removed; kept for ever when absent."""
    max_log_bytes: int | None = Field(default=None, ge=0)
    """The oldest records go when the bodies in the log are over this together; no bound when absent."""
    dedupe_retention_s: float | None = Field(default=None, ge=0, le=36_500 * 86_400)
    """How long after its arrival the id of a removed record still counts as taken; for ever when absent."""
    tail_max_records: int = Field(default=4096, ge=1)
    """The newest records that stay in memory, so that readers at the tip never touch the disk."""
    tail_max_bytes: int = Field(default=16 * 1024 * 1024, ge=0)
    """And how many bytes they may have together."""
    max_queued_operations: int = Field(default=20_000, ge=2)
    """Writes that wait for the disk; further ones are refused with QueueFull."""
    read_connections: int = Field(default=4, ge=1, le=64)
    """How many reads may run at the same time, each in a worker thread."""
    max_tombstones: int = Field(default=10_000, ge=1)
    """Deleted keys that are remembered for watchers that come back late."""
