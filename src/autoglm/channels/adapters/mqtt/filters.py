"""The filters that the broker's session may hold. It keeps them over a restart, also those that the settings lost."""

from collections.abc import Iterable

import msgspec
import structlog

from autoglm.core.errors import HubError
from autoglm.core.ports import KeyValue

MOST = 1_000
"""Of those to be given up; what is beyond that stays with the broker until its session ends."""
PACKET_BYTES = 16_384
"""Of one UNSUBSCRIBE; some brokers bear no large ones, and do not say so."""
_HEAD_BYTES = 8
"""Before the filters at most: fixed header, packet identifier and no properties (MQTT 5.0, sections 2.1 and 3.10)."""
PACKET_FILTERS = 100
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
        self._stale: list[str] = []
        """Those that an earlier run subscribed to, and that are not wanted any more: in the note behind the others."""
        self._left: list[str] = []
        """Of them, those that the broker was not yet asked on this connection to give up."""
        self._gone: set[str] = set()
        """Of them, those that the broker has not any more, as it said."""

    async def note(self) -> None:
        """Before they are subscribed to: what is not noted could not be given up. A full disk does not hold it up."""
        if self._is_noted or self._keyvalue is None:
            return
        try:
            entry = await self._keyvalue.get(self._key)
            known = [] if entry is None else _decode(entry.value)
            self._stale = [pattern for pattern in known if pattern not in self._wanted][:MOST]
            noted = [*self._wanted, *self._stale]
            if noted != known:
                await self._keyvalue.put(self._key, msgspec.json.encode(noted))
            self._is_noted = True
        except HubError as error:
            log.warning("mqtt_filters_not_noted", channel=self._channel, reason=str(error))

    def begin(self, *, has_session: bool) -> None:
        """A connection. has_session: the broker has one of an earlier connection, with its filters."""
        self._left = list(self._stale) if has_session else []
        if not has_session:
            self._gone.update(self._stale)

    def next_packet(self, limit_bytes: int) -> list[str]:
        """The next ones to give up by one UNSUBSCRIBE; none when the broker was asked for all.

        limit_bytes: of a packet, as the broker said; a filter by itself goes whatever its length, for it came there.
        """
        count, size_bytes = 0, _HEAD_BYTES
        for pattern in self._left[:PACKET_FILTERS]:
            size_bytes += 2 + len(pattern.encode("utf-8", "replace"))  # MQTT 5.0, section 3.10.3
            if count and size_bytes > min(PACKET_BYTES, limit_bytes):
                break
            count += 1
        packet, self._left = self._left[:count], self._left[count:]
        return packet

    def give_up(self, patterns: Iterable[str]) -> None:
        """The broker says that it has them no more."""
        self._gone.update(patterns)

    async def forget(self) -> None:
        """Takes out of the note what the broker has no more. Where that fails it is given up again, which does no harm,
        and who was killed before does so, too.
        """
        if not self._gone or self._keyvalue is None:
            return
        stale = [pattern for pattern in self._stale if pattern not in self._gone]
        try:
            await self._keyvalue.put(self._key, msgspec.json.encode([*self._wanted, *stale]))
        except HubError as error:
            log.warning("mqtt_filters_not_noted", channel=self._channel, reason=str(error))
            return
        self._stale = stale
        self._gone.clear()
