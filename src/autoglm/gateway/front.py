"""From a request to the part that answers it, and to what is written down about it afterwards."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import structlog

from autoglm.auth.occasion import occasion
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, UnknownPath, WrongHost
from autoglm.gateway.access import AccessLog
from autoglm.gateway.acts import Acts
from autoglm.gateway.exchange import LEFT, ClientLeft, Exchange, raising
from autoglm.gateway.messages import MessagesGateway
from autoglm.gateway.metrics import Metrics
from autoglm.gateway.openai import APIS, OpenAIGateway
from autoglm.gateway.page import Page
from autoglm.gateway.problems import lacks_v1
from autoglm.gateway.router import Router, answer_without_handler
from autoglm.gateway.visitors import Visitors

if TYPE_CHECKING:  # it loads OpenTelemetry
    from autoglm.gateway.tracing import Tracing

log = structlog.get_logger()

_OWN_PATHS = ("/healthz", "/readyz", "/metrics", "/openapi.json")


class Front:
    """Answers every HTTP request of a hub."""

    def __init__(
        self, *, openai: OpenAIGateway, messages: MessagesGateway, router: Router, page: Page, metrics: Metrics,
        access: AccessLog, acts: Acts, visitors: Visitors, tracing: "Tracing | None" = None,
    ) -> None:  # fmt: skip
        self._openai = openai
        self._prompt = {**dict.fromkeys(APIS, openai.begin), "/api/messages": messages.begin_post}
        """What may be answered without a task, by its path (ADR 5)."""
        self._router = router
        self._page = page
        self._metrics = metrics
        self._access = access
        self._acts = acts
        self._visitors = visitors
        self._tracing = tracing

    def begin(self, exchange: Exchange, refusal: HubError | None) -> None:
        """Answer an exchange: at once where that is possible, else in a task. refusal: all that it is answered."""
        occasion.set(exchange.occasion)  # a connection has one context for all its requests
        if refusal is not None:
            self._go_on(exchange, raising(refusal))
            return
        begin = self._prompt.get(exchange.path)
        if (
            begin is None or exchange.method != "POST" or not exchange.has_whole_body or not exchange.head.is_for_us
            or b"cookie" in exchange.headers
        ):  # fmt: skip
            self._go_on(exchange, self._serve(exchange))
            return
        exchange.route = exchange.path
        try:
            begin(exchange, self._go_on)
        except Exception as error:  # noqa: BLE001  # the edge to the client's connection
            self._go_on(exchange, raising(error))

    def _go_on(self, exchange: Exchange, work: Coroutine[Any, Any, None] | None) -> None:
        """An exchange is over (None), or has to be finished in a task."""
        if work is None:
            self._note(exchange)
        else:
            exchange.spawn(self._finish(exchange, work))

    async def _finish(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except HubError as error:
            self._refuse(exchange, error)
        except ClientLeft:
            exchange.status = exchange.status or LEFT
        except asyncio.CancelledError:
            if not exchange.has_left:
                raise
            exchange.status = exchange.status or LEFT
        except Exception:
            # What has begun cannot be ended well: the connection closes, so that the client sees the cut.
            log.exception("request_failed", request_id=exchange.request_id, path=exchange.path[:200])
            self._refuse(exchange, HubError("an error of the hub itself; its log has it under the request's id"))
        self._note(exchange)

    def _note(self, exchange: Exchange) -> None:
        took_s = monotonic_s() - exchange.started_s
        self._metrics.observe(exchange, took_s)
        self._access.add(exchange, took_s)
        self._acts.note(exchange)
        if self._tracing is not None:
            self._tracing.record(exchange, took_s)

    async def _serve(self, exchange: Exchange) -> None:
        path = exchange.path
        if not exchange.head.is_for_us and not self._router.is_for_any_host(exchange):
            raise WrongHost((exchange.head.authority or b"").decode("latin-1"))
        if b"cookie" in exchange.headers and b"authorization" not in exchange.headers:
            await self._visitors.see(exchange)
        if path in APIS:
            exchange.route = path
            if exchange.method == "POST":
                await self._openai.handle(exchange)
            else:
                await answer_without_handler(["POST"], exchange)(exchange, {})
        elif path.startswith(("/api/", "/v1/")) or path in _OWN_PATHS:
            handler, variables = self._router.find(exchange)
            await handler(exchange, variables)
        elif lacks_v1(path):
            raise UnknownPath(path[:200], "OpenAI's API is under /v1, so the client's base_url ends in /v1")
        elif self._router.has(exchange):  # what other programs' clients call, beside the page's paths
            handler, variables = self._router.find(exchange)
            await handler(exchange, variables)
        else:
            await self._page.serve(exchange)

    def _refuse(self, exchange: Exchange, error: HubError) -> None:
        if exchange.status:
            return  # the response has begun; nothing can be said any more
        exchange.route = exchange.route or "(none)"
        self._acts.turned_away(exchange, error)
        exchange.respond_problem(error)
