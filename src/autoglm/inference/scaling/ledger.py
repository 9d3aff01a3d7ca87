"""Who holds how many cores and how much memory: nothing is promised twice."""

import msgspec


class Need(msgspec.Struct, frozen=True):
    """What one worker takes, or what several take together."""

    cores: int = 0
    memory_bytes: int = 0

    def __add__(self, other: "Need") -> "Need":
        return Need(self.cores + other.cores, self.memory_bytes + other.memory_bytes)

    def __sub__(self, other: "Need") -> "Need":
        return Need(self.cores - other.cores, self.memory_bytes - other.memory_bytes)

    def fits(self, room: "Need") -> bool:
        return self.cores <= room.cores and self.memory_bytes <= room.memory_bytes

    def __str__(self) -> str:
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'} and {self.memory_bytes / 1e9:.2f} GB"


class Ledger:
    """Entries by worker. A worker is entered before it starts and crossed out once its process is gone."""

    def __init__(self, limit: Need) -> None:
        self.limit = limit
        self._held: dict[str, Need] = {}

    @property
    def held(self) -> Need:
        """The sum over all workers."""
        return sum(self._held.values(), Need())

    @property
    def room(self) -> Need:
        """What is left. Memory can be below zero: a worker may grow beyond what it was expected to need."""
        return self.limit - self.held

    def take(self, name: str, need: Need) -> bool:
        """False, and nothing is entered, when it does not fit or the name is entered already."""
        if name in self._held or not need.fits(self.room):
            return False
        self._held[name] = need
        return True

    def of(self, name: str) -> Need:
        return self._held.get(name, Need())

    def measured(self, name: str, memory_bytes: int) -> None:
        """A worker takes that much. More than expected is entered; less may still grow to what was expected."""
        need = self._held.get(name)
        if need is not None and memory_bytes > need.memory_bytes:
            self._held[name] = Need(need.cores, memory_bytes)

    def give_back(self, name: str) -> None:
        self._held.pop(name, None)
