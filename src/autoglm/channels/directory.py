"""All channels of this hub: made from the settings, checked, run, closed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
import msgspec
import structlog

from autoglm.channels.backoff import pause_s
from autoglm.channels.channel import Cannot, Channel, Health, Inbox, Resources
from autoglm.channels.delivery import Words
from autoglm.channels.kinds import channel_class
from autoglm.channels.mailbox import unknown_channel
from autoglm.channels.outbox.carrier import LastTry, Outgoing
from autoglm.channels.outbox.letter import target_of
from autoglm.channels.settings import ChannelSettings
from autoglm.core.clock import monotonic_s
from autoglm.core.crash import crash
from autoglm.core.envelope import Envelope
from autoglm.core.errors import InvalidField, UnknownRecipient
from autoglm.core.ports import KeyValue

_FIRST_RESTART_S = 1.0
_LONGEST_RESTART_S = 60.0
_RAN_WELL_S = 600.0
_CHECK_TIMEOUT_S = 20.0

log = structlog.get_logger()


class ChannelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, and whether a message could be sent by it now."""

    name: str
    kind: str
    ok: bool
    code: str
    reason: str
    reason_zh: str


class Directory:
    def __init__(
        self, settings: Sequence[ChannelSettings], read_blob: Callable[[str], Awaitable[bytes | None]],
        keyvalue: KeyValue,
    ) -> None:  # fmt: skip
        """Makes the channels, without I/O. Raises MissingExtra."""
        self.outgoing: Mapping[str, Outgoing] = {
            entry.name: Outgoing(_made(entry, Resources(entry.name, read_blob, keyvalue)), entry) for entry in settings
        }

        self.checks: dict[str, LastTry] = {}
        """The newest check of each channel that was checked."""

    def check_message(self, envelope: Envelope) -> None:
        """For a message to a channel. Raises UnknownRecipient, InvalidField: what will never work is said at once."""
        channel, target = target_of(envelope)
        outgoing = self.outgoing.get(channel)
        if outgoing is None:
            raise unknown_channel(envelope)
        try:
            outgoing.channel.compose(envelope, target)
        except Cannot as error:
            if error.delivery.code == "unknown_target":
                raise UnknownRecipient(envelope.to, error.delivery.reason.en) from None
            raise InvalidField("content", error.delivery.reason.en) from None

    async def health(self) -> list[ChannelHealth]:
        """Of each channel, all asked at the same time."""
        found: dict[str, Health] = {}

        async def ask(name: str, outgoing: Outgoing) -> None:
            found[name] = health = await _checked(outgoing)
            self.checks[name] = LastTry(monotonic_s(), health.ok)

        async with anyio.create_task_group() as tasks:
            for name, outgoing in self.outgoing.items():
                tasks.start_soon(ask, name, outgoing)
        return [
            ChannelHealth(
                name=name, kind=outgoing.settings.kind, ok=found[name].ok, code=found[name].code,
                reason=found[name].reason.en, reason_zh=found[name].reason.zh,
            )
            for name, outgoing in self.outgoing.items()
        ]  # fmt: skip

    async def run(self, inboxes: Callable[[Outgoing], Inbox]) -> None:
        """Let each channel take in what comes, until cancelled. One that fails is started again; others go on."""
        async with anyio.create_task_group() as tasks:
            for outgoing in self.outgoing.values():
                tasks.start_soon(_keep_running, outgoing, inboxes(outgoing))

    async def aclose(self) -> None:
        for outgoing in self.outgoing.values():
            await outgoing.channel.aclose()


def _made(entry: ChannelSettings, resources: Resources) -> Channel:
    found = channel_class(entry.kind)
    assert found is not None, "the settings were checked"
    return found(entry, resources)


async def _keep_running(outgoing: Outgoing, inbox: Inbox) -> None:
    failures = 0
    while True:
        begun_s = monotonic_s()
        try:
            await outgoing.channel.run(inbox)
            return
        except Exception as error:  # noqa: BLE001  # an adapter's bug, or a store that cannot be written
            failures = 1 if monotonic_s() - begun_s > _RAN_WELL_S else failures + 1
            log.error("channel_failed", channel=outgoing.settings.name, error=crash(error))
            await anyio.sleep(pause_s(failures, _FIRST_RESTART_S, _LONGEST_RESTART_S))


async def _checked(outgoing: Outgoing) -> Health:
    try:
        with anyio.fail_after(_CHECK_TIMEOUT_S):
            return await outgoing.channel.check()
    except TimeoutError:
        return Health(ok=False, code="timeout", reason=Words("the check took too long", "检查超时"))
    except Exception as error:  # noqa: BLE001  # an adapter's bug must not hide the others' health
        log.error("check_crashed", channel=outgoing.settings.name, error=crash(error))
        return Health(ok=False, code="crashed", reason=Words("the adapter's check failed", "渠道适配器检查出错"))
