"""Calls that come together share a request, and each has its own result."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from autoglm.channels.gathering import Gathering, NotSent
from eventually import until


class Vendor:
    """`requests` has the items of each; one ends when `gate` is set."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.gate = anyio.Event()
        self.poison = ""
        """A request with others beside it is refused as a whole."""
        self.error: Exception | None = None
        """For the next request."""

    async def send(self, items: Sequence[str]) -> list[str] | None:
        self.requests.append(list(items))
        await self.gate.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        if self.poison in items and len(items) > 1:
            return None
        return [item.upper() for item in items]


class Calls:
    """The results and errors of calls, by item."""

    def __init__(self, vendor: Vendor, *, most: int = 100, most_bytes: int = 1000, patience_s: float = 60.0) -> None:
        self.gathering = Gathering(vendor.send, most=most, most_bytes=most_bytes, patience_s=patience_s)
        self.results: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    async def one(self, item: str, size_bytes: int = 1) -> None:
        try:
            self.results[item] = await self.gathering.result_of(item, size_bytes)
        except RuntimeError as error:
            self.errors[item] = str(error)


async def together(calls: Calls, vendor: Vendor, items: str, *, sizes: dict[str, int] | None = None) -> None:
    """The first is out when the others come."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.one, items[0])
        await until(lambda: vendor.requests)
        for item in items[1:]:
            tasks.start_soon(calls.one, item, (sizes or {}).get(item, 1))
        await until(lambda: len(calls.gathering._waiting) == len(items) - 1)
        vendor.gate.set()


async def test_what_comes_while_a_request_is_out_shares_the_next() -> None:
    vendor = Vendor()
    calls = Calls(vendor)
    await together(calls, vendor, "abcde")
    assert vendor.requests == [["a"], ["b", "c", "d", "e"]]
    assert calls.results == {item: item.upper() for item in "abcde"}


async def test_a_request_has_so_many_items_and_bytes_and_no_more() -> None:
    vendor = Vendor()
    calls = Calls(vendor, most=3, most_bytes=10)
    await together(calls, vendor, "abcdefgh", sizes={"f": 9, "g": 50})
    assert vendor.requests == [["a"], ["b", "c", "d"], ["e", "f"], ["g"], ["h"]]
    assert calls.results == {item: item.upper() for item in "abcdefgh"}


async def test_one_that_has_the_whole_request_refused_costs_the_others_nothing() -> None:
    vendor = Vendor()
    vendor.poison = "c"
    calls = Calls(vendor)
    await together(calls, vendor, "abcd")
    assert vendor.requests == [["a"], ["b", "c", "d"], ["b"], ["c"], ["d"]]
    assert calls.results == {item: item.upper() for item in "abcd"}


async def test_an_error_is_for_one_call() -> None:
    vendor = Vendor()
    calls = Calls(vendor)
    vendor.error = RuntimeError("odd")
    await together(calls, vendor, "abc")
    assert calls.errors == {"a": "odd"}
    assert calls.results == {"b": "B", "c": "C"}


async def test_who_is_cancelled_takes_nobody_along() -> None:
    """Neither while the request is out, nor while it waits for its turn."""
    vendor = Vendor()
    calls = Calls(vendor)
    first, waiting = anyio.CancelScope(), anyio.CancelScope()

    async def cancelled(item: str, scope: anyio.CancelScope) -> None:
        with scope:
            await calls.one(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancelled, "a", first)
        await until(lambda: vendor.requests)
        for item, scope in (("b", anyio.CancelScope()), ("c", waiting), ("d", anyio.CancelScope())):
            tasks.start_soon(cancelled, item, scope)
        await until(lambda: len(calls.gathering._waiting) == 3)
        waiting.cancel()
        await until(lambda: len(calls.gathering._waiting) == 2)
        first.cancel()
        await until(lambda: len(vendor.requests) == 2)
        vendor.gate.set()
    assert vendor.requests == [["a"], ["b", "d"]]
    assert calls.results == {"b": "B", "d": "D"}


async def second_request(vendor: Vendor, calls: Calls, tasks: TaskGroup, items: str) -> None:
    """Returns when these are on their way together; a request for a was before them."""
    tasks.start_soon(calls.one, "a")
    await until(lambda: vendor.requests)
    for item in items:
        tasks.start_soon(calls.one, item)
    await until(lambda: len(calls.gathering._waiting) == len(items))
    vendor.gate.set()
    vendor.gate = anyio.Event()
    await until(lambda: len(vendor.requests) == 2)


async def test_who_are_cancelled_together_leave_nothing_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the request takes a while to end, as a connection that is closed does."""
    vendor = Vendor()
    calls = Calls(vendor)
    send = vendor.send

    async def slow_to_end(items: Sequence[str]) -> list[str] | None:
        try:
            return await send(items)
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(calls.gathering, "_send", slow_to_end)
    async with anyio.create_task_group() as tasks:
        await second_request(vendor, calls, tasks, "bcd")
        tasks.cancel_scope.cancel()
    assert vendor.requests == [["a"], ["b", "c", "d"]]
    assert not calls.gathering._waiting


async def test_who_waits_too_long_was_in_no_request_and_is_told_so() -> None:
    vendor = Vendor()
    calls = Calls(vendor, patience_s=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.one, "a")
        await until(lambda: vendor.requests)
        with pytest.raises(NotSent):
            await calls.gathering.result_of("b", 1)
        vendor.gate.set()
    assert (vendor.requests, calls.results) == ([["a"]], {"a": "A"})
    assert not calls.gathering._waiting


async def test_who_is_in_a_request_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[anyio.CancelScope] = []

    def ends_when_told(_: float) -> anyio.CancelScope:
        patience.append(anyio.CancelScope())
        return patience[-1]

    monkeypatch.setattr(anyio, "move_on_after", ends_when_told)
    vendor = Vendor()
    calls = Calls(vendor)
    async with anyio.create_task_group() as tasks:
        await second_request(vendor, calls, tasks, "bc")
        patience[2].cancel()  # that of c, whose document is on its way with b's
        for _ in range(20):
            await anyio.lowlevel.checkpoint()  # what c must not say has its chance
        vendor.gate.set()
    assert vendor.requests == [["a"], ["b", "c"]]
    assert calls.results == {"a": "A", "b": "B", "c": "C"}


@pytest.mark.parametrize("count", [1, 500])
async def test_nothing_is_left_behind(count: int) -> None:
    vendor = Vendor()
    vendor.gate.set()
    calls = Calls(vendor, most=64)
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(calls.one, str(number))
    assert len(calls.results) == count
    assert not calls.gathering._waiting
