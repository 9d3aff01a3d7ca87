"""The learner predicts from like requests, chooses by the objective, explores within its budget, and forgets."""

import math
import random
from collections.abc import Sequence
from hashlib import blake2b
from statistics import pstdev

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.core.errors import InvalidField, StateBroken
from autoglm.inference.decision import Arm, Candidate, Weights
from autoglm.inference.engine.context import chance, context_of
from autoglm.inference.engine.knn import Neighbours
from autoglm.inference.engine.learner import ARMS, Choice, Learner, LearnerSettings, Option
from autoglm.inference.engine.objective import PREFERENCES
from autoglm.inference.engine.quality import FLAWLESS
from autoglm.inference.features import Features, Language

QUALITY = Weights(quality=1.0, latency=0.0, cost=0.0)
GOOD, BAD = Arm("good"), Arm("bad")
LANGUAGES: tuple[Language, ...] = ("zh", "en", "mixed", "other", "none")

requests = st.builds(
    Features,
    api=st.just("/chat/completions"),
    language=st.sampled_from(LANGUAGES),
    has_code=st.booleans(),
    wants_json=st.booleans(),
    prompt_tokens=st.integers(-5, 10**9),
    turns=st.integers(-5, 10**6),
    intent=st.sampled_from(["", "code", "聊天", "x" * 300, "\udcff"]),
    confidence=st.floats(),
)
arms = st.builds(Arm, st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["plain", "precise"]))
lessons = st.lists(st.tuples(requests, arms, st.floats(0, 1), st.floats(0, 1)), max_size=40)


def request(intent: str = "code", language: Language = "en", prompt_tokens: int = 100) -> Features:
    return Features(api="/chat/completions", intent=intent, language=language, prompt_tokens=prompt_tokens, turns=1)


def options(*arms: Arm) -> list[Option]:
    return [Option(arm=arm, latency_s=1.0, cost=1.0) for arm in arms]


def decide(
    learner: Learner, features: Features, offered: Sequence[Option], *, seed: str = "0", weights: Weights = QUALITY
) -> Choice:
    return learner.decide(features, offered, weights, seed=seed, slo_s=10.0, cost_scale=1.0)


def taught(*lessons: tuple[Features, Arm, float], times: int = 30, **changed: float) -> Learner:
    learner = Learner(LearnerSettings(**changed))  # type: ignore[arg-type]  # the tests change numbers only
    for _ in range(times):
        for features, arm, quality in lessons:
            learner.learn(features, arm, quality)
    return learner


def leader(choice: Choice) -> Candidate:
    return max(choice.candidates, key=lambda candidate: candidate.propensity)


def built(given: list[tuple[Features, Arm, float, float]]) -> Learner:
    learner = Learner(LearnerSettings())
    for features, arm, quality, weight in given:
        learner.learn(features, arm, quality, weight=weight)
    return learner


def noticing(learner: Learner, arm: Arm, quality: float, times: int) -> float:
    """The quality that is expected of the arm after so many answers which nobody has judged."""
    weight = 0.1 if quality == FLAWLESS else 0.5
    for _ in range(times):
        learner.notice(request(), arm, quality, weight=weight)
    return decide(learner, request(), options(arm)).candidates[0].quality


def judged_anew(learner: Learner, arm: Arm, ages: list[float], was: float, now: float) -> float:
    """The outcomes that were learned then; the quality that is expected afterwards."""
    for age in ages:
        learner.correct(request(), arm, (was, 1.0), (now, 1.0), age)
    return decide(learner, request(), options(arm)).candidates[0].quality


# --- what is predicted ---


def test_what_is_judged_anew_counts_for_as_much_as_is_left_of_it() -> None:
    learner, plain = (Learner(LearnerSettings(half_life=20)) for _ in range(2))
    ages = []
    for _ in range(40):
        learner.learn(request(), GOOD, 0.5)
        plain.learn(request(), GOOD, 0.7)
        ages.append(learner.age_of(GOOD))
    for _ in range(40):
        learner.learn(request(), GOOD, 0.6)
        plain.learn(request(), GOOD, 0.6)
    wanted = judged_anew(plain, GOOD, [], 0.0, 0.0)
    assert judged_anew(learner, GOOD, ages, 0.5, 0.7) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(("learned", "corrections", "told"), [(0.2, (0.9, 0.0), 0.0), (0.8, (0.1, 1.0), 1.0)])
def test_more_is_never_taken_back_from_like_requests_than_is_there(
    learned: float, corrections: tuple[float, float], told: float
) -> None:
    """A judgement may come after retention, an alarm or a given-up cell took the outcome that it replaces."""
    neighbours, context = Neighbours(arms=1), context_of(request())
    neighbours.add(context, 0, 1.0, learned)
    was, now = corrections
    neighbours.correct(context, 0, 0.0, now - was)
    found = neighbours.nearby(context, [0])
    assert found.wide[0] == pytest.approx(1.0)
    assert found.wide_sum[0] == pytest.approx(told)


def test_old_outcomes_that_are_judged_anew_after_an_alarm_do_not_bring_back_the_past() -> None:
    learner, ages = Learner(LearnerSettings()), []
    for _ in range(400):
        learner.learn(request(), GOOD, 0.0)
        ages.append(learner.age_of(GOOD))
    for _ in range(60):
        learner.learn(request(), GOOD, 0.5)
    assert judged_anew(learner, GOOD, [], 0.0, 0.0) == pytest.approx(0.5, abs=0.1)
    assert judged_anew(learner, GOOD, ages, 0.0, 1.0) < 0.75


def test_answers_without_a_flaw_do_not_drown_what_judges_said() -> None:
    learner = taught((request(), BAD, 0.2))
    before = decide(learner, request(), options(BAD)).candidates[0].quality
    assert noticing(learner, BAD, FLAWLESS, 3_000) == pytest.approx(before, abs=0.02)


def test_until_judges_have_spoken_flaws_tell_arms_apart() -> None:
    learner = Learner(LearnerSettings())
    assert noticing(learner, GOOD, FLAWLESS, 50) > 0.7
    assert noticing(learner, BAD, 0.0, 50) < 0.2


def test_a_few_flaws_take_little_from_what_judges_said_and_nothing_but_flaws_all() -> None:
    """Of a thousand answers 30 are judged, as good, and as many have a flaw."""
    learner = taught((request(), GOOD, 1.0))
    noticing(learner, GOOD, FLAWLESS, 970)
    assert noticing(learner, GOOD, 0.0, 30) > 0.9
    assert noticing(learner, GOOD, 0.0, 300) < 0.5


def test_outcomes_of_like_requests_count_and_those_of_others_hardly() -> None:
    learner = taught((request("code"), GOOD, 1.0), (request("poems"), GOOD, 0.0))
    (on_code,), (on_poems,) = (
        decide(learner, request(intent), options(GOOD)).candidates for intent in ("code", "poems")
    )
    assert on_code.quality > 0.85
    assert on_poems.quality < 0.15


def test_of_a_new_intent_the_arm_is_expected_to_be_as_it_was_elsewhere() -> None:
    learner = taught((request("code"), GOOD, 0.9), (request("code"), BAD, 0.3))
    good, bad = decide(learner, request("never seen"), options(GOOD, BAD)).candidates
    assert good.quality > 0.7
    assert bad.quality < 0.5


def test_where_the_features_tell_nothing_the_mean_of_an_arm_counts() -> None:
    """Outcomes are a coin's, whatever the request: what looks like a difference between requests is chance."""
    toss = random.Random(3)
    learner, spread = Learner(LearnerSettings()), []
    for number in range(600):
        features = request(f"intent {number}", toss.choice(LANGUAGES), int(10 ** toss.uniform(0, 5)))
        spread.append(decide(learner, features, options(GOOD)).candidates[0].quality)
        learner.learn(features, GOOD, float(toss.random() < 0.5))
    assert pstdev(spread[300:]) < 0.05


def test_where_the_features_tell_something_again_they_are_soon_trusted() -> None:
    toss, learner = random.Random(3), Learner(LearnerSettings())
    for number in range(600):
        learner.learn(request(f"intent {number}"), GOOD, float(toss.random() < 0.5))
    for _ in range(60):
        learner.learn(request("code"), GOOD, 1.0)
        learner.learn(request("poems"), GOOD, 0.0)
    on_code, on_poems = (decide(learner, request(intent), options(GOOD)).candidates[0] for intent in ("code", "poems"))
    assert on_code.quality - on_poems.quality > 0.7


def test_what_is_little_known_has_a_wider_deviation() -> None:
    learner = taught((request("code"), GOOD, 0.5))
    (known,), (unknown,) = (decide(learner, request("code"), options(arm)).candidates for arm in (GOOD, Arm("new")))
    assert unknown.deviation > 3 * known.deviation


def test_a_new_model_is_expected_to_be_like_the_others_or_like_its_hint() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.9))
    *_, new = decide(learner, request(), options(GOOD, BAD, Arm("new"))).candidates
    assert new.quality == pytest.approx(0.9, abs=0.05)
    hinted = Learner.restore(learner.state(), LearnerSettings(hints={"new": 0.2}))
    *_, new = decide(hinted, request(), options(GOOD, BAD, Arm("new"))).candidates
    assert new.quality == pytest.approx(0.2, abs=0.05)


def test_weak_evidence_moves_less() -> None:
    weak, strong = Learner(LearnerSettings()), Learner(LearnerSettings())
    for _ in range(10):
        weak.learn(request(), GOOD, 0.0, weight=0.1)
        strong.learn(request(), GOOD, 0.0)
    (by_weak,), (by_strong,) = (decide(one, request(), options(GOOD)).candidates for one in (weak, strong))
    assert by_strong.quality < 0.2 < 0.3 < by_weak.quality
    assert by_weak.deviation > 1.5 * by_strong.deviation


# --- what is chosen ---


def test_the_objective_decides_who_leads() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.8))
    offered = [Option(arm=GOOD, latency_s=9.0, cost=1.0), Option(arm=BAD, latency_s=1.0, cost=0.01)]
    by_weights = {
        name: leader(decide(learner, request(), offered, weights=PREFERENCES[name])).arm for name in PREFERENCES
    }
    assert by_weights == {"best": GOOD, "fast": BAD, "cheap": BAD, "balanced": BAD}


def test_below_the_quality_floor_nothing_is_chosen_however_cheap() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.3))
    offered = [Option(arm=GOOD, latency_s=60.0, cost=1.0), Option(arm=BAD, latency_s=0.1, cost=0.0)]
    choice = decide(learner, request(), offered, weights=PREFERENCES["fast"])
    assert choice.candidates[1].propensity == 0.0
    assert "below the floor" in choice.candidates[1].ruled_out
    assert {decide(learner, request(), offered, seed=str(seed)).chosen for seed in range(300)} == {0}


def test_while_nothing_was_judged_the_order_leads_however_many_answers_there_were() -> None:
    learner = Learner(LearnerSettings())
    for _ in range(300):
        learner.learn(request(), BAD, 0.8, weight=0.1)  # no flaw was seen
    choice = decide(learner, request(), options(GOOD, BAD, Arm("c"), Arm("d")))
    assert [candidate.propensity for candidate in choice.candidates] == pytest.approx([0.97, 0.01, 0.01, 0.01])


def test_the_first_judgements_have_the_others_tried_more() -> None:
    learner = taught((request(), BAD, 0.0))
    choice = decide(learner, request(), options(BAD, GOOD))
    assert sum(candidate.propensity for candidate in choice.candidates[1:]) >= 0.3


def test_in_the_beginning_the_least_known_are_tried_most() -> None:
    learner = taught((request(), GOOD, 0.7), times=8)
    learner.learn(request(), BAD, 0.7)
    by_arm = {
        candidate.arm.model: candidate.propensity
        for candidate in decide(learner, request(), options(GOOD, BAD, Arm("third"))).candidates
    }
    first, second, third = by_arm["good"], by_arm["bad"], by_arm["third"]
    assert (first, second, third) == pytest.approx((0.7, 0.3 * 9 / 19, 0.3 * 10 / 19))


@pytest.mark.parametrize("times", [0, 3, 30])
def test_without_a_share_nothing_is_explored(times: int) -> None:
    learner = taught((request(), GOOD, 0.7), (request(), BAD, 0.65), times=times, explore_share=0.0)
    choice = decide(learner, request(), options(GOOD, BAD, Arm("third")))
    assert sorted(candidate.propensity for candidate in choice.candidates) == [0.0, 0.0, 1.0]


def test_the_beginning_is_over_when_all_are_known() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.2), times=10)
    _, bad = decide(learner, request(), options(GOOD, BAD)).candidates
    assert bad.propensity <= LearnerSettings().explore_share


def test_a_new_model_gets_no_more_than_the_exploration_share_until_it_is_known() -> None:
    learner = taught((request(), BAD, 0.4), times=100)
    for outcome in range(10):
        _, new = decide(learner, request(), options(BAD, GOOD)).candidates
        assert 0.0 < new.propensity <= 0.03, f"after {outcome} outcomes"
        learner.learn(request(), GOOD, 1.0)
    assert leader(decide(learner, request(), options(BAD, GOOD))).arm == GOOD


def test_known_arms_are_explored_by_the_share_that_is_set() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.8), times=100, explore_share=0.05)
    good, bad = decide(learner, request(), options(GOOD, BAD)).candidates
    assert bad.propensity == pytest.approx(0.05)
    assert good.propensity == pytest.approx(0.95)


def test_where_an_arm_may_be_better_and_is_little_known_it_is_tried_more() -> None:
    learner = taught((request("code"), GOOD, 0.9), (request("code"), BAD, 0.8), (request("poems"), GOOD, 0.85))
    _, known = decide(learner, request("code"), options(GOOD, BAD)).candidates
    _, young = decide(learner, request("poems"), options(GOOD, BAD)).candidates
    assert known.propensity <= 0.03 < young.propensity <= 0.3


def test_what_was_ruled_out_before_stays_out_with_its_reason() -> None:
    offered = [Option(arm=GOOD, latency_s=1.0, cost=1.0, ruled_out="it does not see pictures"), *options(BAD)]
    choice = decide(taught((request(), GOOD, 1.0)), request(), offered)
    assert (choice.chosen, choice.candidates[0].propensity) == (1, 0.0)
    assert choice.candidates[0].ruled_out == "it does not see pictures"
    with pytest.raises(ValueError, match="ruled out"):
        decide(Learner(LearnerSettings()), request(), offered[:1])


@given(lessons, requests, st.lists(arms, min_size=1, max_size=6, unique=True), st.sampled_from(sorted(PREFERENCES)))
@settings(max_examples=60, deadline=None)
def test_propensities_are_a_distribution_and_all_numbers_finite(
    given: list[tuple[Features, Arm, float, float]], features: Features, offered: list[Arm], prefer: str
) -> None:
    times = [math.inf, math.nan, -1.0, 0.0, 1.0, 1e300]
    choice = decide(
        built(given),
        features,
        [Option(arm=arm, latency_s=time_s, cost=time_s) for arm, time_s in zip(offered, times, strict=False)],
        weights=PREFERENCES[prefer],
    )
    assert sum(candidate.propensity for candidate in choice.candidates) == pytest.approx(1.0, abs=1e-12)
    assert choice.candidates[choice.chosen].propensity > 0.0
    for one in choice.candidates:
        assert 0.0 <= one.propensity <= 1.0
        assert 0.0 <= one.quality <= 1.0
        assert all(math.isfinite(number) for number in (one.deviation, one.latency_s, one.cost, one.score))
        assert (one.propensity == 0.0) == bool(one.ruled_out)


@given(lessons, requests)
@settings(max_examples=60, deadline=None)
def test_no_more_than_the_young_share_goes_to_others_once_one_is_known(
    given: list[tuple[Features, Arm, float, float]], features: Features
) -> None:
    learner = built([*given, *[(request(), GOOD, 0.5, 1.0)] * 10])
    choice = decide(learner, features, options(GOOD, *(Arm(name) for name in "abcd")))
    assert 1.0 - leader(choice).propensity <= 0.3 + 1e-12


def test_choices_come_as_often_as_their_propensities_say() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.85), explore_share=0.2)
    offered, draws = options(GOOD, BAD, Arm("new")), 5_000
    counts = [0, 0, 0]
    for seed in range(draws):
        counts[decide(learner, request(), offered, seed=f"decision {seed}").chosen] += 1
    for count, candidate in zip(counts, decide(learner, request(), offered).candidates, strict=True):
        share = candidate.propensity
        assert abs(count / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_chance_is_drawn_from_the_id_alone_and_evenly() -> None:
    drawn = [chance(f"id {number}") for number in range(10_000)]
    assert drawn == [chance(f"id {number}") for number in range(10_000)]
    assert 0.0 <= min(drawn) < 0.001 < 0.999 < max(drawn) < 1.0
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.02)


# --- what changes ---


def test_a_model_that_gets_worse_is_left_soon() -> None:
    learner, offered = taught((request(), GOOD, 0.9), (request(), BAD, 0.7), times=500), options(GOOD, BAD)
    judge = random.Random(3)
    outcomes = 0
    while leader(decide(learner, request(), offered)).arm == GOOD:
        learner.learn(request(), GOOD, float(judge.random() < 0.4))
        outcomes += 1
    assert 3 < outcomes < 60


def test_old_outcomes_fade_also_for_an_arm_that_is_not_chosen() -> None:
    learner = taught((request(), GOOD, 0.9), (request(), BAD, 0.9), times=300, half_life=100.0)
    before = decide(learner, request(), options(BAD)).candidates[0].deviation
    for _ in range(500):
        learner.learn(request(), GOOD, 0.9)
    after = decide(learner, request(), options(BAD)).candidates[0].deviation
    assert after > 2 * before


def test_the_common_scale_is_renewed_without_a_trace() -> None:
    learner = Learner(LearnerSettings(half_life=20.0))
    deviations = []
    for number in range(260):  # at 200 outcomes the scale passes 1e-3, and is brought back
        learner.learn(request(), GOOD, float(number % 2))
        deviations.append(decide(learner, request(), options(GOOD)).candidates[0].deviation)
    assert deviations[258] == pytest.approx(deviations[190], rel=0.05)


def test_graded_judgements_are_trusted_sooner_than_thumbs() -> None:
    thumbs, graded = Learner(LearnerSettings()), Learner(LearnerSettings())
    for number in range(200):
        thumbs.learn(request("other"), GOOD, float(number % 2))
        graded.learn(request("other"), GOOD, 0.5)
    (by_thumbs,), (by_grades,) = (decide(one, request("other"), options(GOOD)).candidates for one in (thumbs, graded))
    assert by_grades.deviation < 0.6 * by_thumbs.deviation
    for one in (thumbs, graded):
        one.learn(request("new"), GOOD, 1.0)
    (by_thumbs,), (by_grades,) = (decide(one, request("new"), options(GOOD)).candidates for one in (thumbs, graded))
    assert by_grades.quality > by_thumbs.quality + 0.05


def test_judges_that_never_differ_leave_numbers_that_can_be_divided_by() -> None:
    learner = taught((request(), GOOD, 1.0), times=2000)
    assert decide(learner, request("new"), options(GOOD)).candidates[0].deviation > 0.01


# --- what is kept ---


@given(lessons, requests)
@settings(max_examples=60, deadline=None)
def test_a_restored_learner_is_the_same_and_goes_on_the_same(
    given: list[tuple[Features, Arm, float, float]], features: Features
) -> None:
    learner = built(given)
    restored = Learner.restore(learner.state(), learner.settings)
    assert restored.state() == learner.state()
    for one in (learner, restored):
        one.learn(features, GOOD, 0.3)
    assert restored.state() == learner.state()
    offered = options(GOOD, *(Arm(name) for name in "abcd"))
    assert decide(restored, features, offered) == decide(learner, features, offered)


@given(lessons)
@settings(max_examples=30, deadline=None)
def test_the_same_lessons_make_the_same_state(given: list[tuple[Features, Arm, float, float]]) -> None:
    assert built(given).state() == built(given).state()


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_state_is_refused(cut: int) -> None:
    with pytest.raises(StateBroken):
        Learner.restore(taught((request(), GOOD, 1.0), times=3).state()[:cut], LearnerSettings())


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(StateBroken):
        Learner.restore(garbage, LearnerSettings())


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_state_with_one_damaged_byte_is_refused(data: st.DataObject) -> None:
    state = bytearray(taught((request(), GOOD, 1.0), times=1).state())
    state[data.draw(st.integers(0, len(state) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateBroken):
        Learner.restore(bytes(state), LearnerSettings())


def test_a_state_of_another_version_is_refused_by_its_number() -> None:
    packed = msgspec.msgpack.encode({"version": 7})
    with pytest.raises(StateBroken, match="version 7"):
        Learner.restore(blake2b(packed, digest_size=16).digest() + packed, LearnerSettings())


@pytest.mark.parametrize(
    "wrong",
    [
        {"figures": b"abc"}, {"figures": bytes(4)}, {"grams": bytes(8)}, {"moments": b""}, {"cells": [((1.0,), 1)]},
        {"cells": [((0.0,) * 11, 1)] * 769}, {"scale": math.inf}, {"trust": math.nan},
        {"moments": np.full(32, np.nan).tobytes()}, {"grams": np.full(1024, np.inf).tobytes()},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_a_state_with_a_right_checksum_and_wrong_sizes_is_refused(wrong: dict[str, object]) -> None:
    """The checksum is against damage; whoever gives a backup away can compute one."""
    fields = msgspec.msgpack.decode(Learner(LearnerSettings()).state()[16:])
    packed = msgspec.msgpack.encode(fields | wrong)
    with pytest.raises(StateBroken):
        Learner.restore(blake2b(packed, digest_size=16).digest() + packed, LearnerSettings())


@pytest.mark.parametrize("quality", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_learned(quality: float) -> None:
    learner = Learner(LearnerSettings())
    before = learner.state()
    with pytest.raises(InvalidField):
        learner.learn(request(), GOOD, quality)
    with pytest.raises(InvalidField):
        learner.learn(request(), GOOD, 0.5, weight=quality)
    assert learner.state() == before


def test_arms_intents_and_memory_are_bounded() -> None:
    learner = Learner(LearnerSettings())
    for number in range(1500):
        features = request(f"intent {number}", prompt_tokens=1 << number % 20)
        learner.learn(features, Arm(f"model {number % (ARMS + 50)}"), 0.5)
    assert len(learner.state()) < 8 << 20
    assert decide(learner, request("intent 1499"), options(Arm("model 5"))).chosen == 0
    assert Learner.restore(learner.state(), LearnerSettings()).state() == learner.state()


def test_an_arm_that_fell_is_believed_to_be_at_its_new_level_from_the_alarm_on() -> None:
    """And what tells requests apart stays: the kind that was worse still is."""
    learner, kinds = Learner(LearnerSettings()), {"code": 0.9, "chat": 0.7}
    for _ in range(200):
        for kind, quality in kinds.items():
            learner.learn(request(kind), GOOD, quality)
    known = learner._known[0]
    for _ in range(60):
        for kind, quality in kinds.items():
            if not known.drift.alarms:
                learner.learn(request(kind), GOOD, quality - 0.5)
    assert known.drift.alarms == 1
    code, chat = (decide(learner, request(kind), options(GOOD)).candidates[0].quality for kind in kinds)
    assert chat < code
    assert (code + chat) / 2 == pytest.approx(0.3, abs=0.12)
