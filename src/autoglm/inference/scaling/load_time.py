"""How long a start takes, learned from those that were."""

_SMOOTHING = 0.5  # few starts are seen, and the newest tells most: whether the file is still in memory, say
_FIRST_S = 1.0
_BYTES_PER_S = 200e6
"""Of a file that is read for the first time; a guess until there was a start."""


class LoadTime:
    """An estimate in seconds. Measured for 98 MB: 0.8 to 4.5 s, for 491 MB: 4.4 s."""

    def __init__(self, file_bytes: int) -> None:
        self.estimate_s = _FIRST_S + file_bytes / _BYTES_PER_S
        self._is_learned = False

    def learn(self, start_s: float) -> None:
        if self._is_learned:
            self.estimate_s += _SMOOTHING * (start_s - self.estimate_s)
        else:
            self.estimate_s, self._is_learned = start_s, True
