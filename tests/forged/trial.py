"""How forgeries are tried."""

from collections.abc import Callable, Mapping

from autoglm.core.errors import RefusalReason
from forged.entries import LET_IN, NO_HTTP, Entry, Said, refused
from forged.holder import Holder, Moment, Prove, honest

Forge = Callable[[Holder], bytes]
"""Makes a token."""


def said_to_each(entry: Entry, attempts: Mapping[str, tuple[Forge, Prove]]) -> dict[str, Said]:
    """What the entry says to each of them, of which nothing comes.

    Before, the device itself gets in there and does something: so the entry is open, and what is done is seen.
    """
    before = entry.state()
    assert entry.enter(entry.holder.token, honest) == LET_IN
    between = entry.state()
    assert between != before
    said = {name: entry.enter(forge(entry.holder), prove) for name, (forge, prove) in attempts.items()}
    assert entry.state() == between
    return said


def said_to(entry: Entry, forge: Forge, prove: Prove = honest) -> Said:
    return said_to_each(entry, {"it": (forge, prove)})["it"]


def the_token(holder: Holder) -> bytes:
    return holder.token


def refuses_tokens(entry: Entry, forgeries: Mapping[str, tuple[Forge, RefusalReason]]) -> None:
    """Each for its reason, with an honest proof by the device's own key."""
    said = said_to_each(entry, {name: (forge, honest) for name, (forge, _) in forgeries.items()})
    assert said == {
        name: NO_HTTP if len(forge(entry.holder)) > entry.longest_bytes else refused(reason)
        for name, (forge, reason) in forgeries.items()
    }


def refuses_proofs(entry: Entry, forgeries: Mapping[str, tuple[Prove, RefusalReason]]) -> None:
    """Each for its reason, with the device's own good token."""
    lengths: dict[str, int] = {}

    def measured(name: str, prove: Prove) -> Prove:
        def made(holder: Holder, moment: Moment, token: bytes) -> bytes:
            proof = prove(holder, moment, token)
            lengths[name] = len(proof)
            return proof

        return made

    said = said_to_each(
        entry, {name: (the_token, measured(name, prove)) for name, (prove, _) in forgeries.items()}
    )  # fmt: skip
    assert said == {
        name: NO_HTTP if lengths[name] > entry.longest_bytes else refused(reason, "proof")
        for name, (_, reason) in forgeries.items()
    }
