"""A sentence for people, in the two languages that the hub speaks."""

import msgspec


class Words(msgspec.Struct, frozen=True):
    """One sentence that a person understands, without secrets and without the message's text."""

    en: str
    zh: str
