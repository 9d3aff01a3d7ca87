"""Zhipu's BigModel API on loopback, as strict as the vendor: key, model, fields, and its way of refusing.

HTTP 429 stands for throttling, quota, arrears and locks alike; the body's `error.code` tells them apart.
Sources: docs.bigmodel.cn and docs.z.ai, "chat completions", "error codes", "rate limits".
"""

import asyncio
import json
from collections import deque
from typing import Any, NamedTuple, Self

from scripted_model import STREAM_HEAD, Request, ScriptedModel, chunk, response

KEY = "0123456789abcdef0123456789abcdef.GlmTestSecret99"
MODELS = ("glm-4.6", "glm-4.5-air")
_ROLES = ("system", "user", "assistant", "tool")


class Refusal(NamedTuple):
    status: int
    code: str
    message: str


def refusal(code: int | str, message: str) -> Refusal:
    """With the HTTP status that the vendor sends with this code."""
    number = int(code)
    match number:
        case _ if 1000 <= number <= 1004:
            status = 401
        case _ if 1110 <= number <= 1121 or 1302 <= number <= 1312:
            status = 429
        case 500 | 1234:
            status = 500
        case 1220:
            status = 403
        case _:
            status = 400
    return Refusal(status, str(code), message)


class GlmService:
    """`with GlmService() as glm:` listens at `glm.url`. `glm.refuse(...)` misbehaves as told, in turn."""

    def __init__(self) -> None:
        self.refusals: deque[Refusal] = deque()
        self.forbidden: Refusal | None = None
        """The same refusal to each request, until it is None again."""
        self.refused_models: dict[str, Refusal] = {}
        self.concurrency = 1000
        """More requests in flight than this get 1302."""
        self.answer_s = 0.0
        self.running = 0
        self.most_running = 0
        self.answered = 0
        self.finish_reason = "stop"
        self._server = ScriptedModel(self._behave, models=MODELS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}/api/paas/v4"

    @property
    def requests(self) -> list[Request]:
        return self._server.requests

    def refuse(self, code: int | str, message: str, *, times: int = 1) -> None:
        self.refusals.extend([refusal(code, message)] * times)

    def reset(self) -> None:
        """A service in good health again, which remembers nothing."""
        self.refusals.clear()
        self.refused_models.clear()
        self.requests.clear()
        self.forbidden = None
        self.concurrency, self.answer_s, self.finish_reason = 1000, 0.0, "stop"
        self.most_running = self.answered = 0

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._answer(request, writer)
        finally:
            self.running -= 1

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        refused = self._refusal(request)
        if refused is not None:
            body = {"error": {"code": refused.code, "message": refused.message}}
            writer.write(response(refused.status, json.dumps(body, ensure_ascii=False).encode()))
            return
        await asyncio.sleep(self.answer_s)  # the model's own time
        self.answered += 1
        body = request.json()
        if request.path.endswith("/embeddings"):
            writer.write(response(200, _embedding(body)))
        elif body.get("stream"):
            writer.write(STREAM_HEAD)
            for event in self._events(body):
                writer.write(chunk(event))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(response(200, self._completion(body)))

    def _refusal(self, request: Request) -> Refusal | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            return refusal(1001, "Header中未收到Authorization参数，无法进行身份验证")
        if key != KEY:
            return refusal(1000, "身份验证失败")
        if request.path not in ("/api/paas/v4/chat/completions", "/api/paas/v4/embeddings"):
            return Refusal(404, "1222", f"API不存在: {request.path}")
        if self.forbidden is not None:
            return self.forbidden
        if self.refusals:
            return self.refusals.popleft()
        if self.running > self.concurrency:
            return refusal(1302, "您当前使用该API的并发数过高，请降低并发，或联系客服增加限额")
        try:
            body = request.json()
        except ValueError:
            return refusal(1210, "API 调用参数有误，请检查文档")
        return self.refused_models.get(str(body.get("model"))) or _flaw(body, request.path)

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": _echo(body)}
        if _thinks(body):
            message["reasoning_content"] = "让我想想"
        return {
            "id": "202601010000",
            "request_id": "202601010000",
            "created": 1767225600,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }

    def _events(self, body: dict[str, Any]) -> list[bytes]:
        deltas: list[dict[str, Any]] = []
        if _thinks(body):
            deltas += [{"role": "assistant", "reasoning_content": part} for part in ("让我", "想想")]
        deltas += [{"role": "assistant", "content": part} for part in _echo(body).split()]
        events = [_event(body, delta, None) for delta in deltas]
        end = _event(body, {"role": "assistant", "content": ""}, self.finish_reason)
        end["usage"] = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        lines = [json.dumps(event, ensure_ascii=False).encode() for event in (*events, end)]
        return [b"data: %b\n\n" % line for line in (*lines, b"[DONE]")]


def _event(body: dict[str, Any], delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    if finish_reason is not None:
        choice["finish_reason"] = finish_reason
    return {"id": "202601010000", "created": 1767225600, "model": body["model"], "choices": [choice]}


def _embedding(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": index, "embedding": [0.1, 0.2]} for index, _ in enumerate(texts)]
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def _echo(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return f"You said: {text}"


def _thinks(body: dict[str, Any]) -> bool:
    return bool(body.get("thinking", {}).get("type") == "enabled")


def _flaw(body: dict[str, Any], path: str) -> Refusal | None:  # a table
    """What the vendor's parameter checks say."""
    if body.get("model") not in MODELS:
        return refusal(1211, "模型不存在，请检查模型代码。")
    if path.endswith("/embeddings"):
        return None if "input" in body else refusal(1213, "未正常接收到input参数。")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return refusal(1213, "未正常接收到messages参数。")
    if any(message.get("role") not in _ROLES or "content" not in message for message in messages):
        return refusal(1214, "messages 参数非法。请检查文档。")
    if not 0 <= body.get("temperature", 1) <= 1:
        return refusal(1214, "temperature 参数非法。请检查文档。")
    if body.get("thinking", {}).get("type", "enabled") not in ("enabled", "disabled"):
        return refusal(1214, "thinking 参数非法。请检查文档。")
    if not isinstance(body.get("stream", False), bool):
        return refusal(1214, "stream 参数非法。请检查文档。")
    if len(json.dumps(messages)) > 100_000:
        return refusal(1261, "Prompt 超长")
    return None
