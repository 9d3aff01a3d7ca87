"""A text stream that never makes its writer wait: what is written goes out in a thread of its own."""

import contextlib
import threading
from collections import deque
from typing import Protocol

_MAX_WAITING_CHARACTERS = 4 << 20
_LAST_WORDS_S = 1.0


class Target(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


class PatientStream:
    """For standard error: a pager that nobody scrolls, or a terminal that is held, must not stop the hub.

    4 Mi characters wait; what comes beyond is dropped, and the number of lines is told once the reader goes on. A
    stream that fails (a closed pipe, a full disk) is written to no more: that must not stop the hub either.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped_lines = 0
        self._has_news = threading.Condition()
        self._is_writing = False
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def write(self, text: str, /) -> int:
        with self._has_news:
            if self._size + len(text) > _MAX_WAITING_CHARACTERS:
                self._dropped_lines += text.count("\n")
            else:
                self._waiting.append(text)
                self._size += len(text)
                self._has_news.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing waits here for anything; see `drain`."""

    def drain(self, patience_s: float = _LAST_WORDS_S) -> None:
        """Wait until all is out, but not for ever. For the end of the program."""
        with self._has_news:
            self._has_news.wait_for(lambda: not self._waiting and not self._is_writing, patience_s)

    def _run(self) -> None:
        while True:
            with self._has_news:
                self._is_writing = False
                self._has_news.notify_all()
                self._has_news.wait_for(lambda: self._waiting)
                text = "".join(self._waiting)
                if self._dropped_lines:
                    text += f"autoglm: {self._dropped_lines} lines of the log were dropped, as nobody read them\n"
                self._waiting.clear()
                self._size = self._dropped_lines = 0
                self._is_writing = True
            with contextlib.suppress(OSError, ValueError):
                self._target.write(text)
                self._target.flush()
