"""The filters that the broker's session may hold. It keeps them over a restart, also those that the settings lost."""

import msgspec
import structlog

from autoglm.core.errors import HubError
from autoglm.core.ports import KeyValue

MOST = 1_000
_decode = msgspec.json.Decoder(list[str]).decode

log = structlog.get_logger()


class Filters:
    def __init__(self, keyvalue: KeyValue | None, channel: str, wanted: list[str]) -> None:
        """wanted: those of the settings, as they are subscribed to. keyvalue: None remembers nothing."""
        self._keyvalue = keyvalue
        self._channel = channel
        self._key = f"mqtt/{channel}/filters"
        self._wanted = wanted
        self._is_noted = keyvalue is None
        self.stale: list[str] = []
        """Those that an earlier run subscribed to, and that are not wanted any more."""

    async def note(self) -> None:
        """Before they are subscribed to: what is not noted could not be given up. A full disk does not hold it up.

        Those given up stay in the note, behind the others: giving up twice does no harm, and who was killed does it.
        """
        if self._is_noted or self._keyvalue is None:
            return
        try:
            entry = await self._keyvalue.get(self._key)
            known = [] if entry is None else _decode(entry.value)
            self.stale = [pattern for pattern in known if pattern not in self._wanted]
            noted = [*self._wanted, *self.stale][:MOST]
            if noted != known:
                await self._keyvalue.put(self._key, msgspec.json.encode(noted))
            self._is_noted = True
        except HubError as error:
            log.warning("mqtt_filters_not_noted", channel=self._channel, reason=str(error))
