"""Those whom the settings vouch for, without a key or token of the hub's: senders of channels, users of the broker.

What they may do is in the settings. The judge is asked all the same: it may take all of it away.
"""

from autoglm.auth.principal import Judge, Principal

_MAX_CACHED = 4096


class Vouched:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[tuple[str, tuple[str, ...]], Principal] = {}

    def of(self, address: str, *scopes: str) -> Principal:
        """scopes: what the settings leave to it. Its credential is the address once more, which can be revoked."""
        place = address, scopes
        known = self._known.get(place)
        if known is None:
            known = Principal(address, address, scopes, credential=address, judge=self._judge)
            if len(self._known) >= _MAX_CACHED:  # addresses come from outside: bound the memory
                self._known.clear()
            self._known[place] = known
        return known
