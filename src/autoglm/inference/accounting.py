"""What an attempt costs its tenant, and what its times teach of its instance, from its start to its end."""

import structlog

from autoglm.inference.affinity import PrefixTable, prefix_of
from autoglm.inference.credible import TEMPLATE_TOKENS, UNBOUNDED_TOKENS, credible
from autoglm.inference.fairness import Charge, FairShares
from autoglm.inference.slot import Slot

log = structlog.get_logger()


class Accounting:
    """Called for each attempt on the measured path."""

    def __init__(self, shares: FairShares, prefixes: PrefixTable) -> None:
        self._shares = shares
        self._prefixes = prefixes
        self._liars: set[str] = set()
        """Instances that told a usage which cannot be."""

    def begin(self, slot: Slot, *, has_choice: bool) -> None:
        """Charge the estimate. has_choice: another instance could have taken it, so that its home matters."""
        call, instance = slot.call, slot.instance
        charge = slot.charge = self._shares.charge(call)
        uncached_tokens = charge.prompt_tokens
        if has_choice:
            if call.prefix is None:
                call.prefix = prefix_of(call)
            if call.prefix:
                home, tokens = self._prefixes.home_of(call.prefix)
                if home == instance.name:
                    uncached_tokens = max(0.0, uncached_tokens - tokens)
                self._prefixes.note(call.prefix, instance.name, charge.prompt_tokens)
        latency = instance.latency
        slot.uncached_tokens, slot.ahead_tokens = uncached_tokens, latency.ahead_tokens
        slot.beside = len(instance.held) + instance.foreign_running
        latency.ahead_tokens += uncached_tokens

    def end(self, slot: Slot, charge: Charge, now_s: float, tokens_in: int, tokens_out: int) -> None:
        """Charge what the attempt really took, and learn from its times.

        A failed attempt costs its tenant nothing, but for what its instance tells; one that the client left, the prompt
        and what was produced so far.
        tokens_in, tokens_out: as the instance told them, 0 where it did not.
        """
        slot.charge = None
        instance, first_byte_s = slot.instance, slot.first_byte_s
        if tokens_out > slot.call.bound_tokens or tokens_out > UNBOUNDED_TOKENS or tokens_in > TEMPLATE_TOKENS:
            tokens_in, tokens_out = self._believed(slot, tokens_in, tokens_out, now_s)
        latency = instance.latency
        prompt_tokens = tokens_in or charge.prompt_tokens
        if not first_byte_s:
            latency.ahead_tokens = max(0.0, latency.ahead_tokens - slot.uncached_tokens)
            has_worked = slot.was_left or tokens_in or tokens_out
            self._shares.settle(charge, prompt_tokens if has_worked else 0.0, tokens_out, is_whole=False)
            return
        running = (slot.beside + len(instance.held) + instance.foreign_running + 1) * 0.5
        produced = tokens_out or charge.output_tokens
        if slot.came_whole:
            latency.answered(slot.uncached_tokens, slot.ahead_tokens, first_byte_s, produced, running)
        else:
            rest_s = now_s - slot.started_s - first_byte_s
            if slot.is_complete:
                latency.ended(rest_s, produced, running)
            elif not tokens_out:
                produced = min(produced, latency.produced(rest_s, running))
        self._shares.settle(charge, prompt_tokens, produced, is_whole=slot.is_complete and tokens_out > 0)
        if slot.call.prefix:
            self._prefixes.note(slot.call.prefix, instance.name, charge.prompt_tokens + produced)

    def forget(self, name: str) -> None:
        """An instance is gone."""
        self._liars.discard(name)

    def _believed(self, slot: Slot, tokens_in: int, tokens_out: int, now_s: float) -> tuple[int, int]:
        """What an instance tells, no higher than can be; an instance that lies is logged once."""
        believed = credible(slot.call, tokens_in, tokens_out, now_s - slot.started_s)
        name = slot.instance.name
        if believed != (tokens_in, tokens_out) and name not in self._liars:
            self._liars.add(name)
            log.warning(
                "usage_not_believed", instance=name, model=slot.call.model, tokens_in=tokens_in,
                tokens_out=tokens_out, counted_in=believed[0], counted_out=believed[1],
            )  # fmt: skip
        return believed
