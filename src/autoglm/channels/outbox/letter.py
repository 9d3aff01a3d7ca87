"""A letter: a message on its way, and the words for how it ended."""

import math
from typing import NamedTuple

import msgspec

from autoglm.channels.delivery import Delivery, Words
from autoglm.channels.outbox.lane import Tried
from autoglm.channels.receipts import delivery_record
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, FilePart, State
from autoglm.core.ports import Blobs, NewRecord


class Letter(NamedTuple):
    """A message on its way."""

    seq: int
    envelope: Envelope
    time_ms: int
    """When the hub took it."""
    tried: Tried

    @property
    def target(self) -> str:
        return target_of(self.envelope)[1]


def has_expired(letter: Letter) -> bool:
    expires_at = letter.envelope.expires_at
    return expires_at is not None and expires_at <= now_ms()


async def size_bytes(envelope: Envelope, blobs: Blobs) -> int:
    """Of what goes along with the text of a message (pictures, sound, files), in the longest form: in lines of base64.

    Raises StoreBroken.
    """
    if isinstance(envelope.content, str):
        return 0
    total_bytes = 0
    for part in envelope.content:
        if isinstance(part, FilePart) and part.file.file_id is not None:
            total_bytes += math.ceil((await blobs.size(part.file.file_id) or 0) / 57) * 78  # RFC 2045, section 6.8
        else:
            total_bytes += len(msgspec.json.encode(part))
    return total_bytes


def target_of(envelope: Envelope) -> tuple[str, str]:
    """(channel, target) of an envelope to `channel:CHANNEL/TARGET`."""
    channel, _, target = envelope.to.removeprefix("channel:").partition("/")
    return channel, target


def given_up(delivery: Delivery, after_s: float) -> Delivery:
    """What could not be delivered for so long."""
    hours = f"{after_s / 3600:.3g}"
    words = Words(
        f"given up after {hours} hours of trying; the last reason: {delivery.reason.en}",
        f"尝试 {hours} 小时后放弃；最后一次的原因：{delivery.reason.zh}",
    )
    return Delivery(outcome="permanent", failure=delivery.failure, code=delivery.code, reason=words)


def never_twice(delivery: Delivery) -> Delivery:
    words = Words(
        f'{delivery.reason.en}; it is not sent again, as on_doubt = "fail" has it',
        f'{delivery.reason.zh}；按 on_doubt = "fail" 的设置不再重发',
    )
    return Delivery(outcome="permanent", failure="permanent", code=delivery.code, reason=words, is_in_doubt=True)


def with_reason(delivery: Delivery, reason: Words) -> Delivery:
    return Delivery(outcome=delivery.outcome, code=delivery.code, reason=reason, ticket=delivery.ticket)


def receipt_of(letter: Letter, state: State, delivery: Delivery, retry_at_ms: int = 0) -> NewRecord:
    envelope = letter.envelope
    return delivery_record(
        envelope.id, envelope.from_, state, delivery, by=envelope.to, attempt=letter.tried.attempts,
        retry_at_ms=retry_at_ms,
    )  # fmt: skip
