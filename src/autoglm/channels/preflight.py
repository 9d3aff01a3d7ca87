"""What can be known of channels before a hub starts: packages that are missing, addresses that lead nowhere."""

from collections.abc import Iterable, Sequence
from typing import cast

from autoglm.channels.directory import Directory
from autoglm.channels.settings import ChannelSettings
from autoglm.core.envelope import Envelope
from autoglm.core.errors import InvalidField, MissingExtra, UnknownRecipient, did_you_mean
from autoglm.core.ports import KeyValue


async def _no_blob(sha256: str) -> bytes | None:
    return None


def channel_problems(
    channels: Sequence[ChannelSettings], addresses: Iterable[tuple[str, str]], *, made_later: Iterable[str] = ()
) -> list[str]:
    """A sentence for each problem.

    addresses: (setting, address) of all to which something may go. made_later: names of channels of which no more is
    known yet than that the hub makes them at its start.
    """
    made_later = set(made_later)
    problems = []
    known: dict[str, Directory] = {}
    for index, entry in enumerate(channels):
        if entry.name in made_later:
            continue
        try:
            # Making one does no I/O, and so no store is needed.
            known[entry.name] = Directory([entry], _no_blob, cast(KeyValue, object()))
        except MissingExtra as error:
            problems.append(f"channel[{index}].kind: {error}")
            made_later.add(entry.name)
    for where, address in addresses:
        if not address.startswith("channel:"):
            continue
        name = address.removeprefix("channel:").partition("/")[0]
        if (directory := known.get(name)) is not None:
            if (reason := _refusal(directory, address)) is not None:
                problems.append(f"{where}: {reason}")
        elif name not in made_later:
            names = [entry.name for entry in channels]
            problems.append(f"{where}: no [[channel]] is named {name!r}.{did_you_mean(name, names)}")
    return problems


def _refusal(directory: Directory, address: str) -> str | None:
    """Why nothing reaches the address, whatever it is."""
    try:
        directory.check_message(Envelope(id="check", to=address, from_="user:check", timestamp=1, content="check"))
    except UnknownRecipient as error:
        return str(error)
    except InvalidField:
        pass  # this very message; another one may go there
    return None
