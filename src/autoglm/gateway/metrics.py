"""Counts requests and measures times; renders everything for Prometheus.

Own counters on the request path (one thread, plain integers); prometheus_client renders them when asked.
Source for the names: Prometheus' naming conventions; OpenMetrics.
"""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from autoglm.gateway.exchange import Exchange
from autoglm.gateway.histogram import MAX_SERIES, Histogram, Series, cumulative
from autoglm.inference.dispatch import Dispatcher

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_PACE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_BY_INSTANCE = ("model", "instance")


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
        self._first_byte = Histogram(
            "autoglm_first_byte_seconds", "Time from an attempt's start to the first byte of its answer",
            _BY_INSTANCE, _BUCKETS_S,
        )  # fmt: skip
        self._queue_wait = Histogram(
            "autoglm_queue_wait_seconds", "Time that answered requests waited for a slot", ("model",), _BUCKETS_S
        )
        self._attempts: dict[tuple[str, str], tuple[Series, Series]] = {}
        """The series of these two, by model and instance."""
        self._first_token = Histogram(
            "autoglm_time_to_first_token_seconds", "Time from a request to the first token of its stream (TTFT)",
            _BY_INSTANCE, _BUCKETS_S,
        )  # fmt: skip
        self._pace = Histogram(
            "autoglm_time_per_output_token_seconds", "Time of a stream's further tokens, each (TPOT)",
            _BY_INSTANCE, _PACE_BUCKETS_S,
        )  # fmt: skip
        self._decisions: dict[tuple[str, str, str], int] = {}
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """What further parts count."""
        self.readings: list[Callable[[], Awaitable[None]]] = []
        """What further parts read before that."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.broken_streams = 0
        self.reasoning_only = 0

    def observe(self, exchange: Exchange, took_s: float) -> None:
        labels = (exchange.route, exchange.model, exchange.instance, exchange.status)
        series = self._requests.get(labels)
        if series is None:
            if len(self._requests) >= MAX_SERIES:
                labels = (exchange.route, "", "", exchange.status)
            series = self._requests.setdefault(labels, _Series())
        series.buckets[bisect_left(_BUCKETS_S, took_s)] += 1
        series.sum_s += took_s
        series.tokens_in += exchange.tokens_in
        series.tokens_out += exchange.tokens_out

    def observe_first_byte(self, model: str, instance: str, took_s: float, waited_s: float) -> None:
        """waited_s: for the slot. Called for each answer: written out, it costs 0.3 us less."""
        series = self._attempts.get((model, instance))
        if series is None:
            series = self._first_byte.series((model, instance)), self._queue_wait.series((model,))
            if len(self._attempts) < MAX_SERIES:
                self._attempts[model, instance] = series
        (counts, total), (wait_counts, wait_total) = series
        counts[bisect_left(_BUCKETS_S, took_s)] += 1
        total[0] += took_s
        wait_counts[bisect_left(_BUCKETS_S, waited_s) if waited_s > _BUCKETS_S[0] else 0] += 1
        wait_total[0] += waited_s

    def observe_first_token(self, model: str, instance: str, took_s: float) -> None:
        self._first_token.observe((model, instance), took_s)

    def observe_pace(self, model: str, instance: str, token_s: float) -> None:
        self._pace.observe((model, instance), token_s)

    def observe_decision(self, model: str, prefer: str, *, is_exploration: bool) -> None:
        """`auto` was replaced by a model. prefer: a name of the settings' or the hub's own, never a client's."""
        labels = (model, prefer, "true" if is_exploration else "false")
        if labels not in self._decisions and len(self._decisions) >= MAX_SERIES:
            labels = ("", "", labels[2])
        self._decisions[labels] = self._decisions.get(labels, 0) + 1

    async def page(self) -> bytes:
        for read in self.readings:
            await read()
        return self.render()

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_requests()
        yield from self._collect_pool()
        yield _counter("autoglm_broken_streams", "Streams that broke off after their first byte", self.broken_streams)
        yield _counter("autoglm_reasoning_only", "Answers with reasoning and no content", self.reasoning_only)
        yield from self._collect_decisions()
        for name, (help_text, read) in self.gauges.items():
            yield GaugeMetricFamily(name, help_text, value=read())
        for source in self.sources:
            yield from source()

    def _collect_decisions(self) -> Iterator[CounterMetricFamily]:
        decisions = CounterMetricFamily(
            "autoglm_decisions", "Choices of a model for `auto`", labels=["model", "prefer", "exploration"]
        )
        for labels, count in self._decisions.items():
            decisions.add_metric(labels, count)
        yield decisions

    def _collect_requests(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        names = ["route", "model", "instance", "status"]
        duration = HistogramMetricFamily("autoglm_request_seconds", "Time to the end of the response", labels=names)
        tokens = CounterMetricFamily(
            "autoglm_tokens", "Tokens as the upstream counted them", labels=["model", "instance", "direction"]
        )
        sums: dict[tuple[str, str, str], int] = {}
        for (route, model, instance, status), series in self._requests.items():
            buckets = cumulative(_BUCKETS_S, series.buckets)
            duration.add_metric([route, model, instance, str(status)], buckets, series.sum_s)
            for direction, count in (("in", series.tokens_in), ("out", series.tokens_out)):
                if count:
                    key = (model, instance, direction)
                    sums[key] = sums.get(key, 0) + count
        for labels, count in sums.items():
            tokens.add_metric(labels, count)
        yield duration
        yield tokens
        for histogram in (self._first_byte, self._queue_wait, self._first_token, self._pace):
            yield from histogram.collect()

    def _collect_pool(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        scheduler = self._dispatcher.scheduler
        running = GaugeMetricFamily("autoglm_instance_running", "Requests running on an instance", labels=["instance"])
        slots = GaugeMetricFamily("autoglm_instance_slots", "Slots that an instance may use now", labels=["instance"])
        up = GaugeMetricFamily("autoglm_instance_up", "1 when it takes requests", labels=["instance", "state"])
        for instance in scheduler.instances.values():
            running.add_metric([instance.name], instance.running)
            slots.add_metric([instance.name], instance.limit)
            up.add_metric(
                [instance.name, instance.shown_state], 1 if instance.shown_state in ("ready", "asleep") else 0
            )
        yield from (running, slots, up)
        yield from self._collect_troubles()
        yield GaugeMetricFamily("autoglm_queue_length", "Requests that wait for a slot", value=scheduler.waiting)
        yield _counter("autoglm_shed", "Requests refused since their first token or end would be late", scheduler.shed)
        yield _counter("autoglm_retries", "Calls that were sent once more", self._dispatcher.retries)
        yield _counter("autoglm_hedges", "Calls that were sent to a second instance", self._dispatcher.hedges)
        yield _counter("autoglm_hedges_won", "Of these, the second one answered first", self._dispatcher.hedges_won)

    def _collect_troubles(self) -> Iterator[CounterMetricFamily]:
        failures = CounterMetricFamily("autoglm_instance_failures", "Attempts that failed", labels=["instance"])
        throttles = CounterMetricFamily(
            "autoglm_instance_throttles", "Times that an instance said it has too much to do", labels=["instance"]
        )
        ejections = CounterMetricFamily(
            "autoglm_instance_ejections", "Times that an instance was taken out", labels=["instance"]
        )
        for instance in self._dispatcher.scheduler.instances.values():
            failures.add_metric([instance.name], instance.failures)
            throttles.add_metric([instance.name], instance.throttles)
            ejections.add_metric([instance.name], instance.ejections)
        yield from (failures, throttles, ejections)


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_text, value=value)
