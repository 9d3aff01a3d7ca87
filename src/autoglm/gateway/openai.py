"""OpenAI's API: `/v1/chat/completions` and its sisters, forwarded byte by byte to the instance that was chosen.

This is the measured path: the body is decoded for two fields only, and chunks are forwarded as they come.
Source: OpenAI's API reference; fields that it or a vendor adds travel untouched.
"""

import asyncio
from functools import partial
from typing import Any

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.principal import Principal
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.errors import DeadlineExceeded, Draining, HubError, Unauthorized, UnknownModel
from autoglm.gateway.admission import Admission, Permit
from autoglm.gateway.exchange import LEFT, Exchange, GoOn, Headers, header_lines, raising
from autoglm.gateway.metrics import Metrics
from autoglm.gateway.problems import openai_error
from autoglm.gateway.relay import Hold, Relay, without_usage_event
from autoglm.gateway.standing import LOOK_S, Standing
from autoglm.gateway.wishes import read_call
from autoglm.inference.answer import Answer
from autoglm.inference.budget.estimate import BYTES_PER_TOKEN, answer_tokens
from autoglm.inference.cache.cache import CachedAnswer
from autoglm.inference.call import AUTO, Api, Call
from autoglm.inference.control_text import Stripper
from autoglm.inference.decision import Outcome
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.flight import Flight
from autoglm.inference.kept import Kept
from autoglm.inference.sse import Tail
from autoglm.inference.usage import has_content, has_reasoning, usage_of

APIS: dict[str, Api] = {
    "/v1/chat/completions": "/chat/completions",
    "/v1/completions": "/completions",
    "/v1/embeddings": "/embeddings",
    "/v1/responses": "/responses",
}
_NO_ANSWER = 503
"""For the engine: the request had no answer, or only the beginning of one."""
_MAX_LINES = 1024  # content types come from instances
_STREAM: Headers = [(b"x-accel-buffering", b"no")]
"""Or a web server between the hub and the client, such as nginx, would collect the events first."""
_encode = msgspec.json.Encoder().encode


class OpenAIGateway:
    """Answers everything under /v1."""

    def __init__(
        self, auth: Authenticator, dispatcher: Dispatcher, metrics: Metrics, *, standing: Standing,
        max_body_bytes: int, strip: dict[str, tuple[str, ...]], admission: Admission | None = None,
    ) -> None:  # fmt: skip
        """strip: control text to take out of answers, by model. admission: of a hub with budgets or a cache."""
        self._auth = auth
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._standing = standing
        self._max_body_bytes = max_body_bytes
        self._strip = strip
        self._admission = admission
        self._lines: dict[tuple[str, str, str], bytes] = {}
        self._started_s = now_ms() // 1000
        """The `created` of all models, for clients that sort by it or show it: nobody knows the true one."""

    async def models(self, exchange: Exchange) -> None:
        """`GET /v1/models`: what the key may use."""
        owners = self._owners(exchange.identify(self._auth))
        data = [self._described(model, owner) for model, owner in owners.items()]
        exchange.respond_json(200, {"object": "list", "data": data})

    async def model(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """`GET /v1/models/{id}`. A model that the key may not use is as unknown as one that there is not."""
        owners = self._owners(exchange.identify(self._auth))
        name = variables["id"]
        if name not in owners:
            known = list(owners)
            # Without a name for this key, only a hub that has no model at all is advised to get one.
            raise UnknownModel(name[:256], known if known or not self._dispatcher.scheduler.models() else None)
        exchange.respond_json(200, self._described(name, owners[name]))

    def _owners(self, principal: Principal) -> dict[str, str]:
        """The models that the key may use, `auto` first, with who provides them."""
        owners = {
            model: instance.provider
            for instance in self._dispatcher.scheduler.instances.values()
            for model in instance.models
            if model not in instance.refused_models and principal.allows("model:use", model)
        }
        return {AUTO: "autoglm", **owners} if owners else {}

    def _described(self, model: str, owner: str) -> dict[str, str | int]:
        return {"id": model, "object": "model", "created": self._started_s, "owned_by": owner}

    async def handle(self, exchange: Exchange) -> None:
        """Answer one POST under /v1. Raises what `Dispatcher.answer` raises, and what the key or the body lack."""
        principal = exchange.identify(self._auth)
        body = await exchange.body(self._max_body_bytes)
        call = read_call(exchange, principal, APIS[exchange.path], body)
        await self._serve(exchange, call, principal, permit=self._permit(exchange, call, principal))

    def _permit(self, exchange: Exchange, call: Call, principal: Principal) -> Permit | None:
        return None if self._admission is None else self._admission.permit(exchange.headers, principal, call)

    def begin(self, exchange: Exchange, go_on: GoOn) -> None:
        """As `handle`, for a request that is here as a whole; without a task where all goes well (ADR 5).

        go_on: gets the exchange and what is left to do, or None once it is over.
        """
        principal = exchange.identify(self._auth)
        exchange.check_body(self._max_body_bytes)
        call = read_call(exchange, principal, APIS[exchange.path], exchange.whole_body())
        if self._admission is not None and (permit := self._permit(exchange, call, principal)) is not None:
            go_on(exchange, self._serve(exchange, call, principal, permit=permit))
            return
        allows = partial(principal.allows, "model:use")
        flight = self._dispatcher.launch(call, partial(self._land, exchange, go_on), allows)
        if flight is None or not flight.is_sent:
            go_on(exchange, self._serve(exchange, call, principal, flight))
        else:
            exchange.on_leave = partial(self._leave, exchange, go_on, flight)

    def _land(self, exchange: Exchange, go_on: GoOn, flight: Flight) -> None:
        exchange.on_leave = None
        principal = exchange.principal
        assert principal is not None
        answer = self._dispatcher.arrive(flight)
        if answer is None:
            go_on(exchange, self._serve(exchange, flight.call, principal, flight))
            return
        try:
            if monotonic_s() - exchange.started_s > LOOK_S:  # who was let in a moment ago is not asked twice
                exchange.check_still()
            self._pass_on(exchange, answer)
        except Exception as error:  # noqa: BLE001  # the edge to the instance's connection, which others will use
            status = LEFT if isinstance(error, Unauthorized) else _NO_ANSWER
            failed = Outcome(status=status, instance=answer.instance.name)
            self._dispatcher.engine.concluded(flight.call, failed)
            go_on(exchange, raising(error))
        else:
            go_on(exchange, None)
        finally:
            answer.settle(exchange.tokens_in, exchange.tokens_out)

    def _leave(self, exchange: Exchange, go_on: GoOn, flight: Flight) -> None:
        self._dispatcher.abandon(flight)
        self._dispatcher.engine.concluded(flight.call, Outcome(status=LEFT, instance=flight.slot.instance.name))
        exchange.status = LEFT
        exchange.asked = flight.call.model
        go_on(exchange, None)

    async def _serve(
        self, exchange: Exchange, call: Call, principal: Principal, flight: Flight | None = None,
        permit: Permit | None = None,
    ) -> None:  # fmt: skip
        exchange.cancel_when_left()
        task = asyncio.current_task()
        assert task is not None
        is_refused = False

        def end() -> None:
            nonlocal is_refused
            is_refused = True
            task.cancel()

        work = (
            self._answer(exchange, call, principal, flight)
            if permit is None
            else self._answer_counted(exchange, call, principal, permit)
        )
        try:
            with self._standing.held(exchange.shown or self._auth.of_key(principal), end):
                if call.deadline_s is None:
                    await work
                else:
                    async with asyncio.timeout(call.deadline_s - monotonic_s()):
                        await work
        except TimeoutError:
            if call.deadline_s is None:
                raise
            error = DeadlineExceeded(call.patience_s)
            if not call.is_open:
                raise error from None
            self._break_off(exchange, error)
        except asyncio.CancelledError:
            if is_refused and not exchange.has_left:
                task.uncancel()
                if exchange.is_complete:  # he had it all
                    return
                refusal = Unauthorized("what this request showed has ended, or was revoked meanwhile")
                if not call.is_open:
                    raise refusal from None
                self._break_off(exchange, refusal)
                return
            # A shutdown that has waited long enough cuts the answer off; a client that left needs no words.
            if exchange.has_left or not call.is_open or not self._dispatcher.scheduler.is_draining:
                raise
            self._break_off(exchange, Draining())
        finally:
            exchange.asked = call.model  # for the access log, if nobody has answered
            if call.decision is not None:
                is_nobodys = exchange.has_left or is_refused
                failed = Outcome(status=LEFT if is_nobodys else _NO_ANSWER, instance=exchange.instance)
                self._dispatcher.engine.concluded(call, failed)

    async def _answer(self, exchange: Exchange, call: Call, principal: Principal, flight: Flight | None) -> None:
        answer = await self._dispatcher.answer(call, partial(principal.allows, "model:use"), flight)
        try:
            if answer.is_whole:
                self._pass_on(exchange, answer)
                return
            self._take_down(exchange, answer)
            if call.is_stream and answer.status < 300:
                await self._send_stream(exchange, answer)
            else:
                await self._send_long(exchange, answer)
        finally:
            await answer.finish(exchange.tokens_in, exchange.tokens_out)

    def _conclude(self, exchange: Exchange, answer: Answer, body: bytes, guess: int) -> None:
        """Tell the engine what came of its choice. body: the whole answer, or nothing where it is too long. guess:
        about how many tokens it has.
        """
        if answer.call.decision is None:
            return
        outcome = Outcome(
            status=answer.status, instance=exchange.instance, first_token_s=answer.first_byte_s,
            took_s=answer.took_s, tokens_in=exchange.tokens_in, tokens_out=exchange.tokens_out,
        )  # fmt: skip
        self._dispatcher.engine.concluded(answer.call, outcome, body, guess)

    async def _answer_counted(self, exchange: Exchange, call: Call, principal: Principal, permit: Permit) -> None:
        """As `_answer`, with a permit. The client gets the end of an answer once it is counted on the disk (ADR 8)."""
        try:
            kept = await permit.enter()
            if kept is not None:
                _give(exchange, kept, permit)
                return
            answer = await self._dispatcher.answer(call, partial(principal.allows, "model:use"))
            try:
                if answer.is_whole:
                    guess = answer_tokens(answer.first) if answer.status < 300 else None
                    usage = usage_of(answer.first)
                    permit.count(call.model, usage, guess)
                    answer.settle(*usage)  # the slot need not wait for the disk
                    await permit.written()
                    self._pass_on(exchange, answer, permit)
                    return
                self._take_down(exchange, answer)
                if call.is_stream and answer.status < 300:
                    await self._send_stream(exchange, answer, permit)
                else:
                    await self._send_long(exchange, answer, permit)
            finally:
                await answer.finish(exchange.tokens_in, exchange.tokens_out)
        except asyncio.CancelledError:
            permit.has_left = True
            raise
        finally:
            permit.leave()

    def _take_down(self, exchange: Exchange, answer: Answer) -> None:
        """For the access log and the metrics."""
        exchange.model = answer.call.model
        exchange.instance = answer.instance.name
        if answer.call.wanted == AUTO and exchange.principal is not None:  # a named one was decided on when it came
            exchange.principal.decided("model:use", exchange.model, is_allowed=True)
        if answer.first_byte_s:
            self._metrics.observe_first_byte(exchange.model, exchange.instance, answer.first_byte_s, answer.waited_s)
        decision = answer.call.decision
        if decision is not None:
            model = decision.candidates[decision.chosen].arm.model
            self._metrics.observe_decision(model, decision.prefer, is_exploration=decision.is_exploration)

    def _pass_on(self, exchange: Exchange, answer: Answer, permit: Permit | None = None) -> None:
        """Send an answer that is here as a whole."""
        self._take_down(exchange, answer)
        body, warning = answer.first, b""
        exchange.tokens_in, exchange.tokens_out = usage_of(body)
        if b'"reasoning' in body and _is_reasoning_only(body):
            warning = b"reasoning-only"
            self._metrics.reasoning_only += 1
        markers = self._strip.get(exchange.model)
        if markers and answer.status < 400:
            stripper = Stripper(markers)
            is_json = body.lstrip().startswith(b"{")
            body = stripper.whole(body) if is_json else stripper.feed(body, is_last=True)
        if answer.call.is_stream and answer.status < 300 and has_content(body):  # it came at once
            exchange.first_token_s = monotonic_s() - exchange.started_s
            self._metrics.observe_first_token(exchange.model, exchange.instance, exchange.first_token_s)
        if permit is not None:
            if permit.hides_usage:
                body = without_usage_event(body)
            if not warning:
                permit.collect(body)
                permit.keep(answer)
        if warning or permit is not None or answer.call.is_stream or answer.call.decision is not None:
            exchange.respond(answer.status, body, self._head(exchange, answer, warning, permit))
            self._conclude(exchange, answer, answer.first, answer_tokens(answer.first))
            return
        known = (answer.content_type, exchange.model, exchange.instance)
        lines = self._lines.get(known)
        if lines is None:
            lines = header_lines(self._head(exchange, answer))
            if len(self._lines) < _MAX_LINES:
                self._lines[known] = lines
        exchange.respond_prepared(answer.status, body, lines)

    async def _send_stream(self, exchange: Exchange, answer: Answer, permit: Permit | None = None) -> None:
        """A stream that breaks off ends with an error event, never silently."""
        markers = self._strip.get(exchange.model)
        kept = Kept() if answer.call.decision is not None else None
        hold = None if permit is None else Hold(partial(_send_on, exchange, permit))
        relay = Relay(exchange, Stripper(markers) if markers else None, kept, None if hold is None else hold.take)
        exchange.start(answer.status, self._head(exchange, answer, b"", permit))
        answer.call.is_open = True
        try:
            relay.take(answer.first)
            await answer.forward(relay)
            if flaw := relay.flaw():
                raise answer.broke(flaw)
            relay.finish()
            if permit is not None:
                assert hold is not None
                await answer.finish(exchange.tokens_in, exchange.tokens_out)  # the slot need not wait for the disk
                permit.count(exchange.model, (exchange.tokens_in, exchange.tokens_out), relay.events)
                await permit.written()
                hold.release(without_usage=permit.hides_usage)
        except HubError as error:
            self._break_off(exchange, error)
            return
        finally:
            self._observe_pace(exchange, relay)
            if permit is not None:
                permit.leave(relay.events)
        if kept is not None:
            self._conclude(exchange, answer, kept.whole(), relay.events)
        self._metrics.reasoning_only += relay.is_reasoning_only
        if permit is not None and not relay.is_reasoning_only:
            permit.keep(answer)
        exchange.end()

    def _observe_pace(self, exchange: Exchange, relay: Relay) -> None:
        """How long the first token took since the request came, and each further one."""
        if relay.first_token_s:
            labels = exchange.model, exchange.instance
            exchange.first_token_s = relay.first_token_s - exchange.started_s
            self._metrics.observe_first_token(*labels, exchange.first_token_s)
            if exchange.tokens_out > 1:
                pace_s = (relay.ended_s - relay.first_token_s) / (exchange.tokens_out - 1)
                self._metrics.observe_pace(*labels, pace_s)

    async def _send_long(self, exchange: Exchange, answer: Answer, permit: Permit | None = None) -> None:
        """A reply that is too long to hold back: passed on in pieces, cut visibly when the upstream cuts it."""
        exchange.start(answer.status, self._head(exchange, answer, b"", permit))
        chunk: bytes | None = answer.first
        tail = Tail()
        sent_bytes = 0
        try:
            while chunk is not None:
                tail.add(chunk)
                following = None if permit is None else await answer.chunk()
                if permit is not None:
                    permit.collect(chunk)
                    if following is None:
                        guess = (sent_bytes + len(chunk)) // BYTES_PER_TOKEN
                        permit.count(exchange.model, _usage_of_long(answer, tail), guess)
                        await permit.written()
                await exchange.write(chunk)
                sent_bytes += len(chunk)
                chunk = following if permit is not None else await answer.chunk()
        finally:
            if permit is not None:
                permit.leave(sent_bytes // BYTES_PER_TOKEN)
        exchange.tokens_in, exchange.tokens_out = _usage_of_long(answer, tail)
        if permit is not None:
            permit.keep(answer)
        exchange.end()
        self._conclude(exchange, answer, b"", sent_bytes // BYTES_PER_TOKEN)

    def _break_off(self, exchange: Exchange, error: HubError) -> None:
        """At once: whoever does not read must not put off his own end."""
        self._metrics.broken_streams += 1
        exchange.note(error)
        event = b"event: error\ndata: " if exchange.path == "/v1/responses" else b"data: "
        exchange.push(b"\n\n" + event + _encode(openai_error(error, exchange.request_id)) + b"\n\n")
        exchange.end()

    def _head(self, exchange: Exchange, answer: Answer, warning: bytes = b"", permit: Permit | None = None) -> Headers:
        headers = [
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"x-autoglm-model", exchange.model.encode()),
            (b"x-autoglm-instance", exchange.instance.encode()),
        ]
        if warning:
            headers.append((b"x-autoglm-warning", warning))
        if answer.call.decision is not None:
            headers.append((b"x-autoglm-decision", answer.call.decision.id.encode()))
        if permit is not None:
            headers += permit.headers()
        return [*headers, *_STREAM] if answer.call.is_stream or warning else headers


def _usage_of_long(answer: Answer, tail: Tail) -> tuple[int, int]:
    """Usually the usage is at the end; some write it first."""
    usage = usage_of(tail.last())
    return usage if usage != (0, 0) else usage_of(answer.first)


def _send_on(exchange: Exchange, permit: Permit, chunk: bytes) -> None:
    permit.collect(chunk)
    exchange.push(chunk)


def _give(exchange: Exchange, kept: CachedAnswer, permit: Permit) -> None:
    """Answer with what is kept."""
    exchange.model, exchange.instance = kept.model, kept.instance
    headers = [
        (b"content-type", kept.content_type.encode("latin-1")),
        (b"x-autoglm-model", kept.model.encode()),
        (b"x-autoglm-instance", kept.instance.encode()),
        *permit.headers(is_hit=True),
    ]
    exchange.respond(200, kept.body, [*headers, *_STREAM] if kept.is_stream else headers)


def _is_reasoning_only(body: bytes) -> bool:
    """True when a completion, or a stream that came at once, has reasoning and nothing for the user.

    Many clients would show an empty answer and take it for success.
    """
    if not body.lstrip().startswith(b"{"):
        return has_reasoning(body) and not has_content(body)
    try:
        choices: list[dict[str, Any]] = msgspec.json.decode(body)["choices"]
        messages = [choice["message"] for choice in choices]
        return bool(messages) and all(
            (message.get("reasoning_content") or message.get("reasoning"))
            and not message.get("content")
            and not message.get("tool_calls")
            for message in messages
        )
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return False
