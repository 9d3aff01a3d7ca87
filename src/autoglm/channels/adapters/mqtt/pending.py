"""What was published and has no answer yet: by paho's number, for the broker's answers, and by the outbox's key."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

import anyio
import msgspec

from autoglm.channels import web
from autoglm.channels.adapters.mqtt import reasons
from autoglm.channels.adapters.mqtt.outgoing import Publication
from autoglm.channels.delivery import Delivery, Words, transient

_SETTLED = 1024
_CUT = transient(
    "cut",
    Words(
        "the connection was lost before the broker's answer; it may have arrived",
        "服务器应答前连接中断，消息可能已送达",
    ),
    is_in_doubt=True,
)
_SILENT = transient(
    "timeout",
    Words("no answer of the broker in time; it may have arrived", "等待服务器应答超时，消息可能已送达"),
    is_in_doubt=True,
)


@dataclass(eq=False)
class Attempt:
    """A publication on its way."""

    publication: Publication
    key: str
    answer: asyncio.Future[Delivery] | None = None
    """For whoever waits; None when nobody does."""
    was_repeated: bool = False
    """Its connection was lost, and paho sends it again on the next one."""
    code: int = 0
    """Of the broker's answer, which is yet to be confirmed."""


class Pending:
    """As large as what paho holds, and the last _SETTLED answers that came when nobody waited any more."""

    def __init__(self, *, is_unheard_accepted: bool) -> None:
        self._is_unheard_accepted = is_unheard_accepted
        self._by_mid: dict[int, Attempt] = {}
        self._by_key: dict[str, Attempt] = {}
        self._late: OrderedDict[str, tuple[Publication, Delivery]] = OrderedDict()
        self._held: deque[Attempt] = deque()
        self._turns: deque[asyncio.Future[None]] = deque()
        self._called = 0
        self.window = 1
        """How many may be on their way (MQTT 5's Receive Maximum)."""

    def find(self, publication: Publication, key: str) -> Attempt | Delivery | None:
        """What became of it, or the attempt that is on its way: it is not to be published again."""
        if (late := self._late.get(key)) is not None and late[0] == publication:
            return late[1]
        if (attempt := self._by_key.get(key)) is not None and attempt.publication == publication:
            return attempt
        return None

    async def wait_for_room(self) -> bool:
        """In the order of the calls; False when none came free for as long as an attempt may take."""
        if len(self._by_mid) + self._called < self.window and not self._turns:
            return True
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            with anyio.move_on_after(web.TIMEOUT_S):
                await turn
                return True
            return False
        finally:
            if turn in self._turns:
                self._turns.remove(turn)
            else:
                self._called -= 1
                asyncio.get_running_loop().call_soon(self._call_next)  # when the caller has taken its place, or has not

    def open(self, window: int) -> None:
        self.window = window
        self._call_next()

    def _call_next(self) -> None:
        while self._turns and len(self._by_mid) + self._called < self.window:
            self._called += 1
            if not (turn := self._turns.popleft()).done():
                turn.set_result(None)

    def add(self, mid: int, publication: Publication, key: str) -> Attempt:
        attempt = self._by_mid[mid] = self._by_key[key] = Attempt(publication, key)
        return attempt

    async def answer(self, attempt: Attempt) -> Delivery:
        """Waits for it, for as long as an attempt may take."""
        attempt.answer = asyncio.get_running_loop().create_future()
        try:
            with anyio.move_on_after(web.TIMEOUT_S):
                return await attempt.answer
        finally:
            attempt.answer = None
        return _SILENT

    def settle(self, mid: int, code: int) -> None:
        """The broker's answer came, and is final."""
        if (attempt := self._by_mid.pop(mid, None)) is not None:
            self._call_next()
            self._tell(attempt, code)

    def hold(self, mid: int, code: int) -> bool:
        """The broker's answer came, and is yet to be confirmed; True when there is something to confirm."""
        if (attempt := self._by_mid.get(mid)) is None:
            return False
        if code >= 128 or attempt.publication.qos == 0:
            self.settle(mid, code)
            return False
        del self._by_mid[mid]
        self._call_next()
        attempt.code = code
        self._held.append(attempt)
        return True

    def confirm(self) -> None:
        """The first of the answers on hold is final."""
        attempt = self._held.popleft()
        self._tell(attempt, attempt.code)

    def _tell(self, attempt: Attempt, code: int) -> None:
        self._forget_key(attempt)
        delivery = self._read(attempt, code)
        if attempt.answer is not None and not attempt.answer.done():
            attempt.answer.set_result(delivery)
        elif delivery.is_settled:
            self._late[attempt.key] = (attempt.publication, delivery)
            if len(self._late) > _SETTLED:
                self._late.popitem(last=False)

    def has_repeated(self) -> bool:
        return any(attempt.was_repeated for attempt in self._by_mid.values())

    def interrupt(self, *, is_all_dropped: bool) -> None:
        """The connection is lost: whoever waits learns that it is in doubt. is_all_dropped: paho repeats nothing."""
        for mid, attempt in list(self._by_mid.items()):
            if attempt.answer is not None and not attempt.answer.done():
                attempt.answer.set_result(_CUT)
            attempt.was_repeated = True
            if is_all_dropped or attempt.publication.qos == 0:
                del self._by_mid[mid]
                self._forget_key(attempt)
        for attempt in self._held:  # paho has forgotten them
            if attempt.answer is not None and not attempt.answer.done():
                attempt.answer.set_result(_CUT)
            self._forget_key(attempt)
        self._held.clear()
        self._called += len(self._turns)
        for turn in self._turns:
            if not turn.done():
                turn.set_result(None)
        self._turns.clear()

    def _forget_key(self, attempt: Attempt) -> None:
        if self._by_key.get(attempt.key) is attempt:
            del self._by_key[attempt.key]

    def _read(self, attempt: Attempt, code: int) -> Delivery:
        publication = attempt.publication
        if publication.qos == 0:
            words = Words("it went out at QoS 0, which no broker confirms", "以 QoS 0 发出，服务器不作确认")
            return Delivery(outcome="accepted", code="qos_0", reason=words)
        found = reasons.of_publication(code, was_repeated=attempt.was_repeated)
        if code == reasons.NO_SUBSCRIBERS and not self._is_unheard_accepted:
            return transient(str(code), found.reason)
        if found.outcome == "accepted":  # the id is what devices know the message by
            return msgspec.structs.replace(found, ticket=dict(publication.properties).get("id", ""))
        return found
