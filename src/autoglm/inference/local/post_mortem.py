"""Finds the line in a worker's log that tells why it ended."""

import re
from collections.abc import Iterable

# llama.cpp writes 'minutes.seconds.milliseconds.microseconds LEVEL component function: text'.
_STAMP = re.compile(r"^[\d.]+ [A-Z] +(?:[a-z_]+ +)?")
_ERROR = re.compile(r"^[\d.]+ E |GGML_ASSERT|GGML_ABORT|terminate called|what\(\):|^\w+(\.\w+)*(Error|Exception)\b")
_LIMIT = 400


def cause_of(lines: Iterable[str], *, is_running: bool) -> str:
    """The line for people to read, without its stamp; empty when none says anything.

    While a model is loaded each layer reports the failure of the one below, so the first error is the cause. Of a
    server that ran, old errors belong to old requests, so the last one counts.
    """
    errors = [line for line in lines if _ERROR.search(line)]
    if not errors:
        return ""
    return _STAMP.sub("", errors[-1 if is_running else 0]).strip()[:_LIMIT]
