"""A door for tests of the intake: it says what it is told to, and remembers what it was asked."""

from autoglm.core.envelope import Envelope
from autoglm.core.errors import Forbidden


class Doorman:
    """Satisfies `Door`."""

    def __init__(self, *, send: bool = True, acknowledge: bool = True, error: Exception | None = None) -> None:
        self._allowed = {"send": send, "acknowledge": acknowledge}
        self._error = error
        self.asked: list[tuple[str, str, str]] = []
        """(what, id, recipient)."""

    def check_send(self, envelope: Envelope) -> None:
        self._check("send", envelope)

    def check_acknowledge(self, envelope: Envelope) -> None:
        self._check("acknowledge", envelope)

    def _check(self, what: str, envelope: Envelope) -> None:
        self.asked.append((what, envelope.id, envelope.to))
        if self._error is not None:
            raise self._error
        if not self._allowed[what]:
            raise Forbidden("send:message", "revoked", "lost")
