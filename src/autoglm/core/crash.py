"""A crash in words for the log: what and where, without the message of the error, which may hold secrets."""

import traceback
from pathlib import Path


def crash(error: BaseException) -> str:
    """`ValueError at mail.py:120`."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
