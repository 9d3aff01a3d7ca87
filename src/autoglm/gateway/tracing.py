"""OpenTelemetry: a span for each request to a model, by the GenAI conventions, sent to a collector by OTLP/HTTP.

Loaded only for a hub with `telemetry.otlp_endpoint`; needs the extra `otel`. Spans hold no prompts and no answers.
Sources: OpenTelemetry's semantic conventions for generative AI spans (status "development" when this was written,
attributes as in opentelemetry-semantic-conventions 0.66), and for `server.*` and `error.type`; W3C Trace Context.
"""

import logging
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import NamedTuple

import anyio.to_thread
import structlog
from prometheus_client.core import CounterMetricFamily, Metric

from autoglm.core.errors import MissingExtra
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.settings import TelemetrySettings
from autoglm.version import __version__

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    raise MissingExtra("otel", "[telemetry] otlp_endpoint") from error

log = structlog.get_logger()

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}
_BATCH_SPANS = 512
_EVERY_MS = 1000.0
_EXPORT_TIMEOUT_S = 5.0


class Place(NamedTuple):
    """Where an instance is."""

    provider: str
    host: str
    port: int


class Tracing:
    """`record` each request; `aclose` in the end. A collector that is away costs spans, never time."""

    def __init__(self, settings: TelemetrySettings, places: Mapping[str, Place]) -> None:
        """places: by instance. Starts a thread."""
        # The SDK would write a line to standard error for each span that is lost; we count them.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._places = places
        self._max_queue = settings.max_queued_spans
        self._handed_over = 0
        self.dropped = 0
        """Spans for which the queue had no room."""
        endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
        self._exporter = _Counting(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S), endpoint)
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=self._max_queue, schedule_delay_millis=_EVERY_MS,
            max_export_batch_size=min(_BATCH_SPANS, self._max_queue),
        )  # fmt: skip
        resource = Resource.create({"service.name": settings.service_name, "service.version": __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("autoglm", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, exchange: Exchange, took_s: float) -> None:
        """Make a span of a request that is over, if it was one to a model."""
        operation = _OPERATIONS.get(exchange.route)
        if operation is None or not exchange.wanted:
            return
        if self._handed_over - self._exporter.taken >= self._max_queue:
            self.dropped += 1
            return
        end_ns = time_ns()
        span = self._tracer.start_span(
            f"{operation} {exchange.wanted}", context=self._propagator.extract(_trace_headers(exchange)),
            kind=SpanKind.CLIENT, attributes=self._attributes(exchange, operation),
            start_time=end_ns - int(took_s * 1e9),
        )  # fmt: skip
        if not span.is_recording():
            return  # the client's own trace is not sampled
        if exchange.status >= 400 or exchange.code:
            span.set_status(Status(StatusCode.ERROR))
        self._handed_over += 1
        span.end(end_ns)

    def _attributes(self, exchange: Exchange, operation: str) -> dict[str, str | int | float]:
        place = self._places.get(exchange.instance)
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": place.provider if place is not None else "autoglm",
            "gen_ai.request.model": exchange.wanted,
            "http.response.status_code": exchange.status,
            "autoglm.request_id": exchange.request_id,
        }
        if exchange.model:
            attributes["gen_ai.response.model"] = exchange.model
            attributes["autoglm.instance"] = exchange.instance
        if place is not None:
            attributes["server.address"] = place.host
            attributes["server.port"] = place.port
        if exchange.tokens_in or exchange.tokens_out:
            attributes["gen_ai.usage.input_tokens"] = exchange.tokens_in
            attributes["gen_ai.usage.output_tokens"] = exchange.tokens_out
        if exchange.first_token_s:
            attributes["gen_ai.response.time_to_first_chunk"] = exchange.first_token_s
        if exchange.status >= 400 or exchange.code:
            attributes["error.type"] = exchange.code or str(exchange.status)
        if exchange.principal is not None:
            attributes["autoglm.key"] = exchange.principal.name
        return attributes

    async def aclose(self) -> None:
        """Send what waits; takes a few seconds at most where the collector is away."""
        await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        self._exporter.close()
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK has not typed it

    def metrics(self) -> Sequence[Metric]:
        """A source for `Metrics.sources`."""
        spans = CounterMetricFamily("autoglm_spans", "Spans of requests, by what became of them", labels=["result"])
        spans.add_metric(["exported"], self._exporter.exported)
        spans.add_metric(["failed"], self._exporter.failed)
        spans.add_metric(["dropped"], self.dropped)
        return (spans,)


class _Counting(SpanExporter):
    """Runs in the processor's thread. The counters are written there only, and read in the event loop."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._is_failing = False
        self._is_closing = False
        self.taken = 0
        """Spans that have left the queue."""
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        hopeless = self._is_closing and self._is_failing
        result = SpanExportResult.FAILURE if hopeless else self._exporter.export(spans)
        has_failed = result is not SpanExportResult.SUCCESS
        if has_failed:
            self.failed += len(spans)
        else:
            self.exported += len(spans)
        if has_failed is not self._is_failing:
            self._is_failing = has_failed
            if has_failed:
                log.warning("spans_not_exported", endpoint=self._endpoint, note="requests go on; /metrics counts them")
            else:
                log.info("spans_exported_again", endpoint=self._endpoint)
        return result

    def close(self) -> None:
        """From now on nothing is tried again: called from outside the thread."""
        self._is_closing = True
        if self._is_failing:
            self._exporter.shutdown()

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _trace_headers(exchange: Exchange) -> dict[str, str]:
    return {
        name: exchange.headers[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate")
        if name.encode() in exchange.headers
    }
