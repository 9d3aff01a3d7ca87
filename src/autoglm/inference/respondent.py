"""Asks a model for the answer to a message, and turns what it says into the message that goes back."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.envelope import Content, Envelope, JsonPart
from autoglm.core.errors import HubError, InvalidField, UpstreamFailed
from autoglm.core.payer import Payer
from autoglm.core.ports import ModelUse
from autoglm.core.preference import PreferenceName
from autoglm.inference.answer import Answer
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.charge import Charge
from autoglm.inference.budget.estimate import answer_tokens
from autoglm.inference.call import AUTO, Call
from autoglm.inference.control_text import Stripper, TextStripper
from autoglm.inference.decision import Outcome
from autoglm.inference.dispatch import Dispatcher, error_message
from autoglm.inference.kept import Kept
from autoglm.inference.progress import Work
from autoglm.inference.sse import Events, Tail
from autoglm.inference.usage import usage_of

DECISION_LABEL = "decision"
"""On an answer that `auto` chose a model for: names the choice, so that the answer can be judged."""
THREAD_MESSAGES = 40
"""How many earlier messages of a thread a model sees."""
_NO_ANSWER = 503
_MAX_ANSWER_BYTES = 16 << 20
_encode = msgspec.json.Encoder().encode


class Threads(Protocol):
    """What the respondent needs of the mailbox."""

    async def thread(self, person: str, thread: str, *, limit: int) -> list[Envelope]: ...


class PublishDelta(Protocol):
    def __call__(self, *, reply_to: str, from_: str, to: str, index: int, text: str) -> None: ...


def answer_id(id: str) -> str:
    """The id of the answer to a message: the same on every attempt."""
    return "answer-" + hashlib.sha256(id.encode()).hexdigest()[:40]


def _nothing(_: str) -> PreferenceName | None:
    return None


class Respondent:
    """`answer` is one attempt; who calls it tries again."""

    def __init__(
        self, threads: Threads, dispatcher: Dispatcher, publish: PublishDelta, *,
        strip: Mapping[str, tuple[str, ...]] | None = None,
        prefers: Callable[[str], PreferenceName | None] = _nothing,
        budgets: Budgets | None = None,
    ) -> None:  # fmt: skip
        """publish: is told the words of an answer as they come. strip: control text to take out of answers, by model.
        prefers: by a key's name, what it says that matters.
        """
        self._threads = threads
        self._dispatcher = dispatcher
        self._publish = publish
        self._strip = strip or {}
        self._prefers = prefers
        self._budgets = budgets

    async def answer(self, message: Envelope, payer: Payer, work: Work, use: ModelUse) -> Envelope:
        """The answer, ready to be stored. work: is told what there is to tell meanwhile. use: of whoever asks.

        Raises HubError: its `retryable` says whether another attempt may do better.
        """
        is_task = message.kind == "task"
        body = _task_request(message) if is_task else await self._chat_request(message)
        deadline_s = None
        if message.expires_at is not None:
            deadline_s = monotonic_s() + (message.expires_at - now_ms()) / 1000
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
            answer = await self._dispatcher.answer(call, use.allows)
            try:
                if call.wanted == AUTO:
                    use.chosen(call.model)
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

    async def _chat_request(self, message: Envelope) -> bytes:
        earlier: Sequence[Envelope] = ()
        if message.thread is not None:
            thread = await self._threads.thread(message.from_, message.thread, limit=THREAD_MESSAGES)
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
