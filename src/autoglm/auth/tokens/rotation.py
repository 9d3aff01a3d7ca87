"""How one signing key takes over from another without a moment in which a good token is refused.

The new key signs at once; the former ones verify until the last token that they signed has ended. Other sites learn a
key from the pins of the policy snapshot: make the new key first, publish its pin, and rotate to it then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import msgspec

from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.signing import SigningKey
from autoglm.core.errors import InvalidField, SettingsError

MAX_FORMER = 64


@dataclass(frozen=True, slots=True)
class FormerKey:
    public_key: PublicKey
    verifies_until_ms: int


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public_key: str
    verifies_until_ms: int


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The one that signs, and the public halves of those that did."""

    current: SigningKey
    former: tuple[FormerKey, ...] = ()

    def rotated(self, now_ms: int, longest_ttl_s: int, new: SigningKey | None = None) -> Self:
        """The set in which `new`, else a fresh key, signs.

        longest_ttl_s: of the tokens that the current key may have signed. Raises InvalidField when `new` signed before,
        or when more than MAX_FORMER keys have not ended.
        """
        new = new or SigningKey.generate()
        left = [key for key in self.former if key.verifies_until_ms > now_ms]
        left.append(FormerKey(self.current.public, now_ms + longest_ttl_s * 1000))
        if new.public in {key.public_key for key in left}:
            raise InvalidField("new", "this key has signed before; make a new one")
        if len(left) > MAX_FORMER:
            raise InvalidField("new", f"{MAX_FORMER} former keys verify still; wait until one has ended")
        return type(self)(new, tuple(left))

    def pins(self, issuer: str) -> Pins:
        former = (Pin(key.public_key, issuer, key.verifies_until_ms) for key in self.former)
        return Pins((Pin(self.current.public, issuer), *former))

    def former_json(self) -> bytes:
        """What to keep beside the current key's PEM; it holds no secret. Write it before that PEM."""
        return msgspec.json.encode([_Row(key.public_key.x, key.verifies_until_ms) for key in self.former])

    @classmethod
    def restored(cls, current: SigningKey, former_json: bytes) -> Self:
        """Raises SettingsError when that is damaged.

        The current key is never among the former ones: a kill between the two writes leaves it in both.
        """
        try:
            rows: Iterable[_Row] = msgspec.json.decode(former_json, type=list[_Row])
            keys = [FormerKey(PublicKey.from_text(row.public_key), row.verifies_until_ms) for row in rows]
        except (ValueError, InvalidField) as error:
            raise SettingsError([f"the former signing keys cannot be read: {error}"]) from None
        return cls(current, tuple(key for key in keys if key.public_key != current.public))
