"""A reply whose head is here and whose body still comes; the same for every kind of connection."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Self

from autoglm.core.errors import UpstreamFailed
from autoglm.core.ports import Sink


class Reply(ABC):
    """Satisfies `core.ports.Reply`. One reader at a time.

    Read it to its end, or call `aclose`: until then it holds a connection, and the instance goes on generating. When
    the reader is cancelled while it waits, the connection closes at once.
    """

    __slots__ = ("complete", "headers", "instance", "status")

    status: int
    headers: Mapping[str, str]
    """Lower-case names; the last value where a name repeats."""
    complete: bool
    """The whole body has arrived; some of it may be unread."""
    instance: str

    @abstractmethod
    async def chunk(self) -> bytes | None:
        """The bytes that arrived since the last call, waiting for some; None at the end.

        Raises UpstreamFailed when the body is cut, UpstreamTimeout when it stays silent. A body that the instance ends
        by closing (no length was given) ends normally.
        """

    async def forward(self, sink: Sink) -> None:
        """Give the sink all chunks to come, at its pace. Raises as `chunk` does, and what the sink raises."""
        while (chunk := await self.chunk()) is not None:
            sink.take(chunk)
            await sink.keep_pace()

    @abstractmethod
    def body_if_complete(self) -> bytes | None:
        """What is unread of the body when all of it has arrived, else None; it stays unread."""

    @abstractmethod
    async def aclose(self) -> None:
        """Drop what is unread; closes the connection at once when the body is not complete."""

    async def read(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises as `chunk` does, and UpstreamFailed when it is longer than limit_bytes."""
        parts: list[bytes] = []
        size_bytes = 0
        while (part := await self.chunk()) is not None:
            size_bytes += len(part)
            if size_bytes > limit_bytes:
                await self.aclose()
                raise UpstreamFailed(self.instance, f"its answer is over {limit_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self.chunk()
        if part is None:
            raise StopAsyncIteration
        return part

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
