"""Ends what stays open once whoever opened it may not go on: his token or key has ended, or was revoked."""

import contextlib
from collections.abc import Callable, Iterator

import anyio

from autoglm.auth.authenticator import Authenticator, Shown

LOOK_S = 1.0
"""How long a revoked one may go on to listen, at most; what he sends is refused at once."""


class Standing:
    """All connections and streams that stay open. `run` looks at each of them every second: 0.5 us for one."""

    def __init__(self, auth: Authenticator) -> None:
        self._auth = auth
        self._held: dict[object, tuple[Shown, Callable[[], object]]] = {}

    @contextlib.contextmanager
    def held(self, shown: Shown, end: Callable[[], object]) -> Iterator[None]:
        """While it is open. end: called once, when he may not go on."""
        token = object()
        self._held[token] = shown, end
        try:
            yield
        finally:
            self._held.pop(token, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        for token, (shown, end) in tuple(self._held.items()):
            if not self._auth.is_current(shown):
                del self._held[token]
                end()
