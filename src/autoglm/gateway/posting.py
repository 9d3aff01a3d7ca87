"""A message on its way to the disk without a task (ADR 5)."""

from collections.abc import Sequence

import msgspec

from autoglm.core.ports import Appended
from autoglm.gateway.exchange import LEFT, Exchange, GoOn, raising

_JSON_LINE = b"content-type: application/json\r\n"
_encode = msgspec.json.Encoder().encode


class Accepted(msgspec.Struct, frozen=True):
    """The message is on disk."""

    id: str
    seq: int


def accept(exchange: Exchange, id: str, seq: int, *, is_new: bool) -> None:
    """Acknowledge a message: 202, or 200 for one that was there already."""
    exchange.respond_prepared(202 if is_new else 200, _encode(Accepted(id, seq)), _JSON_LINE)


class Posting:
    """To the log it is the future of what was appended; it answers the exchange then."""

    __slots__ = ("_exchange", "_go_on", "_is_over", "id")

    def __init__(self, exchange: Exchange, go_on: GoOn) -> None:
        self._exchange = exchange
        self._go_on = go_on
        self._is_over = False
        self.id = ""
        """Of the message; set before anybody is told anything."""

    def leave(self) -> None:
        """The client is gone. The message is stored all the same, as one whose acknowledgement got lost."""
        self._is_over = True
        self._exchange.status = LEFT
        self._go_on(self._exchange, None)

    def done(self) -> bool:
        return self._is_over

    def cancelled(self) -> bool:
        return self._is_over

    def set_result(self, result: Sequence[Appended]) -> None:
        self._is_over = True
        exchange = self._exchange
        exchange.on_leave = None
        try:
            accept(exchange, self.id, result[0].seq, is_new=result[0].is_new)
        except Exception as error:  # noqa: BLE001  # the edge to the log's writer, which has others to tell
            self._go_on(exchange, raising(error))
        else:
            self._go_on(exchange, None)

    def set_exception(self, error: Exception) -> None:
        self._is_over = True
        self._exchange.on_leave = None
        self._go_on(self._exchange, raising(error))
