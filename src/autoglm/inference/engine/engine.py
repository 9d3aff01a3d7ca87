"""Chooses the model for `auto` by one clear rule; later it learns from outcomes.

The rule: of the models that can answer now, the one whose instance has a free slot and was configured first; if none
is free, the first that is up or coming up. Configuration order is the operator's preference.
"""

from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Forbidden, UnknownModel
from autoglm.inference.call import Call
from autoglm.inference.scheduler import NOTHING, Scheduler


class Engine:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def choose(self, call: Call, allows: Callable[[str], bool], excluded: frozenset[str] = NOTHING) -> str:
        """The model for a call that asks for `auto`, among those that `allows` admits.

        excluded: instances that have failed this call already. Raises UnknownModel, Forbidden, NoInstanceFree.
        """
        now_s = monotonic_s()
        fallback = ""
        for instance in self._scheduler.instances.values():
            if call.api not in instance.apis or instance.name in excluded:
                continue
            is_free = instance.is_free(now_s)
            if not is_free and (fallback or instance.may_recover(now_s) is None):
                continue
            for model in instance.models:
                if model not in instance.refused_models and allows(model):
                    if is_free:
                        return model
                    fallback = model
                    break
        if fallback:
            return fallback
        known = self._scheduler.models()
        allowed = [model for model in known if allows(model)]
        if allowed:
            offering = [model for model in allowed if self._scheduler.candidates(model, call.api)]
            return (offering or allowed)[0]  # down or without this API: the scheduler says which
        if known:
            raise Forbidden("model:use")
        error = self._scheduler.explain_absence(call)
        if isinstance(error, UnknownModel):
            raise UnknownModel(call.wanted, known, pull=self._scheduler.pull)
        raise error
