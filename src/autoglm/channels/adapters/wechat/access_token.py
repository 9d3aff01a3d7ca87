"""Access tokens: fetched by one task at a time, kept while they hold, fetched once more when the vendor refuses one."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import anyio

from autoglm.channels.delivery import Delivery
from autoglm.core.clock import monotonic_s

T = TypeVar("T")
_MARGIN_S = 300.0
_MARGIN_SHARE = 0.1
"""A token is fetched anew so long before its end: the lesser of both."""


class Token(NamedTuple):
    text: str
    expires_in_s: float

    def __repr__(self) -> str:
        return "Token(…)"


class NoToken(Exception):
    """The vendor gave none: `delivery` says why. What was to be sent did not go out."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.reason.en)
        self.delivery = delivery


class AccessTokens:
    """The token of one app. `fetch` asks the vendor, and raises NoToken."""

    def __init__(self, fetch: Callable[[], Awaitable[Token]], *, clock_s: Callable[[], float] = monotonic_s) -> None:
        self._fetch = fetch
        self._clock_s = clock_s
        self._lock = anyio.Lock()
        self._text = ""
        self._until_s = 0.0
        self._failures = 0
        self._failure: Delivery | None = None

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
        """Those who ask while it is fetched share the result, a failure included: raises NoToken."""
        if self._is_held():
            return self._text
        failures = self._failures
        async with self._lock:
            if self._is_held():
                return self._text
            if self._failures != failures and self._failure is not None:
                raise NoToken(self._failure)
            try:
                token = await self._fetch()
            except NoToken as error:
                self._failures += 1
                self._failure = error.delivery
                raise
            margin_s = min(_MARGIN_S, token.expires_in_s * _MARGIN_SHARE)
            self._text, self._until_s = token.text, self._clock_s() + token.expires_in_s - margin_s
            return self._text

    def drop(self, token: str) -> None:
        """The vendor does not take it any more. A newer one stays."""
        if token == self._text:
            self._text = ""

    def _is_held(self) -> bool:
        return bool(self._text) and self._clock_s() < self._until_s
