"""What one attempt to deliver brought: the words that every channel and the outbox share."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from autoglm.core.words import Words as Words  # noqa: PLC0414  # every adapter takes it from here

Outcome = Literal["accepted", "delivered", "read", "retry", "permanent"]
"""accepted: the vendor has it, and nothing is known of the recipient. retry: not now. permanent: never, as it is."""
Failure = Literal["throttled", "transient", "auth", "permanent", "too_large"]
"""throttled: too much at a time. transient: may go by itself. auth: an operator must act. The last two never go."""
Reasons = Mapping[int, tuple[Failure, Words]]
"""By a vendor's code: the class of failure, and the words for it."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Made by the functions below."""

    outcome: Outcome
    failure: Failure | None = None
    code: str = ""
    """The vendor's own, such as `45009`; of the transport where no vendor answered: `refused`, `timeout`, `cut`."""
    reason: Words = Words("", "")
    retry_after_s: float | None = None
    """Not before then, where the vendor says so."""
    ticket: str = ""
    """The vendor's id of the message, by which a later receipt names it."""
    is_in_doubt: bool = False
    """The request went out and no answer came: it may have been delivered. Sending again may deliver it twice."""

    @property
    def is_settled(self) -> bool:
        """Nothing is left to try."""
        return self.outcome != "retry"


def accepted(ticket: str = "") -> Delivery:
    """The vendor took it."""
    return Delivery(outcome="accepted", ticket=ticket)


def delivered(ticket: str = "") -> Delivery:
    """It is where it should be, as the channel itself says."""
    return Delivery(outcome="delivered", ticket=ticket)


def throttled(code: str, reason: Words, retry_after_s: float | None = None) -> Delivery:
    """The budget is used up: everything that counts in it waits."""
    return failed("throttled", code, reason, retry_after_s)


def transient(code: str, reason: Words, retry_after_s: float | None = None, *, is_in_doubt: bool = False) -> Delivery:
    """It may work in a while."""
    return Delivery(
        outcome="retry", failure="transient", code=code, reason=reason, retry_after_s=retry_after_s,
        is_in_doubt=is_in_doubt,
    )  # fmt: skip


def unauthorized(code: str, reason: Words) -> Delivery:
    """The vendor does not know us (any more): all messages wait until the settings are put right."""
    return failed("auth", code, reason)


def permanent(code: str, reason: Words) -> Delivery:
    """It will never be delivered as it is."""
    return failed("permanent", code, reason)


def too_large(code: str, reason: Words) -> Delivery:
    """It is over the vendor's limit and cannot be cut."""
    return failed("too_large", code, reason)


def failed(failure: Failure, code: str, reason: Words, retry_after_s: float | None = None) -> Delivery:
    """Of the class that a vendor's code belongs to."""
    outcome: Outcome = "permanent" if failure in ("permanent", "too_large") else "retry"
    return Delivery(outcome=outcome, failure=failure, code=code, reason=reason, retry_after_s=retry_after_s)


def failed_by_code(code: int, reasons: Reasons, vendor: Words, *, name: str = "errcode", rest_s: float) -> Delivery:
    """vendor, name: for a code that is in no table. It is final: what is not known to go by itself is not tried for
    days. rest_s: of what is throttled.
    """
    unknown = Words(f"{vendor.en} refuses the message ({name} {code})", f"{vendor.zh}拒绝该消息（{name} {code}）")
    failure, words = reasons.get(code, ("permanent", unknown))
    return failed(failure, str(code), words, rest_s if failure == "throttled" else None)
