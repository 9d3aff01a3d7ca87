"""What parts expect of each other. `app.py` joins the implementations; parts never import each other."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from autoglm.core.errors import HubError

Told_contra = TypeVar("Told_contra", contravariant=True)


class Waiter(Protocol[Told_contra]):
    """Is told how something ended. A future is one; so is an object that goes on at once and needs no task."""

    def done(self) -> bool: ...

    def cancelled(self) -> bool: ...

    def set_result(self, result: Told_contra, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class NewRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record to append. It becomes readable under each of its subjects."""

    id: str
    """The key for deduplication, unique over the whole log."""
    digest: bytes
    """Equal digests mean equal content: a repeat is answered, not stored again."""
    subjects: tuple[str, ...]
    """1 to 10,000 names such as `to:user:alice`; a record is stored once however many it has."""
    body: bytes
    expires_at_ms: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    """Grows by the order of commits, over all subjects; gaps are possible."""
    id: str
    time_ms: int
    """When the log took it, by this hub's clock."""
    expires_at_ms: int | None
    body: bytes


class Appended(msgspec.Struct, frozen=True):
    seq: int
    is_new: bool
    """False: a record with this id and an equal digest was there already; `seq` is its number."""


class Log(Protocol):
    """An append-only log with subjects. When `append` returns, the record is on disk (fsync)."""

    async def append(self, record: NewRecord) -> Appended:
        """Raises DuplicateId when the id is taken by other content, StorageFull when the disk is full."""
        ...

    async def append_all(self, records: Sequence[NewRecord]) -> list[Appended]:
        """All or none, in one transaction; raises as `append` does."""
        ...

    def hand_in(self, record: NewRecord, waiter: Waiter[Sequence[Appended]]) -> None:
        """As `append_all` of one, without a coroutine: the waiter is told, in a later turn of the event loop.

        Raises QueueFull, StoreBroken; then the waiter is not told.
        """
        ...

    async def read(self, subject: str, *, after: int = 0, limit: int = 100) -> list[Record]:
        """Records of the subject with seq > after, oldest first; expired ones are left out.

        limit: at least 1. A page of large bodies may end before `limit`, but an empty one says that there is no more.
        """
        ...

    async def read_last(self, subject: str, *, limit: int = 100) -> list[Record]:
        """The newest records of the subject, oldest first; expired ones are left out."""
        ...

    async def next(self, *subjects: str, after: int, limit: int = 100, timeout_s: float) -> list[Record]:
        """Like `read`, but over several subjects and waiting up to timeout_s for the first record; [] when none came.

        A waiting reader costs one future in memory. A record committed at any moment is seen: none falls between
        reading and waiting.
        """
        ...

    async def get(self, id: str) -> Record | None:
        """The record with this id, expired or not; None when it never was or retention removed it."""
        ...

    async def last_seq(self) -> int:
        """The number of the newest record, 0 for an empty log."""
        ...


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    value: bytes
    revision: int
    """Grows with each change of any key; a key that does not exist has revision 0."""


class KeyValue(Protocol):
    """Small values by key, with revisions. When `put` or `delete` returns, the change is on disk (fsync)."""

    async def get(self, key: str) -> Entry | None: ...

    async def put(self, key: str, value: bytes, *, expected_revision: int | None = None) -> int:
        """Returns the new revision. expected_revision: 0 = must not exist; raises RevisionMismatch."""
        ...

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        """True when there was something to delete. Raises RevisionMismatch."""
        ...

    async def list(self, prefix: str = "") -> list[Entry]:
        """All entries whose key starts with `prefix`, ordered by key."""
        ...

    def watch(self, prefix: str = "", *, after: int = 0) -> AsyncIterator["Change"]:
        """Changes with revision > after, then those to come; it ends only with its caller.

        A slow or late watcher may skip to each key's newest change. Deletes that are long past may be forgotten, so
        one that comes back after days starts from `list`.
        """
        ...


class Change(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    value: bytes | None
    """None: the key was deleted."""
    revision: int


class NewJournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry for the journal. `body` says it all; what stands beside it is what it is found by."""

    at_ms: int
    kind: str
    action: str
    outcome: str
    body: bytes
    """A JSON object with at least one field, in UTF-8; the journal adds `seq` and `prev` at its end."""
    who: str | None = None
    salt: bytes | None = None
    personal: bytes | None = None
    """What can be erased later, as do `who` and `salt` with it: the body has no more of it than a hash."""


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    """1, 2, 3 ... without a gap, in the order in which they were handed in."""
    digest: bytes
    """sha256 of the body."""
    at_ms: int
    kind: str
    action: str
    outcome: str
    body: bytes
    """Its last fields are `seq` and `prev`: the digest of the entry before in 64 hexadecimal digits, 64 zeros at 1."""
    who: str | None
    salt: bytes | None
    personal: bytes | None


class JournalEnd(msgspec.Struct, frozen=True):
    """The newest entry; seq 0 and 32 zero bytes while there is none."""

    seq: int = 0
    digest: bytes = bytes(32)


class JournalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """All that is given must hold."""

    kinds: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    who: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    """Not itself included."""
    text: str = ""
    """Anywhere in the body or in what is personal; upper and lower case of ASCII are one."""


class Journal(Protocol):
    """A chain of entries to which nothing is done but appending and erasing what is personal.

    An entry that was handed in before a record was given to the log is on disk no later than that record, or the
    record is not there either. What was handed in is tried until it is written: on a full disk it waits in memory.
    """

    def hand_in(self, entry: NewJournalEntry, *, erases: Sequence[tuple[int, int]] = ()) -> None:
        """Append it soon. erases: the first and last seq of runs of entries that lose what is personal with it.

        Raises StorageFull or QueueFull when too many wait (the entry is not taken), StoreBroken when closed.
        """
        ...

    async def flush(self) -> None:
        """Returns when all that was handed in is on disk. Raises StorageFull, StoreBroken; then it goes on waiting."""
        ...

    @property
    def failure(self) -> HubError | None:
        """Why the last attempt to write did not succeed; None when it did."""
        ...

    def last(self) -> JournalEnd:
        """What is on disk."""
        ...

    async def read(self, *, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        """Those with seq > after, oldest first. limit: at least 1."""
        ...

    async def wait(self, *, after: int, timeout_s: float) -> bool:
        """True as soon as there is one with seq > after."""
        ...

    async def find(
        self, wanted: JournalFilter, *, after: int = 0, before: int | None = None, limit: int = 100,
        newest_first: bool = False,
    ) -> list[JournalEntry]:  # fmt: skip
        """Those with after < seq < before that fit."""
        ...


class Blobs(Protocol):
    """Large immutable values, named by the sha256 of their bytes (64 hexadecimal digits)."""

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int | None = None) -> str:
        """Returns the sha256 once the bytes are on disk. Raises PayloadTooLarge, StorageFull; then nothing is kept."""
        ...

    def read(self, sha256: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Chunks of at most 256 KiB of the bytes [start, end). The first step raises NotFound, RangeNotSatisfiable."""
        ...

    async def size(self, sha256: str) -> int | None: ...

    async def delete(self, sha256: str) -> bool: ...


# --- inference ----------------------------------------------------------------------------------------


class Sink(Protocol):
    """Takes a body piece by piece, in the turn of the event loop in which each came."""

    def take(self, chunk: bytes) -> None: ...

    @property
    def is_slow(self) -> bool:
        """True while nothing more should be given to it."""
        ...

    async def keep_pace(self) -> None:
        """Wait while it is slow."""
        ...


class Reply(Protocol):
    """An upstream's reply: the head is known, the body comes in chunks as the network delivers them.

    Closing early closes the upstream connection at once (the instance then stops generating).
    """

    status: int
    headers: Mapping[str, str]
    """Lower-case names; the last value where a name repeats."""

    async def chunk(self) -> bytes | None:
        """The next bytes, None at the end. Raises UpstreamFailed when the body is cut, UpstreamTimeout on silence."""
        ...

    async def forward(self, sink: Sink) -> None:
        """Give the sink all chunks to come; returns at the end. Raises as `chunk` does, and what the sink raises."""
        ...

    def body_if_complete(self) -> bytes | None:
        """The whole body when it has arrived already, else None; saves the usual small reply all further waiting."""
        ...

    async def read(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises UpstreamFailed when it is cut or longer than limit_bytes."""
        ...

    async def aclose(self) -> None: ...


class ModelUse(Protocol):
    """What somebody may have a model do who asked for it earlier, and is not here any more. It is all written down."""

    def allows(self, model: str) -> bool:
        """Whether he may use it now; nothing is written down yet."""
        ...

    def require(self, model: str) -> None:
        """He is about to use it. Raises Forbidden, StorageFull, QueueFull."""
        ...

    def chosen(self, model: str) -> None:
        """The hub had the choice, and he has used this one. Raises StorageFull, QueueFull."""
        ...

    def holds(self, model: str) -> bool:
        """Whether he may go on with this model; with none, whether anything is left of his right. Must be fast."""
        ...

    def refusal(self, model: str) -> HubError:
        """Why it does not hold; written down. Raises StorageFull, QueueFull."""
        ...


class Line(Protocol):
    """A connection that is busy with a request."""

    def abort(self) -> None:
        """Close it at once."""
        ...


class Backend(Protocol):
    """Speaks to one instance. `path` is below the instance's base URL: `/chat/completions`."""

    async def send(self, path: str, body: bytes, *, is_retry: bool = False) -> Reply:
        """POST JSON and return once the head of the reply is there. Raises UpstreamFailed, UpstreamTimeout.

        is_retry: it was launched before, on a connection that had gone stale.
        """
        ...

    def launch(self, path: str, body: bytes, waiter: Waiter[Any]) -> Line | None:
        """POST JSON now if a connection waits for work, else None. Whoever aborts the line is told nothing more."""
        ...

    async def probe(self, timeout_s: float) -> list[str]:
        """Ask the instance for its models, as a sign of health. Raises UpstreamFailed, UpstreamTimeout."""
        ...

    @property
    def heard_s(self) -> float:
        """When the instance last sent a part of an answer that is not at its end yet; monotonic, -inf when unknown."""
        ...

    async def aclose(self) -> None: ...


class Provider(Protocol):
    """Brings one instance to life and keeps it so: at a configured address, as a local child process, in a cluster."""

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the instance up and its state true until cancelled; calls `changed` after each change of it."""
        ...
