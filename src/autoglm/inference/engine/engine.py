"""Chooses model and parameters for `auto`, and notes what came of it.

Until the past has been folded, and where learning is switched off, the rule of configuration order decides.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, cast

import msgspec

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.ids import uuid7
from autoglm.core.preference import PreferenceName
from autoglm.inference.call import Call
from autoglm.inference.credible import credible
from autoglm.inference.decision import Arm, Decision, Outcome, PreferenceSource
from autoglm.inference.engine.forecast import forecast
from autoglm.inference.engine.ledger import Ledger
from autoglm.inference.engine.objective import FLOORS, PREFERENCES
from autoglm.inference.engine.order import first_in_order
from autoglm.inference.engine.profiles import PROFILES
from autoglm.inference.engine.profiles import apply as apply_profile
from autoglm.inference.engine.retries import Retries, digest_of, judgeable
from autoglm.inference.features import Features
from autoglm.inference.scheduler import NOTHING, Scheduler
from autoglm.inference.settings import EngineSettings, ModelSettings, ProviderName

if TYPE_CHECKING:
    from autoglm.inference.engine.learner import Option
    from autoglm.inference.engine.lessons import Lessons

Understand = Callable[[bytes, str, str], Features]
"""(body, API, hint of the client) to features."""

_COST_SCALE = 1.0
"""Of the first answers: then nobody knows yet what is dear here."""
_RETRIED = 0.2
"""The quality of an answer after which the same was asked again."""


class Engine:
    def __init__(
        self, scheduler: Scheduler, settings: EngineSettings | None = None, *,
        ledger: Ledger | None = None, understand: Understand | None = None, models: Sequence[ModelSettings] = (),
    ) -> None:  # fmt: skip
        """ledger and understand: None where nothing is learned."""
        self._scheduler = scheduler
        self._settings = settings or EngineSettings()
        self._ledger = ledger
        self._understand = understand
        self._models: Mapping[str, ModelSettings] = {model.name: model for model in models}
        self._has_prices = any(model.price_in or model.price_out for model in models)
        self._retries = Retries()

    @property
    def cost_scale(self) -> float:
        """The cost of an answer that is as bad as any."""
        lessons = self._ledger.lessons if self._ledger is not None else None
        return self._settings.cost_scale or (2 * lessons.usual_cost if lessons is not None else 0.0) or _COST_SCALE

    def choose(self, call: Call, allows: Callable[[str], bool], excluded: frozenset[str] = NOTHING) -> None:
        """Name the model of a call that leaves the choice to the hub, among those that `allows` admits.

        excluded: instances that have failed this call already. Raises UnknownModel, Forbidden, NoInstanceFree.
        """
        lessons = self._ledger.lessons if self._ledger is not None else None
        if call.decision is not None:
            if excluded or not self._holds(call, allows):
                self._move(call, call.decision, allows, excluded)
        elif lessons is None or self._understand is None:
            call.name_model(first_in_order(self._scheduler, call, allows, excluded))
        else:
            self._decide(call, lessons, self._understand, allows, excluded)

    def _decide(
        self, call: Call, lessons: "Lessons", understand: Understand, allows: Callable[[str], bool],
        excluded: frozenset[str],
    ) -> None:  # fmt: skip
        settings = self._settings
        features = understand(call.body, call.api, call.hint)
        options = self._options(call, features, lessons, allows, excluded)
        if all(option.ruled_out for option in options):
            call.name_model(first_in_order(self._scheduler, call, allows, excluded))  # or it says why there is none
            return
        assert self._ledger is not None, "it has the lessons"
        call.question = digest_of(call.tenant, call.body)
        if (retried := self._retries.asked(call.question, call.arrived_s)) is not None:
            self._ledger.judge(retried, _RETRIED, "retry")
        id, (prefer, preferred_by) = uuid7(), self._wanted(call)
        weights = PREFERENCES[prefer]
        choice = lessons.learner.decide(
            features, options, weights, seed=id, slo_s=settings.slo_s, cost_scale=self.cost_scale,
            floor=FLOORS[prefer],
        )  # fmt: skip
        decision = call.decision = Decision(
            id=id, time_ms=now_ms(), tenant=call.tenant, prefer=prefer, weights=weights, features=features,
            candidates=choice.candidates, chosen=choice.chosen, is_exploration=choice.is_exploration,
            preferred_by=preferred_by,
        )  # fmt: skip
        call.client_body = call.body
        self._apply(call, choice.candidates[choice.chosen].arm)
        self._ledger.opened(decision)

    def _wanted(self, call: Call) -> tuple[PreferenceName, PreferenceSource]:
        """What matters, and who says so: the request, its key, its tenant's line in the settings, or the settings."""
        if call.prefer is not None:
            return call.prefer, call.preferred_by
        if (prefer := self._settings.prefer_by_tenant.get(call.tenant)) is not None:
            return prefer, "tenant"
        return self._settings.prefer, "settings"

    def _options(
        self, call: Call, features: Features, lessons: "Lessons", allows: Callable[[str], bool],
        excluded: frozenset[str],
    ) -> "list[Option]":  # fmt: skip
        from autoglm.inference.engine.learner import Option  # loaded with the lessons

        now_s = monotonic_s()
        options: list[tuple[bool, Option]] = []
        for model in self._scheduler.models():
            if not allows(model):
                continue
            settings = self._models.get(model, _UNKNOWN_MODEL)
            ruled_out = _unfit(settings, features) or self._too_short(call, model, features)
            for profile in settings.profiles:
                arm = Arm(model, profile)
                tokens = features.prompt_tokens, lessons.lengths.expected(features, arm)
                expected = forecast(
                    self._scheduler, model, call.api, now_s=now_s, prompt_tokens=tokens[0], output_tokens=tokens[1],
                    excluded=excluded,
                )  # fmt: skip
                if expected is None:
                    continue
                cost = price_of(settings, *tokens) if self._has_prices else expected.compute_s
                if expected.pause_s > self._scheduler.settings.max_wait_s:
                    ruled_out = ruled_out or f"its instances pause for {expected.pause_s:.0f} s"
                option = Option(
                    arm=arm, latency_s=expected.latency_s, cost=cost, output_tokens=tokens[1], ruled_out=ruled_out
                )
                options.append((not expected.is_free, option))
        # Where nothing is known, the first leads: one that is free, by the order of the settings.
        return [option for _, option in sorted(options, key=itemgetter(0))]

    def _too_short(self, call: Call, model: str, features: Features) -> str:
        """Why no instance can take so long a prompt, by what each of them has told in an error; else empty."""
        told = [entry.context_tokens.get(model) for entry in self._scheduler.candidates(model, call.api)]
        longest = max((tokens for tokens in told if tokens is not None), default=0)
        if not longest or None in told or features.prompt_tokens <= longest:
            return ""
        return f"its context of {longest} tokens, as it told, is too short"

    def _holds(self, call: Call, allows: Callable[[str], bool]) -> bool:
        """Nothing speaks against what was decided: the call waits for it."""
        if not allows(call.model):
            return False
        expected = forecast(self._scheduler, call.model, call.api, now_s=monotonic_s())
        return expected is not None and not expected.pause_s

    def _apply(self, call: Call, arm: Arm) -> None:
        call.applied = arm
        call.body, call.model = call.client_body, call.wanted
        call.name_model(arm.model)

    def adapt(self, call: Call, provider: str) -> None:
        """Write the parameters that were chosen, as the provider of the instance that gets the call has them."""
        arm = call.applied
        if arm is not None and (profile := PROFILES[arm.profile]).sets:
            call.body, call.model = apply_profile(call.client_body, profile, cast(ProviderName, provider)), call.wanted
            call.name_model(arm.model)

    def _move(self, call: Call, decision: Decision, allows: Callable[[str], bool], excluded: frozenset[str]) -> None:
        """The next best: the instances of the one that was chosen have failed the call."""
        now_s = monotonic_s()
        waiting: Arm | None = None
        for candidate in sorted(decision.candidates, key=lambda candidate: -candidate.score):
            model = candidate.arm.model
            if candidate.ruled_out or not allows(model):
                continue
            expected = forecast(self._scheduler, model, call.api, now_s=now_s, excluded=excluded)
            if expected is not None and expected.is_free:
                self._apply(call, candidate.arm)
                return
            if expected is not None and waiting is None and not expected.pause_s:
                waiting = candidate.arm
        if waiting is not None:
            self._apply(call, waiting)
            return
        call.applied = None
        call.body, call.model = call.client_body, call.wanted  # without the parameters of the one before
        call.name_model(first_in_order(self._scheduler, call, allows, excluded))

    # --- afterwards ---

    def concluded(self, call: Call, outcome: Outcome, answer: bytes = b"", guess: int = 0) -> None:
        """Note what came of a call, once. answer: the whole of it, where it is worth a look. guess: about how many
        tokens it has, should its instance have told no usage, as streams do not unless they are asked.

        Tokens are believed as far as they can be: one absurd number would make all models look slow and dear for long.
        Does nothing for calls that the engine had no part in.
        """
        decision, call.decision = call.decision, None
        if decision is None or self._ledger is None:
            return
        chosen = decision.candidates[decision.chosen].arm
        signals = {}
        if answer and outcome.status == 200 and call.api == "/chat/completions":
            from autoglm.inference.engine.signals import signals_of  # loads the schema checker

            signals = signals_of(call.client_body, answer)
        is_told = outcome.tokens_in > 0 or outcome.tokens_out > 0
        is_guess = guess > 0 and not is_told and outcome.status < 300
        told = (decision.features.prompt_tokens, guess) if is_guess else (outcome.tokens_in, outcome.tokens_out)
        tokens = credible(call, *told, monotonic_s() - call.arrived_s)
        cost = outcome.took_s
        if self._has_prices:
            cost = price_of(self._models.get(call.model, _UNKNOWN_MODEL), *tokens)
        outcome = msgspec.structs.replace(
            outcome, signals=signals, cost=cost, tokens_in=tokens[0], tokens_out=tokens[1], is_guess=is_guess
        )  # fmt: skip
        answered = call.applied or Arm(call.model)
        if answered != chosen:
            outcome = msgspec.structs.replace(outcome, moved_to=answered.model, moved_profile=answered.profile)
        if outcome.status == 200:
            self._retries.answered(call.question, judgeable(decision, outcome), monotonic_s())
        self._ledger.concluded(decision, outcome)


_UNKNOWN_MODEL = ModelSettings(name="unknown")


def _unfit(model: ModelSettings, features: Features) -> str:
    """Why the model cannot take such a request by what its settings say; empty when it may."""
    if features.has_image and "image" not in model.inputs:
        return "it does not see pictures"
    if features.has_audio and "audio" not in model.inputs:
        return "it does not hear"
    if model.context_tokens is not None and features.prompt_tokens > model.context_tokens:
        return f"its context of {model.context_tokens} tokens is too short"
    return ""


def price_of(model: ModelSettings, tokens_in: float, tokens_out: float) -> float:
    """In the currency of the settings, whose prices are for a million tokens."""
    return (tokens_in * model.price_in + tokens_out * model.price_out) / 1e6
