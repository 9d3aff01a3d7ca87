"""The rule by which `auto` goes while nothing is learned: configuration order is the operator's preference.

Of the models that can answer now, the one whose instance has a free slot and was configured first; if none is free, the
one that may be so soonest: of those that are only busy or coming up the first, else the first to end its pause.
"""

import math
from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Forbidden, HubError, NoInstanceFree, UnknownModel
from autoglm.inference.call import Call
from autoglm.inference.scheduler import NOTHING, Scheduler

_RETRY_S = 10.0
"""Where nobody can say when a model comes back."""


def first_in_order(
    scheduler: Scheduler, call: Call, allows: Callable[[str], bool], excluded: frozenset[str] = NOTHING
) -> str:
    """The model, among those that `allows` admits. excluded: instances that have failed this call already.

    Raises UnknownModel, Forbidden, NoInstanceFree.
    """
    now_s = monotonic_s()
    fallback, fallback_s = "", math.inf
    for instance in scheduler.instances.values():
        if call.api not in instance.apis or instance.name in excluded:
            continue
        is_free = instance.is_free(now_s)
        recovery_s = 0.0 if is_free else instance.may_recover(now_s)
        if recovery_s is None or (not is_free and recovery_s >= fallback_s):
            continue
        for model in instance.models:
            if model not in instance.refused_models and allows(model):
                if is_free:
                    return model
                fallback, fallback_s = model, recovery_s
                break
    if fallback:
        return fallback
    allowed = [model for model in scheduler.models() if allows(model)]
    if not allowed:
        raise no_model(scheduler, call)
    out = {entry.name: entry for model in allowed for entry in scheduler.candidates(model, call.api)}
    if not out:
        return allowed[0]  # the scheduler says that it is not offered by this API
    raise NoInstanceFree(call.wanted, 0.0, "; ".join(entry.condition for entry in out.values()), _RETRY_S)


def no_model(scheduler: Scheduler, call: Call) -> HubError:
    """Why there is no model at all for a call that leaves the choice to the hub."""
    known = scheduler.models()
    if known:
        return Forbidden("model:use")
    error = scheduler.explain_absence(call)
    return UnknownModel(call.wanted, known, pull=scheduler.pull) if isinstance(error, UnknownModel) else error
