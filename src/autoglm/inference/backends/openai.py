"""An endpoint that speaks OpenAI's API: OpenAI, GLM, vLLM, Ollama, and our own local worker."""

import re
from collections.abc import Callable
from typing import Any

import anyio
import msgspec

from autoglm.core.errors import UpstreamFailed, UpstreamRefused, UpstreamTimeout
from autoglm.core.ports import Line, Reply, Waiter
from autoglm.inference.call import AUTO
from autoglm.inference.settings import MODEL_NAME_PATTERN
from autoglm.inference.upstream import Endpoint, open_upstream
from autoglm.inference.verdict import judge

_MAX_MODELS_BYTES = 4 << 20
_MODEL_NAME = re.compile(MODEL_NAME_PATTERN)


class OpenAIBackend:
    """Satisfies `core.ports.Backend`."""

    def __init__(self, endpoint: Endpoint, provider: str, on_hang_up: Callable[[], None] | None = None) -> None:
        """on_hang_up: called when the instance ends a connection that waited for work."""
        self._endpoint = endpoint
        self._provider = provider
        self._upstream = open_upstream(endpoint, on_hang_up)

    async def send(self, path: str, body: bytes, *, is_retry: bool = False) -> Reply:
        return await self._upstream.post(path, body, is_retry=is_retry)

    def launch(self, path: str, body: bytes, waiter: Waiter[Any]) -> Line | None:
        return self._upstream.launch(path, body, waiter)

    @property
    def heard_s(self) -> float:
        return self._upstream.heard_s

    async def probe(self, timeout_s: float) -> list[str]:
        """Raises UpstreamFailed, UpstreamTimeout, and UpstreamRefused when the key or the account is not accepted.

        An endpoint without a list of models is alive, too: it answered.
        """
        try:
            with anyio.fail_after(timeout_s):
                reply = await self._upstream.get("/models")
                body = await reply.read(_MAX_MODELS_BYTES)
        except TimeoutError:
            raise UpstreamTimeout(self._endpoint.name, "answer to a health probe", timeout_s) from None
        if reply.status >= 400:
            verdict = judge(self._provider, reply.status, reply.headers, body)
            if verdict.kind == "blocked":
                raise UpstreamRefused(self._endpoint.name, verdict.reason)
            if verdict.kind == "transient":
                raise UpstreamFailed(self._endpoint.name, verdict.reason)
            return []
        return _model_names(body)

    async def aclose(self) -> None:
        await self._upstream.aclose()


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] = []


def _model_names(body: bytes) -> list[str]:
    """The ids in a list of models; [] when it is none. Names that could not travel in a header are left out."""
    try:
        models = msgspec.json.decode(body, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    names = (model.id for model in models if _MODEL_NAME.fullmatch(model.id) and model.id != AUTO)
    return list(dict.fromkeys(names))[:1000]
