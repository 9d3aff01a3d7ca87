"""Tells the audit what was done by requests that change something, and who was turned away at the door."""

import structlog

from autoglm.auth.audit.recorder import Audit
from autoglm.auth.audit.refusals import TURNED_AWAY, Refusals, reason_of
from autoglm.auth.occasion import occasion
from autoglm.core.errors import HubError, QueueFull, StorageFull, StoreBroken
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.operations import OPERATIONS, PROOF, SESSION, rule_of

log = structlog.get_logger(part="auth")

_MAX_RESOURCE = 256


ACTS = tuple(
    operation
    for operation in OPERATIONS
    if operation.method != "GET" and (rule_of(operation).startswith("admin:") or rule_of(operation) in (PROOF, SESSION))
)
"""What administers, or changes how a person gets in. The handlers name what they act on: see Exchange.acted_on."""


class Acts:
    """Decisions are written down before anything is done (see principal.require); this adds what came of them."""

    def __init__(self, audit: Audit, refusals: Refusals) -> None:
        self._audit, self._refusals = audit, refusals
        self._names = {(operation.method, operation.path): operation.name for operation in ACTS}
        """What administers, by method and path."""

    def note(self, exchange: Exchange) -> None:
        """An exchange is over."""
        name = self._names.get((exchange.method, exchange.route))
        if name is None or exchange.status == 0:
            return
        if exchange.principal is None and exchange.status >= 400:
            if exchange.status != 401:  # see turned_away
                self._refusals.note(exchange.route, exchange.client, exchange.code, request_id=exchange.request_id)
            return
        with _Noted(exchange):
            self._audit.act(
                name, exchange.principal, resource=object_of(exchange)[:_MAX_RESOURCE],
                outcome="allowed" if exchange.status < 400 else "denied" if exchange.status in (401, 403) else "failed",
                reason=exchange.code,
            )  # fmt: skip

    def turned_away(self, exchange: Exchange, error: HubError) -> None:
        """Whoever it was showed nothing that counts."""
        if exchange.principal is None and isinstance(error, TURNED_AWAY):
            self._refusals.note(
                exchange.route, exchange.client, reason_of(error), request_id=exchange.request_id
            )  # fmt: skip


def object_of(exchange: Exchange) -> str:
    return exchange.acted_on or " ".join(exchange.variables.values())


class _Noted:
    """For the request's own id; a full disk is the store's to tell, and the answer has gone out."""

    def __init__(self, exchange: Exchange) -> None:
        self._occasion = exchange.occasion

    def __enter__(self) -> None:
        self._token = occasion.set(self._occasion)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        occasion.reset(self._token)
        if isinstance(error, (QueueFull, StorageFull, StoreBroken)):
            log.warning("act_not_recorded", request_id=self._occasion.request_id, reason=str(error))
            return True
        return False
