"""What every channel keeps to: subclass `ChannelContract` beside a `rig` fixture, in the adapter's own tests."""

import base64
import random
import re
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, cast

import anyio
import msgspec
import pytest

from autoglm.channels import web
from autoglm.channels.channel import Cannot, Channel
from autoglm.channels.delivery import Delivery
from autoglm.channels.pieces import Measure, utf8_bytes
from autoglm.core.envelope import Envelope, check_texts
from autoglm.core.ports import KeyValue
from fakes.vendor import Fault

HUGE_BYTES = 10_000_000
_HUGE_MEMORY_BYTES = 256 << 20
"""Of Python's objects at most at once, those of the far end included: it runs beside."""
_MOST_PIECES = 50
FAMILY = "👨\u200d👩\u200d👧"


def message(content: Any = "The press is down.", **fields: Any) -> Envelope:
    """An envelope as the outbox has it: stamped."""
    wanted = {"id": "m-1", "from": "user:alice", "to": "channel:c/t", "timestamp": 1_790_000_000_000}
    return msgspec.convert({**wanted, "content": content, **fields}, Envelope)


async def no_blob(sha256: str) -> bytes | None:
    """For the Resources of a channel that reads none."""
    return None


NO_STORE = cast(KeyValue, object())
"""For the Resources of a channel that does not come to use it."""


class Rig:
    """A channel, and the far end of it. Make one in a fixture that starts the fake and closes the channel."""

    def __init__(
        self, channel: Channel, *, target: str, texts: Callable[[], Iterable[str]],
        misbehave: Callable[[Fault], None], stop: Callable[[], None], secrets: tuple[str, ...] = (),
        faults: tuple[Fault, ...] = ("throttled", "transient", "auth", "permanent", "server_error", "silent", "cut"),
        limit: int | None = None, measure: Measure = utf8_bytes, unknown_target: str | None = "nobody",
        delivered: bool = False, files: Callable[[], Iterable[bytes]] = tuple, cut_mark: str = "",
        form: Callable[[str], Any] | None = None,
    ) -> None:  # fmt: skip
        """texts: what arrived, in order. misbehave: to the next request. stop: nobody listens there any more.

        limit, measure: how much of a text fits into one piece; None where any length does. unknown_target: None where
        every target is a good one. delivered: the channel itself knows that messages arrive. files: what arrived beside
        texts, or requests that have it in base64. cut_mark: what a text has at its end that may be cut. form: a json
        part in the vendor's own form, which holds this text.
        """
        self.channel, self.target, self.texts, self.misbehave, self.stop = channel, target, texts, misbehave, stop
        self.secrets, self.faults, self.limit, self.measure = secrets, faults, limit, measure
        self.unknown_target, self.delivered = unknown_target, delivered
        self.files, self.cut_mark, self.form = files, cut_mark, form

    async def send(self, envelope: Envelope) -> list[Delivery]:
        parcels = self.channel.compose(envelope, self.target)
        return [await self.channel.send(parcel, f"{envelope.id}.{index}") for index, parcel in enumerate(parcels)]


_EXPECTED: dict[Fault, tuple[str, str | None, bool]] = {
    "throttled": ("retry", "throttled", False),
    "transient": ("retry", "transient", False),
    "auth": ("retry", "auth", False),
    "permanent": ("permanent", "permanent", False),
    "server_error": ("retry", "transient", False),
    "bad_gateway": ("retry", "transient", True),
    "silent": ("retry", "transient", True),
    "cut": ("retry", "transient", True),
    "garbage": ("retry", "transient", True),
    "empty_json": ("retry", "transient", True),
}
"""By fault: outcome, class of failure, whether it may have been delivered."""


class ChannelContract:
    async def test_a_message_arrives(self, rig: Rig) -> None:
        found = await rig.send(message("The press is down. 压机停了。" + FAMILY))
        assert {delivery.outcome for delivery in found} == {"delivered" if rig.delivered else "accepted"}
        assert "The press is down. 压机停了。" + FAMILY in "".join(rig.texts())

    async def test_a_long_text_arrives_whole_and_in_order(self, rig: Rig) -> None:
        limit = rig.limit or 5_000
        text = "".join(f"{number:05}{FAMILY}压" for number in range(limit // 12))
        found = await rig.send(message(text))
        assert {delivery.outcome for delivery in found} <= {"accepted", "delivered"}
        texts = list(rig.texts())
        if rig.limit is not None:
            assert len(found) > 1
            assert all(rig.measure(piece) <= rig.limit for piece in texts)
        assert text in "".join(re.sub(r"^\(\d+/\d+\) ", "", piece) for piece in texts)

    @pytest.mark.parametrize(
        "filler",
        [FAMILY, "\u200b", "\U0001f1e8\U0001f1f3", '"\\'],
        ids=["family", "zero_width", "flags", "escapes"],
    )
    async def test_ten_megabytes_of_text_have_a_true_end(self, rig: Rig, filler: str) -> None:
        """Whole, in pieces, cut with a mark, or refused for good; never cut in silence, and within memory."""
        text = filler * (HUGE_BYTES // len(filler.encode()))
        found = await self.ended(rig, message(text))
        if found[0].outcome != "permanent":
            arrived = "".join(re.sub(r"^\(\d+/\d+\) ", "", piece) for piece in rig.texts())
            is_cut = rig.cut_mark != "" and rig.cut_mark in arrived and arrived[:20] == text[:20]
            assert is_cut or text.strip() in arrived.replace("\r\n", "\n")
        else:
            assert found[0].failure == "too_large"

    async def test_a_file_of_ten_megabytes_has_a_true_end(self, rig: Rig) -> None:
        """It goes along, the text says that it does not, or the message is refused for good."""
        data = random.Random(7).randbytes(HUGE_BYTES)  # no secret
        encoded = base64.b64encode(data)
        file = {"file_data": f"data:application/pdf;base64,{encoded.decode()}", "filename": "plan.pdf"}
        parts = [{"type": "text", "text": "See the plan."}, {"type": "file", "file": file}]
        found = await self.ended(rig, message(parts))
        if found[0].outcome != "permanent":
            arrived = "".join(map(str, rig.texts()))  # some carry the parts as they are
            assert "See the plan." in arrived
            assert "plan.pdf" in arrived or any(data == file or encoded in file for file in rig.files())

    async def test_a_form_of_ten_megabytes_has_a_true_end(self, rig: Rig) -> None:
        """In the vendor's own form, where the channel takes such; else as JSON."""
        if rig.form is None:
            await self.ended(rig, message([{"type": "json", "json": {"reading": "x" * HUGE_BYTES}}]))
            return
        parts = [{"type": "text", "text": "See."}, {"type": "json", "json": rig.form("x" * HUGE_BYTES)}]
        (found,) = await self.ended(rig, message(parts))
        assert found.failure == "too_large"

    async def ended(self, rig: Rig, envelope: Envelope) -> list[Delivery]:
        """What becomes of a message: one refusal, or its pieces, which have all been taken."""
        tracemalloc.start(1)
        try:
            found = await rig.send(envelope)
        except Cannot as error:
            found = [error.delivery]
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < _HUGE_MEMORY_BYTES
        assert 1 <= len(found) <= _MOST_PIECES
        outcomes = {delivery.outcome for delivery in found}
        if outcomes == {"permanent"}:
            self.check_words(rig, found[0])
        else:
            assert outcomes <= {"accepted", "delivered"}, [one for one in found if not one.is_settled][:1]
        return found

    async def test_every_fault_is_told_for_what_it_is(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web, "TIMEOUT_S", 0.5)
        for fault in rig.faults:
            rig.misbehave(fault)
            (found,) = await rig.send(message(f"during {fault}"))
            assert (found.outcome, found.failure, found.is_in_doubt) == _EXPECTED[fault], fault
            assert found.code
            self.check_words(rig, found)
            (after,) = await rig.send(message(f"after {fault}"))
            assert after.outcome in ("accepted", "delivered"), fault

    async def test_a_host_that_is_gone_is_told_without_doubt(self, rig: Rig) -> None:
        rig.stop()
        (found,) = await rig.send(message())
        assert (found.outcome, found.failure, found.is_in_doubt) == ("retry", "transient", False)
        self.check_words(rig, found)
        health = await rig.channel.check()
        assert not health.ok
        assert health.reason.en
        assert re.search(r"[\u4e00-\u9fff]", health.reason.zh)

    async def test_a_healthy_channel_says_so_and_sends_nothing(self, rig: Rig) -> None:
        health = await rig.channel.check()
        assert health.ok, health.reason.en
        assert list(rig.texts()) == []

    async def test_a_revoked_credential_shows_in_the_check(self, rig: Rig) -> None:
        if "auth" not in rig.faults:
            assert not rig.secrets, "a channel with secrets can lose them"
            return
        rig.misbehave("auth")
        health = await rig.channel.check()
        assert not health.ok
        assert health.code

    async def test_a_target_that_is_not_there_is_refused_for_good(self, rig: Rig) -> None:
        if rig.unknown_target is None:
            assert rig.channel.compose(message(), "anybody")
            return
        with pytest.raises(Cannot) as caught:
            rig.channel.compose(message(), rig.unknown_target)
        assert caught.value.delivery.outcome == "permanent"
        self.check_words(rig, caught.value.delivery)

    async def test_composing_is_the_same_each_time(self, rig: Rig) -> None:
        assert rig.channel.compose(message(), rig.target) == rig.channel.compose(message(), rig.target)

    async def test_it_can_be_cancelled_and_closed_twice(self, rig: Rig) -> None:
        with anyio.move_on_after(0.1):
            await rig.channel.run(NoInbox())
        await rig.channel.aclose()
        await rig.channel.aclose()

    async def test_limits_are_sane(self, rig: Rig) -> None:
        limits = rig.channel.limits(rig.target)
        assert limits.parallel >= 1
        assert all(count >= 1 and seconds > 0 for count, seconds in limits.windows)

    @staticmethod
    def check_words(rig: Rig, delivery: Delivery) -> None:
        """People can read it in both languages, and no secret is in it."""
        assert len(delivery.reason.en) > 10
        assert re.search(r"[\u4e00-\u9fff]", delivery.reason.zh)
        shown = msgspec.json.encode(delivery).decode()
        assert not [secret for secret in rig.secrets if secret in shown]


class NoInbox:
    """Nothing is expected to come in."""

    async def take(self, envelope: Envelope) -> bool:
        raise AssertionError(f"came in: {envelope.id}")

    async def report(self, ticket: str, delivery: Delivery) -> None:
        raise AssertionError(f"was reported: {ticket}")

    async def message_of(self, ticket: str) -> str | None:
        raise AssertionError(f"was asked for: {ticket}")


class KeptInbox:
    """Satisfies `Inbox`: `taken` and `reported` have what came in. `refusal` is raised instead while it is set."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.reported: list[tuple[str, Delivery]] = []
        self.messages: dict[str, str] = {}
        """Ticket to the id of a message."""
        self.refusal: Exception | None = None
        self.strangers: set[str] = set()
        """Senders who are refused."""

    async def take(self, envelope: Envelope) -> bool:
        if self.refusal is not None:
            raise self.refusal
        check_texts(envelope)
        is_heard = envelope.from_.partition("/")[2] not in self.strangers
        if is_heard and envelope.id not in [known.id for known in self.taken]:
            self.taken.append(envelope)
        return is_heard

    async def report(self, ticket: str, delivery: Delivery) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.reported.append((ticket, delivery))

    async def message_of(self, ticket: str) -> str | None:
        return self.messages.get(ticket)
