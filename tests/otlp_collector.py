"""A collector on 127.0.0.1 that takes OTLP over HTTP and decodes the protobuf, as an OpenTelemetry collector does."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Received(NamedTuple):
    name: str
    kind: int
    trace_id: str
    parent_id: str
    took_s: float
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """`with Collector() as collector:` listens; `collector.spans` has what came."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.raw = b""
        """All bytes that came, unpacked."""
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if collector.status == 200:
                    collector.take(body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        self.raw += body
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {entry.key: value(entry.value) for entry in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [
                    Received(
                        span.name, span.kind, span.trace_id.hex(), span.parent_span_id.hex(),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, span.status.code,
                        {entry.key: value(entry.value) for entry in span.attributes}, resource,
                    )
                    for span in scope.spans
                ]  # fmt: skip

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def value(any_value: Any) -> Any:
    return getattr(any_value, any_value.WhichOneof("value"))
