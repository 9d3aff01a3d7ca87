"""`/api/tasks`: a completion that is worked on in the background and survives a restart.

A task is a message of kind `task` to a model; its result is the answer to that message, its state follows from the
receipts. There is no second queue.
"""

import asyncio
from typing import Annotated, Any, Literal

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.lasting import LastingRights
from autoglm.channels.mailbox import Mailbox
from autoglm.core.address import check_address
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, IdText, JsonPart, Milliseconds, check_texts
from autoglm.core.errors import Draining, InvalidField, NotFound, UnknownModel, UnknownRecipient
from autoglm.core.ids import uuid7
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.messages import MAX_LIMIT, MAX_WAIT_S
from autoglm.gateway.router import Route
from autoglm.inference.correspondent import Correspondent
from autoglm.inference.progress import Progress
from autoglm.inference.respondent import DECISION_LABEL, answer_id

TaskState = Literal["queued", "running", "done", "failed", "expired", "cancelled"]


_request = {
    "properties": {
        "model": {"type": "string", "pattern": r"^[^\x00-\x20\x7f-\xa0]{1,200}$", "examples": ["auto"]},
        "messages": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["model", "messages"],
    "examples": [{"model": "auto", "messages": [{"role": "user", "content": "Summarize the shift."}]}],
}


class NewTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    request: Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=_request)]
    """The body of a chat completion; `model` and `messages` at least."""
    id: IdText | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 5
    expires_at: Milliseconds | None = None


class SubmittedTask(msgspec.Struct, frozen=True):
    id: str
    seq: int
    state: TaskState


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a task."""

    id: str
    state: TaskState
    result: Any = None
    """The chat completion, once the task is done; not in lists."""
    decision: str = ""
    """Names the choice that `auto` made, for `/api/decisions/{id}` and `/api/feedback`."""
    error: str = ""
    """Why it failed."""
    progress: Progress | None = None
    """While it is queued or running: what it waits for, or who works on it."""
    seq: int = 0
    """Its place in the log; in lists."""


class TaskList(msgspec.Struct, frozen=True):
    tasks: list[Task]
    next: int
    """Go on with `after=next`."""


class TasksGateway:
    def __init__(
        self, auth: Authenticator, lasting: LastingRights, mailbox: Mailbox, correspondent: Correspondent, *,
        max_body_bytes: int,
    ) -> None:  # fmt: skip
        self._auth = auth
        self._lasting = lasting
        self._mailbox = mailbox
        self._correspondent = correspondent
        self._max_body_bytes = max_body_bytes
        self._is_draining = False
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def is_draining(self) -> bool:
        """Set at the shutdown: no new tasks, and those who wait for one get its state as it is."""
        return self._is_draining

    @is_draining.setter
    def is_draining(self, is_draining: bool) -> None:
        self._is_draining = is_draining
        if is_draining:
            for task in self._waiting:
                task.cancel()

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/tasks", self.submit),
            Route("GET", "/api/tasks", self.all),
            Route("GET", "/api/tasks/{id}", self.get),
            Route("DELETE", "/api/tasks/{id}", self.cancel),
        ]

    async def submit(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        if self.is_draining:
            raise Draining
        task = fields.decode(await exchange.body(self._max_body_bytes), NewTask)
        envelope = _as_message(task, principal.address)
        principal.require("model:use", envelope.to.removeprefix("model:"))
        try:
            shown = exchange.shown or self._auth.of_key(principal)
            asker = self._lasting.asker(principal, shown.ends_at_ms)
            sent = await self._mailbox.send(envelope, sender=principal.address, payer=principal.payer, asker=asker)
        except UnknownRecipient:
            raise UnknownModel(envelope.to.removeprefix("model:")) from None
        state: TaskState = "queued" if sent.is_new else (await self._view(sent.id)).state
        exchange.respond_json(202 if sent.is_new else 200, SubmittedTask(sent.id, sent.seq, state))

    async def get(self, exchange: Exchange, variables: dict[str, str]) -> None:
        envelope = await self._own(exchange, variables["id"])
        query = exchange.query()
        fields.only(query, ("wait",))
        wait_s = fields.seconds(query, "wait", high=MAX_WAIT_S)
        if wait_s > 0 and not self.is_draining and not exchange.is_head:
            await self._wait(exchange, envelope, wait_s)
            exchange.check_still()
        exchange.respond_json(200, await self._view(envelope.id))

    async def _wait(self, exchange: Exchange, envelope: Envelope, wait_s: float) -> None:
        """Returns when the task has ended, after wait_s, or at a drain."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        exchange.cancel_when_left()
        try:
            await self._mailbox.wait_settled(envelope, wait_s)
        except asyncio.CancelledError:
            if not self.is_draining or exchange.has_left:
                raise
            task.uncancel()
        finally:
            self._waiting.discard(task)

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        """The key's own tasks, oldest first."""
        principal = exchange.identify(self._auth)
        query = exchange.query()
        fields.only(query, ("after", "limit"))
        limit = fields.integer(query, "limit", 100, low=1, high=MAX_LIMIT)
        after = fields.integer(query, "after", 0)
        found = await self._mailbox.tasks_of(principal.address, after=after, limit=limit)
        tasks = [
            msgspec.structs.replace(await self._view(envelope.id), result=None, seq=seq) for envelope, seq in found
        ]
        exchange.respond_json(200, TaskList(tasks, found[-1][1] if found else after))

    async def cancel(self, exchange: Exchange, variables: dict[str, str]) -> None:
        envelope = await self._own(exchange, variables["id"])
        view = await self._view(envelope.id)
        if view.state in ("queued", "running"):
            await self._mailbox.cancel(envelope)
            self._correspondent.cancel(envelope.id)
            view = await self._view(envelope.id)
        exchange.respond_json(200, view)

    async def _own(self, exchange: Exchange, id: str) -> Envelope:
        """The caller's task. Another's is as unknown as one that never was."""
        principal = exchange.identify(self._auth)
        try:
            envelope, _ = await self._mailbox.get(id)
        except NotFound:
            raise NotFound("task", id[:128]) from None
        is_own = envelope.from_ == principal.address or principal.decide("admin", "tasks")
        if envelope.kind != "task" or not envelope.to.startswith("model:") or not is_own:
            raise NotFound("task", id[:128])
        return envelope

    async def _view(self, id: str) -> Task:
        """State and result, as the log tells them."""
        envelope, record = await self._mailbox.get(id)
        steps = {step.state: step for step in await self._mailbox.receipts(envelope, record)}
        try:
            answer, _ = await self._mailbox.get(answer_id(id))
        except NotFound:
            pass
        else:
            parts = answer.content if isinstance(answer.content, list) else []
            return Task(
                id=id, state="done", decision=answer.labels.get(DECISION_LABEL, ""),
                result=next((part.json for part in parts if isinstance(part, JsonPart)), None),
            )  # fmt: skip
        if "cancelled" in steps:
            return Task(id=id, state="cancelled")
        if "failed" in steps:
            return Task(id=id, state="failed", error=steps["failed"].detail)
        if "expired" in steps or (envelope.expires_at is not None and envelope.expires_at <= now_ms()):
            return Task(id=id, state="expired")
        state: TaskState = "running" if self._correspondent.is_running(id) else "queued"
        return Task(id=id, state=state, progress=await self._correspondent.progress(envelope, record.seq))


def _as_message(task: NewTask, sender: str) -> Envelope:
    """Raises InvalidField."""
    model = task.request.get("model")
    if not isinstance(model, str):
        raise InvalidField("request.model", "must be a model's name; 'auto' lets the hub choose")
    check_address(f"model:{model}", field="request.model")
    if not isinstance(task.request.get("messages"), list):
        raise InvalidField("request.messages", "must be a list of messages")
    envelope = Envelope(
        id=task.id or uuid7(), to=f"model:{model}", from_=sender, content=[JsonPart(json=task.request)],
        kind="task", priority=task.priority, expires_at=task.expires_at,
    )  # fmt: skip
    check_texts(envelope)
    return envelope
