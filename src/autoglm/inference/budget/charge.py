"""What is held of budgets for one request, from its start to its end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoglm.core.clock import monotonic_s
from autoglm.inference.budget.account import Account
from autoglm.inference.budget.amounts import NOTHING, Amounts
from autoglm.inference.call import Call
from autoglm.inference.credible import credible

if TYPE_CHECKING:
    from autoglm.inference.budget.budgets import Budgets

Holds = Sequence[tuple[Account, Amounts]]


class Charge:
    """End it once, by `use`, `guess` or `release`; `release` after one of the others does nothing."""

    __slots__ = ("_book", "_holds", "call", "prompt_tokens")

    def __init__(self, book: "Budgets", holds: Holds, prompt_tokens: int) -> None:
        self._book = book
        self._holds = holds
        self.call: Call | None = None
        """What a model is asked; None for what comes out of the cache."""
        self.prompt_tokens = prompt_tokens
        """A guess."""

    @property
    def is_open(self) -> bool:
        return bool(self._holds)

    def use(self, model: str, tokens_in: int, tokens_out: int) -> None:
        """Count what the instance has told, as far as it can be."""
        if self.call is not None:
            took_s = monotonic_s() - self.call.arrived_s
            tokens_in, tokens_out = credible(self.call, tokens_in, tokens_out, took_s)
        self._settle(model, tokens_in, tokens_out, is_estimate=False)

    def guess(self, model: str, tokens_out: int) -> None:
        """The instance has not told: count what the prompt was taken for, and so many tokens of the answer."""
        self._settle(model, self.prompt_tokens, tokens_out, is_estimate=True)

    def _settle(self, model: str, tokens_in: int, tokens_out: int, *, is_estimate: bool) -> None:
        holds, self._holds = self._holds, ()
        if holds:
            self._book.settle(holds, model, tokens_in, tokens_out, is_estimate=is_estimate)

    def release(self) -> None:
        """There was no answer: nothing is counted."""
        holds, self._holds = self._holds, ()
        for account, held in holds:
            account.settle(held, NOTHING)

    async def written(self) -> None:
        """Returns when what was counted is on disk. Raises StorageFull, QueueFull, StoreBroken."""
        await self._book.written()
