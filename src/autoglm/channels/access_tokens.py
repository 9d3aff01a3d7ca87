"""Access tokens: fetched by one task at a time, kept while they hold, fetched once more when the vendor refuses one."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import anyio

from autoglm.channels.delivery import Delivery
from autoglm.core.clock import monotonic_s

T = TypeVar("T")
_MARGIN_S = 300.0
_MARGIN_SHARE = 0.1
"""A token is fetched anew so long before its end, the lesser of both: a request takes a while, and clocks differ."""
_LONGEST_S = 30 * 86400.0
"""Longer than any vendor's lasts, and short of what a float cannot hold."""


class Token(NamedTuple):
    text: str
    lasts_s: float

    def __repr__(self) -> str:
        return "Token(…)"


class NoToken(Exception):
    """The vendor gave none: `delivery` says why. What was to be sent did not go out."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason.en)
        self.delivery = delivery


class AccessTokens:
    """The token of one app. However many ask, one request is on its way: vendors give out a limited number, and a new
    token may end the one before. `fetch` asks the vendor, and raises NoToken.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]]) -> None:
        self._fetch = fetch
        self._lock = anyio.Lock()
        self._text = ""
        self._until_s = 0.0
        self._answers = 0
        """To `fetch`, good or not."""
        self._failure: Delivery | None = None
        """Of the last one."""

    async def use(self, attempt: Callable[[str], Awaitable[T]], is_refused: Callable[[T], bool]) -> T:
        """What an attempt with the token brings; with a fresh token, once, when the vendor refused the first one.

        Raises NoToken, and what the attempt raises.
        """
        token = await self.get()
        result = await attempt(token)
        if is_refused(result):
            self.drop(token)
            result = await attempt(await self.get())
        return result

    async def get(self) -> str:
        """Raises NoToken."""
        return self._text if self._is_held() else await self.renewed()

    async def renewed(self) -> str:
        """A new one, whatever is left of the old one: to see whether the credentials hold.

        Those who ask while it is fetched share the result, a failure included: raises NoToken.
        """
        answers = self._answers
        async with self._lock:
            if self._answers != answers:
                if self._failure is not None:
                    raise NoToken(self._failure)
                if self._is_held():
                    return self._text
            try:
                token = await self._fetch()
            except NoToken as error:
                self._answers, self._failure = self._answers + 1, error.delivery
                raise
            self._answers, self._failure = self._answers + 1, None
            lasts_s = max(0.0, min(_LONGEST_S, token.lasts_s))
            self._text = token.text
            self._until_s = monotonic_s() + lasts_s - min(_MARGIN_S, lasts_s * _MARGIN_SHARE)
            return self._text

    def drop(self, token: str) -> None:
        """The vendor does not take it any more. A newer one stays."""
        if token == self._text:
            self._text = ""

    def _is_held(self) -> bool:
        return bool(self._text) and monotonic_s() < self._until_s
