"""A request that is moved to another arm: who really answered is who is judged, and learned of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from autoglm.inference.call import Call
from autoglm.inference.decision import Arm, Decision, Outcome
from autoglm.inference.engine.account import SUBJECT, Concluded, Judged, read_events
from autoglm.inference.engine.engine import Engine
from autoglm.inference.engine.learner import LearnerSettings
from autoglm.inference.engine.ledger import Ledger
from autoglm.inference.engine.lessons import Lessons
from autoglm.inference.engine.retries import judgeable
from autoglm.inference.intent.reader import IntentReader
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import ModelSettings, SchedulerSettings
from autoglm.store import Store, StoreSettings, open_store
from eventually import until
from inference.calls import call, ready
from inference.test_engine_ledger import running

MODELS = (
    ModelSettings(name="one", profiles=("precise", "direct")),
    ModelSettings(name="two", profiles=("brief",)),
)
GOOD = Outcome(status=200, instance="b", took_s=1.0, tokens_out=20)


@asynccontextmanager
async def learning(folder: Path, *models_of_b: str) -> AsyncIterator[tuple[Engine, Ledger, Store]]:
    """Instance a has the model `one`, b what is said."""
    scheduler = Scheduler(SchedulerSettings())
    for instance in (ready("a", "one"), ready("b", *models_of_b)):
        scheduler.add(instance)
    async with open_store(folder, StoreSettings()) as store, running(store) as ledger:
        yield Engine(scheduler, ledger=ledger, understand=IntentReader().read, models=MODELS), ledger, store


def decided(engine: Engine, wanted: Arm) -> Call:
    """A call for which this arm was chosen, to try it out: by its score it is the last."""
    asked = call("auto")
    engine.choose(asked, lambda _: True)
    assert asked.decision is not None
    candidates = tuple(
        msgspec.structs.replace(candidate, score=0.0 if candidate.arm == wanted else 1.0)
        for candidate in asked.decision.candidates
    )
    chosen = next(index for index, candidate in enumerate(candidates) if candidate.arm == wanted)
    asked.decision = msgspec.structs.replace(asked.decision, candidates=candidates, chosen=chosen)
    return asked


@pytest.mark.parametrize(
    ("models_of_b", "chosen", "answers"),
    [
        (("one",), Arm("one", "direct"), Arm("one", "precise")),
        (("one",), Arm("one", "precise"), Arm("one", "direct")),
        (("two",), Arm("one", "precise"), Arm("two", "brief")),
    ],
)
async def test_the_arm_that_answered_is_judged(
    tmp_path: Path, models_of_b: tuple[str, ...], chosen: Arm, answers: Arm
) -> None:
    async with learning(tmp_path, *models_of_b) as (engine, ledger, store):
        asked = decided(engine, chosen)
        engine.choose(asked, lambda _: True, frozenset({"a"}))
        assert asked.applied == answers
        decision = asked.decision
        assert decision is not None
        engine.concluded(asked, GOOD)
        account = await ledger.account(decision.id)
        assert account.outcome is not None
        assert judgeable(account.decision, account.outcome).arm == answers
        await ledger.judged(judgeable(account.decision, account.outcome), 1.0, "person")
        events = read_events(await store.log.read(SUBJECT))
        assert [event.arm for event in events if isinstance(event, Judged)] == [answers]


async def test_who_is_not_content_with_a_moved_answer_says_so_of_the_arm_that_gave_it(tmp_path: Path) -> None:
    async with learning(tmp_path, "one") as (engine, ledger, store):
        asked = decided(engine, Arm("one", "direct"))
        engine.choose(asked, lambda _: True, frozenset({"a"}))
        engine.concluded(asked, GOOD)
        engine.choose(call("auto"), lambda _: True)
        assert ledger.lessons is not None
        await until(lambda: ledger.lessons is not None and ledger.lessons.events == 2)
        judged = [event for event in read_events(await store.log.read(SUBJECT)) if isinstance(event, Judged)]
        assert [(event.feedback.source, event.arm) for event in judged] == [("retry", Arm("one", "precise"))]


async def test_a_call_for_which_nothing_is_left_of_the_decision_goes_without_its_parameters(tmp_path: Path) -> None:
    async with learning(tmp_path, "three") as (engine, _, _):
        asked = decided(engine, Arm("one", "precise"))
        engine.adapt(asked, "openai")
        assert b'"temperature":0.0' in asked.body
        asked.decision = _without(asked.decision, "three")
        engine.choose(asked, lambda _: True, frozenset({"a"}))
        assert (asked.applied, asked.model) == (None, "three")
        assert b'"temperature":0.0' not in asked.body


def _without(decision: Decision | None, model: str) -> Decision:
    """As if the model had come after the decision."""
    assert decision is not None
    kept = tuple(candidate for candidate in decision.candidates if candidate.arm.model != model)
    return msgspec.structs.replace(decision, candidates=kept, chosen=0)


async def test_what_an_answer_shows_of_itself_is_learned_of_the_arm_that_gave_it(tmp_path: Path) -> None:
    async with learning(tmp_path, "one") as (engine, _, _):
        decision = decided(engine, Arm("one", "direct")).decision
    assert decision is not None
    good = msgspec.structs.replace(GOOD, signals={"json_valid": 0.0})
    moved = msgspec.structs.replace(good, moved_to="one", moved_profile="precise")
    other = next(index for index, entry in enumerate(decision.candidates) if entry.arm == Arm("one", "precise"))
    by_right = Concluded(decision=msgspec.structs.replace(decision, chosen=other), outcome=good)
    assert _learned(Concluded(decision=decision, outcome=moved)) == _learned(by_right)
    assert _learned(by_right) != _learned(Concluded(decision=decision, outcome=good))


def _learned(event: Concluded) -> bytes:
    lessons = Lessons(LearnerSettings())
    lessons.take(event)
    return lessons.state()
