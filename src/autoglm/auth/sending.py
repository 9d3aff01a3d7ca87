"""Who may send which message: by any way, it is asked here."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from autoglm.auth.audit.recorder import Audit
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.principal import Principal, labels_of
from autoglm.auth.vouched import Vouched
from autoglm.core.envelope import Envelope
from autoglm.core.errors import Forbidden

_SCOPES = ("send:message", "read:message", "model:use")
"""Of senders by channels: whom the channel's `senders` name is heard, and the judge takes away what it will."""


def require_send(principal: Principal, envelope: Envelope) -> None:
    """Raises Forbidden when the principal may not send as this sender, or may not use the model that it writes to."""
    labels = labels_of(envelope.kind, envelope.labels)
    principal.require("send:message", envelope.from_ or principal.address, labels, about=envelope.to)
    if envelope.to.startswith("model:"):
        principal.require("model:use", envelope.to.removeprefix("model:"))


class Senders:
    """Satisfies `channels.intake.Door`: whoever writes by a channel is the address that the channel has for him."""

    def __init__(
        self, vouched: Vouched, audit: Audit, is_revoked: Callable[[tuple[str, ...]], bool],
        owners: Mapping[str, tuple[str, ...]],
    ) -> None:  # fmt: skip
        """is_revoked: by this hub, or by the policy. owners: by a channel's address, the people it is a way to: who is
        revoked writes by none of his.
        """
        self._vouched = vouched
        self._audit = audit
        self._is_revoked = is_revoked
        self._owners = owners

    def standing(self, address: str) -> Principal | None:
        """As whom the address counts; None for one that was revoked."""
        return None if self._is_revoked(self._names(address)) else self._vouched.of(address, *_SCOPES)

    def check_send(self, envelope: Envelope) -> None:
        principal = self._vouched.of(envelope.from_, *_SCOPES)
        with _about(envelope):
            try:
                self._check_stands(principal)
                require_send(principal, envelope)
            except Forbidden as refusal:  # equal decisions are summed up, but each message was somebody's
                self._audit.act(
                    "message:refused", principal, resource=envelope.to, outcome="denied",
                    reason=str(refusal.facts["reason"]),
                )  # fmt: skip
                raise

    def check_acknowledge(self, envelope: Envelope) -> None:
        principal = self._vouched.of(envelope.from_, *_SCOPES)
        with _about(envelope):
            self._check_stands(principal)
            principal.require("read:message", envelope.from_)

    def _check_stands(self, principal: Principal) -> None:
        names = self._names(principal.address)
        if self._is_revoked(names):
            raise Forbidden("send:message", "revoked", f"one of {', '.join(names)} is revoked")

    def _names(self, address: str) -> tuple[str, ...]:
        return address, *self._owners.get(address, ())


@contextmanager
def _about(envelope: Envelope) -> Iterator[None]:
    """The message is what the audit names as the request."""
    token = occasion.set(Occasion(envelope.id, ""))
    try:
        yield
    finally:
        occasion.reset(token)
