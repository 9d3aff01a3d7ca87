"""On whose account a message to a model goes."""

import msgspec


class Payer(msgspec.Struct, frozen=True):
    key: str
    """The name of a key; empty where no key stands for it."""
    tenant: str
