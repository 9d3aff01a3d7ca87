"""`/api/questions`: ask a person, and wait for the answer."""

import asyncio

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.principal import labels_of
from autoglm.channels.questions import NewQuestion, Question, Questions
from autoglm.core.errors import Draining, NotFound
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.messages import MAX_WAIT_S
from autoglm.gateway.posting import accept
from autoglm.gateway.router import Route


class QuestionsGateway:
    def __init__(self, auth: Authenticator, questions: Questions, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._questions = questions
        self._max_body_bytes = max_body_bytes
        self._is_draining = False
        self._waiting: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """The shutdown begins: no new questions, and those who wait for an answer get the question as it is."""
        self._is_draining = True
        for task in self._waiting:
            task.cancel()

    def routes(self) -> list[Route]:
        return [Route("POST", "/api/questions", self.ask), Route("GET", "/api/questions/{id}", self.get)]

    async def ask(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        if self._is_draining:
            raise Draining
        question = fields.decode(await exchange.body(self._max_body_bytes), NewQuestion)
        labels = labels_of("chat", question.labels)
        principal.require("send:message", question.from_ or principal.address, labels, about=question.to)
        sent = await self._questions.ask(question, sender=principal.address)
        accept(exchange, sent.id, sent.seq, is_new=sent.is_new)

    async def get(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        id = variables["id"]
        query = exchange.query()
        fields.only(query, ("wait",))
        wait_s = fields.seconds(query, "wait", high=MAX_WAIT_S)
        labels = labels_of("chat", await self._questions.labels(id))
        if not principal.decide("send:message", await self._questions.sender(id), labels):
            raise NotFound("question", id[:128])  # another's is as unknown as one that never was
        if wait_s > 0 and not self._is_draining and not exchange.is_head:
            question = await self._wait(exchange, id, wait_s)
            exchange.check_still()
            exchange.respond_json(200, question)
        else:
            exchange.respond_json(200, await self._questions.get(id))

    async def _wait(self, exchange: Exchange, id: str, wait_s: float) -> Question:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        exchange.cancel_when_left()
        try:
            return await self._questions.wait(id, wait_s)
        except asyncio.CancelledError:
            if not self._is_draining or exchange.has_left:
                raise
            task.uncancel()
            return await self._questions.get(id)
        finally:
            self._waiting.discard(task)
