"""Counts requests and measures times; renders everything for Prometheus.

Own counters on the request path (one thread, plain integers); prometheus_client renders them when asked.
Source for the names: Prometheus' naming conventions; OpenMetrics.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from autoglm.gateway.exchange import Exchange
from autoglm.inference.dispatch import Dispatcher

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_MAX_SERIES = 2_000  # labels are bounded by routes, models and instances; this is the last line of defence


class _Series:
    """What is counted for one set of labels."""

    __slots__ = ("buckets", "sum_s", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BUCKETS_S) + 1)
        self.sum_s = 0.0
        self.tokens_in = 0
        self.tokens_out = 0


class Metrics(Collector):
    """All counters of a hub. `observe` is called once for each request."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._requests: dict[tuple[str, str, str, int], _Series] = {}
        self._first_byte: dict[tuple[str, str], _Series] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.broken_streams = 0
        self.reasoning_only = 0

    def observe(self, exchange: Exchange, took_s: float) -> None:
        labels = (exchange.route, exchange.model, exchange.instance, exchange.status)
        series = self._requests.get(labels)
        if series is None:
            if len(self._requests) >= _MAX_SERIES:
                labels = (exchange.route, "", "", exchange.status)
            series = self._requests.setdefault(labels, _Series())
        series.buckets[bisect_left(_BUCKETS_S, took_s)] += 1
        series.sum_s += took_s
        series.tokens_in += exchange.tokens_in
        series.tokens_out += exchange.tokens_out

    def observe_first_byte(self, model: str, instance: str, took_s: float) -> None:
        series = self._first_byte.get((model, instance))
        if series is None:
            series = self._first_byte.setdefault((model, instance), _Series())
        series.buckets[bisect_left(_BUCKETS_S, took_s)] += 1
        series.sum_s += took_s

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        yield from self._collect_requests()
        yield from self._collect_pool()
        yield _counter("autoglm_broken_streams", "Streams that broke off after their first byte", self.broken_streams)
        yield _counter("autoglm_reasoning_only", "Answers with reasoning and no content", self.reasoning_only)
        for name, (help_text, read) in self.gauges.items():
            yield GaugeMetricFamily(name, help_text, value=read())

    def _collect_requests(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        names = ["route", "model", "instance", "status"]
        duration = HistogramMetricFamily("autoglm_request_seconds", "Time to the end of the response", labels=names)
        tokens = CounterMetricFamily(
            "autoglm_tokens", "Tokens as the upstream counted them", labels=["model", "instance", "direction"]
        )
        sums: dict[tuple[str, str, str], int] = {}
        for (route, model, instance, status), series in self._requests.items():
            duration.add_metric([route, model, instance, str(status)], _cumulative(series.buckets), series.sum_s)
            for direction, count in (("in", series.tokens_in), ("out", series.tokens_out)):
                if count:
                    key = (model, instance, direction)
                    sums[key] = sums.get(key, 0) + count
        for labels, count in sums.items():
            tokens.add_metric(labels, count)
        yield duration
        yield tokens
        first_byte = HistogramMetricFamily(
            "autoglm_first_byte_seconds", "Time to the first byte of an answer (TTFT)", labels=["model", "instance"]
        )
        for (model, instance), series in self._first_byte.items():
            first_byte.add_metric([model, instance], _cumulative(series.buckets), series.sum_s)
        yield first_byte

    def _collect_pool(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        scheduler = self._dispatcher.scheduler
        running = GaugeMetricFamily("autoglm_instance_running", "Requests running on an instance", labels=["instance"])
        slots = GaugeMetricFamily("autoglm_instance_slots", "Slots that an instance may use now", labels=["instance"])
        up = GaugeMetricFamily("autoglm_instance_up", "1 when it takes requests", labels=["instance", "state"])
        for instance in scheduler.instances.values():
            running.add_metric([instance.name], instance.running)
            slots.add_metric([instance.name], instance.limit)
            up.add_metric([instance.name, instance.shown_state], 1 if instance.shown_state == "ready" else 0)
        yield from (running, slots, up)
        yield GaugeMetricFamily("autoglm_queue_length", "Requests that wait for a slot", value=scheduler.waiting)
        yield _counter("autoglm_retries", "Calls that were sent once more", self._dispatcher.retries)


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_text, value=value)


def _cumulative(buckets: Iterable[int]) -> list[tuple[str, float]]:
    edges = [*(str(edge) for edge in _BUCKETS_S), "+Inf"]
    return list(zip(edges, accumulate(buckets), strict=True))
