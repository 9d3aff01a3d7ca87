"""The port of the channels: what the outbox expects of each kind, built-in or a stranger's."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from autoglm.channels.delivery import Delivery, Words, permanent
from autoglm.core.envelope import Envelope
from autoglm.core.errors import InvalidField, PayloadTooLarge, UnknownRecipient
from autoglm.core.ports import KeyValue


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a message, ready for the vendor: what one request carries."""

    target: str
    body: object
    """What the adapter's own `send` understands, such as the vendor's JSON."""


class Cannot(Exception):
    """A message that this channel cannot carry, whenever it is tried: `delivery` says why."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason.en)
        self.delivery = delivery


class Limits(NamedTuple):
    """How much a vendor takes."""

    windows: tuple[tuple[int, float], ...] = ()
    """(requests, seconds): at most so many in any stretch of so many seconds. All of them hold."""
    per: Literal["target", "channel"] = "target"
    """Whether each target has its own count (a robot) or all share one (an account)."""
    shared: tuple[tuple[int, float], ...] = ()
    """As `windows`, of all targets together, where each has its own count beside: a bot. The same for every target."""
    parallel: int = 4
    """Requests at the same time, of what `per` says."""
    digest_bytes: int = 0
    """Over what stands in line a digest of at most so many bytes of text goes out; 0: each message by itself."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found."""

    ok: bool
    reason: Words
    code: str = ""


class Inbox(Protocol):
    """Where a channel puts what comes in. What these methods write is on disk when they return."""

    async def take(self, envelope: Envelope) -> bool:
        """A message from outside, `from` channel:NAME/SENDER and `to` the settings' `incoming_to`.

        Its id must come from the vendor's id of the message: a repeated one is taken once. With `reply_to` it answers a
        message of the hub, and acknowledges it. False: it is refused for good, of a sender whom the settings' `senders`
        do not name, or who may not; that is noted, and nobody should look as if he had been heard.
        Raises HubError: then the vendor must not be told that it was taken.
        """
        ...

    async def report(self, ticket: str, delivery: Delivery) -> None:
        """What became of a message that this channel sent under `ticket`, which may become known a little later."""
        ...

    async def message_of(self, ticket: str) -> str | None:
        """The id of the message that this channel sent under `ticket`, for `reply_to`; None where it is unknown."""
        ...


REFUSALS = (InvalidField, UnknownRecipient, PayloadTooLarge)
"""What an inbox raises for a message that it will never take: no retry of the vendor's cures that."""


class HookCall(NamedTuple):
    """An HTTP request to /api/hooks/NAME. Nothing of it is checked yet but its size: verify it first."""

    method: str
    """GET or POST."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes


class HookReply(NamedTuple):
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class Hooked(Protocol):
    """A channel whose vendor calls the hub. Satisfied beside `Channel`."""

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """Verify the call and put into the inbox what it brings. Raises HubError, answered as a problem."""
        ...


class LinkState(NamedTuple):
    """Of a connection that a channel keeps up by itself."""

    is_up: bool
    """Whether the vendor has welcomed it, and it is still there."""
    connections: int
    """How many the vendor has welcomed since the hub's start."""


class Linked(Protocol):
    """A channel that keeps one connection up. Satisfied beside `Channel`."""

    @property
    def link_state(self) -> LinkState: ...


class Channel(Protocol):
    """One `[[channel]]`. Its constructor takes (settings, Resources) and does no I/O."""

    def limits(self, target: str) -> Limits: ...

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """The message in the vendor's form, cut where it is too long: in bytes or characters, as the vendor counts.

        Pure and quick, and the same each time. Raises Cannot: an unknown target, content of no form that it carries.
        """
        ...

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """One attempt. What goes wrong is in the delivery; nothing is raised.

        key: the same for each attempt at this parcel, other for every other one: for vendors that deduplicate.
        """
        ...

    async def check(self) -> Health:
        """Could a message be sent now? Sends none."""
        ...

    async def run(self, inbox: Inbox) -> None:
        """Take in what comes, until cancelled; returns at once where nothing does. Keeps its connection up itself."""
        ...

    async def aclose(self) -> None: ...


class Resources(NamedTuple):
    """What the hub gives each channel."""

    name: str
    """Of the `[[channel]]`."""
    read_blob: Callable[[str], Awaitable[bytes | None]]
    """The bytes of a file part by its id (sha256); None when it is not here."""
    keyvalue: KeyValue | None = None
    """For what a channel keeps of its own, under a prefix of its own; the hub always gives it."""


def no_target(channel: str, target: str, known: Sequence[str]) -> Cannot:
    """For `compose`: the address names a target that the settings do not."""
    names = ", ".join(known) or "none"
    return Cannot(
        permanent(
            "unknown_target",
            Words(
                f"channel {channel!r} has no target {target!r}; its settings name: {names}",
                f"渠道 {channel!r} 没有目标 {target!r}；配置中有：{names}",
            ),
        )
    )
