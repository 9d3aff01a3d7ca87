"""What channels, the outbox, events and questions count, for `/metrics`. Their labels are the settings' own names."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from autoglm.channels.broker import Broker
from autoglm.channels.channel import Linked
from autoglm.channels.directory import Directory
from autoglm.channels.intake import Intake
from autoglm.channels.outbox.outbox import Outbox
from autoglm.channels.question_counts import QuestionCounts
from autoglm.channels.routes.notifier import Notifier
from autoglm.core.errors import HubError
from autoglm.gateway.channels import ChannelsGateway
from autoglm.gateway.histogram import Histogram

_DAY_S = 86_400.0
_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, _DAY_S)

log = structlog.get_logger()


class MessageTimes:
    """How long messages take through the outbox."""

    def __init__(self) -> None:
        self._histogram = Histogram(
            "autoglm_outbox_message_seconds", "Time from the hub's taking a message to its first end in the outbox",
            ("channel", "state"), _BUCKETS_S,
        )  # fmt: skip
        self.collect = self._histogram.collect

    def observe(self, channel: str, state: str, took_s: float) -> None:
        self._histogram.observe((channel, state), took_s)


class ChannelMetrics(NamedTuple):
    """A source for `Metrics.sources`, once `read` has been called."""

    directory: Directory
    outbox: Outbox
    times: MessageTimes
    notifier: Notifier
    intakes: Mapping[str, Intake]
    questions: QuestionCounts
    gateway: ChannelsGateway
    broker: Broker | None

    async def read(self) -> None:
        """What is on disk only, the first time: the dead letters."""
        try:
            await self.outbox.dead_letters.count()
        except HubError as error:  # the other metrics are wanted then all the more
            log.warning("dead_letters_not_counted", reason=str(error))

    def collect(self) -> Iterator[Metric]:
        yield from self._out()
        yield from self._vendors()
        yield from self._in()
        yield from self._people()
        yield from self._broker()

    def _out(self) -> Iterator[Metric]:
        channels, outbox = self.directory.outgoing, self.outbox
        attempts = _counter("channel_attempts", "Requests to channels", "channel", "result")
        for labels, count in outbox.counts.items():
            attempts.add_metric(labels, count)
        waiting, paused = dict.fromkeys(channels, 0), dict.fromkeys(channels, 0)
        for lane in outbox.states():
            waiting[lane.channel] = waiting.get(lane.channel, 0) + lane.waiting
            paused[lane.channel] = paused.get(lane.channel, 0) + (lane.paused_s > 0)
        messages = _gauge("outbox_messages", "Messages that wait or are on their way", "channel")
        lanes = _gauge("outbox_paused_lanes", "Lanes in which nothing goes out now", "channel")
        crowded = _gauge("outbox_crowded", "1 while a channel has more targets than there are lanes", "channel")
        for channel, count in waiting.items():
            messages.add_metric([channel], count)
            lanes.add_metric([channel], paused.get(channel, 0))
            crowded.add_metric([channel], channel in outbox.crowded)
        yield from (attempts, messages, lanes, crowded)
        yield from self.times.collect()
        letters = _gauge("dead_letters", "Messages that could not be delivered, and that nobody has seen to")
        size = _gauge("dead_letters_bytes", "What these take on disk")
        if (known := outbox.dead_letters.known) is not None:
            letters.add_metric([], known.letters)
            size.add_metric([], known.size_bytes)
        yield from (letters, size)

    def _vendors(self) -> Iterator[Metric]:
        up = _gauge(
            "channel_up", "0 when the newest attempt or check found the vendor out of reach or us out", "channel"
        )
        connected = _gauge("channel_connected", "1 while the connection that a channel keeps is up", "channel")
        connections = _counter("channel_connections", "Connections that the vendor has welcomed", "channel")
        tries, checks = self.outbox.tries, self.directory.checks
        for name, outgoing in self.directory.outgoing.items():
            known = [found[name] for found in (tries, checks) if name in found]
            if known:
                up.add_metric([name], max(known).is_up)
            if hasattr(outgoing.channel, "link_state"):
                linked: Linked = outgoing.channel  # type: ignore[assignment]  # it has the property
                state = linked.link_state
                connected.add_metric([name], state.is_up)
                connections.add_metric([name], state.connections)
        yield from (up, connected, connections)

    def _in(self) -> Iterator[Metric]:
        received = _counter("channel_received", "Messages that came in, by what became of them", "channel", "result")
        strangers = _counter("channel_refused_senders", "Messages of senders that the settings do not name", "channel")
        for channel, intake in self.intakes.items():
            strangers.add_metric([channel], intake.refused)
            for result, count in intake.counts.items():
                received.add_metric([channel, result], count)
        calls = _counter("hook_refusals", "Calls of hooks that were refused", "channel", "status")
        for (channel, status), count in self.gateway.refused_calls.items():
            calls.add_metric([channel, str(status)], count)
        yield from (received, strangers, calls)

    def _people(self) -> Iterator[Metric]:
        events = _counter("events", "Events by what became of them", "kind", "result")
        for labels, count in self.notifier.counts.items():
            events.add_metric(labels, count)
        open_events = _gauge("events_open", "Events about which something is still to be done")
        open_events.add_metric([], self.notifier.open_events)
        ended = _counter("questions", "Questions to people that ended", "result")
        for result in ("answered", "expired", "failed"):
            ended.add_metric([result], self.questions.ended[result])
        open_questions = _gauge("questions_open", "Questions to people that may still be answered")
        open_questions.add_metric([], self.questions.open)
        yield from (events, open_events, ended, open_questions)

    def _broker(self) -> Iterator[Metric]:
        up = _gauge("mqtt_broker_up", "1 while the hub's own MQTT broker answers")
        restarts = _counter("mqtt_broker_restarts", "Times that it was started again")
        if self.broker is not None:
            up.add_metric([], self.broker.is_up)
            restarts.add_metric([], max(0, self.broker.starts - 1))
        yield from (up, restarts)


def _counter(name: str, help_text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"autoglm_{name}", help_text, labels=labels)


def _gauge(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"autoglm_{name}", help_text, labels=labels)
