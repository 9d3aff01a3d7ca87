"""A model instance in virtual time: slots, prompts read one after the other, tokens the slower the more requests run.

What it costs follows vLLM's shape: a prompt's tokens that are not cached take time in proportion, each further token
takes a time that grows with the batch. Faults are explicit: a schedule of (second, speed), 0 for hung, None for dead.
"""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoglm.core.errors import UpstreamFailed, UpstreamTimeout
from autoglm.core.ports import Line, Sink, Waiter

PROMPT_TOKENS_PER_S = 8000.0
FIRST_S = 0.04
TOKEN_S = 0.020
TOKEN_S_PER_REQUEST = 0.001
SLOTS = 8
SILENCE_S = 60.0
"""The longest that a client waits for a sign of life."""
_CACHED_CONVERSATIONS = 64
_STEPS = 4
"""An answer's tokens come in so many pieces, each at the pace of the batch at its start."""
_INDEX = re.compile(rb'"seed":\s*(\d+)')


class Ask(msgspec.Struct):
    """One request of a workload, and what became of it."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    conversation: int
    tenant: str = "t"
    priority: int = 5
    # What became of it.
    first_token_s: float | None = None
    is_complete: bool = False
    code: str = ""
    """Of the error that it ended with."""
    failed_attempts: int = 0
    cached_tokens: int = 0
    arrived_s: float = 0.0
    """By the loop's clock, as the next."""
    sent_s: float = 0.0
    """When its last attempt began."""
    tokens_out: int = 0


def body_of(index: int, ask: Ask) -> bytes:
    """A chat completion of about the right length: four bytes a token. `seed` tells the instance which it is."""
    first = f"conversation {ask.conversation}. ".ljust(400, "x")
    rest = "y" * max(0, 4 * ask.prompt_tokens - 600)
    messages = [{"role": "user", "content": first}, {"role": "assistant", "content": rest}]
    return msgspec.json.encode({"model": "m", "stream": True, "seed": index, "messages": messages})


class SimulatedModel:
    """Satisfies `core.ports.Backend`. Requests beyond its slots wait inside, as they do in a real server."""

    def __init__(self, name: str, asks: Sequence[Ask], schedule: Sequence[tuple[float, float | None]]) -> None:
        """schedule: (from this second on, speed), the first at 0."""
        self.name = name
        self.running = 0
        self.queued = 0
        self.heard_s = -math.inf
        """When it last sent a part of an answer."""
        self.sent = 0
        """Requests that came."""
        self.cached: dict[int, int] = {}
        self._asks = asks
        self.speed: float | None = schedule[0][1]
        self._slots = asyncio.Semaphore(SLOTS)
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._started_s = asyncio.get_running_loop().time()
        for at_s, speed in schedule[1:]:
            asyncio.get_running_loop().call_later(at_s, self._set, speed)

    @property
    def load(self) -> int:
        return self.running + self.queued

    def _set(self, speed: float | None) -> None:
        self.speed = speed
        if speed is None:
            self.cached.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def work(self, takes_s: float) -> None:
        """As long as it takes at full speed. Raises UpstreamFailed when it dies, UpstreamTimeout when it hangs."""
        loop = asyncio.get_running_loop()
        left_s, silent_s = takes_s, 0.0
        while left_s > 1e-9:
            speed, changed, began_s = self.speed, self._changed, loop.time()
            if speed is None:
                raise UpstreamFailed(self.name, "connection refused")
            wait_s = left_s / speed if speed else SILENCE_S - silent_s
            try:
                async with asyncio.timeout(wait_s):
                    await changed.wait()
            except TimeoutError:
                if not speed:
                    raise UpstreamTimeout(self.name, "sign of life", SILENCE_S) from None
                return
            left_s -= (loop.time() - began_s) * speed
            silent_s = 0.0 if speed else silent_s + loop.time() - began_s

    # --- the port ---

    async def send(self, path: str, body: bytes, *, is_retry: bool = False) -> "SimulatedReply":
        found = _INDEX.search(body)
        assert found is not None, "a body of this simulation"
        ask = self._asks[int(found[1])]
        ask.sent_s = asyncio.get_running_loop().time()
        self.sent += 1
        reply = SimulatedReply(self, ask)
        try:
            await reply.begin()
        except BaseException:
            if not self.speed:  # else the client left, or another attempt was quicker
                ask.failed_attempts += 1
            reply.leave()
            raise
        return reply

    def launch(self, path: str, body: bytes, waiter: Waiter[Any]) -> Line | None:
        return None

    async def probe(self, timeout_s: float) -> list[str]:
        try:
            async with asyncio.timeout(timeout_s):
                await self.work(0.002)
        except TimeoutError:
            raise UpstreamTimeout(self.name, "answer to a health probe", timeout_s) from None
        return ["m"]

    async def aclose(self) -> None:
        pass

    async def enter(self) -> None:
        self.queued += 1
        try:
            await self._slots.acquire()
        finally:
            self.queued -= 1
        self.running += 1

    def leave(self) -> None:
        self.running -= 1
        self._slots.release()

    async def read(self, ask: Ask) -> None:
        """Its prompt. What it has of the conversation already, it need not read again."""
        if self.speed is None:
            raise UpstreamFailed(self.name, "connection refused")
        async with self._reading:
            ask.cached_tokens = min(self.cached.get(ask.conversation, 0), ask.prompt_tokens - 1)
            await self.work(FIRST_S + (ask.prompt_tokens - ask.cached_tokens) / PROMPT_TOKENS_PER_S)
            self.cached.pop(ask.conversation, None)
            self.cached[ask.conversation] = ask.prompt_tokens + ask.output_tokens
            if len(self.cached) > _CACHED_CONVERSATIONS:
                del self.cached[next(iter(self.cached))]

    async def write(self, tokens: float) -> None:
        await self.work(tokens * (TOKEN_S + TOKEN_S_PER_REQUEST * self.running))
        self.heard_s = asyncio.get_running_loop().time()


class SimulatedReply:
    """Satisfies `core.ports.Reply`: a stream of a first event, and of one with the rest and the usage."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream"}

    def __init__(self, model: SimulatedModel, ask: Ask) -> None:
        self._model = model
        self._ask = ask
        self._is_inside = False
        self._pieces = 0

    async def begin(self) -> None:
        if self._model.speed is None:
            raise UpstreamFailed(self._model.name, "connection refused")
        await self._model.enter()
        self._is_inside = True
        await self._model.read(self._ask)

    def leave(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._model.leave()

    async def chunk(self) -> bytes | None:
        self._pieces += 1
        if self._pieces == 1:
            return b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
        if self._pieces > 2:
            return None
        ask = self._ask
        for _ in range(_STEPS):
            await self._model.write((ask.output_tokens - 1) / _STEPS)
        self.leave()
        usage = b'{"prompt_tokens": %d, "completion_tokens": %d}' % (ask.prompt_tokens, ask.output_tokens)
        return b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": %b}\n\ndata: [DONE]\n\n' % usage

    async def forward(self, sink: Sink) -> None:
        while (chunk := await self.chunk()) is not None:
            sink.take(chunk)

    def body_if_complete(self) -> bytes | None:
        return None

    async def read(self, limit_bytes: int) -> bytes:
        parts = []
        while (chunk := await self.chunk()) is not None:
            parts.append(chunk)
        return b"".join(parts)

    async def aclose(self) -> None:
        self.leave()
