"""The access token of an account: fetched when it is needed, and again before it expires."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from autoglm.channels.delivery import Delivery
from autoglm.core.clock import monotonic_s

_MARGIN_S = 300.0
"""A token is renewed so long before its end: a request takes a while, and clocks differ."""


class Token(NamedTuple):
    value: str
    lasts_s: float


class NoToken(Exception):
    """No token is to be had: `delivery` says why, and that nothing was sent."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason.en)
        self.delivery = delivery


class Bearer:
    """However many ask, one request is on its way (vendors give out a limited number of tokens, and a new one may end
    the one before).
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]]) -> None:
        """fetch: one request for a token; raises NoToken."""
        self._fetch = fetch
        self._fetching = asyncio.Lock()
        self._value = ""
        self._ends_s = 0.0

    async def token(self) -> str:
        """Raises NoToken."""
        async with self._fetching:
            if not self._value or monotonic_s() >= self._ends_s:
                await self._renew()
            return self._value

    async def renewed(self) -> str:
        """A new one, whatever is left of the old one: to see whether the credentials hold. Raises NoToken."""
        async with self._fetching:
            await self._renew()
            return self._value

    def forget(self, token: str) -> None:
        """The vendor does not take it any more. Another one that was fetched meanwhile stays."""
        if token == self._value:
            self._value = ""

    async def _renew(self) -> None:
        value, lasts_s = await self._fetch()
        self._value = value
        self._ends_s = monotonic_s() + max(lasts_s - _MARGIN_S, lasts_s / 2)
