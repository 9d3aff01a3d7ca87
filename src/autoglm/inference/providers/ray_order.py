"""What the hub and its Ray child tell each other: one order down, events up, each a line of JSON."""

import msgspec


class RayOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The one line on the child's stdin. stdin stays open: its end tells the child to take everything down."""

    parent_pid: int
    name: str
    """Of the application on the cluster."""
    address: str | None
    """None: a cluster of its own, on this machine and its loopback only."""
    temporary: str
    """A folder for the sockets and logs of a cluster of its own; the child removes it at its end."""
    cores: int
    """That a cluster of its own may use."""
    replicas: int
    cores_per_replica: float
    model: str
    path: str
    """Of the model file, the same on every machine."""
    slots: int
    context_tokens: int


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A replica whose model is loaded."""

    replica: str
    """Names it on the cluster; a replacement has another one."""
    base_url: str
    """Up to and with /v1."""
    api_key: str

    def __repr__(self) -> str:
        return f"Whereabouts(replica={self.replica!r}, base_url={self.base_url!r}, api_key=***)"


class RayMembers(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="members"):
    """The replicas that can be asked now; told at each change, the first time when the application is deployed."""

    members: list[Whereabouts]
    trouble: str = ""
    """Why there are fewer than were wanted, where that is known; a sentence for people."""


class RayFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="failed"):
    """The child gives up and ends."""

    reason: str
    is_missing_package: bool = False


RayEvent = RayMembers | RayFailed
