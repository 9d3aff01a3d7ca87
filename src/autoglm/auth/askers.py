"""Who asked for what a model does later: a message or task that waited, maybe over restarts, while rights ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from autoglm.auth.audit.recorder import Audit, Who
from autoglm.auth.lasting import LastingRights
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.principal import Principal
from autoglm.core.errors import Forbidden
from autoglm.core.lasting import Asker

_ACTION = "model:use"


class Askers:
    def __init__(self, lasting: LastingRights, audit: Audit, sender: Callable[[str], Principal | None]) -> None:
        """sender: as whom an address counts that wrote without a key or token; None for one that was revoked."""
        self._lasting = lasting
        self._audit = audit
        self._sender = sender

    def use(self, id: str, sender: str, model: str, asker: Asker | None) -> "LaterUse":
        """For the message with this id. model: whom it went to. asker: who posted it; None where no key or token did.

        Raises Forbidden for who was revoked, or whose right has ended; that is written down.
        """
        if asker is None:
            who, find = Who(sender, sender, sender), partial(self._sender, sender)
        else:
            who = Who(asker.address, asker.address, asker.right.credential)
            find = partial(self._lasting.principal, asker)
        found = LaterUse(who, find, self._audit, id)
        if not found.holds(""):
            raise found.refusal(model)
        return found


class LaterUse:
    """Satisfies `ports.ModelUse`: the judge is asked as over /v1."""

    def __init__(self, who: Who, find: Callable[[], Principal | None], audit: Audit, id: str) -> None:
        """find: as whom he counts at the moment."""
        self._who = who
        self._find = find
        self._audit = audit
        self._id = id

    def allows(self, model: str) -> bool:
        principal = self._find()
        return principal is not None and principal.allows(_ACTION, model)

    def require(self, model: str) -> None:
        principal = self._find()
        if principal is None:
            raise self.refusal(model)
        with _about(self._id):
            principal.require(_ACTION, model)

    def chosen(self, model: str) -> None:
        with _about(self._id):
            self._audit.decision(self._find() or self._who, _ACTION, model, is_allowed=True)

    def holds(self, model: str) -> bool:
        principal = self._find()
        return principal is not None and (not model or principal.allows(_ACTION, model))

    def refusal(self, model: str) -> Forbidden:
        principal = self._find()
        with _about(self._id):
            if principal is not None:
                principal.decided(_ACTION, model, is_allowed=False)
                return principal.refusal(_ACTION, model)
            self._audit.decision(self._who, _ACTION, model, is_allowed=False, reason="revoked")
        reason = f"{self._who.address} was revoked, or the right by which it was asked for has ended"
        return Forbidden(f"{_ACTION}:{model}", "revoked", reason)


@contextmanager
def _about(id: str) -> Iterator[None]:
    """The message is what the audit names as the request."""
    token = occasion.set(Occasion(id, ""))
    try:
        yield
    finally:
        occasion.reset(token)
