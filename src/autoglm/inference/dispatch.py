"""Brings one call to an instance and its answer back: choose, wait for a slot, send, retry before the first byte.

Nothing is retried after the first byte went to the client; before it, another instance gets the call. Retries go on
while an instance is left that had no failure of late; on doubtful ones they are limited to a share of all requests,
so that they do not multiply the load when everything fails.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import (
    Draining,
    Forbidden,
    HubError,
    NoInstanceFree,
    NotOffered,
    Overloaded,
    UnknownModel,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from autoglm.core.ports import Backend, Reply
from autoglm.inference.allowance import Allowance
from autoglm.inference.answer import Answer
from autoglm.inference.call import AUTO, Call
from autoglm.inference.context_size import context_told, with_way_out
from autoglm.inference.engine.engine import Engine
from autoglm.inference.flaw import HOLD_BYTES, USUAL_STARTS, error_body, flaw_of, is_error
from autoglm.inference.flight import Flight
from autoglm.inference.hedge import FirstBytes, Hedge
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import NOTHING, Scheduler
from autoglm.inference.slot import Slot
from autoglm.inference.sse import FIRST_EVENT_BYTES, has_event
from autoglm.inference.upstream.connection import StaleConnection
from autoglm.inference.usage import usage_of
from autoglm.inference.verdict import Verdict, judge
from autoglm.inference.watch import Watch

log = structlog.get_logger()

_RETRIES_PER_S = 1.0
_RETRIES_AT_START = 10.0

_Result = Answer | tuple[Verdict, HubError]


def _all_models(_: str) -> bool:
    return True


def _allows_another(allows: Callable[[str], bool], too_short: str, model: str) -> bool:
    return model != too_short and allows(model)


class Dispatcher:
    def __init__(self, scheduler: Scheduler, engine: Engine) -> None:
        self.scheduler = scheduler
        self.engine = engine
        self.retries = 0
        """Calls that were sent once more, since the start."""
        self.hedges = 0
        """Calls that were sent a second time before the first attempt had ended."""
        self.hedges_won = 0
        """Those whose second attempt gave the answer."""
        self.first_bytes = FirstBytes()
        pool = scheduler.ejections.settings
        self._hedging = Allowance(pool.hedge_share)
        self._retrying = Allowance(pool.retry_share, per_s=_RETRIES_PER_S, start=_RETRIES_AT_START)
        self._watch = Watch(scheduler, self.first_bytes, self._hedge)
        self._dropping: set[asyncio.Task[None]] = set()

    def launch(
        self, call: Call, landed: Callable[[Flight], None], allows: Callable[[str], bool] = _all_models
    ) -> Flight | None:
        """Send a call without a task, if a slot is free: see Flight. None, or one that was not sent, is for `answer`.

        `landed` gets the flight in the end; `arrive` then gives the answer, or `answer` has to do it.
        """
        scheduler = self.scheduler
        if scheduler.is_draining or call.is_stream or call.deadline_s is not None:
            return None
        try:
            if call.wanted == AUTO:
                self.engine.choose(call, allows)
        except HubError:
            return None  # `answer` will say why
        slot = scheduler.try_acquire(call)
        if slot is None:
            return None
        if not self._watch.is_armed:
            self._watch.arm()
        flight = Flight(call, slot, landed)
        try:
            if call.applied is not None:
                self.engine.adapt(call, slot.instance.provider)
            flight.start(can_move=scheduler.settings.retries > 0)
        except BaseException:
            scheduler.release(slot)
            raise
        return flight

    def arrive(self, flight: Flight) -> Answer | None:
        """The answer of a flight that has landed; None when there is more to it than a good and whole reply."""
        reply, slot, call = flight.reply, flight.slot, flight.call
        first = reply.body_if_complete() if reply is not None and reply.status < 300 else None
        if reply is None or not first or not first.startswith(USUAL_STARTS) or flaw_of(call, first, is_whole=True):
            return None
        first_byte_s = monotonic_s() - slot.started_s
        slot.instance.succeeded(slot, first_byte_s, is_complete=True)
        self.first_bytes.add((call.model, False), first_byte_s)
        if slot.hedge is not None:
            self._drop(slot.hedge)
        return Answer(slot, self.scheduler, reply, first=first, is_whole=True, first_byte_s=first_byte_s)

    def abandon(self, flight: Flight) -> None:
        """The client has left."""
        flight.abandon()
        flight.slot.was_left = True
        if flight.slot.hedge is not None:
            self._drop(flight.slot.hedge)
        self.scheduler.release(flight.slot)

    async def answer(  # noqa: PLR0912  # what can come of an attempt, in one place
        self, call: Call, allows: Callable[[str], bool] = _all_models, flight: Flight | None = None
    ) -> Answer:
        """Get an answer under way. Error replies that are the client's own fault are answers, too.

        `allows` says which models may be used where the call leaves the choice to the hub. flight: the first attempt,
        which has landed or was not sent.
        Raises UnknownModel, Forbidden, NotOffered, NoInstanceFree, QueueFull, DeadlineExceeded, Overloaded, Draining,
        UpstreamFailed, UpstreamRefused, UpstreamTimeout.
        """
        scheduler = self.scheduler
        if scheduler.is_draining and flight is None:
            raise Draining
        excluded = shunned = revived = NOTHING
        tries = 0
        failure: HubError | None = None
        too_long: Answer | None = None
        while True:
            try:
                slot = flight.slot if flight is not None else await self._acquire(call, allows, excluded | shunned)
            except (NoInstanceFree, Overloaded, UnknownModel, NotOffered, Forbidden):
                if shunned:  # those who had no failure of late are gone meanwhile
                    shunned = NOTHING
                    continue
                if too_long is not None:
                    return too_long
                if failure is None:
                    raise
                raise failure from None  # the failure that made us look for another tells more
            result = await self._attempt(call, slot, flight, can_move=tries < scheduler.settings.retries)
            flight = None
            names = frozenset((slot.instance.name, slot.hedge.instance) if slot.hedge else (slot.instance.name,))
            if isinstance(result, Answer):
                if not result.is_too_long or call.wanted != AUTO:
                    return result
                await result.finish()
                too_long = result
                allows = partial(_allows_another, allows, call.model)
                continue
            verdict, failure = result
            if verdict.kind == "transient":
                excluded |= names
                found = self._whom_to_shun(call, excluded, tries)
                if found is not None:
                    shunned = found
                    tries += 1
                elif names & revived or not await slot.instance.fell():
                    raise failure
                else:  # it may have fallen by this very request, which is sent there once more, not for ever
                    revived |= names
                    excluded -= names
                    scheduler.changed()
            elif verdict.kind in ("throttled", "overloaded", "quota"):
                waited_s = monotonic_s() - call.arrived_s
                if waited_s > scheduler.settings.max_wait_s:
                    raise NoInstanceFree(call.model, waited_s, str(failure), scheduler.predicted_wait_s(call))
                failure = None  # it waits for its turn; if that cannot come, the scheduler says why and until when
            self.retries += 1

    def _whom_to_shun(self, call: Call, excluded: frozenset[str], tries: int) -> frozenset[str] | None:
        """Whom a retry leaves out beside those that have failed it: the doubtful, as long as there are others.

        None: no retry. The first one may go to doubtful ones freely, further ones share an allowance.
        """
        scheduler = self.scheduler
        settings = scheduler.settings
        if tries >= settings.retries or not scheduler.has_other(call, excluded):
            return None
        if monotonic_s() - call.arrived_s > settings.max_wait_s:
            return None
        everyone = scheduler.instances.values() if call.wanted == AUTO else scheduler.candidates(call.model, call.api)
        left = [entry for entry in everyone if entry.name not in excluded and call.api in entry.apis]
        doubtful = frozenset(entry.name for entry in left if entry.is_doubtful)
        if len(doubtful) < len(left):
            return doubtful
        return NOTHING if tries == 0 or self._retrying.take(self.first_bytes.count) else None

    async def _acquire(self, call: Call, allows: Callable[[str], bool], excluded: frozenset[str]) -> Slot:
        if call.wanted == AUTO:
            self.engine.choose(call, allows, excluded)
        slot = await self.scheduler.acquire(call, excluded)
        if not self._watch.is_armed:
            self._watch.arm()
        return slot

    # --- two attempts at a time ---

    async def _attempt(self, call: Call, slot: Slot, flight: Flight | None, *, can_move: bool) -> _Result:
        """One attempt, and what came of its hedge if there was one."""
        try:
            result = await self._try(call, slot, flight, can_move=can_move)
            hedge = slot.hedge
            if hedge is None or isinstance(result, Answer):
                return result
            other = await hedge.task
            slot.hedge = hedge = None if other is not None else hedge
            if other is None:
                return result
            self.hedges_won += 1
            self.first_bytes.add((call.model, call.is_stream), monotonic_s() - slot.started_s)
            return other
        finally:
            if slot.hedge is not None:
                self._drop(slot.hedge)

    def _hedge(self, slot: Slot) -> None:
        """Send a late call a second time, if that is allowed and another instance has a slot to spare."""
        call, scheduler = slot.call, self.scheduler
        if scheduler.waiting or call.api == "/responses":  # a response may be stored: two would be
            return
        if not self._hedging.take(self.first_bytes.count):
            return
        second = scheduler.try_acquire(call, frozenset((slot.instance.name,)))
        if second is None:
            self._hedging.give_back()
            return
        self.hedges += 1
        task = asyncio.get_running_loop().create_task(self._second(call, slot, second))
        task.add_done_callback(partial(self._free_unused, second))
        slot.hedge = second.hedge = Hedge(second.instance.name, task)  # the second is not hedged again

    def _free_unused(self, slot: Slot, task: "asyncio.Task[Answer | None]") -> None:
        """A task that is cancelled before its first step runs no `finally`."""
        if task.cancelled():
            self.scheduler.release(slot)

    async def _second(self, call: Call, first: Slot, second: Slot) -> Answer | None:
        """The second attempt; when it has an answer, the first is broken off and finds it."""
        result = await self._try(call, second, None, can_move=True, is_hedge=True)
        if not isinstance(result, Answer):
            return None
        if first.waiting is not None:
            self._watch.suspect(first.instance, monotonic_s())  # the requests that hung there are gone with this
            first.recall()
        return result

    def _drop(self, hedge: Hedge) -> None:
        dropping = asyncio.get_running_loop().create_task(hedge.drop())
        self._dropping.add(dropping)
        dropping.add_done_callback(self._dropping.discard)

    async def _try(
        self, call: Call, slot: Slot, flight: Flight | None, *, can_move: bool, is_hedge: bool = False
    ) -> _Result:
        """One attempt with a slot that is taken. Gives the slot back unless an Answer holds it.

        A whole reply that is no answer costs the tenant's fair share what the instance tells of it: it has worked. It
        costs no budget (see `Budgets`), which counts what the caller gets.
        """
        instance = slot.instance
        reply: Reply | None = None
        is_kept = False
        spent = (0, 0)
        try:
            backend = instance.backend
            if backend is None:
                raise UpstreamFailed(instance.name, "it went away")
            if can_move:
                slot.waiting = asyncio.current_task()
            if call.applied is not None:
                self.engine.adapt(call, instance.provider)
            reply = await _reply(backend, call, flight)
            first, is_whole = await self._first(call, instance, reply)
            slot.waiting = None
            result = self._judge(call, slot, reply, first, is_whole=is_whole)
            is_kept = isinstance(result, Answer)
            if is_kept and not is_hedge and reply.status < 300:
                self.first_bytes.add((call.model, call.is_stream), monotonic_s() - slot.started_s)
            return result
        except (UpstreamFailed, UpstreamTimeout) as failure:
            spent = failure.usage if isinstance(failure, _Flawed) else spent
            if not slot.is_recalled:
                instance.failed(slot, str(failure))
                instance.suspect()  # it may be dead: one such request is enough
            return Verdict("transient", str(failure)), failure
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not slot.is_recalled or task is None or task.uncancel():
                slot.was_left = not is_hedge  # the caller gave up
                raise
            gone = UpstreamFailed(instance.name, instance.error or "it is down")
            return Verdict("transient", str(gone)), gone
        finally:
            slot.waiting = None
            if not is_kept:
                self.scheduler.release(slot, *spent)
                if reply is not None:
                    await reply.aclose()

    def _judge(self, call: Call, slot: Slot, reply: Reply, first: bytes, *, is_whole: bool) -> _Result:
        """What the reply is worth, told to the instance. Raises UpstreamFailed for what is no answer."""
        instance = slot.instance
        if reply.status < 300 and not is_error(first):
            if flaw := flaw_of(call, first, is_whole=is_whole):
                raise _Flawed(instance.name, flaw, usage_of(first))
            first_byte_s = monotonic_s() - slot.started_s
            instance.succeeded(slot, first_byte_s, is_complete=is_whole)
            return Answer(slot, self.scheduler, reply, first=first, is_whole=is_whole, first_byte_s=first_byte_s)
        verdict = judge(instance.provider, reply.status, reply.headers, error_body(first), api=call.api)
        if verdict.kind in ("client", "too_long"):
            if verdict.kind == "too_long" and (context_tokens := context_told(first)):
                instance.context_tokens[call.model] = context_tokens
            first = with_way_out(first, instance.name) if instance.provider == "local" else first
            answer = Answer(slot, self.scheduler, reply, first=first, is_whole=is_whole)
            answer.status = _clients_status(reply.status)
            answer.is_too_long = verdict.kind == "too_long" and is_whole
            return answer
        self._learn(call, slot, verdict)
        error = UpstreamRefused if verdict.kind in ("blocked", "model_refused") else UpstreamFailed
        return verdict, error(instance.name, verdict.reason)

    async def _first(self, call: Call, instance: Instance, reply: Reply) -> tuple[bytes, bool]:
        """The first bytes to send on, and whether they are all: of a stream an event, of anything else up to 1 MiB.

        Raises UpstreamFailed when there are none, or when the reply leads elsewhere.
        """
        if 300 <= reply.status < 400:
            raise UpstreamFailed(instance.name, f"it redirects (HTTP {reply.status}); is its base_url right?")
        whole = reply.body_if_complete()
        if whole is None:
            is_stream = call.is_stream and reply.status < 300
            parts: list[bytes] = []
            size_bytes = 0
            while (part := await reply.chunk()) is not None:
                parts.append(part)
                size_bytes += len(part)
                if is_stream:
                    if (b"\n" in part and has_event(b"".join(parts))) or size_bytes >= FIRST_EVENT_BYTES:
                        return b"".join(parts), False
                elif size_bytes >= HOLD_BYTES:
                    return b"".join(parts), False
            whole = b"".join(parts)
        if not whole and reply.status < 300:
            raise UpstreamFailed(instance.name, "the answer is empty")
        return whole, True

    def _learn(self, call: Call, slot: Slot, verdict: Verdict) -> None:
        """Mark the instance by what its error reply means."""
        instance, reason = slot.instance, verdict.reason
        match verdict.kind:
            case "transient":
                instance.failed(slot, reason)
                return
            case "throttled":
                instance.throttled(slot, reason, verdict.pause_s)
            case "overloaded" | "quota":
                instance.cool(verdict.pause_s, reason)
                log.warning("instance_cooling", instance=instance.name, pause_s=round(verdict.pause_s), reason=reason)
            case "blocked":
                instance.move("blocked", reason)
                log.error("instance_blocked", instance=instance.name, reason=reason)
            case "model_refused":
                instance.refused_models.add(call.model)
                instance.error = reason
                log.error("model_refused", instance=instance.name, model=call.model, reason=reason)
            case "client" | "too_long":
                raise AssertionError("a client's error is an answer")
        self.scheduler.changed()


async def _reply(backend: Backend, call: Call, flight: Flight | None) -> Reply:
    """The head of the reply: of a flight that was sent, or sent now."""
    if flight is None or not flight.is_sent:
        return await backend.send(call.api, call.body)
    if flight.reply is not None:
        return flight.reply
    assert flight.error is not None, "it has landed"
    if isinstance(flight.error, StaleConnection):
        return await backend.send(call.api, call.body, is_retry=True)
    raise flight.error


def _clients_status(status: int) -> int:
    """For a request that is at fault: with 2xx programs would take it for an answer, with 5xx they would try again."""
    return status if 400 <= status < 500 else 400


def error_message(body: bytes) -> str:
    """The words of an error body, for callers that have no HTTP client to hand it to."""
    try:
        decoded = msgspec.json.decode(body)
        return str(decoded["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:300].decode("utf-8", "replace")


class _Flawed(UpstreamFailed):
    """A whole reply that is no answer. usage: (prompt tokens, answer tokens) that it tells, zeros where it does not."""

    def __init__(self, instance: str, flaw: str, usage: tuple[int, int]) -> None:
        super().__init__(instance, flaw)
        self.usage = usage
