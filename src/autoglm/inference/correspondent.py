"""A model as a correspondent: a message to `model:...` is answered by a message to its sender, exactly once.

The answer's id follows from the message's id, and the log takes an id once: a hub that was killed between receiving
and answering, or between answering and noting it, starts the answer anew and stores at most one.
"""

import contextlib
import hashlib
import heapq
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.envelope import Content, Envelope, JsonPart
from autoglm.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    HubError,
    InvalidField,
    NotFound,
    QueueFull,
    StorageFull,
    UpstreamFailed,
    UpstreamTimeout,
)
from autoglm.core.payer import Payer
from autoglm.core.ports import KeyValue, Record
from autoglm.core.preference import PreferenceName
from autoglm.inference.answer import Answer
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.charge import Charge
from autoglm.inference.budget.estimate import answer_tokens
from autoglm.inference.call import Call
from autoglm.inference.control_text import Stripper, TextStripper
from autoglm.inference.decision import Outcome
from autoglm.inference.dispatch import Dispatcher, error_message
from autoglm.inference.kept import Kept
from autoglm.inference.parking import Lot, Parking
from autoglm.inference.progress import OverBudget, Progress, Work
from autoglm.inference.sse import Events, Tail
from autoglm.inference.usage import usage_of

log = structlog.get_logger()

CURSOR = "correspondent/cursor"
DECISION_LABEL = "decision"
"""On an answer that `auto` chose a model for: names the choice, so that the answer can be judged."""
THREAD_MESSAGES = 40
"""How many earlier messages of a thread a model sees."""
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
_NO_ANSWER = 503
_MAX_ANSWER_BYTES = 16 << 20
_encode = msgspec.json.Encoder().encode


class Post(Protocol):
    """What the correspondent needs of the mailbox."""

    async def work(self, *, after: int, timeout_s: float) -> list[Record]: ...
    async def thread(self, person: str, thread: str, *, limit: int) -> list[Envelope]: ...
    async def get(self, id: str) -> tuple[Envelope, Record]: ...
    async def payer(self, id: str) -> Payer | None: ...
    async def answer(self, message: Envelope, answer: Envelope) -> None: ...
    async def fail(self, envelope: Envelope, detail: str) -> None: ...
    async def is_settled(self, envelope: Envelope) -> bool: ...


class PublishDelta(Protocol):
    def __call__(self, *, reply_to: str, from_: str, to: str, index: int, text: str) -> None: ...


def answer_id(id: str) -> str:
    """The id of the answer to a message: the same on every attempt."""
    return "answer-" + hashlib.sha256(id.encode()).hexdigest()[:40]


def _payer(address: str) -> Payer:
    """Each sender on an account of its own."""
    return Payer("", address)


def _nothing(_: str) -> PreferenceName | None:
    return None


_Refusal = tuple[Payer, OverBudget]
"""Whose messages have to wait, and for which budget."""


class Correspondent:
    """`run` in a task. Takes up where it stopped, also after a kill -9."""

    def __init__(
        self, post: Post, keyvalue: KeyValue, dispatcher: Dispatcher, publish: PublishDelta, *,
        strip: Mapping[str, tuple[str, ...]] | None = None,
        payer: Callable[[str], Payer] = _payer, prefers: Callable[[str], PreferenceName | None] = _nothing,
        budgets: Budgets | None = None,
    ) -> None:  # fmt: skip
        """strip: control text to take out of answers, by model. payer: by a sender's address, on whose account its
        messages go where the post does not know who pays. prefers: by a key's name, what it says that matters.
        """
        self._post = post
        self._keyvalue = keyvalue
        self._dispatcher = dispatcher
        self._publish = publish
        self._strip = strip or {}
        self._payer = payer
        self._prefers = prefers
        self._budgets = budgets
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
            return work.progress(self._dispatcher.scheduler)
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
                self._running.add(message.id)
                try:
                    answer = await self._ask(message, work)
                finally:
                    work.call = None
                    self._running.discard(message.id)
        if limit.cancelled_caught:
            raise DeadlineExceeded(left_s or 0.0)
        await self._post.answer(message, answer)

    async def _ask(self, message: Envelope, work: Work) -> Envelope:
        """One attempt. Returns the answer."""
        is_task = message.kind == "task"
        body = _task_request(message) if is_task else await self._chat_request(message)
        deadline_s = None
        if message.expires_at is not None:
            deadline_s = monotonic_s() + (message.expires_at - now_ms()) / 1000
        payer = await self._payer_of(message)
        call = Call("/chat/completions", body, priority=message.priority, deadline_s=deadline_s, tenant=payer.tenant)
        work.call = call
        if (prefer := self._prefers(payer.key)) is not None:
            call.prefer, call.preferred_by = prefer, "key"
        charge = None if self._budgets is None else self._budgets.charge(payer.key, payer.tenant, call)
        work.over_budget = None
        if charge is not None:
            call.ask_for_usage()
        outcome, kept, spent = Outcome(status=_NO_ANSWER), Kept(), _Spent()
        try:
            answer = await self._dispatcher.answer(call)
            try:
                if answer.status >= 400:
                    outcome = Outcome(status=answer.status, instance=answer.instance.name)
                    raise _Refused(answer.instance.name, error_message(answer.first))
                if is_task:
                    content: Content = [JsonPart(json=await self._completion(answer, kept, spent))]
                else:
                    content = await self._relay(message, answer, kept, spent)
                outcome = Outcome(
                    status=answer.status, instance=answer.instance.name, first_token_s=answer.first_byte_s,
                    took_s=answer.took_s, tokens_in=spent.usage[0], tokens_out=spent.usage[1],
                )  # fmt: skip
            finally:
                if charge is not None:  # also of an answer that will not do: its tokens are spent
                    spent.count(charge, call.model)
                await answer.finish(*spent.usage)
            if charge is not None:
                await charge.written()  # before the answer is stored (ADR 8)
            return _answer_to(message, content, call)
        finally:
            self._dispatcher.engine.concluded(call, outcome, kept.whole(), spent.guess)
            if charge is not None:
                charge.release()

    async def _payer_of(self, message: Envelope) -> Payer:
        """The key that posted it; what no key posted goes on the account of whoever the sender's address belongs to."""
        return await self._post.payer(message.id) or self._payer(message.from_)

    async def _chat_request(self, message: Envelope) -> bytes:
        earlier: Sequence[Envelope] = ()
        if message.thread is not None:
            thread = await self._post.thread(message.from_, message.thread, limit=THREAD_MESSAGES)
            ids = [entry.id for entry in thread]
            earlier = thread[: ids.index(message.id)] if message.id in ids else []  # not what was written after it
        turns = [
            {"role": "assistant" if entry.from_.startswith("model:") else "user", "content": _for_model(entry.content)}
            for entry in (*earlier, message)
        ]
        return _encode({"model": message.to.removeprefix("model:"), "messages": turns, "stream": True})

    async def _relay(self, message: Envelope, answer: Answer, kept: Kept, spent: "_Spent") -> str:
        """Publish the words as they come and return the whole text. Raises UpstreamFailed when it breaks off."""
        tail = Tail()
        events, strip = Events(), TextStripper(self._strip.get(answer.call.model, ()))
        parts: list[str] = []
        size, has_ended, is_finished = 0, False, False

        def publish(text: str) -> None:
            if text:
                self._publish(reply_to=message.id, from_=message.to, to=message.from_, index=len(parts), text=text)
                parts.append(text)

        chunk: bytes | None = answer.first
        try:
            while chunk is not None:
                kept.add(chunk)
                tail.add(chunk)
                for data in events.feed(chunk):
                    if data == b"[DONE]":
                        is_finished = True
                        continue
                    spent.guess += 1
                    text, has_ended = _delta_of(answer, data)
                    is_finished = is_finished or has_ended
                    publish(strip.feed(text, is_last=has_ended))
                    size += len(text)
                if size > _MAX_ANSWER_BYTES:
                    raise UpstreamFailed(answer.instance.name, "the answer does not end")
                chunk = None if answer.is_whole else await answer.chunk()
        finally:
            spent.usage = usage_of(tail.last())
        if not is_finished:
            raise answer.broke("the stream stopped without a finish reason")
        publish(strip.feed("", is_last=True))
        if not parts:
            raise _NoContent(answer.instance.name)
        return "".join(parts)

    async def _completion(self, answer: Answer, kept: Kept, spent: "_Spent") -> Any:
        """The decoded body of an answer that is no stream. Raises UpstreamFailed."""
        parts, size_bytes = [answer.first], len(answer.first)
        try:
            while not answer.is_whole and (chunk := await answer.chunk()) is not None:
                parts.append(chunk)
                size_bytes += len(chunk)
                if size_bytes > _MAX_ANSWER_BYTES:
                    raise UpstreamFailed(answer.instance.name, f"the answer is over {_MAX_ANSWER_BYTES} bytes")
        finally:
            body = b"".join(parts)
            spent.usage, spent.guess = usage_of(body), answer_tokens(body)
        kept.add(body)
        markers = self._strip.get(answer.call.model)
        try:
            return msgspec.json.decode(Stripper(markers).whole(body) if markers else body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise answer.broke(f"the answer is not JSON: {error}") from error


class _Spent:
    """What an answer took, noted as it comes."""

    usage = (0, 0)
    """Tokens of prompt and answer as the instance tells them; zeros when it does not."""
    guess = 0
    """About how many tokens the answer has."""

    def count(self, charge: Charge, model: str) -> None:
        """Where nothing came, nothing is counted."""
        if self.usage != (0, 0):
            charge.use(model, *self.usage)
        elif self.guess:
            charge.guess(model, self.guess)


class _Refused(HubError):
    """The instance says that the request itself is wrong: no other attempt will do better."""

    code = "invalid_field"

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(f"{instance} refused the message: {reason}", field="content")


class _NoContent(HubError):
    """Reasoning models that ran out of tokens while they thought."""

    code = "invalid_field"

    def __init__(self, instance: str) -> None:
        way_out = "if it reasons, raise max_tokens or switch thinking off"
        super().__init__(f"{instance} ended its answer without any content; {way_out}", field="content")


def _answer_to(message: Envelope, content: Content, call: Call) -> Envelope:
    return Envelope(
        id=answer_id(message.id), from_=f"model:{call.model}", to=message.from_, content=content,
        labels={} if call.decision is None else {DECISION_LABEL: call.decision.id},
        kind="task" if message.kind == "task" else "chat", reply_to=message.id, thread=message.thread,
    )  # fmt: skip


def _delta_of(answer: Answer, data: bytes) -> tuple[str, bool]:
    """(new text, has it ended) of one event. Raises UpstreamFailed on an error event or garbage."""
    try:
        event: dict[str, Any] = msgspec.json.decode(data)
        if event.get("error"):
            raise answer.broke(error_message(data))
        choices = event.get("choices") or [{}]
        finish = choices[0].get("finish_reason")
        if finish == "network_error":
            raise answer.broke("it lost its connection to the model (finish_reason network_error)")
        return str((choices[0].get("delta") or {}).get("content") or ""), finish is not None
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, TypeError, LookupError) as error:
        raise answer.broke(f"an event of its stream is not readable: {error}") from error


def _task_request(message: Envelope) -> bytes:
    parts = message.content if isinstance(message.content, list) else []
    request = next((part.json for part in parts if isinstance(part, JsonPart)), None)
    if not isinstance(request, dict):
        raise InvalidField("content", "a task needs a json part with the body of a chat completion")
    request = {name: value for name, value in request.items() if name != "stream_options"}
    # The recipient decides: a key was checked for that model, not for what the request says.
    return _encode({**request, "model": message.to.removeprefix("model:"), "stream": False})


def _for_model(content: Content) -> Any:
    """The content as chat completions take it: a `json` part becomes text."""
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": _encode(part.json).decode()} if isinstance(part, JsonPart) else part
        for part in content
    ]
