"""What is fuzzed: a function from bytes to nothing, and the exceptions that it may raise."""

from collections.abc import Callable
from typing import NamedTuple


class Target(NamedTuple):
    """A parser that reads what strangers send."""

    name: str
    run: Callable[[bytes], None]
    """Reads the data, and asserts what must hold of what came out. What it raises beside `refusals` is a bug."""
    seeds: tuple[bytes, ...]
    """Where mutation begins: small inputs that get far."""
    refusals: tuple[type[Exception], ...] = ()
    """What it may raise for data that it does not take."""
    words: tuple[bytes, ...] = ()
    """Pieces that mutation inserts: what the grammar knows by name."""


def try_on(target: Target, data: bytes) -> bool:
    """True when the target took the data, False when it refused them. What it raises otherwise is a finding."""
    try:
        target.run(data)
    except target.refusals:
        return False
    return True
