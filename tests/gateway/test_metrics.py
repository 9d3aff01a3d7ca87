"""What `/metrics` says of tokens, queues and choices."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Overloaded
from autoglm.gateway.histogram import MAX_SERIES
from autoglm.gateway.metrics import Metrics
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import SchedulerSettings
from eventually import wait_until
from gateway.budget_hub import BudgetHub, budget_hub
from inference.calls import call, ready
from scripted_model import STREAM_HEAD, Gate, Request, answering, chunk, echo, event

LABELS = '{instance="a",model="echo-model"}'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":11}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[BudgetHub]:
    with budget_hub(tmp_path, "", slots=1) as running:
        yield running


def count(hub: BudgetHub, name: str) -> float:
    """How often a histogram was observed for the one instance; 0 before the first time."""
    found = [
        line.rsplit(" ", 1)[1]
        for line in hub.client.get("/metrics").text.splitlines()
        if line.startswith(f"{name}_count{LABELS} ")
    ]
    return float(found[0]) if found else 0.0


def total_s(hub: BudgetHub, name: str) -> float:
    return hub.metric(f"{name}_sum{LABELS}")


def test_the_first_token_is_the_first_word_and_not_the_first_event(hub: BudgetHub) -> None:
    """Many servers send an event with the role before they have read the prompt."""
    words, end = Gate(), Gate()
    head = STREAM_HEAD + chunk(event(None, role="assistant"))
    word = chunk(event("hello"))
    rest = chunk(event(None, "stop")) + chunk(USAGE) + chunk(DONE) + b"0\r\n\r\n"

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await words.passed(reader)
        await end.between(word, rest)(request, reader, writer)

    hub.model.behaviour = behave
    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(hub.ask, stream=True)
        wait_until(lambda: count(hub, "autoglm_first_byte_seconds") == 1)
        wait_until(lambda: words.waiting == 1)
        assert count(hub, "autoglm_time_to_first_token_seconds") == 0
        words.open()
        wait_until(lambda: end.waiting == 1)
        end.open()
        assert reply.result().status_code == 200
    wait_until(lambda: count(hub, "autoglm_time_to_first_token_seconds") == 1)
    assert total_s(hub, "autoglm_time_to_first_token_seconds") > total_s(hub, "autoglm_first_byte_seconds") > 0
    assert count(hub, "autoglm_time_per_output_token_seconds") == 1


def test_the_pace_is_the_time_of_the_tokens_after_the_first(hub: BudgetHub) -> None:
    """Eleven tokens: ten pauses of about 20 ms are 20 ms a token, whatever the first one took."""

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event("a")))
        for _ in range(10):
            await asyncio.sleep(0.02)  # the pace of a model, not a wait for a condition
            writer.write(chunk(event("b")))
            await writer.drain()
        writer.write(chunk(event(None, "stop")) + chunk(USAGE) + chunk(DONE) + b"0\r\n\r\n")

    hub.model.behaviour = behave
    assert hub.ask(stream=True).status_code == 200
    wait_until(lambda: count(hub, "autoglm_time_per_output_token_seconds") == 1)
    assert 0.02 <= total_s(hub, "autoglm_time_per_output_token_seconds") < 0.2


def test_the_wait_for_a_slot_is_measured(hub: BudgetHub) -> None:
    gate = Gate()
    hub.model.behaviour = gate.before(echo)
    with ThreadPoolExecutor(2) as threads:
        replies = [threads.submit(hub.ask) for _ in range(2)]
        wait_until(lambda: hub.metric("autoglm_queue_length") == 1)
        gate.open()
        assert [reply.result().status_code for reply in replies] == [200, 200]
    assert hub.metric("autoglm_queue_length") == 0
    assert hub.metric('autoglm_queue_wait_seconds_count{model="echo-model"}') == 2
    assert hub.metric('autoglm_queue_wait_seconds_bucket{le="0.001",model="echo-model"}') == 1
    assert hub.metric('autoglm_queue_wait_seconds_sum{model="echo-model"}') > 0.001


def test_an_instance_that_fails_throttles_or_is_ejected_is_counted(hub: BudgetHub) -> None:
    """By its own words: 500 is a failure, 429 is none; five failures in a row take it out."""
    hub.model.behaviour = answering(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(hub.ask)
        wait_until(lambda: hub.metric('autoglm_instance_throttles_total{instance="a"}') >= 1)
        assert hub.metric('autoglm_instance_failures_total{instance="a"}') == 0
        hub.model.behaviour = echo
        assert reply.result().status_code == 200
    hub.model.behaviour = answering(500, {"error": {"message": "broken"}})
    for _ in range(5):
        assert hub.ask().status_code == 502
    assert hub.metric('autoglm_instance_failures_total{instance="a"}') == 5
    assert hub.metric('autoglm_instance_ejections_total{instance="a"}') == 1
    assert hub.metric("autoglm_hedges_total") == 0


def test_a_choice_of_auto_is_counted(hub: BudgetHub) -> None:
    assert hub.ask(model="auto").status_code == 200
    page = hub.client.get("/metrics").text
    assert 'autoglm_decisions_total{exploration="false",model="echo-model",prefer="balanced"} 1.0' in page


def idle_metrics() -> Metrics:
    scheduler = Scheduler(SchedulerSettings())
    return Metrics(Dispatcher(scheduler, Engine(scheduler)))


def test_decisions_are_counted_by_model_preference_and_exploration() -> None:
    metrics = idle_metrics()
    for is_exploration in (False, False, True):
        metrics.observe_decision("glm-4", "fast", is_exploration=is_exploration)
    page = metrics.render().decode()
    assert 'autoglm_decisions_total{exploration="false",model="glm-4",prefer="fast"} 2.0' in page
    assert 'autoglm_decisions_total{exploration="true",model="glm-4",prefer="fast"} 1.0' in page


async def test_a_request_that_would_be_late_counts_as_shed() -> None:
    scheduler = Scheduler(SchedulerSettings())
    metrics = Metrics(Dispatcher(scheduler, Engine(scheduler)))
    scheduler.add(ready("a"))
    await scheduler.acquire(call())
    late = call()
    late.first_token_by_s = monotonic_s() + 0.05
    assert "autoglm_shed_total 0.0" in metrics.render().decode()
    with pytest.raises(Overloaded):
        await scheduler.acquire(late)
    assert "autoglm_shed_total 1.0" in metrics.render().decode()


def test_labels_are_bounded() -> None:
    metrics = idle_metrics()
    for number in range(MAX_SERIES + 50):
        metrics.observe_first_token(f"m{number}", "a", 0.1)
        metrics.observe_decision(f"m{number}", "fast", is_exploration=False)
    page = metrics.render().decode()
    assert page.count("autoglm_time_to_first_token_seconds_count") == MAX_SERIES + 1
    assert 'autoglm_time_to_first_token_seconds_count{instance="",model=""} 50.0' in page
    assert 'autoglm_decisions_total{exploration="false",model="",prefer=""} 50.0' in page
