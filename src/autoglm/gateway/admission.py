"""What comes before a model is asked: a kept answer is given, and a budget has to have room (ADR 8)."""

from collections.abc import Sequence

from autoglm.auth.principal import Principal
from autoglm.core.errors import InvalidField
from autoglm.gateway.exchange import Headers
from autoglm.inference.answer import Answer
from autoglm.inference.budget.budgets import Budgets, Room
from autoglm.inference.budget.charge import Charge
from autoglm.inference.cache.cache import Cache, CachedAnswer, Leader, question_key
from autoglm.inference.call import Call

_CACHE = b"x-autoglm-cache"
_WISHES = (b"on", b"off", b"refresh")
# They say who asks and how urgently, not what.
_NO_HINTS = (_CACHE, b"x-autoglm-tenant", b"x-autoglm-priority", b"x-autoglm-deadline", b"x-autoglm-first-token")
_MEASURES = (b"tokens", b"requests")


class Admission:
    """Of a hub with a `[[budget]]` or a cache; others have none, and pay nothing for it."""

    def __init__(self, budgets: Budgets | None, cache: Cache | None) -> None:
        self.budgets = budgets
        self.cache = cache

    def permit(self, headers: dict[bytes, bytes], principal: Principal, call: Call) -> "Permit | None":
        """None for a request that neither concerns. Holds nothing yet. Raises InvalidField, BudgetExceeded."""
        question, is_fresh = self._question(headers, principal, call) if self.cache is not None else (b"", False)
        has_budget = self.budgets is not None and bool(self.budgets.accounts_of(principal.name, call.tenant))
        if not question and not has_budget:
            return None
        return Permit(self, principal.name, call, question, is_fresh=is_fresh, has_budget=has_budget)

    def _question(self, headers: dict[bytes, bytes], principal: Principal, call: Call) -> tuple[bytes, bool]:
        """(the question's key, whether a kept answer will not do); an empty key for what is not for the cache."""
        assert self.cache is not None
        wish = headers.get(_CACHE)
        if wish is not None and wish not in _WISHES:
            raise InvalidField(_CACHE.decode(), "must be on, off or refresh")
        if wish == b"off" or (wish is None and self.cache.settings.mode == "on_request"):
            return b"", False
        rights = sorted(scope for scope in principal.scopes if scope.startswith(("admin:", "model:")))
        hints = sorted(
            name + b":" + value
            for name, value in headers.items()
            if name.startswith(b"x-autoglm-") and name not in _NO_HINTS
        )
        if call.prefer is not None and call.preferred_by == "key":
            hints.append(b"prefer:" + call.prefer.encode())
        return question_key(call.tenant, rights, hints, call.api, call.body), wish == b"refresh"


class Permit:
    """Of one request: `enter` it, `count` its answer and wait until that is `written`, `leave` it however it ended."""

    __slots__ = (
        "_admission", "_collected", "_collected_bytes", "_has_budget", "_is_fresh", "_key", "_leader", "_question",
        "call", "charge", "has_left", "hides_usage",
    )  # fmt: skip

    def __init__(
        self, admission: Admission, key: str, call: Call, question: bytes, *, is_fresh: bool, has_budget: bool
    ) -> None:
        self._admission = admission
        self._key = key
        self._question = question
        self._is_fresh = is_fresh
        self._has_budget = has_budget
        self._leader: Leader | None = None
        self._collected: list[bytes] | None = [] if question else None
        self._collected_bytes = 0
        self.call = call
        self.charge: Charge | None = None
        self.has_left = False
        """True once its client has left, or could wait no longer."""
        self.hides_usage = False
        """True when the hub asked for the usage of a stream, and the client did not."""

    async def enter(self) -> CachedAnswer | None:
        """A kept answer, which is counted, or None: then the budgets hold what the call may take.

        Waits for another client's answer to the same question. Raises BudgetExceeded, StorageFull, QueueFull,
        StoreBroken.
        """
        kept = await self._find() if self._question else None
        budgets = self._admission.budgets
        if self._has_budget:
            assert budgets is not None
            if kept is not None:
                self.charge = budgets.charge_hit(self._key, self.call.tenant)
                self.count(kept.model, (0, 0), None)
                await self.written()
            else:
                self.charge = budgets.charge(self._key, self.call.tenant, self.call)
                self.hides_usage = self.call.ask_for_usage()
        return kept

    async def _find(self) -> CachedAnswer | None:
        cache, question, tenant = self._admission.cache, self._question, self.call.tenant
        assert cache is not None
        kept = None if self._is_fresh else cache.find(question, tenant)
        # Of a stream the first words matter: it is not made to wait for another one's end.
        if kept is None and not self._is_fresh and not self.call.is_stream:
            while (leader := cache.lead(question, self.call)) is None:
                has_left = await cache.follow(question)
                kept = cache.find(question, tenant)
                if kept is not None or not has_left:  # what is not worth keeping each has to ask for
                    break
            self._leader = leader
        cache.hits += kept is not None
        cache.misses += kept is None
        if kept is not None:
            self._question = b""
        return kept

    def count(self, model: str, usage: tuple[int, int], guess: int | None) -> None:
        """The answer has come to its end. guess: about how many tokens it has, should its usage be zeros; None for
        what takes no tokens, such as an error.
        """
        if self.charge is None:
            return
        if usage == (0, 0) and guess is not None:
            self.charge.guess(model, guess)
        else:
            self.charge.use(model, *usage)

    async def written(self) -> None:
        """Returns when what was counted is on disk. Raises StorageFull, QueueFull, StoreBroken."""
        if self.charge is not None:
            await self.charge.written()

    def collect(self, chunk: bytes) -> None:
        """A part of what the client gets."""
        cache = self._admission.cache
        if self._collected is not None and cache is not None:
            self._collected.append(chunk)
            self._collected_bytes += len(chunk)
            if self._collected_bytes > cache.settings.max_entry_bytes:
                self._collected = None

    def keep(self, answer: Answer) -> None:
        """The answer that was collected is a whole and good one."""
        cache = self._admission.cache
        if self._collected is None or cache is None or answer.status != 200:
            return
        cache.keep(
            self._question, tenant=self.call.tenant, model=self.call.model, instance=answer.instance.name,
            content_type=answer.content_type, body=b"".join(self._collected), is_stream=self.call.is_stream,
        )  # fmt: skip

    def leave(self, sent_tokens: int = 0) -> None:
        """Give back what is held. Of an answer that broke off, about so many tokens were sent on, and are counted."""
        leader, self._leader = self._leader, None
        if leader is not None:
            assert self._admission.cache is not None
            self._admission.cache.led(self._question, leader, has_left=self.has_left)
        if self.charge is not None and self.charge.is_open:
            if sent_tokens:
                self.charge.guess(self.call.model, sent_tokens)
            else:
                self.charge.release()

    def headers(self, *, is_hit: bool = False) -> Headers:
        """For the answer: where it came from, and what is left. Source: OpenAI's API reference, rate limits."""
        headers: Headers = []
        if self._question or is_hit:
            headers.append((_CACHE, b"hit" if is_hit else b"miss"))
        if self._has_budget and self._admission.budgets is not None:
            rooms = [self._admission.budgets.room(self._key, self.call.tenant, measure) for measure in (0, 1)]
            headers += room_headers(rooms)
        return headers


def room_headers(rooms: Sequence[Room | None]) -> Headers:
    """rooms: of tokens, of requests."""
    headers: Headers = []
    for name, room in zip(_MEASURES, rooms, strict=True):
        if room is not None:
            headers += [
                (b"x-ratelimit-limit-" + name, b"%d" % room.limit),
                (b"x-ratelimit-remaining-" + name, b"%d" % room.left),
                (b"x-ratelimit-reset-" + name, _duration(room.reset_s)),
            ]
    return headers


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `6h12m3s`."""
    minutes, rest_s = divmod(int(seconds + 0.999), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest_s)
    return b"%dm%ds" % (minutes, rest_s) if minutes else b"%ds" % rest_s
