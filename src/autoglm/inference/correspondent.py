"""A model as a correspondent: a message to `model:...` is answered by a message to its sender, exactly once.

The answer's id follows from the message's id, and the log takes an id once: a hub that was killed between receiving
and answering, or between answering and noting it, starts the answer anew and stores at most one.
"""

import contextlib
import heapq
import math
import random
from collections.abc import Callable
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.envelope import Envelope
from autoglm.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    Forbidden,
    HubError,
    NotFound,
    QueueFull,
    StorageFull,
    UpstreamFailed,
    UpstreamTimeout,
)
from autoglm.core.lasting import Asker
from autoglm.core.payer import Payer
from autoglm.core.ports import KeyValue, ModelUse, Record
from autoglm.inference.call import AUTO
from autoglm.inference.parking import Lot, Parking
from autoglm.inference.progress import OverBudget, Progress, Work
from autoglm.inference.respondent import Respondent
from autoglm.inference.scheduler import Scheduler

log = structlog.get_logger()

CURSOR = "correspondent/cursor"
MAX_RUNNING = 64
"""Messages to one model in work at one time: interactive requests find room in the queue beside them."""
MAX_OPEN = 10_000
"""Messages that are not settled and known to this run; further ones wait in the log. Each costs about 3 KB."""
MAX_UPSTREAM_FAILURES = 5
GIVE_UP_S = 3600.0
"""A message on which instances keep failing, so often and for so long, is given up: it may be what breaks them."""
_MAX_BACK_OFF_S = 60.0
_IDLE_S = 3600.0
_LOOK_S = 0.25
RIGHTS_LOOK_S = 1.0
"""How long a model may work on for one whose right has ended, as over /v1."""


class Post(Protocol):
    """What the correspondent needs of the mailbox."""

    async def work(self, *, after: int, timeout_s: float) -> list[Record]: ...
    async def get(self, id: str) -> tuple[Envelope, Record]: ...
    async def payer(self, id: str) -> Payer | None: ...
    async def asker(self, id: str) -> Asker | None: ...
    async def answer(self, message: Envelope, answer: Envelope) -> None: ...
    async def fail(self, envelope: Envelope, detail: str) -> None: ...
    async def is_settled(self, envelope: Envelope) -> bool: ...


def _payer(address: str) -> Payer:
    """Each sender on an account of its own."""
    return Payer("", address)


class AllModels:
    """A `ModelUse` of who may use them all."""

    def allows(self, model: str) -> bool:
        return True

    def require(self, model: str) -> None:
        """Nobody is asked."""

    def chosen(self, model: str) -> None:
        """Nobody is told."""

    def holds(self, model: str) -> bool:
        return True

    def refusal(self, model: str) -> HubError:
        return Forbidden(f"model:use:{model}")


UseOf = Callable[[Envelope, Asker | None], ModelUse]
"""What whoever sent the message, or had it sent, may have a model do now. Raises Forbidden for who may nothing more."""


def _all_models(_: Envelope, __: Asker | None) -> ModelUse:
    return AllModels()


_Refusal = tuple[Payer, OverBudget]
"""Whose messages have to wait, and for which budget."""


class Correspondent:
    """`run` in a task. Takes up where it stopped, also after a kill -9."""

    def __init__(
        self, post: Post, keyvalue: KeyValue, respondent: Respondent, scheduler: Scheduler,
        *, payer: Callable[[str], Payer] = _payer, use: UseOf = _all_models,
    ) -> None:  # fmt: skip
        """payer: by a sender's address, on whose account its messages go where the post does not know who pays.

        use: asked before each attempt, for rights may end while a message waits.
        """
        self._post = post
        self._keyvalue = keyvalue
        self._respondent = respondent
        self._scheduler = scheduler
        self._payer = payer
        self._use = use
        self._uses: dict[ModelUse, tuple[Work, anyio.CancelScope]] = {}
        """Of the messages that a model is asked about, or that wait for its next free slot."""
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._running: set[str] = set()
        self._works: dict[str, Work] = {}
        self._rooms: dict[str, anyio.Semaphore] = {}
        """By recipient: messages to a model that is down must not hold up those to another."""
        self._room = anyio.Semaphore(MAX_OPEN)
        self._open: set[int] = set()
        """Numbers of the messages that are not settled: in work, or parked."""
        self._order: list[int] = []
        """A heap of them, with some that are not open any more."""
        self._parking = Parking()
        self._has_parked = anyio.Event()
        self._newest = 0
        self._left_over = 0
        """Messages that an earlier run of the hub had not noted as settled."""

    def is_running(self, id: str) -> bool:
        """True while a model is asked; a message that waits for its next attempt is not running."""
        return id in self._running

    async def progress(self, message: Envelope, seq: int) -> Progress | None:
        """None for one that is not in work: it is settled, or waits in the log behind MAX_OPEN others."""
        work = self._works.get(message.id)
        if work is not None:
            return work.progress(self._scheduler)
        if not self._parking.lots:
            return None
        refused = self._parking.refusal_of(await self._payer_of(message), seq)
        return None if refused is None else refused.progress(attempts=1)

    def cancel(self, id: str) -> None:
        """Stop working on a message, if it is in work. The caller has stored the cancellation."""
        scope = self._scopes.get(id)
        if scope is not None:
            scope.cancel()

    async def run(self) -> None:
        """Never returns. An earlier run's unanswered messages come first; how many there were is logged."""
        entry = await self._keyvalue.get(CURSOR)
        self._newest = int(entry.value) if entry else 0
        is_first = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._retry, tasks)
            tasks.start_soon(self._look_at_rights)
            while True:
                records = await self._post.work(after=self._newest, timeout_s=0.0 if is_first else _IDLE_S)
                for record in records:
                    self._left_over += is_first
                    self._begin(record.seq)
                    self._newest = record.seq
                    await self._room.acquire()
                    tasks.start_soon(self._settle, record.seq, record.id)
                if is_first and not records:
                    is_first = False
                    if self._left_over:
                        log.warning("messages_taken_up", count=self._left_over, note="left unanswered by the last run")

    async def _look_at_rights(self) -> None:
        while True:
            await anyio.sleep(RIGHTS_LOOK_S)
            for use, (work, scope) in self._uses.items():
                if not use.holds(_chosen(work)):
                    scope.cancel()

    def _begin(self, seq: int) -> None:
        self._open.add(seq)
        heapq.heappush(self._order, seq)
        if len(self._order) > 2 * len(self._open) + MAX_OPEN:  # behind one that is parked for long
            self._order = sorted(self._open)

    async def _settle(self, seq: int, id: str) -> None:
        """Answer one message, or note why not; then move the cursor. One that is over budget is parked."""
        over_budget: _Refusal | None = None
        scope = self._scopes[id] = anyio.CancelScope()
        try:
            with scope:
                over_budget = await self._work_on(id)
        except Exception:  # a message that breaks the hub must not break it again at each start
            log.exception("message_broke_the_hub", envelope_id=id)
            await self._give_up(id, "an error of the hub itself; its log has it under the message's id")
        finally:
            if self._scopes.get(id) is scope:  # a repeat of a message that retention took is another one of that id
                del self._scopes[id]
            self._room.release()
        if over_budget is not None:
            payer, refused = over_budget
            if not self._parking.park(payer, seq, id, refused):
                self._open.discard(seq)
                self._works.pop(id, None)
            self._has_parked.set()
            return
        self._open.discard(seq)
        with contextlib.suppress(StorageFull, QueueFull):  # the next one notes it, or a restart looks again
            await self._keyvalue.put(CURSOR, str(self._settled()).encode())

    def _settled(self) -> int:
        """Up to which number all messages are settled."""
        while self._order and self._order[0] not in self._open:
            heapq.heappop(self._order)
        first = self._order[0] if self._order else self._newest + 1
        left = self._parking.first_left()
        return (first if left is None else min(first, left)) - 1

    # --- those that are over budget ---

    async def _retry(self, tasks: TaskGroup) -> None:
        """Try parked messages again from time to time, a few of each payer until they are no longer refused."""
        while True:
            await self._has_parked.wait()
            now_s = monotonic_s()
            for lot in self._parking.due(now_s):
                for seq, id in lot.take(now_s):
                    await self._room.acquire()
                    tasks.start_soon(self._settle, seq, id)
                if lot.left is not None and not lot.parked:
                    await self._look_back(lot, tasks)
            if not self._parking.lots:
                self._has_parked = anyio.Event()
                continue
            await anyio.sleep(_LOOK_S)

    async def _look_back(self, lot: Lot, tasks: TaskGroup) -> None:
        """Take up again what was left in the log, until the lot is full anew.

        Whatever is there and not open is looked at; what is settled already costs a look.
        """
        assert lot.left is not None
        lot.looked_at, lot.left = lot.left, None
        after, end = lot.looked_at - 1, self._newest
        while after < end and lot.left is None:
            records = await self._post.work(after=after, timeout_s=0.0)
            if not records:
                after = end
            for record in records:
                if record.seq > end or lot.left is not None:
                    break
                after = record.seq
                if record.seq not in self._open:
                    self._begin(record.seq)
                    await self._room.acquire()
                    tasks.start_soon(self._settle, record.seq, record.id)
        if after < end:
            lot.leave(after + 1)
        lot.looked_at = None

    async def _give_up(self, id: str, reason: str) -> None:
        """Store why there will be no answer; waits for space on a full disk, for the sender must learn of it."""
        try:
            message, _ = await self._post.get(id)
        except HubError as error:
            log.error("message_lost", envelope_id=id, code=error.code, reason=str(error))
            return
        while True:
            try:
                await self._post.fail(message, reason)
                return
            except QueueFull:
                await anyio.sleep(1.0)
            except StorageFull:
                await anyio.sleep(_MAX_BACK_OFF_S)

    async def _work_on(self, id: str) -> _Refusal | None:
        """Try until it works, the message expires, or trying again cannot help. Returns whose budget has no room now.

        Each attempt reads the message anew, so that one that waits costs little memory and may be settled meanwhile.
        """
        work = self._works.setdefault(id, Work())  # that of a message that was parked goes on
        refusal: _Refusal | None = None
        try:
            refusal = await self._try_on(id, work)
            return refusal
        finally:
            if refusal is None:
                self._works.pop(id, None)

    async def _try_on(self, id: str, work: Work) -> _Refusal | None:
        failures, back_off_s = 0, 1.0
        first_failure_s = math.inf
        while True:
            work.attempts += 1
            try:
                message, _ = await self._post.get(id)
            except NotFound:
                return None  # the retention took it
            try:
                await self._try(message, work)
                return None
            except DeadlineExceeded:
                return None  # the mailbox reports the expiry
            except HubError as error:
                if isinstance(error, (UpstreamFailed, UpstreamTimeout)):
                    failures += 1
                    first_failure_s = min(first_failure_s, monotonic_s())
                has_tried_enough = failures >= MAX_UPSTREAM_FAILURES and monotonic_s() - first_failure_s >= GIVE_UP_S
                if not error.retryable or has_tried_enough:
                    log.warning("message_not_answered", envelope_id=id, code=error.code, reason=str(error))
                    await self._give_up(id, str(error))
                    return None
                if isinstance(error, BudgetExceeded):
                    log.info("message_parked", envelope_id=id, reason=str(error))
                    facts = error.facts
                    work.over_budget = OverBudget(str(facts["budget"]), str(facts["limit"]), error.resets_at_ms)
                    return await self._payer_of(message), work.over_budget
                log.info("answer_delayed", envelope_id=id, code=error.code, retry_in_s=back_off_s)
                work.error = str(error)
            del message  # its content may be large, and the wait long
            pause_s = back_off_s * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
            work.next_s = monotonic_s() + pause_s
            await anyio.sleep(pause_s)
            work.next_s = 0.0
            back_off_s = min(back_off_s * 2, _MAX_BACK_OFF_S)

    async def _try(self, message: Envelope, work: Work) -> None:
        """As `_attempt`, for a message that may have been settled meanwhile or may be none for a model to answer."""
        if await self._post.is_settled(message):
            return
        if message.from_.startswith("model:"):
            await self._give_up(message.id, "models do not answer models: that could go on for ever")
            return
        await self._attempt(message, work)

    async def _attempt(self, message: Envelope, work: Work) -> None:
        """Ask once and store the answer. Raises DeadlineExceeded when the message expires meanwhile."""
        left_s = None if message.expires_at is None else (message.expires_at - now_ms()) / 1000
        with anyio.move_on_after(left_s) as limit:
            async with self._rooms.setdefault(message.to, anyio.Semaphore(MAX_RUNNING)):
                answer = await self._ask(message, work)
        if limit.cancelled_caught:
            raise DeadlineExceeded(left_s or 0.0)
        await self._post.answer(message, answer)

    async def _ask(self, message: Envelope, work: Work) -> Envelope:
        """Raises Forbidden for who may not use the model, also when he may not any more while it works."""
        use = self._use(message, await self._post.asker(message.id))
        if (wanted := message.to.removeprefix("model:")) != AUTO:
            use.require(wanted)
        with anyio.CancelScope() as scope:
            self._uses[use] = work, scope
            self._running.add(message.id)
            try:
                return await self._respondent.answer(message, await self._payer_of(message), work, use)
            finally:
                del self._uses[use]
                model = _chosen(work)
                work.call = None
                self._running.discard(message.id)
        raise use.refusal(model or wanted)

    async def _payer_of(self, message: Envelope) -> Payer:
        """The key that posted it; what no key posted goes on the account of whoever the sender's address belongs to."""
        return await self._post.payer(message.id) or self._payer(message.from_)


def _chosen(work: Work) -> str:
    """The model that is asked; empty before the hub has made its choice."""
    return "" if work.call is None or work.call.model == AUTO else work.call.model
