"""What the gate asks of those who know the devices: a login in, rights out."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

METHOD = "autoglm-pop"
"""Authentication method of MQTT 5 for a token and a proof of its key."""


class Attempt(NamedTuple):
    """A login; nothing in it is verified."""

    username: str
    """Empty where the device gave none."""
    password: bytes
    """For devices of MQTT 3: a fixed user's password, or a token and its proof in one string."""
    method: str
    """METHOD, or empty where the device does without AUTH packets."""
    data: bytes
    """Authentication data of that method: of the CONNECT, or of the AUTH that answers `challenge`."""
    challenge: bytes
    """What the last `Challenge` on this connection said; empty before the first."""
    client_id: str
    address: str
    """The device's IP address."""


class Challenge(NamedTuple):
    """The device shall answer this first; with METHOD only."""

    data: bytes


def _never() -> bool:
    return False


class Topics(Protocol):
    """Which topics are a device's. What it answers is kept until `epoch` changes, and no longer.

    Its methods must not wait. Whether an answer is written down is its own affair; where that fails, it raises
    Violation, and the connection ends.
    """

    @property
    def epoch(self) -> int:
        """Changes when an answer may have changed. Asked with each piece of bytes: must be fast."""
        ...

    def may_publish(self, topic: str) -> bool:
        """False for topics that begin with $, too: they are the broker's own."""
        ...

    def may_still_publish(self, topic: str) -> bool:
        """The same of a will, which the broker has already: asked from time to time, and nothing is done by that."""
        ...

    def may_read(self, topic: str) -> bool:
        """Of each topic that a subscription brings."""
        ...

    def may_subscribe(self, pattern: str) -> bool:
        """pattern: a filter, maybe of a shared subscription."""
        ...


class Rights(NamedTuple):
    """What a device may do."""

    name: str
    """Who it is: an address such as `device:press-7`, or a fixed user. Sessions are kept apart by it."""
    topics: Topics
    ends_at_ms: int | None = None
    """By the gate's clock; None: never."""
    is_revoked: Callable[[], bool] = _never
    """Asked about four times a second for each connection: must be fast, and neither wait nor raise."""


class Authenticate(Protocol):
    async def __call__(self, attempt: Attempt, /) -> Rights | Challenge:
        """Raises Unauthorized. Cancelled when it takes too long; at most 3 rounds for each login."""
        ...


Action = Literal["connect", "publish:topic", "subscribe:topic", "read:topic"]


class Decision(NamedTuple):
    """For the audit. Each login is one; of the topics each refused one is, once for each connection."""

    action: Action
    resource: str
    """The topic or filter; empty for a login."""
    is_allowed: bool
    reason: str
    """Such as `expired`, `will`, `scope`; of a login that was refused, the code or the words of Authenticate."""
    name: str
    """Of the rights; empty for a stranger, whatever he calls himself."""
    client_id: str
    address: str


class Record(Protocol):
    def __call__(self, decision: Decision, /) -> None:
        """Must neither wait nor raise."""
        ...
