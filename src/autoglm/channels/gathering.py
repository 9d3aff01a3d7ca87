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
    is_gone: bool = False
    """Nobody waits for it any more."""


class NotSent(Exception):
    """The requests before this call took too long: it was in none, and is not sent any more."""


class Gathering(Generic[Item, Result]):
    """One request at a time: what is called meanwhile waits for its end, and goes out with the next. A call by itself
    waits for nothing.

    Holds as many calls as there are callers, which the outbox bounds (`Limits.parallel`).
    """

    def __init__(
        self, send: Callable[[Sequence[Item]], Awaitable[Sequence[Result] | None]], *, most: int, most_bytes: int,
        patience_s: float,
    ) -> None:  # fmt: skip
        """send: the results in the items' order; None when the vendor refused the request as a whole, perhaps for one
        of them: then each goes by itself. What it raises is for one call, and the others go out again.

        most, most_bytes: of one request; an item of more bytes goes by itself. patience_s: so long a call waits for
        others' requests.
        """
        self._send = send
        self._most = most
        self._most_bytes = most_bytes
        self._patience_s = patience_s
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._turn = anyio.Lock()

    async def result_of(self, item: Item, size_bytes: int) -> Result:
        """Raises NotSent, and what `send` does. A caller that is cancelled while its request is out has the others' go
        out again.
        """
        call = _Call[Item, Result](item, size_bytes, [])
        self._waiting.append(call)
        try:
            await self._take_turn(call)  # in the order of the calls: whose result is missing is the first that waits
            try:
                while not call.results:
                    await self._request()
            finally:
                self._turn.release()
        finally:
            call.is_gone = True  # it may be in a request just now, and is not put back then
            if call in self._waiting:
                self._waiting.remove(call)
        return call.results[0]

    async def _take_turn(self, call: _Call[Item, Result]) -> None:
        with anyio.move_on_after(self._patience_s):
            await self._turn.acquire()
            return
        if call in self._waiting:
            raise NotSent
        await self._turn.acquire()  # somebody else's request has it along

    async def _request(self) -> None:
        calls = self._taken()
        try:
            found = await self._send([call.item for call in calls])
        except BaseException:
            self._put_back(calls)  # the caller takes its own out
            raise
        if found is None:
            for call in calls:
                call.is_alone = True
            self._put_back(calls)
            return
        for call, result in zip(calls, found, strict=True):
            call.results.append(result)

    def _put_back(self, calls: Sequence[_Call[Item, Result]]) -> None:
        self._waiting.extendleft(call for call in reversed(calls) if not call.is_gone)

    def _taken(self) -> list[_Call[Item, Result]]:
        calls = [self._waiting.popleft()]
        size_bytes = calls[0].size_bytes
        while self._waiting and not calls[0].is_alone and len(calls) < self._most:
            size_bytes += self._waiting[0].size_bytes
            if self._waiting[0].is_alone or size_bytes > self._most_bytes:
                break
            calls.append(self._waiting.popleft())
        return calls
