"""`auto` takes the first configured model that can answer now."""

import pytest

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Forbidden, NoInstanceFree, UnknownModel
from autoglm.inference.engine.engine import Engine
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import NOTHING, Scheduler
from autoglm.inference.settings import SchedulerSettings
from inference.calls import call, ready


def engine(*instances: Instance) -> Engine:
    scheduler = Scheduler(SchedulerSettings())
    for instance in instances:
        scheduler.instances[instance.name] = instance
    return Engine(scheduler)


def choose(chooser: Engine, *allowed: str, excluded: frozenset[str] = NOTHING) -> str:
    asked = call("auto")
    chooser.choose(asked, lambda model: not allowed or model in allowed, excluded)
    return asked.model


def test_the_first_configured_model_wins() -> None:
    assert choose(engine(ready("a", "one"), ready("b", "two"))) == "one"


def test_a_busy_instance_yields_to_a_free_one() -> None:
    busy = ready("a", "one")
    busy.start(call(), monotonic_s())
    assert choose(engine(busy, ready("b", "two"))) == "two"


def test_when_all_are_busy_the_first_is_waited_for() -> None:
    first, second = ready("a", "one"), ready("b", "two")
    for instance in (first, second):
        instance.start(call(), monotonic_s())
    assert choose(engine(first, second)) == "one"


def test_an_instance_that_starts_is_waited_for_rather_than_one_that_is_down() -> None:
    down, starting = ready("a", "one"), ready("b", "two")
    down.move("down", "refused")
    starting.move("starting")
    assert choose(engine(down, starting)) == "two"


def test_a_key_that_may_not_use_a_model_does_not_get_it() -> None:
    assert choose(engine(ready("a", "one"), ready("b", "two")), "two") == "two"
    with pytest.raises(Forbidden):
        choose(engine(ready("a", "one")), "two")


def test_a_refused_model_and_a_failed_instance_are_passed_over() -> None:
    refusing = ready("a", "one", "two")
    refusing.refused_models.add("one")
    chooser = engine(refusing, ready("b", "three"))
    assert choose(chooser) == "two"
    assert choose(chooser, excluded=frozenset({"a"})) == "three"


def test_an_instance_without_the_api_is_passed_over() -> None:
    embedding = ready("a", "one", apis=("/embeddings",))
    assert choose(engine(embedding, ready("b", "two"))) == "two"


def test_where_no_model_can_answer_each_one_says_why_and_what_to_do() -> None:
    drained, down, stopped = ready("a", "one"), ready("b", "two"), ready("c", "three")
    drained.drain()
    down.move("down", "connection refused")
    stopped.move("stopped")
    with pytest.raises(NoInstanceFree) as raised:
        choose(engine(drained, down, stopped))
    for words in (
        "a is drained: 'autoglm pool resume a' takes it back into use",
        "b is down: connection refused",
        "c is stopped: 'autoglm pool start c' starts it",
    ):
        assert words in str(raised.value)


def test_without_any_instance_the_model_is_unknown() -> None:
    with pytest.raises(UnknownModel):
        choose(engine())


def test_before_an_instance_has_told_its_models_it_may_still_have_one() -> None:
    silent = Instance("a", "openai", models=(), slots=1, apis=("/chat/completions",))
    with pytest.raises(NoInstanceFree, match="has not told its models yet"):
        choose(engine(silent))
