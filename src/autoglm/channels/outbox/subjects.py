"""Where the messages to channels are read in the log."""

OUTBOX = "outbox"
"""Of all channels."""


def subject_of_channel(name: str) -> str:
    return f"outbox:{name}"
