"""Spans as a collector gets them, and what becomes of requests when it is away."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoglm.core.errors import install_command
from eventually import wait_until
from gateway.budget_hub import BudgetHub, budget_hub
from otlp_collector import Collector, Received
from scripted_model import answering, completion, event, streaming

CLIENT_SPAN, ERROR_STATUS = 3, 2  # opentelemetry/proto/trace/v1: SPAN_KIND_CLIENT, STATUS_CODE_ERROR
DONE = b"data: [DONE]\n\n"
SECRET = "the patient's name is Zhang"


@contextmanager
def traced_hub(folder: Path, endpoint: str, **settings: str | int) -> Iterator[BudgetHub]:
    lines = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    with budget_hub(folder, f'[telemetry]\notlp_endpoint = "{endpoint}"\n{lines}') as hub:
        yield hub


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[BudgetHub]:
    with traced_hub(tmp_path_factory.mktemp("traces"), collector.url, service_name="ward-hub") as hub:
        yield hub


@pytest.fixture
def hub(shared: BudgetHub, collector: Collector) -> BudgetHub:
    collector.spans.clear()
    return shared


def only_span(collector: Collector) -> Received:
    wait_until(lambda: collector.spans)
    (span,) = collector.spans
    return span


def test_a_request_is_a_span_by_the_genai_conventions(hub: BudgetHub, collector: Collector) -> None:
    hub.model.behaviour = answering(200, completion(f"I will not say that {SECRET}"))
    reply = hub.ask(SECRET, key="sk-ward")
    span = only_span(collector)
    assert (span.name, span.kind, span.parent_id) == ("chat echo-model", CLIENT_SPAN, "")
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "echo-model",
        "gen_ai.response.model": "echo-model",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "127.0.0.1",
        "server.port": hub.model.port,
        "http.response.status_code": 200,
        "autoglm.instance": "a",
        "autoglm.key": "ward",
        "autoglm.request_id": reply.headers["x-request-id"],
    }
    assert span.resource["service.name"] == "ward-hub"
    assert 0 < span.took_s < 5
    assert b"Zhang" not in collector.raw


def test_a_stream_tells_the_time_to_its_first_token(hub: BudgetHub, collector: Collector) -> None:
    hub.model.behaviour = streaming(event("one"), event(None, "stop"), DONE)
    hub.ask(stream=True, model="auto")
    span = only_span(collector)
    assert span.name == "chat auto"
    assert span.attributes["gen_ai.response.model"] == "echo-model"
    assert 0 < span.attributes["gen_ai.response.time_to_first_chunk"] <= span.took_s


def test_a_span_belongs_to_the_clients_trace(hub: BudgetHub, collector: Collector) -> None:
    hub.model.behaviour = answering(200, completion("hello"))
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    hub.ask(headers={"traceparent": f"00-{trace}-{parent}-01"})
    span = only_span(collector)
    assert (span.trace_id, span.parent_id) == (trace, parent)
    collector.spans.clear()
    hub.ask(headers={"traceparent": f"00-{trace}-{parent}-00"})  # the client's own is not sampled
    hub.ask(headers={"traceparent": "nonsense"})
    assert only_span(collector).parent_id == ""


def test_a_failure_says_which(hub: BudgetHub, collector: Collector) -> None:
    hub.ask(model="no-such-model")
    span = only_span(collector)
    assert span.status == ERROR_STATUS
    assert span.attributes["error.type"] == "unknown_model"
    assert "gen_ai.response.model" not in span.attributes
    collector.spans.clear()
    hub.client.get("/v1/models")  # no request to a model: no span
    hub.model.behaviour = answering(400, {"error": {"message": "no"}})
    hub.ask()
    assert only_span(collector).attributes["error.type"] == "400"


def test_what_waits_is_sent_at_an_orderly_end(tmp_path: Path, collector: Collector) -> None:
    collector.spans.clear()
    with traced_hub(tmp_path, collector.url) as hub:
        for _ in range(20):
            hub.ask()
        assert hub.process.stop() == 0
    assert len(collector.spans) == 20


def test_a_collector_that_hangs_costs_spans_and_no_time(tmp_path: Path) -> None:
    """It takes connections and never answers. Spans beyond the bound are dropped and counted; a stop is not held up."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with traced_hub(tmp_path, endpoint, max_queued_spans=10) as hub:
            times_s = []
            for _ in range(60):
                started_s = time.perf_counter()
                assert hub.ask().status_code == 200
                times_s.append(time.perf_counter() - started_s)
            assert max(times_s) < 1.0
            assert hub.metric('autoglm_spans_total{result="dropped"}') >= 40
            assert hub.metric('autoglm_spans_total{result="exported"}') == 0
            wait_until(lambda: hub.metric('autoglm_spans_total{result="failed"}') > 0, 30)
            started_s = time.perf_counter()
            assert hub.process.stop() == 0
            assert time.perf_counter() - started_s < 15
            assert "spans_not_exported" in hub.process.log()
            assert "Traceback" not in hub.process.log()


def test_a_collector_that_is_away_and_comes_back_is_noticed(tmp_path: Path) -> None:
    with Collector() as collector, traced_hub(tmp_path, collector.url) as hub:
        collector.status = 400
        hub.ask()
        wait_until(lambda: hub.metric('autoglm_spans_total{result="failed"}') == 1)
        collector.status = 200
        hub.ask()
        wait_until(lambda: hub.metric('autoglm_spans_total{result="exported"}') == 1)
        wait_until(lambda: "spans_exported_again" in hub.process.log())


def test_without_the_extra_the_way_out_is_told() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from autoglm.core.errors import MissingExtra\n"
        "try:\n    import autoglm.gateway.tracing\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"[telemetry] otlp_endpoint needs an optional package; run: {install_command('otel')}\n"


def test_a_hub_without_telemetry_does_not_load_it() -> None:
    code = "import sys; import autoglm.app; print([name for name in sys.modules if 'opentelemetry' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
