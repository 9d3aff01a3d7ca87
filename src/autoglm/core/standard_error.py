"""Standard error, whose failures are not ours: a full disk, a closed pipe or no stream at all must end nothing."""

import contextlib
import sys


class StandardError:
    """Writes to what `sys.stderr` is at that moment."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
