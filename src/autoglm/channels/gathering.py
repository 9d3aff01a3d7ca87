"""Calls that come together share a request, for vendors who take many at a time and know a repeated one by its key."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Call(Generic[Item, Result]):
    item: Item
    size_bytes: int
    results: list[Result]
    """One, once it is there."""
    is_alone: bool = False


class Gathering(Generic[Item, Result]):
    """One request at a time: what is called meanwhile waits for its end, and goes out with the next. A call by itself
    waits for nothing.

    Holds as many calls as there are callers, which the outbox bounds (`Limits.parallel`).
    """

    def __init__(
        self, send: Callable[[Sequence[Item]], Awaitable[Sequence[Result] | None]], *, most: int, most_bytes: int
    ) -> None:
        """send: the results in the items' order; None when the vendor refused the request as a whole, perhaps for one
        of them: then each goes by itself. What it raises is for one call, and the others go out again.

        most, most_bytes: of one request; an item of more bytes goes by itself.
        """
        self._send = send
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._turn = anyio.Lock()

    async def result_of(self, item: Item, size_bytes: int) -> Result:
        """Raises what `send` does. A caller that is cancelled while its request is out has the others' go out again."""
        call = _Call[Item, Result](item, size_bytes, [])
        self._waiting.append(call)
        try:
            async with self._turn:  # in the order of the calls: whose result is missing is the first that waits
                while not call.results:
                    await self._request()
        finally:
            if call in self._waiting:
                self._waiting.remove(call)
        return call.results[0]

    async def _request(self) -> None:
        calls = self._taken()
        try:
            found = await self._send([call.item for call in calls])
        except BaseException:
            self._waiting.extendleft(reversed(calls))  # the caller takes its own out
            raise
        if found is None:
            for call in calls:
                call.is_alone = True
            self._waiting.extendleft(reversed(calls))
            return
        for call, result in zip(calls, found, strict=True):
            call.results.append(result)

    def _taken(self) -> list[_Call[Item, Result]]:
        calls = [self._waiting.popleft()]
        size_bytes = calls[0].size_bytes
        while self._waiting and not calls[0].is_alone and len(calls) < self._most:
            size_bytes += self._waiting[0].size_bytes
            if self._waiting[0].is_alone or size_bytes > self._most_bytes:
                break
            calls.append(self._waiting.popleft())
        return calls
