"""Brings one call to an instance and its answer back: choose, wait for a slot, send, retry before the first byte.

Nothing is retried after the first byte went to the client; before it, another instance gets the call.
"""

import asyncio
import re
from collections.abc import Callable

import msgspec
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import (
    Draining,
    Forbidden,
    HubError,
    NoInstanceFree,
    NotOffered,
    UnknownModel,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from autoglm.core.ports import Backend, Reply, Sink
from autoglm.inference.call import AUTO, Call
from autoglm.inference.context_size import with_way_out
from autoglm.inference.engine.engine import Engine
from autoglm.inference.flight import Flight
from autoglm.inference.instance import Instance, Slot
from autoglm.inference.scheduler import NOTHING, Scheduler
from autoglm.inference.sse import FIRST_EVENT_BYTES, TAIL_BYTES, Events, flaw_in, flaw_of_end, has_event
from autoglm.inference.upstream.connection import StaleConnection
from autoglm.inference.verdict import Verdict, judge

log = structlog.get_logger()

HOLD_BYTES = 1 << 20
"""A reply that is no stream is held back up to this size, so that a cut one can be replayed elsewhere."""

# Of a whole answer: what begins otherwise may be an error, or is looked at more closely anyway.
_USUAL_STARTS = (b'{"id"', b'{"choices"', b'{"object"', b'{"created"', b'{"model"', b'{"data"')
# `{"error": {...}}`, `data: {"error": ...}`, `event: error`, after comments; but not `{"error": null, ...}`.
_ERROR = re.compile(rb'\s*(?::[^\n]*\n\s*)*(?:event:\s*error\b|(?:data:\s*)?\{\s*"error"\s*:(?!\s*null))')


class Answer:
    """An answer that has begun. `first` is in hand; `chunk` gives the rest. Call `finish` once, however it ends."""

    __slots__ = (
        "_is_complete", "_reply", "_scheduler", "_slot", "call", "content_type", "first", "first_byte_s", "instance",
        "is_whole", "status",
    )  # fmt: skip

    def __init__(
        self, slot: Slot, scheduler: Scheduler, reply: Reply, *, first: bytes, is_whole: bool, first_byte_s: float = 0.0
    ) -> None:
        self.call = slot.call
        self.instance: Instance = slot.instance
        self.status = reply.status
        self.content_type = reply.headers.get("content-type", "application/json")
        self.first = first
        self.is_whole = is_whole
        """True when `first` is all there is."""
        self.first_byte_s = first_byte_s
        self._reply: Reply | None = reply
        self._scheduler = scheduler
        self._slot = slot
        self._is_complete = False

    @property
    def took_s(self) -> float:
        """Since the instance got the call."""
        return monotonic_s() - self._slot.started_s

    async def chunk(self) -> bytes | None:
        """The next bytes, None at the end. Raises UpstreamFailed, UpstreamTimeout; the instance then is marked."""
        assert self._reply is not None
        try:
            chunk = await self._reply.chunk()
        except (UpstreamFailed, UpstreamTimeout) as error:
            self.instance.failed(self._slot, str(error))
            raise
        if chunk is None:
            self._is_complete = True
        return chunk

    async def forward(self, sink: Sink) -> None:
        """Give the sink all chunks to come. Raises as `chunk` does."""
        assert self._reply is not None
        try:
            await self._reply.forward(sink)
        except (UpstreamFailed, UpstreamTimeout) as error:
            self.instance.failed(self._slot, str(error))
            raise
        self._is_complete = True

    def broke(self, reason: str) -> UpstreamFailed:
        """The answer came to an end, but is none: marks the instance, returns the error to raise."""
        self._is_complete = False
        self.instance.failed(self._slot, reason)
        return UpstreamFailed(self.instance.name, reason)

    def settle(self) -> Reply | None:
        """Free the slot. Enough for an answer that `is_whole`; else close the reply that this returns."""
        reply, self._reply = self._reply, None
        if reply is not None:
            if self._is_complete:
                self.instance.completed(self._slot)
            self._scheduler.release(self._slot)
        return reply

    async def finish(self) -> None:
        """Free the slot. An upstream that is not done is closed at once, so that it stops generating."""
        reply = self.settle()
        if reply is not None:
            await reply.aclose()


def _all_models(_: str) -> bool:
    return True


class Dispatcher:
    def __init__(self, scheduler: Scheduler, engine: Engine) -> None:
        self.scheduler = scheduler
        self.engine = engine
        self.retries = 0
        """Calls that were sent once more, since the start."""

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
        flight = Flight(call, slot, landed)
        try:
            flight.start(can_move=scheduler.settings.retries > 0)
        except BaseException:
            scheduler.release(slot)
            raise
        return flight

    def arrive(self, flight: Flight) -> Answer | None:
        """The answer of a flight that has landed; None when there is more to it than a good and whole reply."""
        reply, slot, call = flight.reply, flight.slot, flight.call
        first = reply.body_if_complete() if reply is not None and reply.status < 300 else None
        if reply is None or not first or not first.startswith(_USUAL_STARTS) or _flaw(call, first, is_whole=True):
            return None
        first_byte_s = monotonic_s() - slot.started_s
        slot.instance.succeeded(slot, first_byte_s, is_complete=True)
        return Answer(slot, self.scheduler, reply, first=first, is_whole=True, first_byte_s=first_byte_s)

    def abandon(self, flight: Flight) -> None:
        """The client has left."""
        flight.abandon()
        self.scheduler.release(flight.slot)

    async def answer(
        self, call: Call, allows: Callable[[str], bool] = _all_models, flight: Flight | None = None
    ) -> Answer:
        """Get an answer under way. Error replies that are the client's own fault are answers, too.

        `allows` says which models may be used where the call leaves the choice to the hub. flight: the first attempt,
        which has landed or was not sent.
        Raises UnknownModel, Forbidden, NotOffered, NoInstanceFree, QueueFull, DeadlineExceeded, Draining,
        UpstreamFailed, UpstreamRefused, UpstreamTimeout.
        """
        scheduler = self.scheduler
        if scheduler.is_draining and flight is None:
            raise Draining
        excluded = NOTHING
        retries_left = scheduler.settings.retries
        failure: HubError | None = None
        while True:
            try:
                slot = flight.slot if flight is not None else await self._acquire(call, allows, excluded)
            except (NoInstanceFree, UnknownModel, NotOffered, Forbidden):
                if failure is None:
                    raise
                raise failure from None  # the failure that made us look for another tells more
            result = await self._try(call, slot, flight, can_move=retries_left > 0)
            flight = None
            if isinstance(result, Answer):
                return result
            verdict, failure = result
            name = slot.instance.name
            match verdict.kind:
                case "transient":
                    if retries_left == 0 or not scheduler.has_other(call, excluded | {name}):
                        raise failure
                    retries_left -= 1
                    excluded |= {name}
                case "throttled" | "overloaded" | "quota":
                    waited_s = monotonic_s() - call.arrived_s
                    if waited_s > scheduler.settings.max_wait_s:
                        raise NoInstanceFree(call.model, waited_s, str(failure), scheduler.predicted_wait_s(call))
                    failure = None  # it waits for its turn; if that cannot come, the scheduler says why and until when
                case _:
                    pass  # that instance is out; on to the next
            self.retries += 1

    async def _acquire(self, call: Call, allows: Callable[[str], bool], excluded: frozenset[str]) -> Slot:
        if call.wanted == AUTO:
            self.engine.choose(call, allows, excluded)
        return await self.scheduler.acquire(call, excluded)

    async def _try(
        self, call: Call, slot: Slot, flight: Flight | None, *, can_move: bool
    ) -> Answer | tuple[Verdict, HubError]:
        """One attempt with a slot that is taken. Gives the slot back unless an Answer holds it."""
        instance = slot.instance
        reply: Reply | None = None
        is_kept = False
        try:
            backend = instance.backend
            if backend is None:
                raise UpstreamFailed(instance.name, "it went away")
            if can_move:
                slot.waiting = asyncio.current_task()
            reply = await _reply(backend, call, flight)
            first, is_whole = await self._first(call, instance, reply)
            slot.waiting = None
            first_byte_s = monotonic_s() - slot.started_s
            if reply.status < 300 and _ERROR.match(first) is None:
                if flaw := _flaw(call, first, is_whole=is_whole):
                    raise UpstreamFailed(instance.name, flaw)
                instance.succeeded(slot, first_byte_s, is_complete=is_whole)
                is_kept = True
                return Answer(slot, self.scheduler, reply, first=first, is_whole=is_whole, first_byte_s=first_byte_s)
            verdict = judge(instance.provider, reply.status, reply.headers, _error_body(first), api=call.api)
            if verdict.kind == "client":
                is_kept = True
                first = with_way_out(first, instance.name) if instance.provider == "local" else first
                answer = Answer(slot, self.scheduler, reply, first=first, is_whole=is_whole)
                answer.status = _clients_status(reply.status)
                return answer
            self._learn(call, slot, verdict)
            error = UpstreamRefused if verdict.kind in ("blocked", "model_refused") else UpstreamFailed
            return verdict, error(instance.name, verdict.reason)
        except (UpstreamFailed, UpstreamTimeout) as failure:
            if not slot.is_recalled:
                instance.failed(slot, str(failure))
            return Verdict("transient", str(failure)), failure
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not slot.is_recalled or task is None or task.uncancel():
                raise  # the caller gave up
            gone = UpstreamFailed(instance.name, instance.error or "it is down")
            return Verdict("transient", str(gone)), gone
        finally:
            slot.waiting = None
            if not is_kept:
                self.scheduler.release(slot)
                if reply is not None:
                    await reply.aclose()

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
            case "client":
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


def _flaw(call: Call, first: bytes, *, is_whole: bool) -> str:
    """Why this is no answer, although HTTP is satisfied; nothing of it was sent on yet. Empty for a good one."""
    if not is_whole:
        return flaw_in(first[-TAIL_BYTES:]) if call.is_stream else ""
    if call.is_stream and not first.lstrip().startswith(b"{"):
        return flaw_of_end(first[-TAIL_BYTES:])
    if not first.endswith(b"}") and first.rstrip()[-1:] != b"}":
        return "the answer is no complete JSON object"
    return flaw_in(first[-TAIL_BYTES:]) if b'"network_error"' in first else ""


def _clients_status(status: int) -> int:
    """For a request that is at fault: with 2xx programs would take it for an answer, with 5xx they would try again."""
    return status if 400 <= status < 500 else 400


def _error_body(first: bytes) -> bytes:
    """The JSON of an error that comes as a body or as the first server-sent event."""
    if first.lstrip()[:1] == b"{":
        return first
    return next(Events().feed(first + b"\n\n"), first)


def error_message(body: bytes) -> str:
    """The words of an error body, for callers that have no HTTP client to hand it to."""
    try:
        decoded = msgspec.json.decode(body)
        return str(decoded["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:300].decode("utf-8", "replace")
