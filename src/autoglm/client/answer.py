"""A model's answer, piece by piece. Source: OpenAI's API reference, chat completions and their chunks."""

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx2

from autoglm.client.errors import BrokenAnswer
from autoglm.client.events import EventParser

_DONE = "[DONE]"


class Answer:
    """Iterate over it to get the text as it is written. `text` and `usage` are complete once the iteration is.

    Holds a connection until its end: iterate to the end, or use it as a context manager.
    Iterating raises BrokenAnswer when the answer stops early; it is never cut short silently.
    """

    def __init__(self, response: httpx2.Response) -> None:
        """response: open, with a status below 400."""
        self._response = response
        self.model = response.headers.get("x-autoglm-model", "")
        """The model that answers."""
        self.instance = response.headers.get("x-autoglm-instance", "")
        """The instance of the pool that answers."""
        self.decision = response.headers.get("x-autoglm-decision", "")
        """Names the hub's choice, for `Client.decision` and `Client.feedback`; empty where it had none to make."""
        self.request_id = response.headers.get("x-request-id", "")
        self.text = ""
        self.reasoning = ""
        """What the model thought aloud, where the instance tells it apart from the answer."""
        self.usage: dict[str, Any] | None = None
        """Tokens as the instance counted them; None when it does not tell."""
        self.finish_reason: str | None = None
        """`stop`, or `length` when the model's room was used up."""

    def __iter__(self) -> Iterator[str]:
        pieces = self._streamed() if self._is_stream else self._whole()
        try:
            for piece in pieces:
                self.text += piece
                yield piece
        except httpx2.TransportError as error:
            raise BrokenAnswer(str(error) or type(error).__name__) from error
        finally:
            self.close()

    def read(self) -> str:
        """Wait for the end; returns the whole text."""
        for _ in self:
            pass
        return self.text

    def close(self) -> None:
        """Let go of the connection; an answer that is still being written is stopped."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _is_stream(self) -> bool:
        return bool(self._response.headers.get("content-type", "").startswith("text/event-stream"))

    def _whole(self) -> Iterator[str]:
        body = _decoded(self._response.read())
        yield from self._pieces_of(body, "message")

    def _streamed(self) -> Iterator[str]:
        parser = EventParser()
        for chunk in self._response.iter_bytes():
            for event in parser.feed(chunk):
                if event.data == _DONE:
                    return
                yield from self._pieces_of(_decoded(event.data), "delta")
        if self.finish_reason is None:
            raise BrokenAnswer("the connection ended in the middle of it")

    def _pieces_of(self, body: dict[str, Any], field: str) -> Iterator[str]:
        """The text of a completion (`message`) or of a chunk (`delta`)."""
        error = body.get("error")
        if error is not None:
            raise BrokenAnswer(str(error.get("message", error)) if isinstance(error, dict) else str(error))
        self.model = self.model or str(body.get("model", ""))
        if isinstance(usage := body.get("usage"), dict):
            self.usage = usage
        for choice in body.get("choices") or ():
            part = choice.get(field) or {}
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.reasoning += part.get("reasoning_content") or ""
            if text := part.get("content"):
                yield text


def _decoded(text: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BrokenAnswer("the instance sent something that is no JSON object")
    return body
