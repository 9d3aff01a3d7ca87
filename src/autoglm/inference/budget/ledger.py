"""Keeps accounts in the store: whoever needs to be sure waits for the next write, which is one for all who wait.

A row holds an account's whole state, so that a write is the same however often it is repeated, and the newest one
says all: there is nothing to replay after a kill -9, and nothing grows with the number of requests (ADR 8).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio
import msgspec
import structlog

from autoglm.core.errors import HubError, QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import KeyValue
from autoglm.inference.budget.account import Account, Kept

log = structlog.get_logger()

PREFIX = "budget/"
_RETRY_S = 1.0
_LAST_WRITE_S = 5.0


def row_key(budget: str, subject: str) -> str:
    return f"{PREFIX}{budget}/{subject}"


class BudgetLedger:
    """`run` in a task. Accounts are marked in the turn in which they change; `written` says when that is on disk."""

    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue
        self._changed: dict[str, Account | None] = {}
        """By row; None takes it out."""
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = anyio.Event()
        self._is_writing = False
        self.trouble: HubError | None = None
        """Why the last write failed; what would have to be written is refused until one succeeds."""

    async def load(self) -> dict[str, Kept]:
        """All rows by their keys."""
        entries = await self._keyvalue.list(PREFIX)
        return {entry.key: msgspec.json.decode(entry.value, type=Kept) for entry in entries}

    def mark(self, account: Account) -> None:
        self._changed[row_key(account.budget.name, account.subject)] = account
        self._wake.set()

    def forget(self, key: str) -> None:
        self._changed[key] = None
        self._wake.set()

    async def written(self) -> None:
        """Returns when all that was marked until now is on disk. Raises StorageFull, QueueFull, StoreBroken."""
        if not self._changed and not self._is_writing:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._wake.set()
        await waiter

    async def run(self) -> None:
        """Write until cancelled, and once more then."""
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                await self._write()
                if self.trouble is not None:
                    await anyio.sleep(_RETRY_S)
                    self._wake.set()
        finally:
            with anyio.move_on_after(_LAST_WRITE_S, shield=True):
                await self._write()

    async def _write(self) -> None:
        """All that has changed, in one go; those who waited for it are told how it went."""
        changed, self._changed = self._changed, {}
        waiting, self._waiting = self._waiting, []
        writes = [self._written(key, account) for key, account in changed.items()]
        self._is_writing = True
        try:
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        except asyncio.CancelledError:
            self._changed = {**changed, **self._changed}
            self._waiting = [*waiting, *self._waiting]
            raise
        finally:
            self._is_writing = False
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        self._note(errors, changed)
        for waiter in waiting:
            if waiter.done():
                continue  # its caller was cancelled
            if self.trouble is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(self.trouble)

    def _written(self, key: str, account: Account | None) -> Coroutine[Any, Any, object]:
        """The write of a row as it is in this moment."""
        if account is None:
            return self._keyvalue.delete(key)
        return self._keyvalue.put(key, msgspec.json.encode(account.kept()))

    def _note(self, errors: list[BaseException], changed: dict[str, Account | None]) -> None:
        """Raises an error that is none of the store's."""
        if not errors:
            if self.trouble is not None:
                log.info("budgets_written_again")
            self.trouble = None
            return
        for error in errors:
            if not isinstance(error, (StorageFull, QueueFull, StoreBroken)):
                raise error
            if self.trouble is None:
                log.error("budgets_not_written", code=error.code, reason=str(error))
            self.trouble = error
        self._changed = {**changed, **self._changed}
